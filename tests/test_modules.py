"""The layers of both module systems against the functions, and against Flax."""

import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

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

SIZED = {"output_shape": (3, 2), "axes": (1, 2), "empty": -1.0}
WHOLE = {"axes": (1,), "keepdims": True, "empty": -1.0}
X = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
WHERE = np.arange(6)[:, None, None] > 3  # leaves some windows empty
INDICES = np.arange(24).reshape(6, 4, 1) + np.zeros(X.shape, np.int64)  # for X as y


WINDOWS = MappingProxyType({"window_shape": (2, 2)})


class Case(NamedTuple):
    """A layer without parameters."""

    function: Callable[..., Any]
    options: dict[str, Any]  # a value for each that is not the default
    few: Mapping[str, Any] = WINDOWS  # what a layer must be given
    arrays: tuple[Any, ...] = (X,)


def sized(function, **options):
    return Case(function, SIZED | options, {"output_shape": (4, 3)})


def whole(function, **options):
    return Case(function, WHOLE | options, {})


UNPOOL = {
    "output_shape": (13, 9),
    "window_shape": (3, 2),
    "strides": 2,
    "padding": ((0, 0), (0, 0)),
    "dilation": (1, 2),
    "ceil_mode": True,
    "axes": (1, 2),
    "count_include_pad": False,
    "mode": "replicate",
}
LAYERS = {
    "AdaptiveAvgPool": sized(jaxpool.adaptive_avg_pool),
    "AdaptiveMaxPool": sized(jaxpool.adaptive_max_pool, return_indices=True),
    "AdaptiveMinPool": sized(jaxpool.adaptive_min_pool, return_indices=True),
    "AvgPool": Case(
        jaxpool.avg_pool, WINDOW | {"count_include_pad": False, "divisor_override": 5}
    ),
    "AvgUnpool": Case(jaxpool.avg_unpool, UNPOOL),
    "GlobalAvgMaxPool": whole(jaxpool.global_avg_max_pool, mode="concat"),
    "GlobalAvgPool": whole(jaxpool.global_avg_pool),
    "GlobalMaxPool": whole(jaxpool.global_max_pool),
    "GlobalMinPool": whole(jaxpool.global_min_pool),
    "GlobalSumPool": whole(jaxpool.global_sum_pool),
    "LpPool": Case(jaxpool.lp_pool, WINDOW | {"p": 3.0, "mean": True}),
    "MaxPool": Case(jaxpool.max_pool, WINDOW | {"return_indices": True}),
    "MaxUnpool": Case(
        jaxpool.max_unpool,
        {"output_shape": (9, 8), "axes": (1, 2), "reduce": "add"},
        {"output_shape": (6, 4)},
        (X, INDICES),
    ),
    "MedianPool": Case(jaxpool.median_pool, WINDOW | {"even": "mean"}),
    "MinPool": Case(jaxpool.min_pool, WINDOW | {"return_indices": True}),
    "SoftPool": Case(jaxpool.soft_pool, WINDOW | {"temperature": 0.5}),
    "SumPool": Case(jaxpool.sum_pool, WINDOW),
}
WINDOWED = [name for name, case in LAYERS.items() if "strides" in case.options]
# Those with parameters are tested in test_learned.py, random ones in test_random.py.
ELSEWHERE = {"GeMPool", "GlobalGeMPool", "GlobalLSEPool", "LSEPool", "PowerAvgPool"}
ELSEWHERE |= {"FractionalMaxPool"}
BASES = {"GeM", "LSE", "Random"}
INPUTS = {
    "x",
    "y",
    "indices",
    "where",
}  # arguments of the functions that go to a layer's call
SYSTEMS = {"nnx": jaxpool.nnx, "linen": jaxpool.linen}

every_layer = pytest.mark.parametrize("name", LAYERS)
every_windowed_layer = pytest.mark.parametrize("name", WINDOWED)
either_system = pytest.mark.parametrize("system", SYSTEMS)


def exports(module):
    found = vars(module).items()
    return {k for k, v in found if getattr(v, "__module__", "") == module.__name__}


def parameters(function, leave_out):
    found = inspect.signature(function).parameters.values()
    return [p for p in found if p.name not in leave_out]


def call(layer, *arrays, **inputs):
    if isinstance(layer, linen.Module):
        return layer.apply({}, *arrays, **inputs)
    return layer(*arrays, **inputs)


def masked(case):
    """The mask as keyword, for a function that has one."""
    has_mask = "where" in inspect.signature(case.function).parameters
    return {"where": WHERE} if has_mask else {}


def assert_same(got, expected):
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
    assert jax.tree.map(jnp.result_type, got) == jax.tree.map(jnp.result_type, expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


# --- Both systems against the functions -----------------------------------------------


def test_both_systems_have_every_layer():
    bodies = {name for name in vars(_layers) if name[0].isupper()} - BASES
    assert bodies == set(LAYERS) | ELSEWHERE
    for system in SYSTEMS.values():
        assert bodies == {name for name in exports(system) if name[0] != "_"}


@every_layer
@either_system
def test_constructor_is_the_functions(system, name):
    case = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    expected = parameters(case.function, INPUTS)
    # Names, order, kinds, defaults and annotations.
    assert parameters(layer.__init__, {"self", "parent", "name"}) == expected
    assert {p.name for p in expected} == set(case.options)
    assert all(p.default != case.options[p.name] for p in expected)


@every_layer
@either_system
def test_output_is_the_functions(system, name):
    case = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    got = call(layer(**case.few), *case.arrays)
    assert_same(got, case.function(*case.arrays, **case.few))
    got = call(layer(**case.options), *case.arrays, **masked(case))
    assert_same(got, case.function(*case.arrays, **case.options, **masked(case)))
    narrow = jnp.bfloat16
    x, *rest = case.arrays
    assert jax.eval_shape(layer(**case.few), x.astype(narrow), *rest).dtype == narrow


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
    case = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    for required in case.few:
        with pytest.raises(TypeError, match=required):
            layer()
    with pytest.raises(TypeError, match="stride"):
        layer(**case.few, stride=2)
    # linen's second positional argument is `parent`, which is checked.
    with pytest.raises((TypeError, ValueError), match=r"positional|parent must be"):
        layer(*case.few.values(), (2, 2))
    if name in WINDOWED:
        with pytest.raises(TypeError, match=r"write \(2, 2\)"):
            call(layer(2), X)


@every_layer
@either_system
def test_help(system, name):
    case = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    assert layer.__doc__ == getattr(_layers, name).__doc__
    assert f"`jaxpool.{case.function.__name__}`" in layer.__doc__
    host = {"nnx": nnx.Module, "linen": linen.Module}[system]
    assert layer.__repr__ is host.__repr__  # not that of a dataclass
    shown = repr(layer(**{**case.few, "axes": (1, 2)})).replace(" ", "")
    assert shown.startswith(f"{name}(") and "axes=(1,2)" in shown
    assert all(f"{option}=" in shown for option in case.options)


@every_layer
@either_system
def test_copies(system, name):
    case = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)(**case.options)
    expected = call(layer, *case.arrays, **masked(case))
    for copied in (
        pickle.loads(pickle.dumps(layer)),
        copy.copy(layer),
        copy.deepcopy(layer),
        layer.clone() if system == "linen" else nnx.clone(layer),
    ):
        assert type(copied) is type(layer) and copied is not layer
        assert_same(call(copied, *case.arrays, **masked(case)), expected)


@every_windowed_layer
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
    case = LAYERS[name]
    layer = getattr(jaxpool.nnx, name)(**case.few)
    traces = []

    def total(layer, *arrays):
        return layer(*arrays).sum()

    @nnx.jit
    def step(layer, arrays):
        traces.append(layer)
        # nnx.vmap(layer) itself would refuse the keyword-only `where`.
        axes = (None, *(0 for _ in arrays))
        y = nnx.vmap(lambda layer, *a: layer(*a), in_axes=axes)(layer, *arrays)
        dlayer, dx = nnx.grad(total, argnums=(0, 1))(layer, *arrays)
        expected = jax.value_and_grad(lambda *a: case.function(*a, **case.few).sum())
        return (y.sum(), dx), expected(*arrays), dlayer

    got, expected, dlayer = step(layer, case.arrays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), got, expected)
    assert not jax.tree.leaves(dlayer)

    graphdef, state = nnx.split(layer)
    assert not jax.tree.leaves(state)
    lists = {k: list(v) for k, v in case.few.items()}
    for same in (nnx.merge(graphdef, state), type(layer)(**lists)):
        assert_same(step(same, case.arrays)[0], got)
    assert len(traces) == 1


@every_layer
def test_in_sequence(name, key):
    case = LAYERS[name]
    if len(case.arrays) > 1:
        pytest.skip("takes two arrays")
    expected = case.function(-X, **case.few)
    layer = getattr(jaxpool.nnx, name)(**case.few)
    assert_same(nnx.Sequential(jnp.negative, layer)(X), expected)
    assert name in nnx.tabulate(layer, X)
    layer = getattr(jaxpool.linen, name)(**case.few)
    y, variables = linen.Sequential([jnp.negative, layer]).init_with_output(key, X)
    assert_same(y, expected)
    assert not variables


@every_layer
def test_linen_sees_every_call(name, key):
    """linen records and intercepts only methods that it has wrapped."""
    case = LAYERS[name]
    layer = getattr(jaxpool.linen, name)(**case.few)
    y, state = layer.apply({}, *case.arrays, capture_intermediates=True)
    assert_same(state["intermediates"]["__call__"], (y,))
    table = layer.tabulate(key, *case.arrays, console_kwargs={"width": 200})
    assert f"│ {name} " in table


@every_layer
def test_linen_modules_are_values(name):
    few = LAYERS[name].few
    lists = {k: list(v) for k, v in few.items()}
    layer = getattr(jaxpool.linen, name)
    other = layer(**few, axes=(0, 1))
    assert layer(**few) == layer(**lists) != other
    assert hash(layer(**few)) == hash(layer(**lists))
    assert layer(**few).clone(axes=(0, 1)) == other


@pytest.mark.parametrize("name, option", [("SoftPool", "temperature"), ("LpPool", "p")])
def test_nnx_parameter_as_option(name, option):
    """An option that may be an array is learned where it is given as a parameter."""
    function = LAYERS[name].function
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
