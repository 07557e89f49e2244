"""The layers of both module systems against the functions, and against Flax."""

import copy
import inspect
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxpool
import jaxpool.linen
import jaxpool.nnx
from jaxpool import _layers

# --- The layers -----------------------------------------------------------------------

WINDOW = {
    "window_shape": (2, 3),
    "strides": (1, 2),
    "padding": ((1, 0), (0, 1)),
    "dilation": (2, 1),
    "ceil_mode": True,
    "axes": (2, 1),
    "empty": -1.0,
}

# Each layer without parameters: its function, and a value for every option that is not
# the default.
LAYERS = {
    "AvgPool": (
        jaxpool.avg_pool,
        WINDOW | {"count_include_pad": False, "divisor_override": 5},
    ),
    "LpPool": (jaxpool.lp_pool, WINDOW | {"p": 3.0, "mean": True}),
    "MaxPool": (jaxpool.max_pool, WINDOW | {"return_indices": True}),
    "MedianPool": (jaxpool.median_pool, WINDOW | {"even": "mean"}),
    "MinPool": (jaxpool.min_pool, WINDOW | {"return_indices": True}),
    "SoftPool": (jaxpool.soft_pool, WINDOW | {"temperature": 0.5}),
    "SumPool": (jaxpool.sum_pool, WINDOW),
}
# Those with parameters are tested in test_learned.py.
LEARNED = {"GeMPool", "LSEPool", "PowerAvgPool"}
INPUTS = {"x", "where"}  # arguments of the functions that go to a layer's call
SYSTEMS = {"nnx": jaxpool.nnx, "linen": jaxpool.linen}
X = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
WHERE = np.arange(6)[:, None, None] > 3  # leaves some windows empty

every_layer = pytest.mark.parametrize("name", LAYERS)
either_system = pytest.mark.parametrize("system", SYSTEMS)


def exports(module):
    found = vars(module).items()
    return {k for k, v in found if getattr(v, "__module__", "") == module.__name__}


def parameters(function, leave_out):
    found = inspect.signature(function).parameters.values()
    return [p for p in found if p.name not in leave_out]


def call(layer, x, **inputs):
    if isinstance(layer, linen.Module):
        return layer.apply({}, x, **inputs)
    return layer(x, **inputs)


def assert_same(got, expected):
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
    assert jax.tree.map(jnp.result_type, got) == jax.tree.map(jnp.result_type, expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


# --- Both systems against the functions -----------------------------------------------


def test_both_systems_have_every_layer():
    assert exports(jaxpool.nnx) == exports(jaxpool.linen)
    bodies = {name for name, body in vars(_layers).items() if isinstance(body, type)}
    assert bodies == set(LAYERS) | LEARNED == exports(jaxpool.nnx)


@every_layer
@either_system
def test_constructor_is_the_functions(system, name):
    function, options = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    expected = parameters(function, INPUTS)
    # Names, order, kinds, defaults and annotations.
    assert parameters(layer.__init__, {"self", "parent", "name"}) == expected
    assert {p.name for p in expected} == set(options)
    assert all(p.default != options[p.name] for p in expected)


@every_layer
@either_system
def test_output_is_the_functions(system, name):
    function, options = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    assert_same(call(layer((2, 2)), X), function(X, (2, 2)))
    got = call(layer(**options), X, where=WHERE)
    assert_same(got, function(X, where=WHERE, **options))
    narrow = jax.eval_shape(layer((2, 2)), X.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16


@either_system
def test_constructor_shows_types(system):
    # Written without getattr: pyright checks these calls.
    nnx_layer = jaxpool.nnx.AvgPool((2, 2), strides=1, count_include_pad=False)
    linen_layer = jaxpool.linen.AvgPool((2, 2), strides=1, count_include_pad=False)
    layer = nnx_layer if system == "nnx" else linen_layer
    assert layer(X).shape == (2, 5, 3, 3)  # linen's also outside of apply


@every_layer
@either_system
def test_wrong_arguments(system, name):
    layer = getattr(SYSTEMS[system], name)
    with pytest.raises(TypeError, match="window_shape"):
        layer()
    with pytest.raises(TypeError, match="stride"):
        layer((2, 2), stride=2)
    # linen's second positional argument is `parent`, which is checked.
    with pytest.raises((TypeError, ValueError), match=r"positional|parent must be"):
        layer((2, 2), (2, 2))
    with pytest.raises(TypeError, match=r"write \(2, 2\)"):
        call(layer(2), X)


@every_layer
@either_system
def test_help(system, name):
    function, options = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    assert layer.__doc__ == getattr(_layers, name).__doc__
    assert f"`jaxpool.{function.__name__}`" in layer.__doc__
    host = {"nnx": nnx.Module, "linen": linen.Module}[system]
    assert layer.__repr__ is host.__repr__  # not that of a dataclass
    shown = repr(layer((2, 2), strides=3)).replace(" ", "")
    assert shown.startswith(f"{name}(") and "strides=3" in shown
    assert all(f"{option}=" in shown for option in options)


@every_layer
@either_system
def test_copies(system, name):
    _, options = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)(**options)
    expected = call(layer, X, where=WHERE)
    for copied in (
        pickle.loads(pickle.dumps(layer)),
        copy.copy(layer),
        copy.deepcopy(layer),
        layer.clone() if system == "linen" else nnx.clone(layer),
    ):
        assert type(copied) is type(layer) and copied is not layer
        assert_same(call(copied, X, where=WHERE), expected)


@every_layer
@either_system
def test_lists_become_tuples(system, name):
    layer = getattr(SYSTEMS[system], name)
    lists = layer([2, 2], padding=([0, 1], [1, 0]), axes=[1, 2])
    assert lists.window_shape == (2, 2) and lists.axes == (1, 2)
    assert lists.padding == ((0, 1), (1, 0))
    hash(lists)


@either_system
def test_fields_of_a_subclass_stay_with_it(system):
    class Scaled(SYSTEMS[system].SumPool):
        factors: tuple | list = (2.0,)

        def __call__(self, x):
            return super().__call__(x) * self.factors[0]

    expected = 2 * jaxpool.sum_pool(X, (2, 2))
    assert_same(call(Scaled((2, 2)), X), expected)


# --- In Flax --------------------------------------------------------------------------


@every_layer
def test_nnx_transformations(name):
    function, _ = LAYERS[name]
    layer = getattr(jaxpool.nnx, name)((2, 2))
    traces = []

    def total(layer, x):
        return layer(x).sum()

    @nnx.jit
    def step(layer, x):
        traces.append(layer)
        # nnx.vmap(layer) itself would refuse the keyword-only `where`.
        y = nnx.vmap(lambda layer, x: layer(x), in_axes=(None, 0))(layer, x)
        dlayer, dx = nnx.grad(total, argnums=(0, 1))(layer, x)
        expected = jax.value_and_grad(lambda x: function(x, (2, 2)).sum())(x)
        return (y.sum(), dx), expected, dlayer

    got, expected, dlayer = step(layer, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), got, expected)
    assert not jax.tree.leaves(dlayer)

    graphdef, state = nnx.split(layer)
    assert not jax.tree.leaves(state)
    for same in (nnx.merge(graphdef, state), type(layer)([2, 2])):
        assert_same(step(same, X)[0], got)
    assert len(traces) == 1


@every_layer
def test_nnx_sequential(name):
    function, _ = LAYERS[name]
    layer = getattr(jaxpool.nnx, name)((2, 2))
    y = nnx.Sequential(jnp.negative, layer)(X)
    assert_same(y, function(-X, (2, 2)))
    assert name in nnx.tabulate(layer, X)


@every_layer
def test_linen_sequential(name, key):
    function, _ = LAYERS[name]
    layer = getattr(jaxpool.linen, name)((2, 2))
    model = linen.Sequential([jnp.negative, layer])
    y, variables = model.init_with_output(key, X)
    assert_same(y, function(-X, (2, 2)))
    assert not variables


@every_layer
def test_linen_sees_every_call(name, key):
    """linen records and intercepts only methods that it has wrapped."""
    layer = getattr(jaxpool.linen, name)((2, 2))
    y, state = layer.apply({}, X, capture_intermediates=True)
    assert_same(state["intermediates"]["__call__"], (y,))
    assert f"│ {name} " in layer.tabulate(key, X, console_kwargs={"width": 200})


@every_layer
def test_linen_modules_are_values(name):
    layer = getattr(jaxpool.linen, name)
    assert layer((2, 2)) == layer([2, 2]) != layer((2, 2), strides=1)
    assert hash(layer((2, 2))) == hash(layer([2, 2]))
    assert layer((2, 2)).clone(strides=1) == layer((2, 2), strides=1)


@pytest.mark.parametrize("name, option", [("SoftPool", "temperature"), ("LpPool", "p")])
def test_nnx_parameter_as_option(name, option):
    """An option that may be an array is learned where it is given as a parameter."""
    function, _ = LAYERS[name]
    values = jnp.array([0.5, 1.0, 2.0])
    layer = getattr(jaxpool.nnx, name)((2, 2), **{option: nnx.Param(values)})
    got = nnx.jit(nnx.grad(lambda layer: layer(X).sum()))(layer)
    expected = jax.jit(jax.grad(lambda v: function(X, (2, 2), **{option: v}).sum()))
    np.testing.assert_allclose(got[option][...], expected(values), 1e-5)


# --- Imports --------------------------------------------------------------------------


def test_jaxpool_does_not_import_flax():
    program = """
import sys
import jaxpool
assert "flax" not in sys.modules
import jaxpool.nnx
import jaxpool.linen
assert jaxpool.nnx.MaxPool((2,)) and jaxpool.linen.MaxPool((2,))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
