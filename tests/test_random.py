"""Layers that draw random numbers: Flax's `deterministic`, and the stream "pool"."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors, nnx
from transforms import tie_free

import jaxpool
import jaxpool.linen
import jaxpool.nnx

X = tie_free((2, 9, 8, 3))
# Each layer: its function, its options, and one that makes an output larger.
LAYERS = {
    "FractionalMaxPool": (
        jaxpool.fractional_max_pool,
        {"window_shape": (2, 3), "output_shape": (5, 4)},
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def of(system, name, **more):
    _, options = LAYERS[name]
    return getattr(system, name)(**options, **more)


def function(name):
    pool, options = LAYERS[name]
    return functools.partial(pool, **options)


@every_layer
def test_constructor_is_the_functions(name):
    pool, _ = LAYERS[name]
    inputs = {"x", "where", "key", "samples"}
    expected = [p for p in inspect.signature(pool).parameters if p not in inputs]
    own = {"self", "parent", "name", "deterministic", "rngs"}
    for system in (jaxpool.nnx, jaxpool.linen):
        found = inspect.signature(getattr(system, name).__init__).parameters
        assert [p for p in found if p not in own] == expected


@every_layer
def test_deterministic_is_the_inference_of_the_function(name):
    expected = function(name)(X)
    layer = of(jaxpool.nnx, name, deterministic=True)  # without a stream
    np.testing.assert_array_equal(layer(X), expected)
    layer = of(jaxpool.nnx, name, rngs=nnx.Rngs(pool=0))
    np.testing.assert_array_equal(layer(X, deterministic=True), expected)
    layer.eval()
    np.testing.assert_array_equal(layer(X), expected)
    layer.train()
    assert (layer(X) != expected).any()
    view = nnx.view(layer, deterministic=True)
    np.testing.assert_array_equal(view(X), expected)
    layer = of(jaxpool.linen, name)
    y = layer.apply({}, X, deterministic=True)
    np.testing.assert_array_equal(y, expected)
    layer = of(jaxpool.linen, name, deterministic=True)
    np.testing.assert_array_equal(layer.apply({}, X), expected)


@every_layer
def test_nnx_draws_from_its_stream(name):
    layer = of(jaxpool.nnx, name, rngs=nnx.Rngs(0, pool=1))
    same = of(jaxpool.nnx, name, rngs=nnx.Rngs(pool=1)["pool"])
    first, second = layer(X), layer(X)
    assert (first != second).any()
    np.testing.assert_array_equal(same(X), first)
    expected = function(name)(X, key=nnx.Rngs(pool=1)["pool"].fork()())
    np.testing.assert_array_equal(first, expected)
    # A stream of the call takes its place.
    given = layer(X, rngs=nnx.Rngs(pool=5))
    np.testing.assert_array_equal(given, same(X, rngs=nnx.Rngs(pool=5)["pool"]))


@every_layer
def test_nnx_under_jit(name):
    layer = of(jaxpool.nnx, name, rngs=nnx.Rngs(pool=1))
    other = of(jaxpool.nnx, name, rngs=nnx.Rngs(pool=1))
    step = nnx.jit(lambda layer, x: layer(x))
    for _ in range(2):  # the count goes on
        np.testing.assert_array_equal(step(layer, X), other(X))


@every_layer
def test_linen_draws_from_its_stream(name):
    layer = of(jaxpool.linen, name, deterministic=False)

    @jax.jit
    def apply(seed):
        return layer.apply({}, X, rngs={"pool": jax.random.key(seed)})

    assert (apply(0) != apply(1)).any()
    np.testing.assert_array_equal(apply(0), apply(0))
    with pytest.raises(errors.InvalidRngError, match="pool"):
        layer.apply({}, X)
    with pytest.raises(ValueError, match="deterministic"):
        of(jaxpool.linen, name).apply({}, X)


@every_layer
def test_masks_go_through(name):
    where = np.ones((9, 8, 1), bool)
    where[4] = False
    dirty = np.where(where, X, np.float32(np.nan))
    for layer in (
        of(jaxpool.nnx, name, deterministic=True),
        of(jaxpool.linen, name, deterministic=True),
    ):
        assert jnp.isfinite(layer(dirty, where=where)).all()


@every_layer
def test_wrong_streams(name):
    with pytest.raises(TypeError, match=r"`rngs` must be an nnx\.Rngs or nnx\.RngSt"):
        of(jaxpool.nnx, name, rngs=jax.random.key(0))
    with pytest.raises(ValueError, match="`rngs` must be given"):
        of(jaxpool.nnx, name)(X)
    with pytest.raises(ValueError, match="`deterministic` must be given"):
        of(jaxpool.nnx, name, deterministic=None)(X)
