"""rank_pool and topk_avg_pool. The helpers on top serve the mixed and random pools."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transforms import QUICK, check_transforms, tie_free

import jaxpool
from jaxpool import _lowering, rank_pool, topk_avg_pool

# --- Pools against formulas -----------------------------------------------------------

# The shape of x, the window, and options.
GEOMETRIES = [
    ((9, 2), (3,), {"strides": 2, "padding": ((2, 1),)}),
    ((2, 8, 1), (3,), {"strides": 3, "dilation": 2, "ceil_mode": True}),
    ((1, 5, 4, 3), (2, 2), {}),
    ((7, 5, 2), (3, 2), {"strides": 2, "padding": "SAME"}),
    ((6, 5, 2), (2, 2), {"strides": (3, 2), "padding": 1, "ceil_mode": True}),
    ((2, 2, 3, 4), (2, 2), {"axes": (-2, -1), "strides": 1}),
    ((1, 3, 2, 3, 2), (2, 1, 2), {"strides": (1, 2, 1), "padding": (1, 0, 1)}),
    ((9, 1), (2,), {"strides": 4}),
    ((5, 1), (2,), {"strides": 1, "padding": 3}),  # windows wholly in padding
]

# With windows that it empties, and one that leaves nothing at all.
MASKS = [
    ((6, 2), (2,), {"where": np.array([[1], [0], [0], [0], [1], [1]]) > 0}),
    (
        (2, 3, 4, 3),
        (2, 2),
        {"strides": 1, "where": tie_free((2, 3, 4, 3), 1) > 0.5, "empty": -3.0},
    ),
    (
        (4, 6, 2),
        (3, 2),
        {"padding": ((2, 0), (1, 1)), "where": tie_free((6, 1), 2) > 0},
    ),
    ((4, 4, 1), (2, 2), {"where": np.zeros((1, 1, 1), bool), "empty": 5.0}),
]


def tap_windows(shape, window_shape, *, where=None, axes=None, **geometry):
    """Every output: its index, flat indices of its elements, and their tap numbers."""
    axes = oracles.canonical_axes(len(shape), window_shape, axes)
    y_shape = oracles.output_shape(shape, window_shape, axes=axes, **geometry)
    valid = np.broadcast_to(True if where is None else where, shape)
    strides, dilation, padding = (
        geometry.get(name, default)
        for name, default in (
            ("strides", window_shape),
            ("dilation", 1),
            ("padding", "VALID"),
        )
    )

    def per_axis(option):
        single = isinstance(option, (int, str))
        return [option] * len(axes) if single else list(option)

    sizes = zip(
        [shape[a] for a in axes],
        window_shape,
        per_axis(strides),
        per_axis(padding),
        per_axis(dilation),
        strict=True,
    )
    sizes = [
        (n, k, s, oracles._axis_padding(p, n, k, s, d)[0], d) for n, k, s, p, d in sizes
    ]
    for out in np.ndindex(*y_shape):
        found = []
        for number, tap in enumerate(itertools.product(*map(range, window_shape))):
            place = list(out)
            for a, t, (_, _, s, low, d) in zip(axes, tap, sizes, strict=True):
                place[a] = out[a] * s - low + t * d
            inside = all(0 <= p < n for p, n in zip(place, shape, strict=True))
            if inside and valid[tuple(place)]:
                found.append((np.ravel_multi_index(place, shape), number))
        yield out, [f for f, _ in found], [t for _, t in found]


def oracle(x, window_shape, value, *, g=None, empty=0.0, **options):
    """value(v, taps, channel) of every window, or its vjp by finite differences."""
    x = np.asarray(x, np.float64)
    axes = oracles.canonical_axes(x.ndim, window_shape, options.get("axes"))
    channel_axis = max(set(range(x.ndim)) - set(axes), default=0)
    geometry = {k: o for k, o in options.items() if k != "where"}
    fill = 0.0 if options.get("where") is None else empty
    y = np.full(oracles.output_shape(x.shape, window_shape, **geometry), fill)
    dx = np.zeros(x.size)
    for out, places, taps in tap_windows(x.shape, window_shape, **options):
        if not places:
            continue
        v, eps = x.flat[places], 1e-6
        f = functools.partial(value, taps=np.array(taps), channel=out[channel_axis])
        y[out] = f(v)
        if g is not None:
            for i, place in enumerate(places):
                step = eps * (np.arange(len(v)) == i)
                dx[place] += g[out] * (f(v + step) - f(v - step)) / (2 * eps)
    return y if g is None else dx.reshape(x.shape)


def inputs(geometries, dtype="float32"):
    """Tie-free inputs, with NaN and infinity wherever a mask is off."""
    for seed, (shape, window_shape, options) in enumerate(geometries):
        x = tie_free(shape, seed, dtype)
        if (where := options.get("where")) is not None:
            garbage = np.resize(np.array([np.nan, np.inf, -np.inf], dtype), shape)
            x = np.where(where, x, garbage)
        yield x, window_shape, options


def check(pool, value, cases, rule="cpu", tolerance=None):
    """Values and gradients of pool(x, window_shape, **options) by one compilation.

    `value` is the formula of one window; a list of them is one for each case.
    """
    cases = list(cases)
    values = value if isinstance(value, list) else [value] * len(cases)
    pools = pool if isinstance(pool, list) else [pool] * len(cases)
    wanted, args = [], []
    for (x, window_shape, options), f in zip(cases, values, strict=True):
        y = oracle(x, window_shape, f, **options)
        g = np.random.default_rng(0).normal(size=y.shape).astype(x.dtype)
        wide = np.asarray(g, np.float64)
        wanted.append((y, oracle(x, window_shape, f, g=wide, **options)))
        args.append((x, g))

    def program(args):
        found = []
        for (x, g), (_, window_shape, options), f in zip(
            args, cases, pools, strict=True
        ):
            y, vjp = jax.vjp(lambda x: f(x, window_shape, **options), x)  # noqa: B023
            found.append((y, vjp(g)[0]))
        return found

    with _lowering.force(rule):
        got = jax.device_get(jax.jit(program, compiler_options=QUICK)(args))
    for (x, window_shape, options), found, expected in zip(
        cases, got, wanted, strict=True
    ):
        tol = tolerance or {2: 2e-2, 4: 2e-5, 8: 1e-8}[x.itemsize]
        for what, a, b in zip(("y", "dx"), found, expected, strict=True):
            about = f"{what} of {x.shape}, {window_shape}, {options}"
            assert a.dtype == x.dtype, about
            a = a.astype(np.float64)
            np.testing.assert_allclose(a, b, tol, tol / 10, err_msg=about)


def check_curvature(loss, *args):
    """Second derivatives are differences of the first ones, which the oracle checks."""
    rng = np.random.default_rng(0)
    tangents = [rng.normal(size=a.shape) for a in args]

    def gradient(*args):
        return jax.grad(loss, tuple(range(len(args))))(*args)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(args, tangents, steps):
        def near(step):
            return gradient(*jax.tree.map(lambda a, t: a + step * t, args, tangents))

        found = jax.jvp(gradient, tuple(args), tuple(tangents))[1]
        return found, jax.vmap(near)(steps)

    with jax.enable_x64(True), _lowering.force("cpu"):
        steps = np.array([-1e-6, 1e-6])
        found, near = jax.device_get(program(list(args), tangents, steps))
    for got, (down, up) in zip(found, near, strict=True):
        np.testing.assert_allclose(got, (up - down) / 2e-6, 1e-5, 1e-5)


# --- Ordinal pooling ------------------------------------------------------------------


def stretched(weights, n):
    """Weights of n ranks: integrals of the step function of K weights on [0, 1]."""
    K = len(weights)
    fine = np.repeat(np.asarray(weights, np.float64), n)  # K n steps of 1 / (K n)
    return fine.reshape(n, K).sum(1) / n


def rank_value(weights):
    def value(v, taps, channel):
        w = weights if weights.ndim == 1 else weights[:, channel]
        return stretched(w, len(v)) @ np.sort(v)[::-1]

    return value


def ranked(weights):
    return functools.partial(rank_pool, weights=jnp.asarray(weights))


def weights_for(cases, rng, dtype="float32"):
    """Random weights, some negative, per channel for every other case."""
    for i, (x, window_shape, options) in enumerate(cases):
        channels = (x.shape[-1],) if i % 2 and "axes" not in options else ()
        yield rng.normal(size=(np.prod(window_shape), *channels)).astype(dtype)


@pytest.mark.parametrize("rule", ["cpu", "default", "tpu"])
def test_rank_pool_equals_the_formula(rule, rng):
    few = GEOMETRIES[4:5] + MASKS[1:2]
    cases = list(inputs(GEOMETRIES + MASKS if rule == "cpu" else few))
    cases += inputs(few[:1], jnp.bfloat16)
    weights = list(weights_for(cases, rng))
    check([ranked(w) for w in weights], [rank_value(w) for w in weights], cases, rule)


def test_rank_pool_in_float64(rng):
    with jax.enable_x64(True):
        cases = list(inputs(GEOMETRIES[4:5] + MASKS[1:2], "float64"))
        weights = list(weights_for(cases, rng, "float64"))
        values = [rank_value(w) for w in weights]
        check([ranked(w) for w in weights], values, cases)


def test_many_taps(rng):
    """More than a sorting network takes."""
    weights = rng.normal(size=65).astype(np.float32)
    cases = list(inputs([((66, 1), (65,), {"strides": 1})]))
    check(ranked(weights), rank_value(weights), cases, tolerance=1e-4)


def test_stretching_keeps_the_limits():
    """In every window: maximum, minimum, median and average, with padding and masks."""
    cases = list(inputs(GEOMETRIES[:1] + GEOMETRIES[4:5] + MASKS[:2]))

    def one_hot(taps, rank):
        return np.asarray(np.arange(taps) == rank, np.float32)

    def program(xs):
        found = []
        for x, (_, window_shape, options) in zip(xs, cases, strict=True):
            taps = int(np.prod(window_shape))
            pairs = {
                "max": (one_hot(taps, 0), jaxpool.max_pool, {}),
                "min": (one_hot(taps, taps - 1), jaxpool.min_pool, {}),
                "avg": (
                    np.full(taps, 1 / taps, np.float32),
                    jaxpool.avg_pool,
                    {"count_include_pad": False},
                ),
            }
            if taps % 2:
                median = one_hot(taps, taps // 2)
                pairs["median"] = median, jaxpool.median_pool, {"even": "mean"}
            for name, (weights, pool, more) in pairs.items():
                y = rank_pool(x, window_shape, weights=weights, **options)
                found.append((name, y, pool(x, window_shape, **options, **more)))
        return [pair for _, *pair in found]

    compiled = jax.jit(program, compiler_options=QUICK)
    for got, want in compiled([x for x, *_ in cases]):
        np.testing.assert_allclose(got, want, 1e-6, 1e-6)


def test_gradient_of_the_weights(rng):
    """dw = sum of g x by rank, for weights of all and per channel, with a mask."""
    x, window_shape, options = next(inputs(MASKS[2:3]))
    x = np.asarray(x)

    def loss(weights, g):
        return (rank_pool(x, window_shape, weights=weights, **options) * g).sum()

    shapes = [(6,), (6, 2)]
    weights = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    g = oracle(x, window_shape, rank_value(weights[0]), **options)  # some cotangent
    program = jax.jit(
        lambda weights, g: [jax.grad(loss)(w, g) for w in weights],
        compiler_options=QUICK,
    )
    for shape, got in zip(shapes, program(weights, g.astype(np.float32)), strict=True):
        want = np.zeros(shape)
        for i in np.ndindex(*shape):  # y is linear in the weights
            unit = np.zeros(shape)
            unit[i] = 1
            want[i] = (oracle(x, window_shape, rank_value(unit), **options) * g).sum()
        np.testing.assert_allclose(got, want, 1e-4, 1e-5)


def test_ties_rank_in_row_major_order():
    """The first of equals gets the larger element's weight, ReLU's zeros among them."""
    x = jnp.asarray([[0.0, 2.0, 0.0, 2.0], [5.0, 5.0, 5.0, 5.0]])[..., None]
    weights = jnp.asarray([1.0, 10.0, 100.0, 1000.0])

    def total(x):
        return rank_pool(x, (4,), weights=weights).sum()

    got = jax.jit(jax.grad(total), compiler_options=QUICK)(x)
    assert got[..., 0].tolist() == [[100, 1, 1000, 10], [1, 10, 100, 1000]]


def test_ties_with_what_is_left_out():
    """-inf is an element like another: padding and masked taps rank behind it."""
    x = jnp.asarray([-np.inf, -np.inf, 3.0, 1.0])[:, None]
    where = np.array([0, 1, 1, 0])[:, None] > 0
    weights = jnp.asarray([1.0, 10.0, 100.0, 1000.0])

    def total(x):
        return rank_pool(
            x, (4,), weights=weights, strides=1, padding=1, where=where
        ).sum()

    got = jax.jit(jax.grad(total), compiler_options=QUICK)(x)[:, 0]
    # Two elements in each of three windows, with two of the weights for each.
    np.testing.assert_allclose(got, [0, 3300, 33, 0])


def test_nan_infinity_and_integers():
    x = np.array([[1.0, np.nan, 2.0], [-np.inf, 1.0, 2.0], [np.inf, 1.0, -2.0]], "f4")

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, integers):
        pool = functools.partial(rank_pool, window_shape=(3,))
        floats = (
            pool(x, weights=jnp.asarray([1.0, 0, 0])),
            pool(x, weights=jnp.asarray([0, 0, 1.0])),
            topk_avg_pool(x, (3,), k=2),
        )
        means = topk_avg_pool(integers, (3,), k=2), pool(integers, weights=[2, 0, 1])
        return [y[..., 0, 0] for y in floats], [y[:, 0] for y in means]

    (largest, smallest, top), means = program(x[..., None], jnp.arange(6)[:, None])
    np.testing.assert_array_equal(largest, [np.nan, 2, np.inf])
    np.testing.assert_array_equal(smallest, [np.nan, -np.inf, -2])
    np.testing.assert_array_equal(top, [np.nan, 1.5, np.inf])
    for y, want in zip(means, ([1.5, 4.5], [4, 13]), strict=True):
        assert y.dtype == jnp.float32 and y.tolist() == want


# --- Extremes -------------------------------------------------------------------------


@functools.partial(jax.jit, compiler_options=QUICK)
def rank_and_topk(x):
    """A rank pool that averages, and a top-k mean, with the sum of their gradients."""
    options = {"strides": 2, "padding": 1}

    def both(x):
        weights = np.array([0.25, 0.5, 0.25], np.float32)
        ranked = rank_pool(x, (3,), weights=weights, **options)
        return ranked, topk_avg_pool(x, (3,), k=2, **options)

    ys, vjp = jax.vjp(both, x)
    return ys, vjp(jax.tree.map(jnp.ones_like, ys))[0]


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_extremes_are_finite_and_within_the_window(dtype, size):
    numbers = st.sampled_from([-size, -1.0, 0.0, 1.0, size]) | st.floats(
        -size, size, allow_subnormal=False
    )
    arrays = hnp.arrays(np.float64, (6, 1), elements=numbers)

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(arrays)
    @example(np.zeros((6, 1)))
    @example(np.full((6, 1), -size))
    def check(x):
        x = x.astype(dtype)
        ys, dx = jax.device_get(rank_and_topk(x))
        room = 4 * np.finfo(dtype).eps * np.abs(x.astype(float)).max()
        room += np.finfo(dtype).tiny  # what is less may count as 0
        low, high = (
            f(x, (3,), strides=2, padding=1)
            for f in (oracles.min_pool, oracles.max_pool)
        )
        for y in ys:
            assert (y >= low - room).all() and (y <= high + room).all()
        # Every window gives its cotangent to its elements, all of it.
        np.testing.assert_allclose(dx.astype(float).sum(), 6, 1e-2)

    check()


# --- Top k ----------------------------------------------------------------------------


def top_value(k):
    def value(v, taps, channel):
        return np.sort(v)[::-1][:k].mean()

    return value


def test_topk_equals_the_formula():
    some = GEOMETRIES + MASKS[:2]
    cases = [*inputs(some), *inputs(some[:1], jnp.bfloat16)]
    ks = [1 + i % int(np.prod(window)) for i, (_, window, _) in enumerate(cases)]
    pools = [functools.partial(topk_avg_pool, k=k) for k in ks]
    check(pools, [top_value(k) for k in ks], cases)


def test_topk_between_maximum_and_average():
    cases = list(inputs(GEOMETRIES[3:5] + MASKS[1:2]))

    def program(xs):
        found = []
        for x, (_, window, options) in zip(xs, cases, strict=True):
            largest = jaxpool.max_pool(x, window, **options)
            mean = jaxpool.avg_pool(x, window, **options, count_include_pad=False)
            taps = int(np.prod(window))
            found += [
                (topk_avg_pool(x, window, **options, k=1), largest),
                (topk_avg_pool(x, window, **options, k=taps), mean),
            ]
        return found

    compiled = jax.jit(program, compiler_options=QUICK)
    for got, want in compiled([x for x, *_ in cases]):
        np.testing.assert_allclose(got, want, 1e-6, 1e-6)


# --- Transformations ------------------------------------------------------------------


def test_rank_pool_transforms():
    weights = np.array([0.5, -0.25, 1.0], np.float32)
    pool = functools.partial(rank_pool, window_shape=(3,), weights=weights, strides=2)
    options = {"order": 1, "dtypes": ("float32",), "eager_grad": False}
    check_transforms(pool, tie_free((2, 5, 1)), **options)


def test_rank_pool_with_learned_weights():
    """The derivative by x and the weights, in both orders."""
    x, weights = tie_free((4, 2), 0, np.float64), tie_free((3,), 1, np.float64)

    def loss(x, weights):
        y = rank_pool(x, (3,), weights=weights, strides=1, padding=1)
        return jnp.sin(y).sum()

    check_curvature(loss, x, weights)


def test_topk_transforms():
    pool = functools.partial(topk_avg_pool, window_shape=(3,), k=2)
    options = {"order": 1, "dtypes": ("float32",), "eager_grad": False}
    # The code is rank_pool's, which does the rest.
    options |= {"platforms": (), "export": False, "sharded": False}
    check_transforms(pool, tie_free((2, 3, 1)), **options)


# --- Wrong calls ----------------------------------------------------------------------


def test_wrong_calls():
    x = jnp.ones((4, 4, 3))
    weights = functools.partial(rank_pool, x, (2, 2))
    with pytest.raises(TypeError, match="weights"):
        weights()
    with pytest.raises(
        ValueError, match=r"`weights` must have shape \(4,\), or \(4, 3\)"
    ):
        weights(weights=jnp.ones(3))
    with pytest.raises(ValueError, match=r"got shape \(4, 2\)"):
        weights(weights=jnp.ones((4, 2)))
    with pytest.raises(TypeError, match="`weights` must be real"):
        weights(weights=jnp.ones(4, jnp.complex64))
    with pytest.raises(TypeError, match="`weights` must be an array, got str"):
        weights(weights="max")
    with pytest.raises(TypeError, match="`x` must be real"):
        rank_pool(x.astype(jnp.complex64), (2, 2), weights=jnp.ones(4))
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"`k` must be from 1 to .* 4 .* got {k}"):
            topk_avg_pool(x, (2, 2), k=k)
    with pytest.raises(TypeError, match="`k` must hold ints"):
        topk_avg_pool(x, (2, 2), k=1.5)
    with pytest.raises(ValueError, match="`where` must broadcast"):
        topk_avg_pool(x, (2, 2), k=1, where=np.ones((3, 1, 1), bool))
