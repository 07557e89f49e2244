"""soft_pool: against NumPy, at its limits, and in every corner."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from grid import (
    GEOMETRIES,
    RULES,
    SEVERAL,
    cases,
    check,
    check_dtypes,
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

# --- Against oracles ------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_equals_the_oracle(rule):
    padded = ((8, 1), (2,), {"strides": 3, "padding": ((4, 3),)})  # by padding alone
    check_rule("soft_pool", rule, [*SEVERAL, padded])


def test_temperatures():
    some = [GEOMETRIES[i] for i in (1, 3)]
    check(
        "soft_pool", [*cases(some, temperature=0.3), *cases(some[:1], temperature=20)]
    )


def test_dtypes():
    check_dtypes("soft_pool", ["int32", "uint8", "bool"])


def test_equals_torch(rng):
    """The formula of the paper, as two averages."""
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 7, 6, 3))
    first = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
    options = {"padding": (1, 0), "ceil_mode": True}
    avg = functools.partial(
        torch.nn.functional.avg_pool2d, kernel_size=(3, 2), stride=(1, 2), **options
    )
    wanted = avg(first * first.exp()) / avg(first.exp())
    (dx_wanted,) = torch.autograd.grad(wanted.square().sum(), first)

    def pool(x):
        y = jaxpool.soft_pool(x, (3, 2), strides=(1, 2), **options)
        return (y**2).sum(), y

    with jax.enable_x64(True):
        program = jax.jit(jax.grad(pool, has_aux=True), compiler_options=QUICK)
        dx, y = program(x)
    for a, b in ((y, wanted.detach()), (dx, dx_wanted)):
        np.testing.assert_allclose(a, np.moveaxis(b.numpy(), 1, -1), 1e-10, 1e-12)


# --- Extremes -------------------------------------------------------------------------


def values_and_gradients(x, windows):
    """Of several windows, in one program."""

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        results = []
        for window_shape, options in windows:
            pool = functools.partial(
                jaxpool.soft_pool, window_shape=window_shape, **options
            )
            y, vjp = jax.vjp(pool, x)
            results.append((y, vjp(jnp.ones_like(y))[0]))
        return results

    return jax.device_get(program(x))


DISJOINT = ((2, 2), {})
OVERLAPPING = ((3, 2), {"strides": 1, "padding": "SAME"})
LARGE = ((4, 5), {"strides": (1, 2)})  # axis by axis


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_extremes_are_finite(dtype, size):
    """Windows of huge numbers, of elements far apart, of both, and of constants."""
    x = tie_free((6, 6, 1)).astype(dtype)
    constant = np.zeros_like(x)
    kinds = {
        "high": size + constant,
        "low": -size + constant,
        "both": np.where(x > 0, size, -size).astype(dtype),
        "nearly high": (size + 16 * x.astype(float)).astype(dtype),
        "zero": constant,
        "far apart": (size * (np.indices(x.shape).sum(0) % 3 == 0)).astype(dtype),
    }
    windows = [DISJOINT, OVERLAPPING, LARGE]
    x = np.stack(list(kinds.values()))
    eps = float(jnp.finfo(dtype).eps)
    for (window, options), (y, dx) in zip(
        windows, values_and_gradients(x, windows), strict=True
    ):
        wanted = oracles.soft_pool(x, window, **options)
        np.testing.assert_allclose(y.astype(float), wanted, 2 * eps, 1e-6)
        wanted = oracles.soft_pool_vjp(x, np.ones_like(wanted), window, **options)
        # 1 + (v - y) rounds as numbers of the size of v do.
        lost = 20 * max(eps, size * float(jnp.finfo("float32").eps))
        np.testing.assert_allclose(dx.astype(float), wanted, lost, lost)
        constants = [0, 1, 4]
        np.testing.assert_array_equal(
            y[constants], np.broadcast_to(x[constants][:, :1, :1], y[constants].shape)
        )


def test_a_window_is_shifted_by_its_own_maximum():
    """A far larger number elsewhere does not make weights vanish."""
    x = np.array([1e4, 1e4, 1, 2, -1e4, -1e4, -500, -501], np.float32)[:, None]
    ((y, dx),) = values_and_gradients(x, [((2,), {})])
    np.testing.assert_allclose(y, oracles.soft_pool(x, (2,)), 1e-6)
    wanted = oracles.soft_pool_vjp(x, np.ones_like(y), (2,))
    np.testing.assert_allclose(dx, wanted, 1e-3, 1e-4)


SPECIAL = [0.0, -0.0, 1e4, -1e4, 88.75, -88.75, 104.0]
NUMBERS = {  # up to the largest, and those at which exponentials turn
    "float32": st.floats(-(2.0**100), 2.0**100, width=32)
    | st.sampled_from([*SPECIAL, 2.0**-126]),
    "float16": st.floats(-65504, 65504, width=16) | st.sampled_from([*SPECIAL, 6e4]),
}
SOFT = [{}, {"temperature": 3.0}, {"gradient": "paper"}]


@functools.partial(jax.jit, compiler_options=QUICK)
def within(x):
    window = {"window_shape": (2, 3), "strides": 1}

    def pools(x):
        return [jaxpool.soft_pool(x, **window, **options) for options in SOFT]

    ys, vjp = jax.vjp(pools, x)
    slopes = [
        vjp([jnp.full_like(y, i == j) for j, y in enumerate(ys)])[0]
        for i in range(len(ys))
    ]
    low, high = jaxpool.min_pool(x, **window), jaxpool.max_pool(x, **window)
    return low, high, ys, slopes


@pytest.mark.parametrize("dtype", NUMBERS)
def test_finite_for_finite_numbers(dtype):
    eps = float(jnp.finfo(dtype).eps)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(hnp.arrays(np.float64, (4, 5, 1), elements=NUMBERS[dtype]))
    def check(x):
        low, high, ys, slopes = jax.device_get(within(x.astype(dtype)))
        low, high = low.astype(float), high.astype(float)
        # The smallest are lost in x / temperature.
        slack = max(1e-5, eps) * np.maximum(np.abs(low), np.abs(high)) + 1e-37
        for y in ys:
            assert (y >= low - slack).all() and (y <= high + slack).all()
        # Weights add up to 1, so that of the paper's slopes none is above the windows'.
        assert np.isfinite(slopes).all() and np.max(slopes[2]) <= 6.01

    check()


def test_infinity_and_nan():
    x = np.array([np.inf, 1, -np.inf, 2, -np.inf, -np.inf, np.nan, 3, 4, 4], np.float32)
    ((y, dx),) = values_and_gradients(x[:, None], [((2,), {})])
    np.testing.assert_array_equal(y[:, 0], [np.inf, 2, -np.inf, np.nan, 4])
    assert dx[3, 0] == 1 and dx[2, 0] == 0
    np.testing.assert_array_equal(dx[-2:, 0], [0.5, 0.5])


def test_what_a_logit_of_minus_infinity_leaves_out():
    for left_out in (np.nan, np.inf, -np.inf):
        x, logits = jnp.array([left_out, 1.0]), jnp.array([-np.inf, 0.0])

        def pool(x, logits=logits):
            pooled = jaxpool.local_importance_pool(x[:, None], logits[:, None], (2,))
            return pooled[0, 0]

        y, dx = jax.value_and_grad(pool)(x)
        assert y == 1
        np.testing.assert_array_equal(dx, [0, 1])
    x = jnp.array([-np.inf, 1.0])[:, None]
    assert jaxpool.soft_pool(x, (2,), gradient="paper") == 1


# --- Limits ---------------------------------------------------------------------------


def test_temperature_limits():
    """The average when it is hot, the maximum when it is cold."""
    x = tie_free((6, 5, 2))
    options = {"window_shape": (3, 2), "strides": (2, 1)}

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        pairs = []
        for pool in (
            functools.partial(jaxpool.soft_pool, temperature=1e4, **options),
            functools.partial(jaxpool.avg_pool, **options),
            functools.partial(jaxpool.soft_pool, temperature=1e-4, **options),
            functools.partial(jaxpool.max_pool, **options),
        ):
            y, vjp = jax.vjp(pool, x)
            pairs.append((y, vjp(jnp.ones_like(y))[0]))
        return pairs

    hot, average, cold, most = program(x)
    for a, b in ((hot, average), (cold, most)):
        np.testing.assert_allclose(a[0], b[0], 1e-3, 1e-3)
        np.testing.assert_allclose(a[1], b[1], 1e-3, 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_learned_temperature(per_channel, rng):
    """Its gradient is the finite difference of the oracle."""
    x = rng.normal(size=(7, 6, 2))
    temperature = np.array([0.5, 2.0]) if per_channel else np.array(0.7)
    options = {"strides": (2, 1), "padding": ((1, 0), (0, 1))}

    def soft(temperature):
        each = np.broadcast_to(temperature, 2)
        pool = functools.partial(oracles.soft_pool, window_shape=(2, 3), **options)
        parts = [pool(x[..., c : c + 1], temperature=each[c]) for c in range(2)]
        return np.concatenate(parts, -1)

    with jax.enable_x64(True):
        shape = oracles.output_shape(x.shape, (2, 3), **options)
        g = rng.normal(size=shape)

        @functools.partial(jax.jit, compiler_options=QUICK)
        def program(t):
            pool = functools.partial(jaxpool.soft_pool, x, (2, 3), **options)
            y, vjp = jax.vjp(lambda t: pool(temperature=t), t)
            return y, vjp(g)[0]

        y, found = program(temperature)
    np.testing.assert_allclose(y, soft(temperature), 1e-12)
    slope = (soft(temperature + 1e-5) - soft(temperature - 1e-5)) / 2e-5 * g
    wanted = slope.sum((0, 1)) if per_channel else slope.sum()
    assert found.shape == temperature.shape
    np.testing.assert_allclose(found, wanted, 1e-7)


def test_the_curvature_of_a_large_window():
    """Axis by axis, the second derivative is that of the whole window."""
    x, t = tie_free((6, 7, 1), 0, np.float64), tie_free((6, 7, 1), 1, np.float64)
    window = {"window_shape": (4, 3), "strides": (1, 2), "temperature": 0.8}
    with jax.enable_x64(True):

        @functools.partial(jax.jit, compiler_options=QUICK)
        def along(x, t):
            grad = jax.grad(lambda x: jaxpool.soft_pool(x, **window).sum())
            return jax.jvp(grad, (x,), (t,))[1]

        found = along(x, t)
    ones, step = np.ones((3, 3, 1)), 1e-6
    up, down = (oracles.soft_pool_vjp(x + e * t, ones, **window) for e in (step, -step))
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
        y = jax.eval_shape(lambda x: jaxpool.soft_pool(x, **options), x)
    assert y.shape == expected and y.dtype == jnp.float32


@functools.partial(jax.jit, compiler_options=QUICK)
def several(x):
    options = {"strides": (1, 2), "padding": ((1, 0), (0, 1)), "window_shape": (3, 2)}
    y, vjp = jax.vjp(lambda x: jaxpool.soft_pool(x, **options), x)
    return {
        "soft": y,
        "sum": vjp(jnp.ones_like(y))[0].sum(),
        "shifted": jaxpool.soft_pool(x + np.float32(4), **options),
        "average": jaxpool.avg_pool(x, **options, count_include_pad=False),
        "max": jaxpool.max_pool(x, **options),
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(hnp.arrays(np.float32, (4, 4, 1), elements=st.integers(-9, 9)))
def test_identities(x):
    y = jax.device_get(several(x))
    assert (y["average"] <= y["soft"] + 1e-4).all()
    assert (y["soft"] <= y["max"] + 1e-4).all()
    np.testing.assert_allclose(y["shifted"], y["soft"] + 4, 1e-5, 1e-4)
    # The derivatives of a window add up to 1, though single ones may be negative.
    np.testing.assert_allclose(y["sum"], y["soft"].size, 1e-4)


@pytest.mark.parametrize("shape", [(0, 5, 6, 2), (2, 5, 6, 0), (1, 1, 1, 1)])
def test_arrays_of_few_or_no_elements(shape):
    window = (1, 1) if shape[1] == 1 else (3, 2)
    x = tie_free(shape)
    ((y, dx),) = values_and_gradients(x, [(window, {"strides": 1})])
    assert y.shape == jaxpool.pool_output_shape(shape, window, strides=1)
    np.testing.assert_array_equal(y if x.size else dx, x)
    np.testing.assert_array_equal(dx, np.ones_like(x))


# --- Transformations and wrong calls --------------------------------------------------


def test_every_transformation():
    check_plain_transforms(jaxpool.soft_pool, eager_grad=False)
    check_involved_transforms(jaxpool.soft_pool)


X = np.ones((4, 6, 3), np.float32)


def test_wrong_calls():
    pool = functools.partial(jaxpool.soft_pool, X, (2, 2))
    with pytest.raises(TypeError, match=r"`x` must be real, .* got complex64"):
        jaxpool.soft_pool(X.astype("complex64"), (2, 2))
    with pytest.raises(TypeError, match="`where` must be boolean, got dtype int32"):
        pool(where=X.astype("int32"))
    with pytest.raises(ValueError, match=r"`where` .*\(4, 6, 3\), got shape \(3, 1\)"):
        pool(where=X[:3, :1, 0] > 0)
    for temperature in (0, -1.0, np.array([1, 0, 2], np.float32)):
        with pytest.raises(
            ValueError, match="`temperature` must be positive and finite, got"
        ):
            pool(temperature=temperature)
    with pytest.raises(TypeError, match=r"`temperature` must be a number .* None"):
        pool(temperature=None)
    with pytest.raises(ValueError, match=r"`temperature` .*\(1, 1, 3\), got .*\(6, 1"):
        pool(temperature=np.ones((6, 1), np.float32))
    with pytest.raises(TypeError, match="positional"):
        jaxpool.soft_pool(X, (2, 2), 1.0)


def test_gradient_of_the_paper():
    """The weights count as constants, in both modes of differentiation.

    So does the temperature, one per channel.
    """
    x, temperature = tie_free((5, 4, 2)), np.array([0.7, 2.0], np.float32)
    options = {"window_shape": (3, 2), "strides": (2, 1)}
    pool = functools.partial(jaxpool.soft_pool, **options)

    def paper(x, temperature):
        return pool(x, temperature=temperature, gradient="paper")

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, temperature, g):
        y, vjp = jax.vjp(paper, x, temperature)
        along = jax.jvp(paper, (x, temperature), (x, temperature))[1]
        return y, *vjp(g), along

    g = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    y, dx, dt, tangent = program(x, temperature, g)
    expected, dx_expected = np.zeros_like(g), np.zeros_like(x)
    for o in np.ndindex(y.shape):
        at = np.s_[2 * o[0] : 2 * o[0] + 3, o[1] : o[1] + 2, o[2]]
        weights = np.exp(x[at] / temperature[o[2]])
        weights /= weights.sum()
        expected[o] = (weights * x[at]).sum()
        dx_expected[at] += g[o] * weights
    np.testing.assert_allclose(y, expected, 1e-5, 1e-6)
    np.testing.assert_allclose(dx, dx_expected, 1e-5, 1e-6)
    np.testing.assert_array_equal(dt, np.zeros(2))
    np.testing.assert_allclose(tangent, expected, 1e-5, 1e-6)  # as linear as its x
    with pytest.raises(ValueError, match="`gradient` must be one of exact, paper"):
        pool(x, gradient="author")
