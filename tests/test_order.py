"""max_pool, min_pool and median_pool: against NumPy, PyTorch, and in every corner."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from grid import (
    FEW,
    MASKS,
    OWN_RULES,
    RULES,
    SEVERAL,
    cases,
    check,
    check_dtypes,
    check_goldens,
    check_involved_transforms,
    check_plain_transforms,
    check_rule,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_window import geometries
from transforms import QUICK, tie_free

import jaxpool
from jaxpool import _lowering, _selection

EXTREMA = ["max_pool", "min_pool"]
INTEGERS = ["int32", "uint8", "bool"]
INDEXED = {"return_indices": True}

# --- Against oracles ------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_maxima_equal_the_oracle(rule):
    check_rule("max_pool", rule, **INDEXED)


@pytest.mark.parametrize("rule", RULES)
def test_minima_equal_the_oracle(rule):
    check_rule("min_pool", rule, FEW, **INDEXED)


@pytest.mark.parametrize("rule", RULES)
def test_medians_equal_the_oracle(rule):
    if rule == "cpu":
        check_rule("median_pool", rule, SEVERAL)
    else:  # they differ in nothing that medians use
        check("median_pool", cases(FEW[:2]), rule)


@pytest.mark.parametrize("even", ["lower", "upper", "mean"])
def test_the_median_of_a_constant_is_the_constant(even):
    x = np.full((5, 4, 1), 0.3, np.float32)
    options = {"strides": 1, "padding": 1, "even": even}
    y = jaxpool.median_pool(x, (2, 3), **options)
    np.testing.assert_array_equal(y, np.full(y.shape, np.float32(0.3)))


def test_medians_of_even_counts_equal_the_oracle():
    some = [*FEW[:2], MASKS[1]]
    check("median_pool", [*cases(some, even="upper"), *cases(some, even="mean")])


@pytest.mark.parametrize("name", EXTREMA)
def test_dtypes(name):
    check_dtypes(name, INTEGERS, OWN_RULES, **INDEXED)


def test_dtypes_of_medians():
    check_dtypes("median_pool", INTEGERS)
    check_dtypes("median_pool", INTEGERS[:1], even="mean")


def special(shape, seed=0, dtype=np.float32):
    """Ties, NaN, both infinities and both zeros; and rows of -inf and of inf alone."""
    values = [0, -0.0, 1, 1, 2, -1, np.nan, np.inf, -np.inf, -np.inf]
    x = np.random.default_rng(seed).choice(values, shape)
    x[1:4], x[-2:] = -np.inf, np.inf
    return x.astype(dtype)


SPECIAL = [
    ((9, 5, 1), (2, 2), {}),
    ((9, 7, 1), (3, 2), {"strides": (1, 2), "padding": ((2, 1), (0, 1))}),
    ((9, 8, 1), (2, 3), {"strides": 2, "dilation": (3, 2), "padding": 1}),
    ((11, 9, 1), (6, 7), {"strides": (2, 1), "padding": ((3, 2), (1, 2))}),
    ((8, 1), (2,), {"strides": 3, "padding": ((4, 3),)}),  # windows of padding alone
    ((9, 5, 1), (2, 3), {"strides": 1, "where": tie_free((9, 5, 1)) > 0}),
]


# Maxima of maxima: windows longer than the array, and padding of one side alone.
LONG = [
    ((5, 9, 2), (13, 9), {"padding": ((12, 3), (0, 8))}),
    ((20, 1, 1), (15, 31), {"padding": ((0, 0), (30, 7))}),
    ((3, 32, 1), (1, 31), {"padding": ((0, 0), (15, 15))}),
    ((17, 10, 1), (11, 10), {"padding": ((5, 5), (0, 1))}),
]


@pytest.mark.parametrize("name", EXTREMA)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_long_windows(name, dtype):
    some = []
    for seed, (shape, window, options) in enumerate(LONG):
        x = tie_free(shape, seed) if seed % 2 else special(shape, seed)
        x = x if dtype == "float32" else (9 * tie_free(shape, seed)).astype(dtype)
        some.append((x, {"window_shape": window, "strides": 1, **options, **INDEXED}))
    check(name, some)


@pytest.mark.parametrize(
    "name, rule", [("max_pool", "cpu"), ("max_pool", "default"), ("min_pool", "cpu")]
)
def test_ties_nan_and_infinity(name, rule):
    """To the first of equals, the first NaN, and a window of -inf to its first tap."""
    dtypes = [np.float32, np.float32, jnp.bfloat16, np.float32, jnp.float16, np.float32]
    some = [
        (special(shape, seed, dtype), {"window_shape": window, **options, **INDEXED})
        for seed, ((shape, window, options), dtype) in enumerate(
            zip(SPECIAL, dtypes, strict=True)
        )
    ]
    ties = np.random.default_rng(0).integers(0, 3, (9, 8, 2)).astype(np.float32)
    everyone = {"where": np.ones((1, 1, 1), bool)}  # for a tangent as well
    for size in ((2, 2), (3, 3), (6, 7)):
        options = {"window_shape": size, "strides": 2, **everyone, **INDEXED}
        some.append((ties, options))
    check(name, some, rule)


def test_ties_nan_and_infinity_in_medians():
    """A value is one of its equals: the derivative goes to the first of them."""
    x = special((9, 5, 1))
    options = {"strides": (2, 1), "padding": ((1, 1), (0, 1))}
    y = jax.jit(lambda x: jaxpool.median_pool(x, (3, 2), **options))(x)
    np.testing.assert_array_equal(y, oracles.median_pool(x, (3, 2), **options))
    x = np.array([1, 1, 1, 2, 0, 0, 3, np.nan, np.nan, 4, np.inf, np.inf], np.float32)
    dx = jax.grad(lambda x: jaxpool.median_pool(x[:, None], (3,)).sum())(x)
    np.testing.assert_array_equal(np.flatnonzero(dx), [0, 4, 7, 10])


def test_windows_of_many_taps():
    """Axis by axis; the arg-tap is a byte up to 256 taps, and two above."""
    assert _selection.code_dtype(256) == np.uint8
    assert _selection.code_dtype(257) == np.uint16
    rng = np.random.default_rng(0)
    some = []
    for shape, window, options in [
        ((19, 20, 1), (16, 17), {"strides": (2, 1), "padding": ((3, 0), (1, 2))}),
        ((19, 18, 1), (16, 16), {"strides": (1, 2)}),
        ((13, 12, 1), (6, 7), {"strides": 3, "where": rng.random((13, 12, 1)) > 0.9}),
    ]:
        x = rng.integers(0, 9, shape).astype(np.float32)  # ties, inside rows and across
        some.append((x, {"window_shape": window, **options, **INDEXED}))
    check("max_pool", some)
    check("max_pool", some[:1], "default")
    check("min_pool", some[2:])


def test_one_window():
    """A single output is not taken for a parameter that broadcasts."""
    x = tie_free((7, 7, 1))
    check("max_pool", [(x, {"window_shape": (7, 7), "strides": 1, **INDEXED})])
    dilated = {"window_shape": (2, 2), "dilation": 2, **INDEXED}
    check("max_pool", [(x[:3, :3], dilated), (x[:3, :5], dilated)], "tpu")


def test_medians_of_many_taps():
    """More than 64 are sorted by XLA, fewer by a network."""
    x = tie_free((12, 11, 1))
    nan = x.copy()
    nan[3, 4] = np.nan
    where = tie_free((12, 11, 1), 1) > 0
    options = {"window_shape": (10, 7), "strides": 2}
    masked = np.where(where, x, np.float32(np.nan)), options | {"where": where}
    check("median_pool", [(nan, options | {"even": "upper"}), masked])


def test_medians_of_even_counts():
    x = np.array([4, 1, 3, 8, 8, 2, 0, 1], np.float32)[:, None]
    evens = {"lower": [3, 1], "upper": [4, 2], "mean": [3.5, 1.5]}

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        found = [jaxpool.median_pool(x, (4,), even=even) for even in evens]
        return found, jaxpool.median_pool(x.astype(jnp.int32), (4,), even="mean")

    found, of_integers = program(x)
    np.testing.assert_array_equal(np.stack(found)[..., 0], list(evens.values()))
    assert of_integers.dtype == jnp.float32
    np.testing.assert_array_equal(of_integers, found[-1])


def test_the_mean_of_two_medians_does_not_overflow():
    """XLA turns a / 2 + b / 2 into (a + b) / 2 under jit, which would."""
    x = np.full((2, 1), 3e38, np.float32)
    y = jax.jit(lambda x: jaxpool.median_pool(x, (2,), even="mean"))(x)
    np.testing.assert_array_equal(y, x[:1])


# --- Against PyTorch ------------------------------------------------------------------


def test_max_pool_equals_the_goldens():
    check_goldens("max", jaxpool.max_pool, **INDEXED)


def test_equals_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.integers(-3, 4, (2, 7, 6, 3)).astype(np.float32)
    first = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
    options = {"padding": (1, 0), "dilation": (2, 1), "ceil_mode": True}
    y, indices = torch.nn.functional.max_pool2d(
        first, (2, 3), (1, 2), return_indices=True, **options
    )
    (dx,) = torch.autograd.grad(y.square().sum(), first)

    def pool(x):
        y, indices = jaxpool.max_pool(x, (2, 3), strides=(1, 2), **options, **INDEXED)
        return (y**2).sum(), (y, indices)

    program = jax.jit(jax.grad(pool, has_aux=True), compiler_options=QUICK)
    got_dx, got = program(x)
    for a, b in zip((*got, got_dx), (y, indices, dx), strict=True):
        np.testing.assert_array_equal(a, np.moveaxis(b.detach().numpy(), 1, -1))
    taps = torch.from_numpy(x).unfold(1, 2, 2).unfold(2, 3, 2).flatten(-2)
    median = functools.partial(jaxpool.median_pool, window_shape=(2, 3), strides=2)
    got = jax.jit(median, compiler_options=QUICK)(x)
    np.testing.assert_array_equal(got, taps.median(-1).values)


# --- NaN ------------------------------------------------------------------------------


NAN_WINDOWS = [
    ((2, 2), {}),
    ((3, 3), {"strides": (2, 2), "padding": "SAME"}),
    ((16, 17), {}),
    ((31, 31), {"strides": (15, 15), "padding": "SAME"}),
    ((1000,), {}),
]


@pytest.mark.parametrize(
    "dtype, windows", [("float32", NAN_WINDOWS), ("bfloat16", NAN_WINDOWS[1:3])]
)
def test_nan_survives_in_a_large_array(dtype, windows):
    """Stock max pooling on CPU loses it above 4096 elements (jaxlib 0.9.1 to 0.12)."""
    shape, place = (250, 400), (137, 201)
    x = np.random.default_rng(0).normal(size=shape)
    x[place] = np.nan
    x = jnp.asarray(x, dtype)

    def pool(f, x, window, options):
        return f(x[..., None], window, **options)

    @jax.jit  # as it is used, with every optimisation
    def values(x):
        results = []
        for window, options in windows:
            a = x if len(window) == 2 else x.ravel()
            f = functools.partial(pool, window=window, options=options)
            results.append([f(jaxpool.max_pool, a)])
            if len(window) == 2:
                results[-1].append(f(jaxpool.min_pool, a))
        return results

    @functools.partial(jax.jit, compiler_options=QUICK)
    def gradients(x):
        results = []
        for window, options in windows[1:3]:
            y, vjp = jax.vjp(
                lambda x: pool(jaxpool.max_pool, x, window, options),  # noqa: B023
                x,
            )
            results.append((vjp(jnp.ones_like(y))[0], jnp.isnan(y).sum()))
        return results

    for (window, options), ys in zip(windows, values(x), strict=True):
        flat = len(window) == 1
        size = (x.size,) if flat else shape
        at = (int(np.ravel_multi_index(place, shape)),) if flat else place
        strides, padding = options.get("strides", window), options.get("padding")
        inside = [
            [p in taps for taps, _ in oracles.axis_windows(n, k, s, padding or "VALID")]
            for n, p, k, s in zip(size, at, window, strides, strict=True)
        ]
        nan = functools.reduce(np.multiply.outer, map(np.array, inside))
        assert nan.any()
        for y in ys:
            np.testing.assert_array_equal(np.isnan(y[..., 0]), nan)
    for dx, count in jax.device_get(gradients(x)):
        assert dx[place] == count > 0


def test_a_single_nan_in_every_place():
    """In values, indices and gradients, at every tap of a window, in both orders."""
    x = np.tile(tie_free((1, 3, 3, 1)), (9, 1, 1, 1))
    x[np.arange(9), np.arange(9) // 3, np.arange(9) % 3] = np.nan
    options = {"window_shape": (3, 3)}
    check("max_pool", [(x, options | INDEXED)])
    check("min_pool", [(x, options | INDEXED)], "default")
    check("median_pool", [(x, options)])


# --- Empty windows, empty batches, axes of size 1 -------------------------------------


@pytest.mark.parametrize("name", [*EXTREMA, "median_pool"])
def test_windows_without_elements(name):
    """All padding gives the lowest number and index -1; all masked gives `empty`."""
    x = tie_free((4, 1))
    padded = {"window_shape": (2,), "padding": ((2, 2),)}
    emptied = {"window_shape": (2,), "where": np.zeros((4, 1), bool), "empty": -3.0}
    some = [(x, padded), (x, emptied)]
    some += [((9 * x).astype(d), padded) for d in (np.int8, jnp.bfloat16, bool)]
    indexed = {} if name == "median_pool" else INDEXED
    check(name, [(x, options | indexed) for x, options in some])


@pytest.mark.parametrize("shape", [(0, 5, 6, 2), (2, 5, 6, 0), (1, 1, 1, 1)])
def test_arrays_of_few_or_no_elements(shape):
    window = (1, 1) if shape[1] == 1 else (3, 2)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        results = []
        for pool in (jaxpool.max_pool, jaxpool.min_pool, jaxpool.median_pool):
            y, vjp = jax.vjp(lambda x: pool(x, window, strides=1), x)  # noqa: B023
            results.append((y, vjp(y)[0]))
        return results

    x = tie_free(shape)
    for y, dx in program(x):
        assert y.shape == jaxpool.pool_output_shape(shape, window, strides=1)
        np.testing.assert_array_equal(dx, x)  # one element, or none


# --- Gradients that add up ------------------------------------------------------------


@pytest.mark.parametrize("rule", OWN_RULES)
def test_a_bfloat16_gradient_adds_up_in_float32(rule):
    """300 windows share a winner; in bfloat16 itself the sum stops at 256."""
    x = np.zeros((29, 39, 1), jnp.bfloat16)
    x[14, 19] = 1
    with _lowering.force(rule):
        pool = functools.partial(jaxpool.max_pool, window_shape=(15, 20), strides=1)
        dx = jax.jit(jax.grad(lambda x: pool(x).sum()), compiler_options=QUICK)(x)
    assert dx.dtype == jnp.bfloat16
    assert dx[14, 19, 0] == 300
    assert np.abs(dx, dtype=np.float32).sum() == 300


@settings(max_examples=8, deadline=None, derandomize=True)
@given(geometries(most_axes=1), st.integers(0, 9))
def test_a_gradient_keeps_its_sum(geometry, seed):
    """Every cotangent arrives, but for those of windows wholly in padding."""
    shape, options = geometry
    try:
        shape_of_y = jaxpool.pool_output_shape(shape, **options)
    except ValueError:
        return
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, shape).astype(np.float32)
    g = rng.integers(-9, 10, shape_of_y).astype(np.float32)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, g):
        y, vjp = jax.vjp(lambda x: jaxpool.max_pool(x, **options), x)
        return y, vjp(g)[0]

    with _lowering.force("default"):
        y, dx = jax.device_get(program(x, g))
    assert dx.sum() == g[np.isfinite(y)].sum()  # integers: exact in any order


# --- Identities -----------------------------------------------------------------------


@settings(max_examples=10, deadline=None, derandomize=True)
@given(geometries(most_axes=3))
def test_output_shapes(geometry):
    shape, options = geometry
    try:
        expected = jaxpool.pool_output_shape(shape, **options)
    except ValueError:
        return
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    with _lowering.force("default"):  # one program to trace, not three
        y = jax.eval_shape(lambda x: jaxpool.max_pool(x, **options, **INDEXED), x)
        z = jax.eval_shape(lambda x: jaxpool.min_pool(x, **options, **INDEXED), x)
        if np.prod(options["window_shape"]) <= 36:
            median = jax.eval_shape(lambda x: jaxpool.median_pool(x, **options), x)
            assert median.shape == expected
    assert [a.shape for a in (*y, *z)] == [expected] * 4
    assert [a.dtype for a in y] == [jnp.float32, jnp.int32]


def test_two_maxima_make_a_larger_one():
    same = {"strides": 1, "padding": "SAME"}

    def five_of_five(x):
        return jaxpool.max_pool(jaxpool.max_pool(x, (5, 5), **same), (5, 5), **same)

    x = tie_free((13, 11, 2))
    g = np.random.default_rng(0).integers(-9, 10, x.shape).astype(np.float32)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, g):
        found = []
        for pool in (five_of_five, lambda x: jaxpool.max_pool(x, (9, 9), **same)):
            y, vjp = jax.vjp(pool, x)
            found.append((y, vjp(g)[0]))
        return found

    with _lowering.force("default"):
        twice, once = program(x, g)
    np.testing.assert_array_equal(twice, once)


FLOATS = st.sampled_from([0, -0.0, 1, 1.5, -2, 7, np.nan, np.inf, -np.inf])


@functools.partial(jax.jit, compiler_options=QUICK)
def several(x):
    options = {"strides": (1, 2), "padding": ((1, 0), (0, 1))}
    names = ("max_pool", "min_pool", "median_pool")
    x = {n: getattr(jaxpool, n)(x, (3, 2), **options) for n in names} | {
        "negated": -jaxpool.max_pool(-x, (3, 2), **options)
    }
    return x


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hnp.arrays(np.float32, (4, 4, 1), elements=FLOATS))
def test_a_minimum_is_a_negated_maximum(x):
    found = jax.device_get(several(x))
    np.testing.assert_array_equal(found["min_pool"], found["negated"])
    low, mid, high = (found[n] for n in ("min_pool", "median_pool", "max_pool"))
    assert ((low <= mid) & (mid <= high) | np.isnan(mid)).all()
    np.testing.assert_array_equal(np.isnan(low), np.isnan(high))
    np.testing.assert_array_equal(np.isnan(low), np.isnan(mid))


# --- Transformations and wrong calls --------------------------------------------------


@pytest.mark.parametrize("name", [*EXTREMA, "median_pool"])
def test_every_transformation(name):
    check_plain_transforms(getattr(jaxpool, name))


@pytest.mark.parametrize("name", [*EXTREMA, "median_pool"])
def test_derivatives_of_overlapping_windows(name):
    pool = getattr(jaxpool, name)
    check_involved_transforms(pool, order={"max_pool": 3, "min_pool": 1}.get(name, 2))


def test_integers_have_no_gradient():
    """Not asked for: the cotangent of an integer is float0, and nothing fails."""
    x = np.arange(8).reshape(4, 2)
    y, vjp = jax.vjp(lambda x: jaxpool.max_pool(x, (2,)), x)
    (dx,) = vjp(np.zeros(y.shape, jax.dtypes.float0))
    assert dx.dtype == jax.dtypes.float0


X = np.ones((4, 6, 3), np.float32)


@pytest.mark.parametrize("name", [*EXTREMA, "median_pool"])
def test_wrong_calls(name):
    pool = getattr(jaxpool, name)
    with pytest.raises(TypeError, match="`x` must be real, since complex numbers have"):
        pool(X.astype("complex64"), (2, 2))
    with pytest.raises(TypeError, match="`where` must be boolean, got dtype int32"):
        pool(X, (2, 2), where=X.astype("int32"))
    with pytest.raises(ValueError, match=r"`where` .*\(4, 6, 3\), got shape \(3, 1\)"):
        pool(X, (2, 2), where=X[:3, :1, 0] > 0)
    with pytest.raises(TypeError, match="positional"):
        pool(X, (2, 2), 1)


def test_wrong_medians():
    with pytest.raises(ValueError, match=r"`even` .* lower, upper, mean, got None"):
        jaxpool.median_pool(X, (2, 2), even=None)
    with pytest.raises(ValueError, match=r"`even` must be one of .*, got 'both'"):
        jaxpool.median_pool(X, (2, 2), even="both")
