"""gem_pool, lse_pool and the power average; the norm itself is in test_mean.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grid import OWN_RULES, check_dtypes, check_plain_transforms, check_rule
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transforms import QUICK

import jaxpool

POOLS = {
    "gem_pool": {"p": 3.0, "eps": 0.1},
    "lse_pool": {"temperature": 0.4},
    "lp_pool": {"p": 1.5, "mean": True},
}
every_pool = pytest.mark.parametrize("name", POOLS)


@every_pool
@pytest.mark.parametrize("rule", OWN_RULES)
def test_equals_the_oracle(name, rule):
    check_rule(name, rule, **POOLS[name])


@every_pool
def test_dtypes(name):
    check_dtypes(name, ("int8", "uint16"), **POOLS[name])


@pytest.mark.parametrize("name", ["gem_pool", "lse_pool"])
def test_transforms(name):
    def pool(x, window_shape, **options):
        return getattr(jaxpool, name)(x, window_shape, **options, **POOLS[name])

    # Made like lp_pool and soft_pool, which are tested with overlap, too.
    check_plain_transforms(pool, eager_grad=False, order=2)


@every_pool
def test_parameters_are_differentiated(name, rng):
    """By central differences in float64; one parameter for all, and one per channel."""
    pool, parameter = getattr(jaxpool, name), next(iter(POOLS[name]))
    options = {k: v for k, v in POOLS[name].items() if k != parameter}
    x = rng.normal(size=(5, 6, 2))
    g = rng.normal(size=(4, 4, 2))

    def loss(value):
        y = pool(x, (2, 3), strides=1, **{parameter: value}, **options)
        return (y * g).sum()

    with jax.enable_x64(True):
        for value in (np.array(1.7), np.array([0.8, 3.2])):
            slope = jax.jit(jax.grad(loss))(value).ravel()
            steps = 1e-6 * np.eye(value.size).reshape(-1, *value.shape)
            many = jax.jit(jax.vmap(loss))
            central = (many(value + steps) - many(value - steps)) / 2e-6
            np.testing.assert_allclose(slope, central, 1e-6)


def test_limits(rng):
    x = rng.normal(size=(6, 8, 2)).astype(np.float32)
    window = {"window_shape": (3, 2), "strides": 1, "padding": 1}
    avg = jaxpool.avg_pool(x, **window, count_include_pad=False)
    top = jaxpool.max_pool(x, **window)
    hot = jaxpool.lse_pool(x, **window, temperature=1e3)
    np.testing.assert_allclose(hot, avg, atol=1e-3)
    cold = jaxpool.lse_pool(x, **window, temperature=1e-3)
    np.testing.assert_allclose(cold, top, atol=2e-3)
    clipped = np.maximum(x, 0.5)
    for p, expected in (
        (1.0, jaxpool.avg_pool(clipped, **window, count_include_pad=False)),
        (500.0, jaxpool.max_pool(clipped, **window)),
        (np.inf, jaxpool.max_pool(clipped, **window)),
    ):
        gem = jaxpool.gem_pool(x, **window, p=p, eps=0.5)
        np.testing.assert_allclose(gem, expected, 1e-5 if p != 500 else 5e-3)
    ones = jaxpool.lp_pool(x, **window, p=1.0, mean=True)
    average = jaxpool.avg_pool(np.abs(x), **window, count_include_pad=False)
    np.testing.assert_allclose(ones, average, 1e-5)


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_extremes_are_finite(dtype, size, rng):
    x = rng.choice([-size, -1.0, 0.0, 1e-3, size], size=(8, 9, 1)).astype(dtype)
    x[:3, :3] = size
    x[3:6, :3] = -size
    for name, options in (("gem_pool", {"p": 5.0}), ("lse_pool", {})):
        pool = getattr(jaxpool, name)

        def total(x, pool=pool, options=options):
            y = pool(x, (3, 3), strides=1, **options)
            return y.astype(jnp.float32).sum() / np.float32(100), y

        (_, y), dx = jax.jit(jax.value_and_grad(total, has_aux=True))(x)
        assert np.isfinite(y).all() and np.isfinite(dx).all()
    np.testing.assert_allclose(jaxpool.lse_pool(x, (3, 3))[:2, 0, 0], [size, -size])


@pytest.mark.parametrize("dtype, most", [("float32", 2.0**100), ("float16", 65504)])
def test_finite_for_finite_numbers(dtype, most):
    numbers = st.floats(-most, most, width=16 if dtype == "float16" else 32)
    numbers |= st.sampled_from([0.0, -0.0, 1e4, -1e4, 88.75, -104.0, most, -most])
    window = {"window_shape": (2, 3), "strides": 1}

    def pools(x):
        mean = jaxpool.lp_pool(x, **window, p=3.0, mean=True)
        return [mean, jaxpool.gem_pool(x, **window), jaxpool.lse_pool(x, **window)]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        ys, vjp = jax.vjp(pools, x)
        return ys, vjp(jax.tree.map(jnp.ones_like, ys))[0]

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(hnp.arrays(np.float64, (4, 5, 1), elements=numbers))
    def check(x):
        x = x.astype(dtype)
        ys, dx = jax.device_get(program(x))
        assert np.isfinite(dx).all()
        most = np.abs(x.astype(float)).max() * (1 + 4 * np.finfo(dtype).eps) + 1e-5
        assert all(np.isfinite(y).all() and (y <= most).all() for y in ys)

    check()


def test_infinities_and_nan():
    x = jnp.array([np.inf, 1, -np.inf, 2, -np.inf, -np.inf, np.nan, 3])[:, None]
    y = jaxpool.lse_pool(x, (2,))[:, 0]
    low = 2 + np.log(0.5)
    np.testing.assert_allclose(y, [np.inf, low, -np.inf, np.nan], 1e-6)
    y = jaxpool.gem_pool(x, (2,), eps=0.5, p=1.0)[:, 0]
    np.testing.assert_allclose(y, [np.inf, 1.25, 0.5, np.nan], 1e-6)


def test_second_derivatives_at_zero():
    """Those of a quadratic norm exist there, unless all of the window is 0."""

    def norm(x):
        return jaxpool.lp_pool(x[:, None], (3,))[0, 0]

    x = jnp.array([3.0, 0.0, -4.0])
    y, unit = 5.0, np.array([0.6, 0, -0.8])
    expected = (np.eye(3) - np.outer(unit, unit)) / y
    np.testing.assert_allclose(jax.hessian(norm)(x), expected, 1e-6, 1e-7)
    np.testing.assert_array_equal(jax.hessian(norm)(0 * x), np.zeros((3, 3)))


def test_an_infinite_exponent_as_an_array():
    def norm(x):
        return jaxpool.lp_pool(x, (2,), p=jnp.array(np.inf)).sum()

    y, dx = jax.value_and_grad(norm)(jnp.array([[3.0], [-4.0]]))
    assert y == 4
    np.testing.assert_array_equal(dx[:, 0], [0, -1])


def test_wrong_arguments():
    x = jnp.ones((4, 2))
    with pytest.raises(ValueError, match="`p` must be positive, got 0"):
        jaxpool.gem_pool(x, (2,), p=0.0)
    with pytest.raises(ValueError, match="`eps` must be positive, got -1"):
        jaxpool.gem_pool(x, (2,), eps=-1.0)
    with pytest.raises(ValueError, match="`temperature` must be a number or broadcast"):
        jaxpool.lse_pool(x, (2,), temperature=jnp.ones(3))
    with pytest.raises(TypeError, match="`temperature` must be a number"):
        jaxpool.lse_pool(x, (2,), temperature="hot")
    with pytest.raises(TypeError, match="`mean` must be True or False, got 1"):
        jaxpool.lp_pool(x, (2,), mean=1)
    with pytest.raises(TypeError, match="`x` must be real"):
        jaxpool.lse_pool(x.astype(jnp.complex64), (2,))


@pytest.mark.parametrize("name", ["lp_pool", "gem_pool", "global_gem_pool"])
def test_only_a_number_may_be_infinite(name):
    """Of one channel among several its gradient would be NaN."""
    axes = {"axes": (0,)} if name.startswith("global") else {"window_shape": (4,)}
    pool = functools.partial(getattr(jaxpool, name), jnp.arange(8.0).reshape(4, 2))
    for p in (np.inf, np.array(np.inf), jnp.array(np.inf)):
        y = pool(**axes, p=p)
        np.testing.assert_array_equal(y.ravel(), [6, 7])
    with pytest.raises(ValueError, match="`p` must be positive and finite, got"):
        pool(**axes, p=np.array([1, np.inf]))
