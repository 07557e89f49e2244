"""spatial_pyramid_pool and max_pool_pyramid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_blocks import build, moved
from transforms import QUICK, check_transforms, tie_free

import jaxpool
import jaxpool.linen
import jaxpool.nnx
from jaxpool import max_pool, max_pool_pyramid, spatial_pyramid_pool

# --- Spatial pyramid ------------------------------------------------------------------


def cells(windows, n, bins):
    """The ends of the cells along an axis, and what an average divides by."""
    for i in range(bins):
        k, s = -(-n // bins), n // bins
        if windows == "adaptive":
            lo, hi = i * n // bins, -(-(i + 1) * n // bins)
            yield lo, hi, hi - lo
        elif windows == "paper":
            yield i * s, i * s + k, k
        else:
            pad = (k * bins - n + 1) // 2
            yield max(i * k - pad, 0), min(i * k - pad + k, n), k


def pyramid_oracle(x, levels, reducer, windows, channels_first, where, empty):
    """The definition, cell by cell, for x `(N, H, W, C)`."""
    where = np.broadcast_to(True if where is None else where, x.shape)
    found = []
    for level in levels:
        rows, columns = (level, level) if isinstance(level, int) else level
        grid = np.zeros((len(x), rows, columns, x.shape[-1]))
        for i, (top, bottom, height) in enumerate(cells(windows, x.shape[1], rows)):
            for j, (left, right, width) in enumerate(
                cells(windows, x.shape[2], columns)
            ):
                for n, c in np.ndindex(len(x), x.shape[-1]):
                    cell = n, slice(top, bottom), slice(left, right), c
                    values = x[cell][where[cell]]
                    divisor = height * width if where.all() else len(values)
                    if not len(values):
                        grid[n, i, j, c] = empty
                    elif reducer == "max":
                        grid[n, i, j, c] = values.max()
                    else:
                        grid[n, i, j, c] = values.sum() / divisor
        if channels_first:
            grid = np.moveaxis(grid, -1, 1)
        found.append(grid.reshape(len(x), -1))
    return np.concatenate(found, axis=-1)


CASES = [
    ((2, 7, 5, 3), (4, 2, 1), "max", "adaptive", False, None),
    ((2, 3, 5, 2), (4, (1, 3)), "avg", "adaptive", True, None),
    ((2, 13, 9, 2), (3, 2, 1), "max", "paper", True, None),
    ((1, 8, 6, 2), ((4, 3), 1), "avg", "paper", False, None),
    ((2, 7, 9, 2), (4, 2, 1), "max", "caffe", False, None),
    ((2, 7, 9, 2), (4, 2, 1), "avg", "caffe", False, None),
    ((2, 7, 5, 3), (3, 1), "max", "adaptive", False, tie_free((7, 5, 1), 1) > 0.5),
    ((2, 7, 5, 3), (3, 1), "avg", "adaptive", True, tie_free((2, 7, 1, 1), 1) > 1),
]


def test_spatial_pyramid_equals_the_oracle():
    inputs = [tie_free(shape) for shape, *_ in CASES]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(inputs):
        found = []
        for x, (_, levels, reducer, windows, first, where) in zip(
            inputs, CASES, strict=True
        ):
            options = {"levels": levels, "reducer": reducer, "windows": windows}
            options |= {"channels_first": first, "where": where, "empty": -7.0}
            found.append(spatial_pyramid_pool(x, **options))
            if not first:  # an array with channels first gives the same
                moved = jnp.moveaxis(x, -1, 1)
                mask = where if where is None else np.moveaxis(where[None], -1, 1)
                options["where"] = mask
                found[-1] = (
                    found[-1],
                    spatial_pyramid_pool(moved, **options, axes=(-2, -1)),
                )
        return found

    for x, case, got in zip(inputs, CASES, run(inputs), strict=True):
        want = pyramid_oracle(x, *case[1:], -7.0)
        for y in got if isinstance(got, tuple) else (got,):
            np.testing.assert_allclose(y, want, 1e-5, 1e-6, err_msg=str(case[:5]))


def test_spatial_pyramid_has_one_length():
    for size in ((13, 13), (10, 10), (7, 11), (2, 3)):
        x = jax.ShapeDtypeStruct((4, *size, 8), jnp.bfloat16)
        y = jax.eval_shape(spatial_pyramid_pool, x)
        assert y.shape == (4, 21 * 8) and y.dtype == jnp.bfloat16
    levels = functools.partial(spatial_pyramid_pool, levels=(6, 3, 2, 1))
    x = jax.ShapeDtypeStruct((13, 13, 256), jnp.float32)
    assert jax.eval_shape(levels, x).shape == (50 * 256,)  # the paper's, for ImageNet
    line = functools.partial(spatial_pyramid_pool, axes=(-2,), levels=(3, 1))
    assert jax.eval_shape(line, x).shape == (13, 4 * 256)


@pytest.mark.parametrize("reducer", ["max", "avg"])
def test_spatial_pyramid_transforms(reducer):
    options = {"levels": (2, 1), "reducer": reducer, "axes": (-2,)}
    pool = functools.partial(spatial_pyramid_pool, **options)
    check_transforms(pool, tie_free((2, 5, 2)), order=1, dtypes=("bfloat16",))


# --- Maxima of several sizes ----------------------------------------------------------


def few_values(shape, seed=0):
    """Numbers with many ties, and a NaN."""
    x = np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)
    x[tuple(n // 2 for n in shape)] = np.nan
    return x


PYRAMIDS = [
    ((2, 9, 11, 3), (5, 2, 3), (-3, -2), None),
    ((2, 17, 14, 1), (5, 9, 13), (-3, -2), None),
    ((3, 5, 6, 4, 2), (3, 4), (-4, -3, -2), None),
    ((2, 19, 2), (4, 1, 3, 13), (-2,), None),
    ((2, 2, 8, 9), (3, 5), (-2, -1), None),
    ((2, 9, 7, 2), (5, 3), (-3, -2), tie_free((2, 9, 7, 2), 1) > 0.3),
    ((2, 9, 7, 2), (3, 5), (-3, -2), tie_free((9, 1, 1), 1) > 0.9),
]


def separate(x, sizes, axes, **options):
    windows = [(k,) * len(axes) for k in sizes]
    options |= {"strides": 1, "padding": "SAME", "axes": axes}
    return tuple(max_pool(x, window, **options) for window in windows)


@pytest.mark.parametrize(
    "dtype, cases", [("float32", PYRAMIDS), ("bfloat16", PYRAMIDS[::3])]
)
def test_maxima_are_those_of_separate_pools(dtype, cases):
    """In values and in derivatives, at ties and NaN too."""
    inputs = [jnp.asarray(few_values(shape), dtype) for shape, *_ in cases]
    # Small integers: their sums are exact in any order.
    rng = np.random.default_rng(3)
    weights = [
        tuple(jnp.asarray(rng.integers(1, 3, shape), dtype) for _ in sizes)
        for shape, sizes, *_ in cases
    ]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(inputs, weights):
        found = []
        for x, g, (_, sizes, axes, where) in zip(inputs, weights, cases, strict=True):
            options = {"sizes": sizes, "axes": axes, "where": where, "empty": -2.0}
            pools = functools.partial(max_pool_pyramid, **options)
            apart = functools.partial(separate, **options)
            (y, pull), (want, pull_apart) = jax.vjp(pools, x), jax.vjp(apart, x)
            tangents = jax.jvp(pools, (x,), g[:1])[1], jax.jvp(apart, (x,), g[:1])[1]
            ours = (pools(x), y, pull(g), tangents[0])
            found.append((ours, (want, want, pull_apart(g), tangents[1])))
        return found

    def equal(a, b):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_array_equal(*(np.asarray(v, np.float32) for v in (a, b)))

    for got, want in run(inputs, weights):
        jax.tree.map(equal, got, want)


def test_maxima_of_integers():
    x = np.random.default_rng(0).integers(-9, 9, (2, 6, 5, 2)).astype(np.int8)
    got = max_pool_pyramid(x, sizes=(3, 4))
    want = separate(x, (3, 4), (-3, -2))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert got[0].dtype == np.int8


def test_pyramid_transforms():
    def joined(x):
        return jnp.concatenate(max_pool_pyramid(x, sizes=(2, 3)), axis=-1)

    options = {"dtypes": ("bfloat16",), "eager_grad": False}
    check_transforms(joined, tie_free((2, 4, 3, 1)), order=1, **options)


def test_sppf_is_spp_to_the_bit():
    """With and without ties, in values and gradients."""
    options = {"activation": None, "norm": None}
    spp = build("SPP", "nnx", kernel_sizes=(5, 9, 13), **options)
    sppf = build("SPPF", "nnx", kernel_size=5, repeats=3, **options)
    graphdefs, (state, other) = zip(*(nnx.split(b) for b in (spp, sppf)), strict=True)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, other)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(state, x):
        def loss(layer, x):
            y = layer(x)
            return (y**2).sum(), y

        grad = nnx.grad(loss, argnums=(0, 1), has_aux=True)
        layers = [nnx.merge(g, state, copy=True) for g in graphdefs]
        return [grad(layer, x) for layer in layers]

    rng = np.random.default_rng(0)
    for x in (rng.normal(size=(2, 15, 14, 8)), rng.integers(0, 2, (2, 15, 14, 8))):
        a, b = run(state, x.astype(np.float32))
        jax.tree.map(np.testing.assert_array_equal, a, b)


# --- Wrong calls ----------------------------------------------------------------------

X = np.zeros((2, 6, 6, 3), np.float32)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (
            lambda: spatial_pyramid_pool(X, levels=4),
            TypeError,
            "`levels` must be a tup",
        ),
        (lambda: spatial_pyramid_pool(X, levels=()), ValueError, "at least one level"),
        (
            lambda: spatial_pyramid_pool(X, levels=(0,)),
            ValueError,
            "`levels` must be at",
        ),
        (
            lambda: spatial_pyramid_pool(X, reducer="min"),
            ValueError,
            "`reducer` must be",
        ),
        (lambda: spatial_pyramid_pool(X, windows="x"), ValueError, "`windows` must be"),
        (
            lambda: spatial_pyramid_pool(X, channels_first=1),
            TypeError,
            "`channels_first`",
        ),
        (
            lambda: spatial_pyramid_pool(X, axes=(0, 1, 2, 3)),
            ValueError,
            "for channels",
        ),
        (lambda: spatial_pyramid_pool(X[:, :0]), ValueError, "must not be empty"),
        (
            lambda: spatial_pyramid_pool(X, levels=(4,), windows="paper"),
            ValueError,
            "axis of size 6 of x with shape .* do not give 4 bins",
        ),
        (
            lambda: spatial_pyramid_pool(X[:, :5], levels=(4,), windows="caffe"),
            ValueError,
            "axis of size 5 .* 4 bins would hold padding alone",
        ),
        (lambda: max_pool_pyramid(X, sizes=5), TypeError, "`sizes` must be a tuple"),
        (lambda: max_pool_pyramid(X, sizes=()), ValueError, "`sizes` must hold ints"),
        (lambda: max_pool_pyramid(X, sizes=(3, 0)), ValueError, "at least 1, got"),
        (
            lambda: max_pool_pyramid(X, sizes=(3.5,)),
            TypeError,
            "`sizes` must hold ints",
        ),
        (lambda: max_pool_pyramid(1j * X), TypeError, "must be real"),
        (lambda: max_pool_pyramid(X, where=X), TypeError, "`where` must be boolean"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, error, match):
    with pytest.raises(error, match=match):
        call()


def make(name, *sizes, **options):
    return getattr(jaxpool.nnx, name)(*sizes, **options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: make("SPP", 1, 4), ValueError, "at least one channel everywhere"),
        (lambda: make("StripPooling", 3), ValueError, "from 3 to 0"),
        (
            lambda: make("SPPF", 8, 8, repeats=0),
            ValueError,
            "`repeats` must hold ints",
        ),
        (lambda: make("SPP", 8, 8, kernel_sizes=()), ValueError, "`kernel_sizes` must"),
        (lambda: make("SPPF", 8, 8, kernel_size=5.0), TypeError, "`kernel_size` must"),
        (lambda: make("SPPF", 8, 4, shortcut=True), ValueError, "`shortcut` must be"),
        (lambda: make("SPPF", 8, 4, norm="layer"), ValueError, "`norm` must be one of"),
        (lambda: make("ASPP", 8, 4, form="v3"), ValueError, "`form` must be one of"),
        (
            lambda: make("ConvNormAct", 8, 4, 3),
            TypeError,
            "`kernel_size` must be a tup",
        ),
    ],
)
def test_wrong_blocks_say_what_is_wrong(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_weights_of_another_block_are_refused():
    layer, module, _ = moved("SPPF")
    weights = {
        "cv1.conv.weight": np.zeros((4, 8, 1, 1)),
        "cv2.conv.weight": np.zeros((6, 12, 1, 1)),
    }
    norms = {f"cv{i}.bn.{k}": np.zeros(n) for i, n in ((1, 4), (2, 6)) for k in LEAVES}
    good = {f"neck.{k}": v for k, v in (weights | norms).items()}
    good["neck.cv1.bn.num_batches_tracked"] = np.zeros(())
    for load in (layer.load_state_dict, module.load_state_dict):
        load(good | {"head.weight": 0}, prefix="neck.")
        with pytest.raises(ValueError, match=r"must have .*cv1\.conv\.weight"):
            load(good)
        with pytest.raises(ValueError, match=r"alone, got neck\.more"):
            load(good | {"neck.more": 0}, prefix="neck.")
        short = {k: v for k, v in good.items() if k != "neck.cv2.bn.running_var"}
        with pytest.raises(ValueError, match=r"must have neck\.cv2\.bn\.running_var"):
            load(short, prefix="neck.")
        wrong = good | {"neck.cv2.bn.bias": np.zeros(5)}
        with pytest.raises(ValueError, match=r"of shape \(6,\).* got \(5,\)"):
            load(wrong, prefix="neck.")
        renamed = {k.replace("neck.cv", "neck.block"): v for k, v in good.items()}
        parts = {"reduce": "block1", "out": "block2"}
        names = {part: (f"{b}.conv", f"{b}.bn") for part, b in parts.items()}
        load(renamed, prefix="neck.", names=names)


LEAVES = ("weight", "bias", "running_mean", "running_var")


def test_dropout_of_aspp(key):
    layer = make("ASPP", 8, 4, rates=(1,), dropout_rate=0.9)
    x = jnp.asarray(X[..., :1] + tie_free((2, 6, 6, 8)))
    zeros = [(layer(x, deterministic=flag) == 0).mean() for flag in (False, True)]
    assert zeros[0] > 0.8 and zeros[1] < 0.8
    layer.eval()
    np.testing.assert_array_equal(layer(x), layer(x))
    module = jaxpool.linen.ASPP(4, rates=(1,), dropout_rate=0.9)
    variables = module.init({"params": key}, x, True)  # needs no stream for dropout
    rngs = {"dropout": key}
    apply = functools.partial(module.apply, variables, x, False, mutable="batch_stats")
    (y, _), (fixed, _) = apply(rngs=rngs), apply(deterministic=True)
    assert (y == 0).mean() > 0.8 > (fixed == 0).mean()
    np.testing.assert_array_equal(
        module.apply(variables, x, True), module.apply(variables, x, True)
    )
