"""Layers with a parameter: the same in both systems, and learning."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jaxpool
import jaxpool.linen
import jaxpool.nnx

X = np.random.default_rng(0).uniform(0.1, 2, size=(2, 6, 4, 3)).astype(np.float32)
WINDOW = {"window_shape": (2, 3), "strides": (1, 2), "padding": ((1, 0), (0, 1))}


class Case(NamedTuple):
    """A layer with a parameter."""

    function: Callable[..., Any]
    start: dict[str, float]
    parameter: str
    option: Callable[..., dict[str, Any]]  # of the function, from the parameter
    fixed: Mapping[str, Any] = MappingProxyType(WINDOW)


ROWS = {"axes": (1,), "keepdims": True}
LAYERS = {
    "GeMPool": Case(jaxpool.gem_pool, {"p": 2.5}, "p", lambda p: {"p": p}),
    "GlobalGeMPool": Case(
        jaxpool.global_gem_pool, {"p": 2.5}, "p", lambda p: {"p": p}, ROWS
    ),
    "PowerAvgPool": Case(
        functools.partial(jaxpool.lp_pool, mean=True),
        {"p": 2.5},
        "rho",
        lambda rho: {"p": 1 + jnp.log(1 + jnp.exp(rho))},
    ),
    "LSEPool": Case(
        jaxpool.lse_pool,
        {"temperature": 0.5},
        "log_temperature",
        lambda t: {"temperature": jnp.exp(t)},
    ),
    "GlobalLSEPool": Case(
        jaxpool.global_lse_pool,
        {"temperature": 0.5},
        "log_temperature",
        lambda t: {"temperature": jnp.exp(t)},
        ROWS,
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
features = pytest.mark.parametrize("features", [None, 3])


def both(name, features=None, **options):
    """The layer of either system with the options of LAYERS."""
    case = LAYERS[name]
    options = {**case.fixed, **case.start, "features": features} | options
    layers = (getattr(system, name) for system in (jaxpool.nnx, jaxpool.linen))
    return [layer(**options) for layer in layers]


@every_layer
@features
def test_both_systems_equal_the_function(name, features, key):
    case = LAYERS[name]
    of_nnx, of_linen = both(name, features)
    y, variables = of_linen.init_with_output(key, X)
    value = variables["params"].pop(case.parameter)
    assert not variables["params"]
    assert value.shape == (() if features is None else (features,))
    np.testing.assert_array_equal(getattr(of_nnx, case.parameter)[...], value)
    np.testing.assert_array_equal(of_nnx(X), y)
    expected = case.function(X, **case.fixed, **case.option(value))
    np.testing.assert_allclose(y, expected, 1e-6)
    # The parameter starts at the option.
    expected = case.function(X, **case.fixed, **case.start)
    np.testing.assert_allclose(y, expected, 1e-5)


@every_layer
@features
def test_gradients_of_the_parameter(name, features, key):
    case = LAYERS[name]
    of_nnx, of_linen = both(name, features)
    got = nnx.grad(lambda layer: (layer(X) ** 2).sum())(of_nnx)[case.parameter][...]
    variables = of_linen.init(key, X)
    loss = jax.grad(lambda v: (of_linen.apply(v, X) ** 2).sum())
    np.testing.assert_allclose(loss(variables)["params"][case.parameter], got, 1e-6)
    value = np.asarray(variables["params"][case.parameter], np.float64)

    def at(value):
        y = case.function(X.astype(np.float64), **case.fixed, **case.option(value))
        return (y**2).sum()

    steps = 1e-5 * np.eye(value.size).reshape(value.size, *value.shape)
    with jax.enable_x64(True):
        loss = jax.jit(jax.vmap(at))
        slopes = (loss(value + steps) - loss(value - steps)) / 2e-5
    np.testing.assert_allclose(got.ravel(), slopes, 2e-3)


@every_layer
def test_dtypes_and_masks(name):
    layer, _ = both(name, 3, param_dtype=jnp.bfloat16)
    state = jax.tree.leaves(nnx.state(layer))
    assert [leaf.dtype for leaf in state] == [jnp.bfloat16]
    layer, _ = both(name, 3)
    assert layer(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    where = np.ones(X.shape, bool)
    where[:, 1] = False
    dirty = np.where(where, X, np.nan)
    gradient = nnx.grad(lambda layer: layer(dirty, where=where).sum())(layer)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    clean = np.where(where, X, 7)
    np.testing.assert_array_equal(layer(dirty, where=where), layer(clean, where=where))


@every_layer
def test_trains_in_nnx(name):
    """A layer that starts elsewhere finds the parameter behind the data."""
    target = both(name)[0](X)
    other = {"temperature": 3.0} if "LSE" in name else {"p": 4.0}
    layer = both(name, **other)[0]
    optimizer = nnx.Optimizer(layer, optax.sgd(4.0), wrt=nnx.Param)

    @nnx.jit
    def step(layer, optimizer):
        def loss(layer):
            return ((layer(X) - target) ** 2).mean()

        value, gradient = nnx.value_and_grad(loss)(layer)
        optimizer.update(layer, gradient)
        return value

    losses = [float(step(layer, optimizer)) for _ in range(100)]
    assert losses[-1] < 0.1 * losses[0]


@every_layer
def test_in_models(name, key):
    of_nnx, of_linen = both(name)
    assert name in nnx.tabulate(of_nnx, X)
    assert name in of_linen.tabulate(key, X, console_kwargs={"width": 200})
    y, _ = linen.Sequential([jnp.abs, of_linen]).init_with_output(key, X)
    np.testing.assert_array_equal(nnx.Sequential(jnp.abs, of_nnx)(X), y)
    graphdef, state = nnx.split(of_nnx)
    np.testing.assert_array_equal(nnx.merge(graphdef, state)(X), of_nnx(X))


def test_wrong_starts():
    with pytest.raises(ValueError, match=r"`p` must be above 1, got 1\.0"):
        jaxpool.nnx.PowerAvgPool((2,), p=1.0)
    with pytest.raises(ValueError, match=r"`temperature` must be positive, got 0"):
        jaxpool.nnx.LSEPool((2,), temperature=0)
    layer = jaxpool.nnx.GeMPool((2,), features=2)
    with pytest.raises(ValueError, match=r"`p` must be a number or have one per chan"):
        layer(X[0])
