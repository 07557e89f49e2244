"""soft_pool: against NumPy, at every temperature, and for numbers of any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grid import (
    FEW,
    OWN_RULES,
    check_dtypes,
    check_involved_transforms,
    check_plain_transforms,
    check_rule,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transforms import QUICK, tie_free

import jaxpool

# --- Against the oracle ---------------------------------------------------------------


@pytest.mark.parametrize("rule", OWN_RULES)
def test_equals_the_oracle(rule):
    check_rule("soft_pool", rule)


@pytest.mark.parametrize("temperature", [0.02, 3.0])
def test_temperatures_equal_the_oracle(temperature):
    check_rule("soft_pool", "cpu", FEW, temperature=temperature)


def test_dtypes():
    check_dtypes("soft_pool", ("int32", "uint8", "bool"))


@pytest.mark.parametrize("shape", [(), (2,)])
def test_the_temperature_is_differentiated(shape, rng):
    x, g = rng.normal(size=(5, 6, 2)), rng.normal(size=(4, 4, 2))

    def loss(temperature):
        y = jaxpool.soft_pool(x, (2, 3), strides=1, temperature=temperature)
        return (y * g).sum()

    t = 0.5 + rng.random(shape)
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(loss))(t).ravel()
        steps = 1e-6 * np.eye(t.size).reshape(-1, *shape)
        many = jax.jit(jax.vmap(loss))
        np.testing.assert_allclose(
            slope, (many(t + steps) - many(t - steps)) / 2e-6, 1e-6
        )


def test_limits(rng):
    x = rng.normal(size=(7, 6, 2)).astype(np.float32)
    window = {"window_shape": (3, 2), "strides": 1, "padding": 1}
    hot = jaxpool.soft_pool(x, **window, temperature=1e4)
    average = jaxpool.avg_pool(x, **window, count_include_pad=False)
    np.testing.assert_allclose(hot, average, atol=1e-3)
    cold = jaxpool.soft_pool(x, **window, temperature=1e-4)
    np.testing.assert_allclose(cold, jaxpool.max_pool(x, **window), atol=1e-3)
    # Between the two; a shift of x shifts y.
    y = jaxpool.soft_pool(x, **window)
    assert (average <= y).all() and (y <= cold).all()
    shifted = jaxpool.soft_pool(x + np.float32(64), **window)
    np.testing.assert_allclose(shifted, y + np.float32(64), atol=1e-4)


# --- Numbers of any size --------------------------------------------------------------


@functools.partial(jax.jit, compiler_options=QUICK, static_argnums=1)
def value_and_gradient(x, window_shape):
    y, vjp = jax.vjp(lambda x: jaxpool.soft_pool(x, window_shape, strides=1), x)
    return y, vjp(jnp.ones_like(y))[0]


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_large_numbers(dtype, size):
    """Windows of one size, of both signs, and beside windows far above and below."""
    x = np.full((9, 8, 1), size, dtype)
    x[3:6], x[6:, ::2] = -size, -size
    for window in ((2, 2), (3, 3), (5, 7)):
        y, dx = value_and_gradient(x, window)
        assert np.isfinite(y).all() and np.isfinite(dx).all()
    y, dx = value_and_gradient(x, (2, 2))
    expected = jaxpool.max_pool(x, (2, 2), strides=1)  # all weight on the largest
    np.testing.assert_allclose(y, expected, 1e-3)
    same = np.full((4, 4, 1), -size, dtype)  # a constant: its mean, and that gradient
    y, dx = value_and_gradient(same, (4, 4))
    np.testing.assert_allclose(y, [[[-size]]], 1e-3)
    np.testing.assert_allclose(dx, np.full((4, 4, 1), 1 / 16), 2e-2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    hnp.arrays(
        np.float32,
        (4, 5, 1),
        elements=st.floats(-(2.0**100), 2.0**100, width=32)
        | st.sampled_from([0.0, -0.0, 1e4, -1e4, 88.8, -88.8, 104.0, 1e-38]),
    )
)
def test_finite_for_finite_numbers(x):
    y, dx = value_and_gradient(x, (2, 3))
    assert np.isfinite(y).all()
    low = -jaxpool.max_pool(-x, (2, 3), strides=1)
    high = jaxpool.max_pool(x, (2, 3), strides=1)
    slack = np.float32(1e-5) * np.maximum(np.abs(low), np.abs(high))
    assert (y >= low - slack).all() and (y <= high + slack).all()
    assert np.isfinite(dx).all()


def test_infinities_and_nan():
    x = jnp.array([np.inf, 1, -np.inf, 2, -np.inf, -np.inf, np.nan, 3])[:, None]
    y = jaxpool.soft_pool(x, (2,))[:, 0]
    np.testing.assert_array_equal(y, [np.inf, 2, -np.inf, np.nan])


def test_windows_without_elements():
    x = tie_free((4, 1))
    y = jaxpool.soft_pool(x, (2,), padding=((2, 2),))
    np.testing.assert_array_equal(y[np.array([0, -1]), 0], [0, 0])
    empty = {"where": np.zeros((4, 1), bool), "empty": -3.0}
    y, vjp = jax.vjp(lambda x: jaxpool.soft_pool(x, (2,), **empty), x)
    np.testing.assert_array_equal(y, [[-3], [-3]])
    np.testing.assert_array_equal(vjp(y)[0], np.zeros_like(x))


# --- Transformations and wrong calls --------------------------------------------------


def test_every_transformation():
    check_plain_transforms(jaxpool.soft_pool)
    check_involved_transforms(jaxpool.soft_pool)


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"temperature": 0}, ValueError, "`temperature` must be positive, got 0"),
        ({"temperature": None}, TypeError, "`temperature` must be a positive number"),
        ({"temperature": np.ones(2)}, ValueError, r"`temperature` .* shape \(2,\)"),
        ({"where": 1.0}, TypeError, "`where` must be boolean, got dtype float"),
    ],
)
def test_wrong_calls(options, error, match):
    with pytest.raises(error, match=match):
        jaxpool.soft_pool(np.ones((4, 6, 3), np.float32), (2, 2), **options)
    with pytest.raises(TypeError, match="`x` must be real"):
        jaxpool.soft_pool(np.ones((4, 3), np.complex64), (2,))
