"""Pools of regions, against loops over pixels, torchvision and integrals."""

import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transforms import QUICK, check_transforms, tie_free

from jaxpool import (
    _lowering,
    precise_roi_pool,
    ps_roi_align,
    ps_roi_pool,
    roi_align,
    roi_pool,
)

# --- Oracles, one bin at a time -------------------------------------------------------


def per_bin(value):
    """An oracle from `value(plane, box, p, q, (P, Q), **options)` of a plane."""

    @functools.wraps(value)
    def oracle(x, boxes, output, index=None, scale=1.0, sensitive=False, **options):
        x, boxes = np.asarray(x, np.float64), np.asarray(boxes, np.float64) * scale
        index = np.zeros(len(boxes), int) if index is None else index
        p, q = output
        channels = x.shape[-1] // (p * q) if sensitive else x.shape[-1]
        y = np.zeros((len(boxes), p, q, channels))
        for k, i, j, c in np.ndindex(*y.shape):
            source = (c * p + i) * q + j if sensitive else c
            plane = x[index[k], ..., source]
            y[k, i, j, c] = value(plane, boxes[k], i, j, output, **options)
        return y

    return oracle


def half_away(v):
    return math.floor(abs(v) + 0.5) * (1 if v >= 0 else -1)


def edges(start, length, number, bins, size):
    low = number * length // bins + start
    high = -(-(number + 1) * length // bins) + start
    return min(max(low, 0), size), min(max(high, 0), size)


@per_bin
def roi_pool_oracle(plane, box, i, j, output):
    x1, y1, x2, y2 = map(half_away, box)
    top, bottom = edges(y1, max(y2 - y1 + 1, 1), i, output[0], plane.shape[0])
    left, right = edges(x1, max(x2 - x1 + 1, 1), j, output[1], plane.shape[1])
    found = plane[top:bottom, left:right]
    return found.max() if found.size else 0.0


@per_bin
def ps_roi_pool_oracle(plane, box, i, j, output, compat=False):
    x1, y1, x2, y2 = map(half_away, box)
    height, width = plane.shape[0] - compat, plane.shape[1] - compat
    top, bottom = edges(y1, max(y2 - y1, 1), i, output[0], height)
    left, right = edges(x1, max(x2 - x1, 1), j, output[1], width)
    found = plane[top:bottom, left:right]
    return found.mean() if found.size else 0.0


def interpolated(plane, y, x):
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    i, j = int(y), int(x)
    k, m = min(i + 1, height - 1), min(j + 1, width - 1)
    a, b = y - i, x - j
    upper = plane[i, j] * (1 - b) + plane[i, m] * b
    return upper * (1 - a) + (plane[k, j] * (1 - b) + plane[k, m] * b) * a


@per_bin
def roi_align_oracle(plane, box, i, j, output, ratio=2, most=None, aligned=True):
    x1, y1, x2, y2 = box - (0.5 if aligned else 0.0)
    height, width = y2 - y1, x2 - x1
    if not aligned:
        height, width = max(height, 1), max(width, 1)
    high, wide = height / output[0], width / output[1]
    rows = ratio or min(max(math.ceil(high), 0), most)
    columns = ratio or min(max(math.ceil(wide), 0), most)
    total = 0.0
    for a, b in np.ndindex(rows, columns):
        y = y1 + i * high + (a + 0.5) * high / rows
        x = x1 + j * wide + (b + 0.5) * wide / columns
        total += interpolated(plane, y, x)
    return total / max(rows * columns, 1)


def hat_integral(low, high, centre, points=20001):
    """The integral of a hat by the trapezoidal rule, exact between its corners."""
    corners = [t for t in (centre - 1, centre, centre + 1) if low < t < high]
    t = np.unique([low, *corners, high])
    return np.trapezoid(np.maximum(0, 1 - abs(t - centre)), t)


@per_bin
def precise_oracle(plane, box, i, j, output):
    x1, y1, x2, y2 = box
    high, wide = max(y2 - y1, 0) / output[0], max(x2 - x1, 0) / output[1]
    if high * wide == 0:
        return 0.0
    total = 0.0
    for a, b in np.ndindex(*plane.shape):
        rows = hat_integral(y1 + i * high, y1 + (i + 1) * high, a)
        total += (
            plane[a, b] * rows * hat_integral(x1 + j * wide, x1 + (j + 1) * wide, b)
        )
    return total / (high * wide)


# --- Inputs ---------------------------------------------------------------------------

OUTPUT = (3, 2)
SCALE = 0.5
BOXES = np.array(
    [
        [2.0, 3.0, 11.0, 12.0],
        [0.0, 0.0, 17.0, 13.0],
        [1.3, 2.7, 3.1, 4.9],
        [-3.0, -4.0, 5.0, 6.0],
        [13.0, 9.0, 24.0, 21.0],
        [-30.0, -30.0, -20.0, -20.0],
        [5.0, 5.0, 5.0, 5.0],
        [9.0, 8.0, 3.0, 2.0],
        [-2.0, -2.0, 0.0, 0.0],
    ],
    np.float32,
)
INDEX = np.arange(len(BOXES)) % 2
SENSITIVE = (ps_roi_pool, ps_roi_align)
# Function, options, oracle, its options.
CASES = {
    "pool": (roi_pool, {}, roi_pool_oracle, {}),
    "align": (roi_align, {}, roi_align_oracle, {}),
    "align, 3": (roi_align, {"sampling_ratio": 3}, roi_align_oracle, {"ratio": 3}),
    "align, corners": (
        roi_align,
        {"sampling_ratio": 1, "aligned": False},
        roi_align_oracle,
        {"ratio": 1, "aligned": False},
    ),
    "align, adaptive": (
        roi_align,
        {"sampling_ratio": None, "max_sampling_ratio": 4},
        roi_align_oracle,
        {"ratio": None, "most": 4},
    ),
    "sensitive": (ps_roi_pool, {}, ps_roi_pool_oracle, {"sensitive": True}),
    "sensitive, torchvision": (
        ps_roi_pool,
        {"torchvision_compat": True},
        ps_roi_pool_oracle,
        {"sensitive": True, "compat": True},
    ),
    "sensitive align": (ps_roi_align, {}, roi_align_oracle, {"sensitive": True}),
    "precise": (precise_roi_pool, {}, precise_oracle, {}),
}
every_case = pytest.mark.parametrize("name", CASES)
KINDS = ["pool", "align", "align, adaptive", "sensitive", "sensitive align", "precise"]
every_kind = pytest.mark.parametrize("name", KINDS)


def image(function, images=2, dtype=np.float32):
    channels = 2 * OUTPUT[0] * OUTPUT[1] if function in SENSITIVE else 2
    return tie_free((images, 7, 9, channels), dtype=dtype)


def pooled(function, x, boxes, index=INDEX, **options):
    return function(x, boxes, OUTPUT, batch_index=index, spatial_scale=SCALE, **options)


# --- Values ---------------------------------------------------------------------------


@every_case
def test_equals_the_oracle(name):
    function, options, oracle, known = CASES[name]
    x = image(function)

    def run(x, boxes):
        y = pooled(function, x, boxes, **options)
        x16 = x.astype(jnp.bfloat16)
        wide = pooled(function, x16.astype(jnp.float32), boxes, **options)
        first = x.transpose(0, 3, 1, 2)
        moved = pooled(function, first, boxes, axes=(-2, -1), **options)
        return y, pooled(function, x16, boxes, **options), wide, moved

    y, narrow, wide, moved = jax.jit(run, compiler_options=QUICK)(x, BOXES)
    expected = oracle(x, BOXES, OUTPUT, INDEX, SCALE, **known)
    np.testing.assert_allclose(y, expected, 1e-5, 1e-5)
    np.testing.assert_array_equal(narrow, wide.astype(jnp.bfloat16))
    np.testing.assert_allclose(moved.transpose(0, 2, 3, 1), y, 1e-6, 1e-6)
    if function is roi_align:
        with _lowering.force("tpu"):
            y = jax.jit(lambda x, b: run(x, b)[0], compiler_options=QUICK)(x, BOXES)
        np.testing.assert_allclose(y, expected, 1e-5, 1e-5)


@every_case
def test_gradients_equal_the_oracle(name):
    """The oracle is linear in x, but for the maximum: differences of it are exact."""
    function, options, oracle, known = CASES[name]
    x, boxes, index = image(function, 1)[:, :4, :5], BOXES[[0, 2, 3, 7]], INDEX[:4] * 0
    g = np.random.default_rng(0).normal(size=(4, *OUTPUT, 2))
    run = functools.partial(pooled, function, boxes=boxes, index=index, **options)
    with jax.enable_x64(True):
        wide = jnp.asarray(x, jnp.float64)
        dx = jax.jit(lambda x: jax.vjp(run, x)[1](jnp.asarray(g))[0])(wide)
    expected = np.zeros(x.shape)
    weighted = lambda x: (oracle(x, boxes, OUTPUT, index, SCALE, **known) * g).sum()  # noqa: E731
    for place in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[place] = 1e-4
        expected[place] = (weighted(x + step) - weighted(x - step)) / 2e-4
    np.testing.assert_allclose(dx, expected, 1e-5, 1e-6)


@pytest.mark.parametrize("name", ["align", "align, adaptive", "precise"])
def test_gradients_to_boxes_are_those_of_the_oracle(name):
    function, options, oracle, known = CASES[name]
    x = image(function, 1)
    boxes = np.array([[2.1, 3.3, 11.2, 12.7], [1.3, 2.7, 3.15, 4.9], [-3, -4, 5.5, 6]])
    index, g = np.zeros(3, int), np.random.default_rng(0).normal(size=(3, *OUTPUT, 2))
    with jax.enable_x64(True):
        wide = jnp.asarray(x, jnp.float64)
        run = lambda boxes: (  # noqa: E731
            pooled(function, wide, boxes, index, **options) * jnp.asarray(g)
        ).sum()
        found = jax.jit(jax.grad(run))(jnp.asarray(boxes))
    for place in np.ndindex(*boxes.shape):
        step = np.zeros(boxes.shape)
        step[place] = 1e-6
        ends = (
            (oracle(x, boxes + s * step, OUTPUT, index, SCALE, **known) * g).sum()
            for s in (1, -1)
        )
        slope = (next(ends) - next(ends)) / 2e-6
        np.testing.assert_allclose(found[place], slope, 1e-4, 1e-6)


def test_published_numbers():
    small = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
    blocks = np.array([[1, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]])
    large = jnp.asarray(blocks, jnp.float32)[..., None]
    unit, whole = jnp.array([[0.0, 0, 1, 1]]), jnp.array([[0.0, 0, 3, 3]])

    def pool(function, x, boxes, **options):
        @functools.partial(jax.jit, compiler_options=QUICK)
        def run(x, boxes):
            y, vjp = jax.vjp(lambda *a: function(*a, (2, 2), **options), x, boxes)
            return y, *vjp(jnp.ones_like(y))

        y, dx, dboxes = run(x, boxes)
        return y[0, ..., 0], dx[..., 0], dboxes[0]

    y, dx, _ = pool(roi_align, small, unit)
    np.testing.assert_allclose(y, [[1, 1.25], [1.5, 1.75]])
    np.testing.assert_allclose(dx, [[3.0625, 0.4375], [0.4375, 0.0625]])
    y, _, _ = pool(roi_align, large, whole)
    np.testing.assert_allclose(y, [[1.9375, 4.75], [7.5625, 10.375]])
    y, _, _ = pool(roi_align, small, unit, aligned=False)
    np.testing.assert_allclose(y, [[1.75, 2.25], [2.75, 3.25]])
    y, _, _ = pool(roi_align, large, whole, aligned=False)
    np.testing.assert_allclose(y, [[3.625, 6.875], [10.125, 13.375]])
    y, _, dboxes = pool(roi_pool, large, whole)
    np.testing.assert_array_equal(y, [[4, 8], [12, 16]])
    np.testing.assert_array_equal(dboxes, np.zeros(4))
    y, dx, dboxes = pool(precise_roi_pool, small, unit)
    np.testing.assert_allclose(y, [[1.75, 2.25], [2.75, 3.25]], 1e-6)
    np.testing.assert_allclose(dx, np.ones((2, 2)), 1e-6)
    np.testing.assert_allclose(dboxes, [2, 4, 2, 4], 1e-5)
    y, dx, dboxes = pool(precise_roi_pool, large, whole)
    np.testing.assert_allclose(y, [[3.75, 83 / 12], [121 / 12, 13.25]], 1e-5)
    np.testing.assert_allclose(dx, np.outer([1, 2, 2, 1], [1, 2, 2, 1]) / 9, 1e-5)
    np.testing.assert_allclose(dboxes, [10 / 3, 20 / 3, 10 / 3, 20 / 3], 1e-4)


def test_align_of_many_points_is_precise():
    x, boxes = image(roi_align, 1)[0], jnp.array([[1.2, 1.1, 6.3, 5.4]])
    y = precise_roi_pool(x, boxes, OUTPUT)
    fine = roi_align(x, boxes, OUTPUT, sampling_ratio=64, aligned=False)
    np.testing.assert_allclose(fine, y, 1e-3, 1e-3)


# --- torchvision ----------------------------------------------------------------------

GOLDENS = pathlib.Path(__file__).with_name("goldens") / "torchvision.npz"


def test_equals_torchvision():
    known = dict(np.load(GOLDENS))
    boxes, index, g = known["boxes"], known["index"], known["g"]
    cases = json.loads(str(known["labels"]))
    assert len(cases) == 13

    def run(function, options):
        x = known["roi_x" if function not in SENSITIVE else "ps_x"]
        y, pullback = jax.vjp(
            lambda x: pooled(function, x, boxes, index, axes=(-2, -1), **options), x
        )
        return y, pullback(g)[0]

    for i, (name, options) in enumerate(cases):
        if options.get("sampling_ratio") == -1:
            options |= {"sampling_ratio": None, "max_sampling_ratio": 5}
        if name == "ps_roi_pool":
            options |= {"torchvision_compat": True}
        job = functools.partial(run, globals()[name], options)
        y, dx = jax.jit(job, compiler_options=QUICK)()
        expected = known[f"y{i}"]
        if name == "ps_roi_align":
            expected = np.nan_to_num(expected)  # a box without points
        np.testing.assert_allclose(y, expected, 1e-4, 1e-4, err_msg=str(cases[i]))
        # Where torchvision's backward is not the derivative of its forward.
        if name != "ps_roi_pool":
            np.testing.assert_allclose(dx, known[f"dx{i}"], 1e-4, 1e-4)


# --- Masks, special boxes, special values ---------------------------------------------


@pytest.mark.parametrize("bins", [3, 7, 14])
def test_bins_of_whole_pixels_are_exact(bins):
    """In floats `7 * (3 * (1 / 7))` may be more than 3."""
    x = np.arange(1.0, 61, dtype=np.float32)[:, None, None]
    last = np.arange(60, dtype=np.float32)
    boxes = np.stack([0 * last, 0 * last, 0 * last, last], 1)
    sizes = range(1, 61)
    bottom = [[-(-p * h // bins) for p in range(1, bins + 1)] for h in sizes]
    pool = functools.partial(roi_pool, output_shape=(bins, 1))
    for run in (pool, jax.jit(pool)):
        np.testing.assert_array_equal(run(x, boxes)[..., 0, 0], bottom)
    # Three samples per bin, not four.
    x, box = (x - 1) ** 2, np.array([[0, 0, 1, 3 * bins]], np.float32)
    align = functools.partial(roi_align, output_shape=(bins, 1))
    align = functools.partial(align, sampling_ratio=None, max_sampling_ratio=8)
    expected = roi_align_oracle(x[None], box, (bins, 1), ratio=None, most=8)
    for run in (align, jax.jit(align)):
        np.testing.assert_allclose(run(x, box), expected, 1e-5)


@every_kind
def test_boxes_left_out_have_no_influence(name):
    function, options, _, _ = CASES[name]
    x = jnp.asarray(image(function))
    garbage = np.array([[np.nan] * 4, [np.inf, -np.inf, np.inf, 0]], np.float32)
    boxes = np.concatenate([BOXES[:2], garbage])
    where, index = np.array([True, True, False, False]), np.array([0, 1, 1, 0])

    @jax.jit
    def run(x, boxes, where, index):
        y, pullback = jax.vjp(
            lambda x, boxes: pooled(function, x, boxes, index, where=where, **options),
            x,
            boxes,
        )
        return y, *pullback(jnp.ones_like(y))

    y, dx, dboxes = run(x, boxes, where, index)
    kept = run(x, BOXES[:2], where[:2], index[:2])
    np.testing.assert_allclose(y[:2], kept[0], 1e-6)
    np.testing.assert_array_equal(y[2:], 0)
    np.testing.assert_allclose(dx, kept[1], 1e-5, 1e-6)
    np.testing.assert_allclose(dboxes[:2], kept[2], 1e-5, 1e-5)
    np.testing.assert_array_equal(dboxes[2:], 0)
    # Which image is asked of the others alone.
    index = np.array([0, 1, -1, 9])
    y = pooled(function, x, jnp.asarray(boxes), index, where=where, **options)
    np.testing.assert_allclose(y[:2], kept[0], 1e-5, 1e-6)
    # An image that does not exist, known too late for an error.
    y, dx, _ = run(x, BOXES[:2], where[:2], np.array([0, 2]))
    np.testing.assert_array_equal(y[1], 0)
    np.testing.assert_array_equal(dx[1], 0)


@every_kind
def test_no_box_gives_nan(name):
    function, options, _, _ = CASES[name]
    x = jnp.asarray(image(function))
    special = [np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, 4.0]
    rng = np.random.default_rng(0)
    boxes = jnp.asarray(rng.choice(special, size=(40, 4)), jnp.float32)
    index = np.arange(40) % 2
    y, pullback = jax.jit(
        lambda x: jax.vjp(lambda x: pooled(function, x, boxes, index, **options), x)
    )(x)
    assert np.isfinite(y).all()
    assert np.isfinite(pullback(jnp.ones_like(y))[0]).all()


def test_maximum_routes_ties_and_nan(rng):
    x = rng.integers(0, 3, size=(1, 7, 9, 2)).astype(np.float32)
    boxes = np.array([[0, 0, 8, 6]], np.float32)
    run = jax.jit(lambda x: jax.vjp(lambda x: roi_pool(x, boxes, (2, 3)), x))
    y, pullback = run(x)
    dx = np.asarray(pullback(jnp.ones_like(y))[0])
    expected = np.zeros_like(x)
    for i, j, c in np.ndindex(2, 3, 2):
        top, bottom = [(0, 4), (3, 7)][i]
        plane = x[0, top:bottom, 3 * j : 3 * j + 3, c]
        a, b = np.unravel_index(plane.argmax(), plane.shape)
        expected[0, top + a, 3 * j + b, c] += 1
    np.testing.assert_array_equal(dx, expected)
    x[0, 1, 1, 0] = x[0, 2, 0, 0] = np.nan
    y, pullback = run(x)
    assert np.isnan(y[0, 0, 0, 0]) and not np.isnan(y[0, ..., 1]).any()
    assert pullback(jnp.ones_like(y))[0][0, 1, 1, 0] == 1
    y, _ = run(np.full_like(x, -np.inf))
    assert (y == -np.inf).all()


def test_shapes_and_dtypes():
    whole = jnp.ones((7, 9, 12), jnp.int32)
    for function in (roi_pool, roi_align, precise_roi_pool, *SENSITIVE):
        y = jax.eval_shape(lambda f=function: f(whole, BOXES.astype(int), OUTPUT))
        channels = 2 if function in SENSITIVE else 12
        assert y.shape == (9, *OUTPUT, channels)
        assert y.dtype == (jnp.int32 if function is roi_pool else jnp.float32)
        none = jax.jit(function, static_argnums=2)(whole, jnp.zeros((0, 4)), OUTPUT)
        assert none.shape == (0, *OUTPUT, channels)


@pytest.mark.parametrize("function", [roi_pool, roi_align, precise_roi_pool])
def test_boxes_per_image_by_vmap(function):
    x = jnp.asarray(image(function))
    boxes = jnp.asarray(BOXES[:4].reshape(2, 2, 4))
    run = functools.partial(function, output_shape=OUTPUT, spatial_scale=SCALE)
    got = jax.jit(jax.vmap(run))(x, boxes)
    index = np.array([0, 0, 1, 1])
    flat = jax.jit(lambda x: pooled(function, x, boxes.reshape(4, 4), index))(x)
    np.testing.assert_allclose(got.reshape(flat.shape), flat, 1e-6, 1e-6)


@pytest.mark.parametrize(
    "name", ["pool", "align", "sensitive", "sensitive align", "precise"]
)
def test_transforms(name):
    function, options, _, _ = CASES[name]
    channels = 4 if function in SENSITIVE else 1
    if function in (roi_align, ps_roi_align):
        options = {"sampling_ratio": 1}
    boxes = np.array([[0.3, 0.2, 3.7, 2.9], [1.2, 1.1, 2.3, 4.4]], np.float32)

    def fn(x):
        return function(x, boxes, (2, 2), **options) if x.ndim == 3 else jax.vmap(fn)(x)

    x = tie_free((2, 4, 3, channels))
    # Piecewise linear: its higher derivatives are 0.
    less = {"order": 1, "dtypes": ("bfloat16",), "eager_grad": False}
    check_transforms(fn, x, no_scatter=False, **less)


# --- Wrong calls ----------------------------------------------------------------------

ONE = jnp.ones((5, 6, 4))
BOX = jnp.ones((2, 4))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            r"`boxes` must have shape \(K, 4\), got \(4,\)",
            lambda: roi_pool(ONE, BOX[0], (2, 2)),
        ),
        (
            TypeError,
            "`output_shape` must be a tuple of ints, got 2",
            lambda: roi_pool(ONE, BOX, 2),
        ),
        (
            ValueError,
            r"`output_shape` must have two ints, got \(2,\)",
            lambda: roi_align(ONE, BOX, (2,)),
        ),
        (
            ValueError,
            r"`batch_index` must be given for x with shape \(2, 5, 6, 4\)",
            lambda: roi_align(jnp.stack([ONE, ONE]), BOX, (2, 2)),
        ),
        (
            ValueError,
            r"`batch_index` must have one int per box, shape \(2,\), got shape \(1,\)",
            lambda: roi_align(ONE, BOX, (2, 2), batch_index=jnp.zeros(1, int)),
        ),
        (
            ValueError,
            r"`batch_index` must lie in \[0, 1\) .*, got \[0 1\]",
            lambda: roi_align(ONE, BOX, (2, 2), batch_index=jnp.arange(2)),
        ),
        (
            TypeError,
            "`batch_index` must be integers, got dtype float32",
            lambda: roi_align(ONE, BOX, (2, 2), batch_index=jnp.zeros(2)),
        ),
        (
            ValueError,
            "`spatial_scale` must be positive, got 0",
            lambda: roi_align(ONE, BOX, (2, 2), spatial_scale=0),
        ),
        (
            ValueError,
            "`x` must have two pooled axes, channels and at most one axis of images",
            lambda: roi_align(ONE[None, None], BOX, (2, 2)),
        ),
        (
            ValueError,
            "one of `sampling_ratio` and .* must be None, got 2 and 3",
            lambda: roi_align(ONE, BOX, (2, 2), max_sampling_ratio=3),
        ),
        (
            ValueError,
            "one of `sampling_ratio` .* must be None, got None and None",
            lambda: roi_align(ONE, BOX, (2, 2), sampling_ratio=None),
        ),
        (
            ValueError,
            "`sampling_ratio` must be at least 1, got 0",
            lambda: ps_roi_align(ONE, BOX, (2, 2), sampling_ratio=0),
        ),
        (
            TypeError,
            "`aligned` must be True or False, got 1",
            lambda: roi_align(ONE, BOX, (2, 2), aligned=1),
        ),
        (
            ValueError,
            r"`x` must have a multiple of 3 x 2 channels .*, got 4",
            lambda: ps_roi_pool(ONE, BOX, (3, 2)),
        ),
        (
            TypeError,
            "`where` must be boolean",
            lambda: precise_roi_pool(ONE, BOX, (2, 2), where=jnp.ones(2)),
        ),
    ],
)
def test_wrong_calls(error, message, call):
    with pytest.raises(error, match=message):
        call()
