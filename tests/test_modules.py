"""The layers of both module systems against the functions, and against Flax."""

import copy
import functools
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
POOLED = X[:, :3, ::2]  # as a 2x2 pool of X would be


WINDOWS = MappingProxyType({"window_shape": (2, 2)})


class Case(NamedTuple):
    """A layer without parameters."""

    function: Callable[..., Any]
    options: dict[str, Any]  # a value for each that is not the default
    few: Mapping[str, Any] = WINDOWS  # what a layer must be given
    arrays: tuple[Any, ...] = (X,)
    at_default: tuple[str, ...] = ()  # options that do not go with the others
    where: Any = WHERE


def sized(function, **options):
    return Case(function, SIZED | options, {"output_shape": (4, 3)})


def whole(function, **options):
    return Case(function, WHOLE | options, {})


def regions(function, **options):
    boxes = np.array([[0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 9.0, 8.0]], np.float32)
    options |= {"output_shape": (3, 1), "spatial_scale": 0.5, "axes": (1, 0)}
    few = {"output_shape": (1, 3)}
    return Case(function, options, few, (X[0], boxes), where=np.array([False, True]))


def second_order(function, few=MappingProxyType({}), **options):
    options |= {"axes": (0,), **few}
    return Case(function, options, few)


def packed(function, *more):
    ids = np.array([1, 0, 1, 1, 3, 1])
    options = {"num_segments": 3, "empty": -1.0}
    few = {"num_segments": 2}
    nodes = (X[0], *more, ids)
    return Case(function, options, few, nodes, where=np.arange(6) > 1)


SQRT = {"signed_sqrt": "authors", "normalize": False, "eps": 1e-4}
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
# Of a size such that POOLED fits, too.
ADA_UNPOOL = {
    "window_shape": (2, 3),
    "strides": (2, 2),
    "padding": ((0, 0), (2, 1)),
    "dilation": (1, 2),
    "ceil_mode": True,
    "axes": (2, 1),
    "beta": 0.25,
    "mode": "replicate",
}
POLYPHASE = {"strides": (3, 2), "axes": (1, 2), "channel_axis": None, "norm": 1.0}
WAVELET = {"wavelet": "db2", "axes": (1,), "scale": "mean", "subbands": True}
DETAIL = {"alpha": 0.5, "lam": 2.0, "symmetric": False, "normalize": False}
ADAPTIVE = {"sampling_ratio": None, "max_sampling_ratio": 1}
LAYERS = {
    "AdaUnpool": Case(jaxpool.ada_unpool, ADA_UNPOOL, arrays=(POOLED, X)),
    "AdaptiveAvgPool": sized(jaxpool.adaptive_avg_pool),
    "AdaptiveMaxPool": sized(jaxpool.adaptive_max_pool, return_indices=True),
    "AdaptiveMinPool": sized(jaxpool.adaptive_min_pool, return_indices=True),
    "AvgPool": Case(
        jaxpool.avg_pool, WINDOW | {"count_include_pad": False, "divisor_override": 5}
    ),
    "AvgUnpool": Case(jaxpool.avg_unpool, UNPOOL),
    "BilinearPool": second_order(jaxpool.bilinear_pool, **SQRT),
    "BlurPool": Case(
        jaxpool.blur_pool,
        {
            "strides": (1, 2),
            "filter_size": 4,
            "padding_mode": "circular",
            "axes": (1, 2),
        },
        {},
    ),
    "CombinedPool": Case(
        jaxpool.combined_pool, WINDOW | {"pools": ("max", "min"), "mode": "mean"}
    ),
    "CovariancePool": second_order(
        jaxpool.covariance_pool, iterations=3, triangle=False
    ),
    "DetailPreservingPool": Case(jaxpool.detail_preserving_pool, WINDOW | DETAIL),
    "EDSCWPool": Case(jaxpool.edscw_pool, WINDOW | {"gradient": "paper"}),
    "GlobalAvgMaxPool": whole(jaxpool.global_avg_max_pool, mode="concat"),
    "GlobalAvgPool": whole(jaxpool.global_avg_pool),
    "GlobalMaxPool": whole(jaxpool.global_max_pool),
    "GlobalMinPool": whole(jaxpool.global_min_pool),
    "GlobalSumPool": whole(jaxpool.global_sum_pool),
    "IDWPool": Case(jaxpool.idw_pool, WINDOW | {"eps": 0.5, "gradient": "paper"}),
    "LocalImportancePool": Case(
        jaxpool.local_importance_pool, WINDOW, arrays=(X, X[..., :1] ** 2)
    ),
    "LpPool": Case(jaxpool.lp_pool, WINDOW | {"p": 3.0, "mean": True}),
    "MaxBlurPool": Case(
        jaxpool.max_blur_pool,
        {
            "window_shape": (2, 3),
            "strides": (1, 2),
            "padding": 1,
            "filter_size": 2,
            "padding_mode": "edge",
            "axes": (2, 1),
        },
    ),
    "MaxPool": Case(jaxpool.max_pool, WINDOW | {"return_indices": True}),
    "MaxUnpool": Case(
        jaxpool.max_unpool,
        {"output_shape": (9, 8), "axes": (1, 2), "reduce": "add"},
        {"output_shape": (6, 4)},
        (X, INDICES),
    ),
    "MaxPoolPyramid": Case(
        jaxpool.max_pool_pyramid,
        {"sizes": (2, 3), "axes": (1, 2), "empty": -1.0},
        {},
    ),
    "MedianPool": Case(jaxpool.median_pool, WINDOW | {"even": "mean"}),
    "MinPool": Case(jaxpool.min_pool, WINDOW | {"return_indices": True}),
    "PSRoIAlign": regions(jaxpool.ps_roi_align, **ADAPTIVE),
    "PSRoIPool": regions(jaxpool.ps_roi_pool, torchvision_compat=True),
    "PreciseRoIPool": regions(jaxpool.precise_roi_pool),
    "PolyphasePool": Case(
        jaxpool.polyphase_pool, POLYPHASE | {"return_phase": True}, {}
    ),
    "RoIAlign": regions(jaxpool.roi_align, aligned=False, **ADAPTIVE),
    "RoIPool": regions(jaxpool.roi_pool),
    "SegmentAvgPool": packed(jaxpool.segment_avg_pool),
    "SegmentMaxPool": packed(jaxpool.segment_max_pool),
    "SegmentSoftmaxPool": packed(jaxpool.segment_softmax_pool, X[0]),
    "SegmentSumPool": packed(jaxpool.segment_sum_pool),
    "SoftPool": Case(
        jaxpool.soft_pool, WINDOW | {"temperature": 0.5, "gradient": "paper"}
    ),
    "SpatialPyramidPool": Case(
        jaxpool.spatial_pyramid_pool,
        {
            "levels": (2, (1, 3)),
            "reducer": "avg",
            "windows": "paper",
            "channels_first": True,
            "axes": (1, 2),
            "empty": -1.0,
        },
        {},
    ),
    "SpectralPool": Case(
        jaxpool.spectral_pool,
        {"output_shape": (3, 2), "axes": (2, 1), "scale": "ortho"},
        {"output_shape": (4, 3)},
    ),
    "StripPool": Case(jaxpool.strip_pool, {"axes": (2, 1), "empty": -1.0}, {}),
    "Subsample": Case(
        jaxpool.subsample,
        {"strides": (2, 3), "offset": (1, 2), "axes": (2, 1)},
        {"strides": (2, 2)},
    ),
    "SumPool": Case(jaxpool.sum_pool, WINDOW),
    "TopKAvgPool": Case(
        jaxpool.topk_avg_pool, WINDOW | {"k": 3}, {"window_shape": (2, 2), "k": 2}
    ),
    "WaveletPool": Case(
        jaxpool.wavelet_pool,
        WAVELET | {"gradient": "exact"},
        {},
        at_default=("gradient",),
    ),
}
WINDOWED = [name for name, case in LAYERS.items() if "padding" in case.options]
# With parameters: test_learned.py; random: test_random.py; of convolutions:
# test_convolutional.py.
ELSEWHERE = {"AdaPool", "DPP", "GatedPool", "GeMPool", "GlobalGeMPool", "GlobalLSEPool"}
ELSEWHERE |= {"LSEPool", "MixedPool", "PowerAvgPool", "RankPool", "TreePool"}
ELSEWHERE |= {"FractionalMaxPool", "RandomMixedPool", "RandomPool", "S3Pool"}
ELSEWHERE |= {"StochasticPool", "LIP", "SPBlock", "SimplifiedLIP", "StripPooling"}
ELSEWHERE |= {"ASPP", "CSPSPPF", "ConvNormAct", "PPM", "SPP", "SPPCSPC", "SPPF"}
ELSEWHERE |= {"SPPFCSPC", "SimSPPF", "CompactBilinearPool", "LowRankBilinearPool"}
ELSEWHERE |= {"AttentionPool", "AttentionPool2D", "NetVLAD", "PMA"}
ELSEWHERE |= {"DiffPool", "MinCutPool", "SAGPool", "StructPool", "TopKPool"}
BASES = {"Attention", "Block", "GeM", "Graph", "LSE", "Layer", "Random", "TorchNames"}
BASES |= {"Unit"}
# Arguments of the functions that go to a layer's call.
INPUTS = {
    *("x", "y", "indices", "logits", "phase", "reference", "where"),
    *("boxes", "batch_index", "segment_ids", "key"),
}
SYSTEMS = {"nnx": jaxpool.nnx, "linen": jaxpool.linen}

every_layer = pytest.mark.parametrize("name", LAYERS)
every_windowed_layer = pytest.mark.parametrize("name", WINDOWED)
either_system = pytest.mark.parametrize("system", SYSTEMS)


def exports(module):
    return {name for name, value in vars(module).items() if isinstance(value, type)}


def parameters(function, leave_out):
    """By name: the order means nothing, as all but one are keyword-only."""
    found = inspect.signature(function).parameters
    return {name: found[name] for name in sorted(found) if name not in leave_out}


def listed(options):
    """The options with lists for tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}


def total(y):
    return sum(leaf.sum() for leaf in jax.tree.leaves(y))


def call(layer, *arrays, **inputs):
    if isinstance(layer, linen.Module):
        return layer.apply({}, *arrays, **inputs)
    return layer(*arrays, **inputs)


def masked(case):
    """The mask as keyword, for a function that has one."""
    has_mask = "where" in inspect.signature(case.function).parameters
    return {"where": case.where} if has_mask else {}


def required(case):
    """What the function must be given: as the layer, and a beta where it has one."""
    return {**case.few, "beta": 0.5} if "beta" in case.options else dict(case.few)


def assert_same(got, expected):
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
    assert jax.tree.map(jnp.result_type, got) == jax.tree.map(jnp.result_type, expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


# --- Both systems against the functions -----------------------------------------------


def test_both_systems_have_every_layer():
    bodies = {name for name in vars(_layers) if name[0].isupper()} - BASES
    assert bodies == set(LAYERS) | ELSEWHERE
    for system in SYSTEMS.values():
        assert bodies == exports(system)


@every_layer
@either_system
def test_constructor_is_the_functions(system, name):
    case = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    expected = parameters(case.function, INPUTS)
    got = parameters(layer.__init__, {"self", "parent", "name"})
    assert set(got) == set(expected) == set(case.options)
    if name == "AdaUnpool":  # as its pool, it has a beta of its own to start with
        assert got.pop("beta").default == 0.5 and expected.pop("beta")
    assert got == expected  # names, kinds, defaults and annotations
    at_default = {n for n, p in got.items() if p.default == case.options[n]}
    assert at_default == set(case.at_default)


@every_layer
def test_output_is_the_functions(name):
    case = LAYERS[name]
    few, where = required(case), masked(case)
    makers = [getattr(system, name) for system in SYSTEMS.values()]

    @jax.jit
    def outputs(*arrays):
        plain = [call(make(**case.few), *arrays) for make in makers]
        given = [call(make(**case.options), *arrays, **where) for make in makers]
        plain.append(case.function(*arrays, **few))
        given.append(case.function(*arrays, **case.options, **where))
        return plain, given

    for of_nnx, of_linen, expected in outputs(*case.arrays):
        assert_same(of_nnx, expected)
        assert_same(of_linen, expected)
    narrow = jnp.bfloat16
    x, *rest = case.arrays
    for make in makers:
        got = jax.eval_shape(make(**case.few), x.astype(narrow), *rest)
        assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(narrow)}


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
    for missing in case.few:
        with pytest.raises(TypeError, match=f"'{missing}'"):
            layer(**{k: v for k, v in case.few.items() if k != missing})
    with pytest.raises(TypeError, match="stride"):
        layer(**case.few, stride=2)
    # linen's second positional argument is `parent`, which is checked.
    with pytest.raises((TypeError, ValueError), match=r"positional|parent must be"):
        layer(*list(case.few.values())[:1], (2, 2), **dict(list(case.few.items())[1:]))
    if name in WINDOWED:
        with pytest.raises(TypeError, match=r"write \(2, 2\)"):
            call(layer(**{**case.few, "window_shape": 2}), *case.arrays)


@every_layer
@either_system
def test_help(system, name):
    case = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)
    assert layer.__doc__ == getattr(_layers, name).__doc__
    assert f"`jaxpool.{case.function.__name__}`" in layer.__doc__
    host = {"nnx": nnx.Module, "linen": linen.Module}[system]
    assert layer.__repr__ is host.__repr__  # not that of a dataclass
    one = next(iter(case.options))
    shown = repr(layer(**{**case.few, one: (1, 2)})).replace(" ", "")
    assert shown.startswith(f"{name}(") and f"{one}=(1,2)" in shown
    assert all(f"{option}=" in shown for option in case.options)


@every_layer
@either_system
def test_copies(system, name):
    case = LAYERS[name]
    layer = getattr(SYSTEMS[system], name)(**case.options)
    run = functools.partial(call, **masked(case))
    expected = jax.eval_shape(functools.partial(run, layer), *case.arrays)
    for copied in (
        pickle.loads(pickle.dumps(layer)),
        copy.copy(layer),
        copy.deepcopy(layer),
        layer.clone() if system == "linen" else nnx.clone(layer),
    ):
        assert type(copied) is type(layer) and copied is not layer
        assert {k: getattr(copied, k) for k in case.options} == case.options
        got = jax.eval_shape(functools.partial(run, copied), *case.arrays)
        assert got == expected


@every_windowed_layer
@either_system
def test_lists_become_tuples(system, name):
    layer = getattr(SYSTEMS[system], name)
    few = {**LAYERS[name].few, "window_shape": [2, 2]}
    lists = layer(**few, padding=([0, 1], [1, 0]), axes=[1, 2])
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


INPUT_OF = {
    "PolyphasePool": {"phase": np.array([3, 0])},
    "DetailPreservingPool": {"reference": np.float32(0.5)},
}


@pytest.mark.parametrize("name", INPUT_OF)
def test_inputs_of_the_call(name):
    case, more = LAYERS[name], INPUT_OF[name]
    layers = [getattr(system, name)(**case.few) for system in SYSTEMS.values()]

    @jax.jit
    def outputs(x):
        expected = case.function(x, **case.few, **more)
        return expected, [call(layer, x, **more) for layer in layers]

    expected, got = outputs(X)
    for y in got:
        assert_same(y, expected)
    assert (expected != case.function(X, **case.few)).any()


def test_gradient_of_the_paper():
    def gradient(pool):
        return jax.grad(lambda x: (call(pool, x) ** 2).sum())

    @jax.jit
    def gradients(x):
        exact = gradient(jaxpool.wavelet_pool)(x)
        options = {"gradient": "paper"}
        layers = [s.WaveletPool(**options) for s in SYSTEMS.values()]
        return exact, [gradient(layer)(x) for layer in layers]

    exact, (of_nnx, of_linen) = gradients(X)
    assert (of_nnx != exact).any()
    np.testing.assert_array_equal(of_nnx, of_linen)


# --- In Flax --------------------------------------------------------------------------


@every_layer
def test_nnx_transformations(name):
    case = LAYERS[name]
    layer = getattr(jaxpool.nnx, name)(**case.few)
    traces = []

    @nnx.jit
    def step(layer, arrays):
        traces.append(layer)
        # nnx.vmap(layer) itself would refuse the keyword-only `where`.
        axes = (None, *(0 for _ in arrays))
        twice = [jnp.stack([a, a]) for a in arrays]
        y = nnx.vmap(lambda layer, *a: layer(*a), in_axes=axes)(layer, *twice)
        y = jax.tree.map(lambda y: y[1], y)
        loss = nnx.grad(lambda layer, *a: total(layer(*a)), argnums=(0, 1))
        dlayer, dx = loss(layer, *arrays)
        few = required(case)
        expected = jax.value_and_grad(lambda *a: total(case.function(*a, **few)))
        return (total(y), dx), expected(*arrays), dlayer

    got, expected, dlayer = step(layer, case.arrays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), got, expected)
    assert not jax.tree.leaves(dlayer)

    graphdef, state = nnx.split(layer)
    assert not jax.tree.leaves(state)
    for same in (nnx.merge(graphdef, state), type(layer)(**listed(case.few))):
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
    few = dict(LAYERS[name].few)
    lists = listed(few)
    layer = getattr(jaxpool.linen, name)
    change = {list(LAYERS[name].options)[-1]: (0, 1)}
    other = layer(**few | change)
    assert layer(**few) == layer(**lists) != other
    assert hash(layer(**few)) == hash(layer(**lists))
    assert layer(**few).clone(**change) == other


LEARNABLE = [("SoftPool", "temperature"), ("LpPool", "p"), ("AdaUnpool", "beta")]
LEARNABLE += [("DetailPreservingPool", "alpha"), ("DetailPreservingPool", "lam")]


@pytest.mark.parametrize("name, option", LEARNABLE)
def test_nnx_parameter_as_option(name, option):
    """An option that may be an array is learned where it is given as a parameter."""
    function, arrays = LAYERS[name].function, LAYERS[name].arrays
    window = {"window_shape": (2, 2)}
    values = jnp.array([0.5, 0.75, 1.0])
    layer = getattr(jaxpool.nnx, name)((2, 2), **{option: nnx.Param(values)})
    got = nnx.jit(nnx.grad(lambda layer: (layer(*arrays) ** 2).sum()))(layer)
    y = functools.partial(function, *arrays, **window)
    expected = jax.jit(jax.grad(lambda v: (y(**{option: v}) ** 2).sum()))
    np.testing.assert_allclose(got[option][...], expected(values), 1e-4)


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
