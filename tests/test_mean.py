"""sum_pool, avg_pool and lp_pool: against NumPy, PyTorch, and in every corner."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from grid import (
    GEOMETRIES,
    MASKS,
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
from jaxpool import _lowering

OTHERS = ["int32", "uint8", "bool"]
PADDED = ((8, 1), (2,), {"strides": 3, "padding": ((4, 3),)})  # windows of padding

# --- Against oracles ------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["sum_pool", "avg_pool", "lp_pool"])
def test_equals_the_oracle(name, rule):
    some = SEVERAL if name == "lp_pool" else GEOMETRIES
    check_rule(name, rule, [*some, PADDED])


def test_divisors():
    """Padding may count, a ceil-mode overhang and what a mask leaves out never do."""
    padded = [GEOMETRIES[i] for i in (0, 1, 3, 5, 8)] + [PADDED, *MASKS]
    check(
        "avg_pool",
        [
            *cases(padded, count_include_pad=False),
            *cases([*padded[2:5], MASKS[1]], divisor_override=5),
            *cases(padded[:1], divisor_override=-0.5),
        ],
    )


def test_exponents():
    some = [GEOMETRIES[i] for i in (1, 3)]
    listed = []
    for p in (1, 3, 0.5, np.inf, 7.5):
        listed += cases(some[:1] if p in (1, 7.5) else some, p=p)
    for p in (0.5, 3.0, np.inf):
        listed += cases(MASKS[1:2], p=p)
    check("lp_pool", [*listed, *cases([GEOMETRIES[6]], p=3)])


def test_dtypes():
    check_dtypes("sum_pool", [*OTHERS, "complex64"])
    check_dtypes("avg_pool", OTHERS)
    check_dtypes("lp_pool", OTHERS, p=3.0)


def test_complex_averages():
    check_dtypes("avg_pool", ["complex64"])
    check_dtypes("avg_pool", ["complex64"], count_include_pad=False)


def test_small_integers_wrap():
    x = np.full((4, 1), 100, np.int8)
    y = jaxpool.sum_pool(x, (4,))
    assert y.dtype == jnp.int8 and y[0, 0] == 400 - 512
    assert jaxpool.sum_pool(x > 0, (4,))[0, 0] == 4
    mean = jaxpool.avg_pool(x, (4,))  # of floats
    assert mean.dtype == jnp.float32 and mean[0, 0] == 100


# --- Against PyTorch ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["avg", "lp"])
def test_equals_the_goldens(name):
    check_goldens(name, getattr(jaxpool, f"{name}_pool"))


def test_an_overhang_does_not_count():
    """The numbers of pytorch and coremltools#2844."""
    x = np.arange(49, dtype=np.float32).reshape(7, 7, 1)
    y = jaxpool.avg_pool(x, (2, 2), strides=3, ceil_mode=True)
    np.testing.assert_array_equal(
        y[..., 0], [[4, 7, 9.5], [25, 28, 30.5], [42.5, 45.5, 48]]
    )


def test_equals_torch(rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
    first = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
    padded = {"padding": (1, 0), "ceil_mode": True}
    counted = {"count_include_pad": False}
    expected = [
        F.avg_pool2d(first, (3, 2), (2, 3), **padded),
        F.avg_pool2d(first, (3, 2), (2, 3), **padded, **counted),
        F.avg_pool2d(first, (3, 2), (2, 3), **padded, divisor_override=4),
        F.lp_pool2d(first, 2.0, (3, 2), (1, 2)),
        F.lp_pool2d(first.abs(), 3.0, (3, 2), (1, 2)),
    ]
    avg = functools.partial(jaxpool.avg_pool, window_shape=(3, 2), strides=(2, 3))
    norm = functools.partial(jaxpool.lp_pool, window_shape=(3, 2), strides=(1, 2))

    def pools(x):
        return [
            avg(x, **padded),
            avg(x, **padded, **counted),
            avg(x, **padded, divisor_override=4),
            norm(x),
            norm(x, p=3.0),
        ]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        ys, vjp = jax.vjp(pools, x)
        zeros = [jnp.zeros_like(y) for y in ys]
        return ys, [
            vjp([2 * y if i == j else zero for j, zero in enumerate(zeros)])[0]
            for i, y in enumerate(ys)
        ]

    for y, dx, wanted in zip(*program(x), expected, strict=True):
        (dx_wanted,) = torch.autograd.grad(wanted.square().sum(), first)
        for a, b in ((y, wanted.detach()), (dx, dx_wanted)):
            np.testing.assert_allclose(a, np.moveaxis(b.numpy(), 1, -1), 2e-5, 1e-5)


# --- Precision ------------------------------------------------------------------------


def test_many_narrow_numbers():
    """They add up in float32: stock bfloat16 gets 0.06 of 4096 ones."""

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(ones, hundreds):
        return (
            jaxpool.avg_pool(ones, (64, 64)),
            jaxpool.sum_pool(ones, (64, 64)),
            jaxpool.avg_pool(hundreds, (4096,)),  # whose sum overflows float16
            jaxpool.lp_pool(hundreds.reshape(64, 64, 1), (64, 8), strides=1)[:, :1],
            # The gradients of overlapping windows add up like that too.
            jax.grad(lambda x: jaxpool.sum_pool(x, (300,), strides=1).sum())(
                jnp.ones((599, 1), jnp.bfloat16)
            )[299],
        )

    ones = np.ones((64, 64, 1), jnp.bfloat16)
    found = program(ones, np.full((4096, 1), 100, np.float16))
    norm = np.float16(100 * 512**0.5)
    for y, expected in zip(found, (1, 4096, 100, norm, 300), strict=True):
        assert y.dtype.itemsize == 2 and y.ravel().tolist() == [expected]


def test_infinity_and_nan_stay_in_their_windows():
    x = np.array([1, np.inf, 2, 3, np.nan, 4, np.inf, -np.inf, -np.inf, 5], np.float32)
    for name in ("sum_pool", "avg_pool", "lp_pool"):
        for window, options in (((2,), {}), ((2,), {"strides": 1})):
            wanted = getattr(oracles, name)(x[:, None], window, **options)
            y = getattr(jaxpool, name)(x[:, None], window, **options)
            np.testing.assert_allclose(y, wanted, 1e-6)


# --- Norms ----------------------------------------------------------------------------


def norm_and_gradient(x, window_shape, **options):
    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        y, vjp = jax.vjp(lambda x: jaxpool.lp_pool(x, window_shape, **options), x)
        return y, vjp(jnp.ones_like(y))[0]

    return jax.device_get(program(x))


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, np.inf])
def test_zeros_have_no_gradient(p):
    """0 in a window of zeros, and beside other numbers where windows overlap."""
    x = np.array([0, 0, 0, 3, 0, -4, 0, 0, 0, 0, 0, 1], np.float32)[:, None]
    options = {"strides": 1, "padding": ((1, 2),), "p": p}
    y, dx = norm_and_gradient(x, (3,), **options)
    np.testing.assert_allclose(y, oracles.lp_pool(x, (3,), **options), 1e-6)
    wanted = oracles.lp_pool_vjp(x, np.ones_like(y), (3,), **options)
    np.testing.assert_allclose(dx, np.where(x == 0, 0, wanted), 1e-6)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_powers_do_not_overflow(scale):
    x = tie_free((9, 8, 1)).astype(np.float32)
    for shape, options in (((2, 2), {"p": 4.0}), ((4, 4), {"p": 4.0, "strides": 2})):
        y, dx = norm_and_gradient(np.float32(scale) * x, shape, **options)
        np.testing.assert_allclose(
            y / scale, oracles.lp_pool(x, shape, **options), 1e-5
        )
        wanted = oracles.lp_pool_vjp(x, np.ones_like(y), shape, **options)
        np.testing.assert_allclose(dx, wanted, 1e-4, 1e-6)


def test_norms_of_half_precision():
    """The powers of float16 numbers overflow it; the norm of three need not."""
    x = np.array([3e4, -2e4, 1e4, 1e-4, 2e-4, 0], np.float16)[:, None]
    y, dx = norm_and_gradient(x, (3,), p=3.0)
    wanted = oracles.lp_pool(x, (3,), p=3.0)
    np.testing.assert_allclose(y.astype(float), wanted, 1e-3)
    wanted = oracles.lp_pool_vjp(x, np.ones_like(wanted), (3,), p=3.0)
    np.testing.assert_allclose(dx.astype(float), wanted, 1e-3)


def test_norms_fall_to_the_maximum():
    x = tie_free((6, 4, 2))
    ps = (0.5, 1.0, 2.0, 4.0, 64.0, np.inf)

    def norms(x):
        return [jaxpool.lp_pool(x, (3, 2), p=p) for p in ps]

    found = jax.jit(norms, compiler_options=QUICK)(x)
    for larger, smaller in itertools.pairwise(found):
        assert (larger >= smaller).all()
    np.testing.assert_allclose(found[1], oracles.sum_pool(np.abs(x), (3, 2)), 1e-6)
    np.testing.assert_allclose(found[-2], found[-1], 2e-2)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_learned_exponent(per_channel, rng):
    """Its gradient is the finite difference of the oracle; zeros do not spoil it."""
    x = rng.normal(size=(7, 6, 2))
    x[2:4], x[0, 0] = 0, 0
    p = np.array([1.5, 3.0]) if per_channel else np.array(2.5)
    options = {"strides": (2, 1), "padding": ((1, 0), (0, 1))}

    def norm(p):
        each = np.broadcast_to(p, 2)
        return np.concatenate(
            [
                oracles.lp_pool(x[..., c : c + 1], (2, 3), p=each[c], **options)
                for c in range(2)
            ],
            -1,
        )

    with jax.enable_x64(True):
        g = rng.normal(size=oracles.output_shape(x.shape, (2, 3), **options))

        @functools.partial(jax.jit, compiler_options=QUICK)
        def program(x, p):
            pool = functools.partial(jaxpool.lp_pool, window_shape=(2, 3), **options)
            y, vjp = jax.vjp(lambda x, p: pool(x, p=p), x, p)
            return y, *vjp(g)

        y, dx, dp = program(x, p)
    np.testing.assert_allclose(y, norm(p), 1e-12)
    assert dp.shape == p.shape and np.isfinite(dx).all()
    slope = (norm(p + 1e-5) - norm(p - 1e-5)) / 2e-5 * g
    wanted = slope.sum((0, 1)) if per_channel else slope.sum()
    np.testing.assert_allclose(dp, wanted, 1e-7)


def test_the_curvature_of_a_large_window():
    """Axis by axis, the second derivative is that of the whole window."""
    x, t = tie_free((6, 7, 1), 0, np.float64), tie_free((6, 7, 1), 1, np.float64)
    window = {"window_shape": (4, 3), "strides": (1, 2), "p": 3.0}
    with jax.enable_x64(True):

        @functools.partial(jax.jit, compiler_options=QUICK)
        def along(x, t):
            grad = jax.grad(lambda x: jaxpool.lp_pool(x, **window).sum())
            return jax.jvp(grad, (x,), (t,))[1]

        found = along(x, t)
    ones, step = np.ones((3, 3, 1)), 1e-6
    up, down = (oracles.lp_pool_vjp(x + e * t, ones, **window) for e in (step, -step))
    np.testing.assert_allclose(found, (up - down) / (2 * step), 1e-5, 1e-6)


# --- Identities -----------------------------------------------------------------------


@settings(max_examples=8, deadline=None, derandomize=True)
@given(geometries(most_axes=3))
def test_output_shapes(geometry):
    shape, options = geometry
    try:
        expected = jaxpool.pool_output_shape(shape, **options)
    except ValueError:
        return
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    with _lowering.force("default"):  # one program to trace, not three
        for name in ("sum_pool", "avg_pool", "lp_pool"):
            pool = getattr(jaxpool, name)
            y = jax.eval_shape(lambda x, pool=pool: pool(x, **options), x)
            assert y.shape == expected and y.dtype == jnp.float32, name


@functools.partial(jax.jit, compiler_options=QUICK)
def several(x):
    options = {"strides": (1, 2), "padding": ((1, 0), (0, 1)), "window_shape": (3, 2)}
    elements = {"count_include_pad": False}
    return {
        "sum": jaxpool.sum_pool(x, **options),
        "negated": -jaxpool.sum_pool(-x, **options),
        "counted": jaxpool.avg_pool(x, **options) * np.float32(6),
        "average": jaxpool.avg_pool(x, **options, **elements),
        "shifted": jaxpool.avg_pool(x + np.float32(1), **options, **elements),
        "max": jaxpool.max_pool(x, **options),
        "min": jaxpool.min_pool(x, **options),
        "norm": jaxpool.lp_pool(x, **options, p=1),
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(hnp.arrays(np.float32, (4, 4, 1), elements=st.integers(-99, 99)))
def test_identities(x):
    y = jax.device_get(several(x))
    np.testing.assert_array_equal(y["sum"], y["negated"])
    np.testing.assert_allclose(y["counted"], y["sum"], 1e-5)
    np.testing.assert_allclose(y["shifted"], y["average"] + 1, 1e-5, 1e-4)
    assert (y["min"] - 1e-4 <= y["average"]).all()
    assert (y["average"] <= y["max"] + 1e-4).all()
    assert (np.abs(y["sum"]) <= y["norm"] * 1.00001 + 1e-4).all()


@pytest.mark.parametrize("shape", [(0, 5, 6, 2), (2, 5, 6, 0), (1, 1, 1, 1)])
def test_arrays_of_few_or_no_elements(shape):
    window = (1, 1) if shape[1] == 1 else (3, 2)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        results = []
        for pool in (jaxpool.sum_pool, jaxpool.avg_pool, jaxpool.lp_pool):
            y, vjp = jax.vjp(lambda x: pool(x, window, strides=1), x)  # noqa: B023
            results.append((y, vjp(y)[0]))
        return results

    x = tie_free(shape)
    for y, dx in program(x):
        assert y.shape == jaxpool.pool_output_shape(shape, window, strides=1)
        np.testing.assert_array_equal(dx, x)  # one element, or none


# --- Transformations and wrong calls --------------------------------------------------


@pytest.mark.parametrize("name", ["sum_pool", "avg_pool"])
def test_every_transformation(name):
    check_plain_transforms(getattr(jaxpool, name), order=2)
    check_involved_transforms(getattr(jaxpool, name), order=1)


def test_every_transformation_of_norms():
    pool = functools.partial(jaxpool.lp_pool, p=3.0)
    check_plain_transforms(jaxpool.lp_pool, eager_grad=False, order=2)  # p = 2
    check_involved_transforms(pool)


X = np.ones((4, 6, 3), np.float32)


@pytest.mark.parametrize("name", ["sum_pool", "avg_pool", "lp_pool"])
def test_wrong_calls(name):
    pool = getattr(jaxpool, name)
    with pytest.raises(TypeError, match="`where` must be boolean, got dtype float32"):
        pool(X, (2, 2), where=X)
    with pytest.raises(ValueError, match=r"`where` .*\(4, 6, 3\), got shape \(3, 1\)"):
        pool(X, (2, 2), where=X[:3, :1, 0] > 0)
    with pytest.raises(TypeError, match="positional"):
        pool(X, (2, 2), 1)


def test_wrong_exponents():
    with pytest.raises(TypeError, match=r"`x` must be real, .* got complex64"):
        jaxpool.lp_pool(X.astype("complex64"), (2, 2))
    for p in (0, -1.0, -np.inf, np.zeros(3, np.float32)):
        with pytest.raises(ValueError, match="`p` must be positive"):
            jaxpool.lp_pool(X, (2, 2), p=p)
    with pytest.raises(ValueError, match=r"`p` must .*\(1, 1, 3\), got shape \(6, 1"):
        jaxpool.lp_pool(X, (2, 2), p=np.ones((6, 1), np.float32))


def test_wrong_divisors():
    for divisor in (0, 0.0, np.nan):
        with pytest.raises(ValueError, match="`divisor_override` must be finite"):
            jaxpool.avg_pool(X, (2, 2), divisor_override=divisor)
    for divisor in (True, np.ones(3), 1j):
        with pytest.raises(TypeError, match="`divisor_override` must be a real number"):
            jaxpool.avg_pool(X, (2, 2), divisor_override=divisor)
    with pytest.raises(TypeError, match=r"`count_include_pad` .* got None"):
        jaxpool.avg_pool(X, (2, 2), count_include_pad=None)
