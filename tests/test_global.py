"""Global pools: a window as large as the array, against the NumPy oracles."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from transforms import QUICK, check_transforms, tie_free

import jaxpool

# Each pool: its oracle as a windowed pool, and the options of both.
POOLS = {
    "global_avg_pool": ("avg_pool", {}),
    "global_sum_pool": ("sum_pool", {}),
    "global_max_pool": ("max_pool", {}),
    "global_min_pool": ("min_pool", {}),
    "global_lse_pool": ("lse_pool", {"temperature": 0.4}),
    "global_gem_pool": ("gem_pool", {"p": 2.5, "eps": 0.1}),
}
every_pool = pytest.mark.parametrize("name", POOLS)
WHERE = tie_free((3, 5, 1), 1) > 0
CASES = [
    ((2, 3, 5, 2), (-3, -2), {}),
    ((2, 3, 5, 2), (1,), {"keepdims": True}),
    ((3, 4, 2), (0, 2), {}),
    ((2, 3, 2, 3, 1), (-4, -3, -2), {"keepdims": True}),
    ((2, 3, 5, 2), (-3, -2), {"where": WHERE}),
    ((2, 3, 5, 2), (-2,), {"where": np.arange(3)[:, None, None] > 0, "empty": -2.0}),
]


def expected(name, x, axes, keepdims=False, **options):
    """The oracle's y, a cotangent, and the gradient."""
    oracle, fixed = POOLS[name]
    axes = tuple(a % x.ndim for a in axes)
    window = tuple(x.shape[a] for a in axes)
    y = getattr(oracles, oracle)(x, window, axes=axes, **fixed, **options)
    g = np.random.default_rng(0).normal(size=y.shape).astype(x.dtype)
    options.pop("empty", None)
    gradient = getattr(oracles, f"{oracle}_vjp")
    dx = gradient(x, g, window, axes=axes, **fixed, **options)
    if not keepdims:
        y, g = y.squeeze(axes), g.squeeze(axes)
    return y, g, dx


@every_pool
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equals_the_oracle(name, dtype):
    xs, wanted = [], []
    for seed, (shape, axes, options) in enumerate(CASES):
        x = tie_free(shape, seed).astype(jnp.dtype(dtype))
        if "where" in options:
            garbage = np.array([np.nan, np.inf, -np.inf], x.dtype)
            x = np.where(options["where"], x, np.resize(garbage, x.shape))
        xs.append(x)
        wanted.append(expected(name, x, axes, **options))
    pool = functools.partial(getattr(jaxpool, name), **POOLS[name][1])

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(xs, gs):
        results = []
        for x, g, (_, axes, options) in zip(xs, gs, CASES, strict=True):
            f = functools.partial(pool, axes=axes, **options)
            y, vjp = jax.vjp(f, x)
            slope = jax.jvp(f, (x,), (jnp.where(jnp.isfinite(x), 1, x),))[1]
            results.append((y, vjp(g)[0], (slope * g).astype(jnp.float32).sum()))
        return results

    tolerance = 1e-5 if dtype == "float32" else 1e-2
    got = jax.device_get(program(xs, [g for _, g, _ in wanted]))
    for (y, dx, along), (y_wanted, _, dx_wanted) in zip(got, wanted, strict=True):
        assert y.dtype == jnp.dtype(dtype) and y.shape == y_wanted.shape
        for a, b in ((y, y_wanted), (dx, dx_wanted), (along, dx_wanted.sum())):
            np.testing.assert_allclose(a.astype(float), b, tolerance, tolerance)


@pytest.mark.parametrize("mode", ["mean", "add", "concat"])
def test_average_and_maximum(mode):
    """With garbage under the masks, as of all others."""
    for shape, axes, options in CASES:
        if shape[-1] in [shape[a] for a in axes] and mode == "concat":
            continue  # pools the channels
        x = tie_free(shape)
        if "where" in options:
            garbage = np.resize(np.float32([np.nan, np.inf, -np.inf]), shape)
            x = np.where(options["where"], x, garbage)
        pool = functools.partial(jaxpool.global_avg_max_pool, mode=mode, axes=axes)
        y, vjp = jax.vjp(functools.partial(pool, **options), x)
        mean, g, dmean = expected("global_avg_pool", x, axes, **options)
        top, _, dtop = expected("global_max_pool", x, axes, **options)
        empty = options.get("empty", 0)
        nothing = (mean == empty) & (top == empty)
        joined = {
            "mean": (mean + top) / 2,
            "add": np.where(nothing, empty, mean + top),
            "concat": np.concatenate([mean, top], -1),
        }[mode]
        np.testing.assert_allclose(y, joined, 1e-5, 1e-6)
        cotangent = np.concatenate([g, g], -1) if mode == "concat" else g
        dx = (dmean + dtop) / (2 if mode == "mean" else 1)
        np.testing.assert_allclose(vjp(cotangent)[0], dx, 1e-5, 1e-6)


def test_transforms_of_average_and_maximum():
    pool = functools.partial(jaxpool.global_avg_max_pool, mode="concat")
    options = {"order": 1, "dtypes": ("float32",), "eager_grad": False}
    check_transforms(pool, tie_free((2, 2, 3, 2)), **options)


def test_ties_and_nan_go_to_the_first():
    x = np.array([[1, 3, 3], [3, 0, 1]], np.float32)[..., None]
    dx = jax.grad(lambda x: jaxpool.global_max_pool(x).sum())(x)
    np.testing.assert_array_equal(dx[..., 0], [[0, 1, 0], [0, 0, 0]])
    x[1, 1], x[1, 2] = np.nan, np.nan
    for pool in (jaxpool.global_max_pool, jaxpool.global_min_pool):
        y, vjp = jax.vjp(pool, x)
        assert np.isnan(y).all()
        np.testing.assert_array_equal(
            vjp(np.ones(1, "f"))[0][..., 0], [[0] * 3, [0, 1, 0]]
        )


# Sizes in one look and not: long rows, a prime, numbers that just fit in 16 bits.
SIZES = [(64, 3), (37, 2), (256, 256), (257, 256)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_gradient_goes_to_the_first(size, dtype, rng):
    """Of many equal elements, of NaN, and of those that take part only."""

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, valid):
        found = []
        for pool in (jaxpool.global_max_pool, jaxpool.global_min_pool):
            y, pullback = jax.vjp(functools.partial(pool, where=valid), x)
            found.append((y, pullback(jnp.ones_like(y))[0]))
        return found

    everywhere = np.ones((2, *size, 1), bool)
    for kind in ("ties", "nan", "last valid", "masked infinities"):
        x = rng.integers(-2, 3, size=(2, *size, 3)).astype(dtype)
        valid = everywhere.copy()
        if kind == "nan":
            x[0, -1, -1], x[1, size[0] // 2, 1:] = np.nan, np.nan
        elif kind == "last valid":
            valid[:, :-1], valid[:, -1, :-1] = False, False
        elif kind == "masked infinities":
            x[1] = -np.inf
            valid[:, : size[0] // 2] = False
        found = jax.device_get(program(x, valid))
        for (y, dx), best, lost in zip(
            found, (np.argmax, np.argmin), (-np.inf, np.inf), strict=True
        ):
            rank = np.where(valid, x.astype(float), lost).reshape(2, -1, 3)
            among = np.flatnonzero(valid[0].ravel())
            first = among[best(rank[:, among], axis=1)]
            wanted = np.zeros(rank.shape)
            np.put_along_axis(wanted, first[:, None], 1, axis=1)
            dx = dx.astype(float).reshape(rank.shape)
            np.testing.assert_array_equal(dx, wanted, kind)
            top = np.take_along_axis(rank, first[:, None], 1)[:, 0]
            np.testing.assert_array_equal(y.astype(float), top, kind)


@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_nan_survives_in_a_large_array(place):
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    x[place] = np.nan

    @jax.jit
    def program(x):
        image = x.reshape(250, 400, 1)
        extrema = (jaxpool.global_max_pool, jaxpool.global_min_pool)
        return [pool(image) for pool in extrema] + [
            pool(x[:, None], axes=(0,)) for pool in extrema
        ]

    assert all(np.isnan(y).all() for y in program(x))


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_extremes_are_finite(dtype, size):
    x = np.array([size, -size, 0, 1, -1, size], dtype).reshape(2, 3, 1)
    for name in ("global_lse_pool", "global_gem_pool", "global_avg_pool"):
        y, vjp = jax.vjp(getattr(jaxpool, name), x)
        assert np.isfinite(y).all() and np.isfinite(vjp(jnp.ones_like(y))[0]).all()
    ones = jnp.ones((64, 64, 1), jnp.bfloat16)
    assert float(jaxpool.global_avg_pool(ones)[0]) == 1


def test_a_mask_that_leaves_nothing():
    x = np.full((2, 3, 1), np.nan, np.float32)
    for name in (*POOLS, "global_avg_max_pool"):
        pool = functools.partial(getattr(jaxpool, name), where=x == 0, empty=-3.0)
        y, vjp = jax.vjp(pool, x)
        np.testing.assert_array_equal(y, [-3])
        np.testing.assert_array_equal(vjp(y)[0], np.zeros_like(x))
        np.testing.assert_array_equal(jax.jvp(pool, (x,), (x,))[1], [0])


def test_integers():
    x = np.arange(6, dtype=np.int16).reshape(2, 3, 1)
    for name, y in (("max", 5), ("min", 0), ("sum", 15), ("avg", 2.5)):
        got = getattr(jaxpool, f"global_{name}_pool")(x)
        assert got == y and got.dtype == (jnp.float32 if name == "avg" else jnp.int16)
    assert jaxpool.global_sum_pool(x > 2) == 3
    assert jaxpool.global_avg_pool(x + 1j * x)[0] == 2.5 + 2.5j


@every_pool
def test_transforms(name):
    pool = functools.partial(getattr(jaxpool, name), **POOLS[name][1])
    order = 2 if name in ("global_gem_pool", "global_lse_pool") else 1
    options = {"dtypes": ("float32",), "eager_grad": False, "order": order}
    check_transforms(pool, tie_free((2, 2, 3, 2)), **options)


@pytest.mark.parametrize("name", [*POOLS, "global_avg_max_pool"])
def test_symbolic_sizes(name):
    """One exported program for images of any size."""
    _, options = POOLS.get(name, ("", {}))
    pool = jax.jit(functools.partial(getattr(jaxpool, name), **options))
    shape = jax.export.symbolic_shape("b, h, w, 2")
    exported = jax.export.export(pool)(jax.ShapeDtypeStruct(shape, jnp.float32))
    for size in ((1, 2, 5, 2), (3, 4, 4, 2)):
        x = tie_free(size)
        np.testing.assert_allclose(exported.call(x), pool(x), 1e-5)


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"axes": ()}, ValueError, "`axes` must name at least one axis"),
        ({"axes": (5,)}, ValueError, "`axes` must lie in"),
        ({"axes": (1, 1)}, ValueError, "`axes` must not repeat"),
        ({"axes": 1}, TypeError, "`axes` must be a tuple of ints, got 1"),
        ({"keepdims": 1}, TypeError, "`keepdims` must be True or False, got 1"),
        ({"where": np.ones(3)}, TypeError, "`where` must be boolean"),
    ],
)
def test_wrong_calls(options, error, match):
    for name in POOLS:
        with pytest.raises(error, match=match):
            getattr(jaxpool, name)(np.ones((2, 3, 4, 1), np.float32), **options)
    with pytest.raises(ValueError, match="`mode` must be one of"):
        jaxpool.global_avg_max_pool(np.ones((2, 3, 1), np.float32), mode="max")


@pytest.mark.parametrize(
    "name, options, error, match",
    [
        ("gem", {"p": 0}, ValueError, "`p` must be positive, got 0"),
        ("gem", {"p": np.ones(4)}, ValueError, "`p` must be a number or broadcast to"),
        ("gem", {"p": "3"}, TypeError, "`p` must be a number or an array, got '3'"),
        ("gem", {"eps": -1.0}, ValueError, "`eps` must be positive, got -1.0"),
        ("lse", {"temperature": 0}, ValueError, "must be positive and finite, got 0"),
        ("lse", {"temperature": np.inf}, ValueError, "and finite, got inf"),
        ("lse", {"temperature": np.nan}, ValueError, "and finite, got nan"),
        ("avg_max", {"mode": "concat", "keepdims": 0}, TypeError, "`keepdims` must be"),
    ],
)
def test_wrong_parameters(name, options, error, match):
    with pytest.raises(error, match=match):
        getattr(jaxpool, f"global_{name}_pool")(np.ones((2, 3, 4, 5), "f"), **options)


@pytest.mark.parametrize("name", POOLS)
def test_wrong_inputs(name):
    pool = getattr(jaxpool, name)
    with pytest.raises(ValueError, match="`x` must not be empty along axes"):
        pool(np.ones((2, 0, 4, 1), np.float32))
    with pytest.raises(TypeError, match="`empty` must be a number, got 'none'"):
        pool(np.ones((2, 3, 4, 1), np.float32), empty="none")
    with pytest.raises(ValueError, match="`where` must broadcast to x with shape"):
        pool(np.ones((2, 3, 4, 1), np.float32), where=np.ones((5, 1), bool))
    with pytest.raises(TypeError, match="`x` must be an array, got str"):
        pool("x")
