"""Layers with parameters: the same in both systems, and learning."""

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
from parity import by_name, copy_to_nnx

import jaxpool
import jaxpool.linen
import jaxpool.nnx

X = np.random.default_rng(0).uniform(0.1, 2, size=(2, 6, 4, 3)).astype(np.float32)
WINDOW = {"window_shape": (2, 3), "strides": (1, 2), "padding": ((1, 0), (0, 1))}


class Case(NamedTuple):
    """A layer with parameters."""

    function: Callable[..., Any]
    start: dict[str, Any]  # options that set the parameters at the start
    parameters: Mapping[str, tuple[int, ...]]  # shapes of one for all channels
    option: Callable[..., dict[str, Any]]  # of the function, from the parameters
    fixed: Mapping[str, Any] = MappingProxyType(WINDOW)
    at_start: Callable[..., Any] | None = None  # the pool that it is at the start
    drawn: bool = False  # whether the parameters are random at the start


def same(**options):
    return options


def of_logarithm(log_temperature):
    return {"temperature": jnp.exp(log_temperature)}


def of_rho(rho):
    return {"p": 1 + jnp.log(1 + jnp.exp(rho))}


def of_logarithms(log_alpha, log_lam):
    return {"alpha": jnp.exp(log_alpha), "lam": jnp.exp(log_lam)}


AVERAGE = functools.partial(jaxpool.avg_pool, count_include_pad=False)
POWER = functools.partial(jaxpool.lp_pool, mean=True)
ROWS = {"axes": (1,), "keepdims": True}
COLD = {"temperature": 0.5}
LAYERS = {
    "GeMPool": Case(jaxpool.gem_pool, {"p": 2.5}, {"p": ()}, same),
    "GlobalGeMPool": Case(jaxpool.global_gem_pool, {"p": 2.5}, {"p": ()}, same, ROWS),
    "PowerAvgPool": Case(POWER, {"p": 2.5}, {"rho": ()}, of_rho),
    "LSEPool": Case(jaxpool.lse_pool, COLD, {"log_temperature": ()}, of_logarithm),
    "GlobalLSEPool": Case(
        jaxpool.global_lse_pool, COLD, {"log_temperature": ()}, of_logarithm, ROWS
    ),
    "MixedPool": Case(jaxpool.mixed_pool, {"alpha": 0.25}, {"alpha": ()}, same),
    "AdaPool": Case(jaxpool.ada_pool, {"beta": 0.25}, {"beta": ()}, same),
    "RankPool": Case(jaxpool.rank_pool, {}, {"weights": (6,)}, same, at_start=AVERAGE),
    "GatedPool": Case(
        jaxpool.gated_pool, {}, {"gate": (6,)}, same, at_start=jaxpool.mixed_pool
    ),
    "TreePool": Case(
        jaxpool.tree_pool, {}, {"leaves": (2, 6), "gates": (1, 6)}, same, drawn=True
    ),
    "DPP": Case(
        jaxpool.detail_preserving_pool,
        {},
        {"log_alpha": (), "log_lam": ()},
        of_logarithms,
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
features = pytest.mark.parametrize("features", [None, 3])


def both(name, features=None, **options):
    """The layer of either system with the options of LAYERS."""
    case = LAYERS[name]
    options = {**case.fixed, **case.start, "features": features} | options
    rngs = {"rngs": nnx.Rngs(0)} if case.drawn else {}
    of_nnx = getattr(jaxpool.nnx, name)(**options, **rngs)
    return of_nnx, getattr(jaxpool.linen, name)(**options)


def shapes(name, features):
    more = () if features is None else (features,)
    return {k: (*head, *more) for k, head in LAYERS[name].parameters.items()}


@every_layer
@features
def test_both_systems_equal_the_function(name, features, key):
    case = LAYERS[name]
    of_nnx, of_linen = both(name, features)
    y, variables = of_linen.init_with_output(key, X)
    values = variables.pop("params")
    assert not variables
    assert jax.tree.map(jnp.shape, values) == shapes(name, features)
    if case.drawn:
        copy_to_nnx(of_nnx, {"params": values})
    jax.tree.map(np.testing.assert_array_equal, by_name(of_nnx), values)
    np.testing.assert_array_equal(of_nnx(X), y)
    expected = case.function(X, **case.fixed, **case.option(**values))
    np.testing.assert_allclose(y, expected, 1e-6)
    if case.at_start is not None:
        expected = case.at_start(X, **case.fixed)
    elif not case.drawn:  # the parameter starts at the option
        expected = case.function(X, **case.fixed, **case.start)
    np.testing.assert_allclose(y, expected, 1e-5)


@every_layer
def test_gradients_of_the_parameters(name, key):
    case = LAYERS[name]
    of_nnx, of_linen = both(name, 3)
    variables = of_linen.init(key, X)
    copy_to_nnx(of_nnx, variables)

    @nnx.jit
    def gradients(layer, variables):
        loss = jax.grad(lambda v: (of_linen.apply(v, X) ** 2).sum())
        return nnx.grad(lambda layer: (layer(X) ** 2).sum())(layer), loss(variables)

    of_nnx, found = gradients(of_nnx, variables)
    of_nnx, got = nnx.to_pure_dict(of_nnx), found["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), of_nnx, got)
    values = jax.tree.map(np.float64, variables["params"])

    def at(values):
        y = case.function(X.astype(np.float64), **case.fixed, **case.option(**values))
        return (y**2).sum()

    with jax.enable_x64(True):
        loss = jax.jit(jax.vmap(at))
        for parameter, value in values.items():
            steps = 1e-5 * np.eye(value.size).reshape(value.size, *value.shape)
            count = value.size
            others = jax.tree.map(lambda v, n=count: np.stack([v] * n), values)
            up, down = (
                loss(others | {parameter: value + way * steps}) for way in (1, -1)
            )
            slopes = ((up - down) / 2e-5).reshape(value.shape)
            np.testing.assert_allclose(got[parameter], slopes, 2e-3, 1e-3)


@every_layer
def test_dtypes_and_masks(name):
    layer, _ = both(name, 3, param_dtype=jnp.bfloat16)
    state = jax.tree.leaves(nnx.state(layer))
    assert [leaf.dtype for leaf in state] == [jnp.bfloat16] * len(
        LAYERS[name].parameters
    )
    layer, _ = both(name, 3)
    assert jax.eval_shape(layer, X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    where = np.ones(X.shape, bool)
    where[:, 1] = False

    @nnx.jit
    @functools.partial(nnx.value_and_grad, has_aux=True)
    def loss(layer, x):
        y = layer(x, where=where)
        return y.sum(), y

    (_, dirty), gradient = loss(layer, np.where(where, X, np.float32(np.nan)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    (_, clean), _ = loss(layer, np.where(where, X, np.float32(7)))
    np.testing.assert_array_equal(dirty, clean)


@every_layer
def test_trains_in_nnx(name):
    """A layer finds the parameters behind the data, starting from others."""
    layer, _ = both(name)
    behind = nnx.clone(layer)
    nnx.update(behind, jax.tree.map(lambda p: p + 0.4, nnx.state(behind)))
    target = behind(X)
    optimizer = nnx.Optimizer(layer, optax.adam(0.03), wrt=nnx.Param)

    @nnx.jit
    def step(layer, optimizer):
        def loss(layer):
            return ((layer(X) - target) ** 2).mean()

        value, gradient = nnx.value_and_grad(loss)(layer)
        optimizer.update(layer, gradient)
        return value

    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        losses = [float(step(layer, optimizer)) for _ in range(100)]
    assert losses[-1] < 0.1 * losses[0]


@every_layer
def test_in_models(name, key):
    of_nnx, of_linen = both(name)
    assert name in nnx.tabulate(of_nnx, X)
    assert name in of_linen.tabulate(key, X, console_kwargs={"width": 200})
    model = linen.Sequential([jnp.abs, of_linen])
    y, variables = model.init_with_output(key, X)
    copy_to_nnx(of_nnx, {"params": variables["params"]["layers_1"]})
    np.testing.assert_array_equal(nnx.Sequential(jnp.abs, of_nnx)(X), y)
    graphdef, state = nnx.split(of_nnx)
    np.testing.assert_array_equal(nnx.merge(graphdef, state)(X), of_nnx(X))


def test_wrong_starts(key):
    with pytest.raises(ValueError, match=r"`p` must be above 1, got 1\.0"):
        jaxpool.nnx.PowerAvgPool((2,), p=1.0)
    with pytest.raises(ValueError, match=r"`temperature` must be positive, got 0"):
        jaxpool.nnx.LSEPool((2,), temperature=0)
    layer = jaxpool.nnx.GeMPool((2,), features=2)
    with pytest.raises(ValueError, match=r"`p` must be a number or broadcast to"):
        layer(X[0])
    for system in (jaxpool.nnx, jaxpool.linen):
        for name, option in {
            "LSE": "temperature",
            "Mixed": "alpha",
            "Ada": "beta",
        }.items():
            pool = getattr(system, f"{name}Pool")
            with pytest.raises(TypeError, match=f"`{option}` must be a number or an"):
                run(pool((2,), **{option: "a"}), X)
            with pytest.raises(ValueError, match=f"`{option}` must be a number or br"):
                run(pool((2,), **{option: np.ones(2)}), X)
        with pytest.raises(ValueError, match=r"`p` must be positive, got -1"):
            run(system.GeMPool((2,), p=-1), X)
    for system in (jaxpool.nnx, jaxpool.linen):
        with pytest.raises(TypeError, match=r"`window_shape` must be .* got 2"):
            run(system.GatedPool(2), X)
    with pytest.raises(ValueError, match=r"`levels` must be at least 2, got 1"):
        jaxpool.nnx.TreePool((2,), levels=1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"`features` must be None where `output_sha"):
        jaxpool.nnx.AdaPool((2,), features=3, output_shape=(3, 2))
    with pytest.raises(ValueError, match="`form` must be one of lite, full, got"):
        jaxpool.nnx.DPP((2,), form="light")
    for system in (jaxpool.nnx, jaxpool.linen):
        with pytest.raises(ValueError, match=r"`features` must be given where `form`"):
            system.DPP((2,), form="full")
        with pytest.raises(ValueError, match=r"`axes` must be None where `form` is"):
            system.DPP((2,), form="full", features=3, axes=(1,))
    with pytest.raises(ValueError, match=r"`rngs` must be given where `form` is"):
        jaxpool.nnx.DPP((2,), form="full", features=3)


def test_starts_per_channel():
    start = (2.0, 3.0)
    layer = jaxpool.nnx.LSEPool((2,), temperature=start, features=2)
    np.testing.assert_allclose(layer.log_temperature[...], np.log(start), 1e-6)
    layer = jaxpool.nnx.PowerAvgPool((2,), p=start, features=2)
    np.testing.assert_allclose(1 + np.log1p(np.exp(layer.rho[...])), start, 1e-6)


# --- What single layers have of their own ---------------------------------------------


def run(layer, x, **more):
    """The output of a layer of either system, at its start."""
    if isinstance(layer, linen.Module):
        return layer.init_with_output(jax.random.key(0), x, **more)[0]
    return layer(x, **more)


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_levels_of_a_tree(levels, key):
    options = {"window_shape": (2, 3), "levels": levels}
    of_nnx = by_name(jaxpool.nnx.TreePool(**options, rngs=nnx.Rngs(0)))
    count = 2 ** (levels - 1)
    expected = {"leaves": (count, 6), "gates": (count - 1, 6)}
    assert jax.tree.map(jnp.shape, of_nnx) == expected
    of_linen = jax.eval_shape(jaxpool.linen.TreePool(**options).init, key, X)
    assert jax.tree.map(jnp.shape, of_linen["params"]) == expected


def test_tree_pool_starts_with_small_numbers(key):
    given = jax.nn.initializers.ones
    options = {"window_shape": (3, 3), "features": 500, "gates_init": given}
    of_nnx = by_name(jaxpool.nnx.TreePool(**options, rngs=nnx.Rngs(0)))
    init = jax.jit(jaxpool.linen.TreePool(**options).init)
    of_linen = init(key, jnp.ones((3, 3, 500)))
    for found in (of_nnx, of_linen["params"]):
        assert found["leaves"].shape == (2, 9, 500)
        assert 0.095 < found["leaves"].std() < 0.105
        np.testing.assert_array_equal(found["gates"], np.ones((1, 9, 500)))


@pytest.mark.parametrize("axes", [None, (2, 1), (0, 2)])
def test_ada_pool_for_each_position(axes, key):
    options = {"window_shape": (2, 1), "axes": axes, "output_shape": (3, 4)}
    x = X if axes is None else np.moveaxis(X, (1, 2), axes)
    of_linen = jaxpool.linen.AdaPool(**options)
    y, variables = of_linen.init_with_output(key, x)
    assert variables["params"]["beta"].shape == (3, 4)
    np.testing.assert_allclose(y, jaxpool.ada_pool(x, 0.5, (2, 1), axes=axes), 1e-6)
    beta = np.linspace(-0.2, 1.2, 12, dtype=np.float32).reshape(3, 4)
    of_nnx = jaxpool.nnx.AdaPool(**options)
    copy_to_nnx(of_nnx, {"params": {"beta": beta}})
    got = of_nnx(x)
    np.testing.assert_array_equal(of_linen.apply({"params": {"beta": beta}}, x), got)
    if axes is not None:
        got = np.moveaxis(got, axes, (1, 2))
    expected = jaxpool.ada_pool(X, beta.clip(0, 1)[..., None], (2, 1))
    np.testing.assert_allclose(got, expected, 1e-6)


def test_asymmetric_dpp():
    options = {"window_shape": (2, 2), "symmetric": False, "normalize": False}

    @jax.jit
    def outputs(x):
        layers = [system.DPP(**options) for system in (jaxpool.nnx, jaxpool.linen)]
        expected = jaxpool.detail_preserving_pool(x, **options)
        return expected, [run(layer, x) for layer in layers]

    expected, got = outputs(X)
    for y in got:
        np.testing.assert_allclose(y, expected, 1e-6)


# Window, and the padding of the authors' convolution where there is one.
FULL = {
    "paper": ({"window_shape": (2, 2)}, ((1, 0), (1, 0))),
    "wide": (
        {"window_shape": (3, 2), "strides": (2, 1), "padding": ((1, 0), (0, 1))},
        ((1, 0), (1, 1)),
    ),
    "ceil": (
        {"window_shape": (4, 2), "dilation": (1, 2), "ceil_mode": True},
        ((0, 1), (0, 1)),
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_full_dpp(name, key):
    window, padding = FULL[name]
    options = window | {"features": 3, "form": "full"}
    of_linen = jaxpool.linen.DPP(**options)
    variables = jax.jit(of_linen.init)(key, X)
    parameters = variables["params"]
    assert jax.tree.map(jnp.shape, parameters) == {
        "log_alpha": (3,),
        "log_lam": (3,),
        "reference": {"kernel": (3, 3, 1, 3), "bias": (3,)},
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) == 12 * 3
    parameters["reference"]["bias"] += 0.5
    of_nnx = jaxpool.nnx.DPP(**options, rngs=nnx.Rngs(0))
    copy_to_nnx(of_nnx, variables)

    @nnx.jit
    def outputs(layer, variables):
        reference = jax.lax.conv_general_dilated(
            X,
            variables["params"]["reference"]["kernel"],
            window.get("strides", window["window_shape"]),
            padding,
            feature_group_count=3,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        pool = functools.partial(jaxpool.detail_preserving_pool, X, **window)
        expected = pool(reference=reference + np.float32(0.5))
        return layer(X), of_linen.apply(variables, X), expected

    y, y_of_linen, expected = outputs(of_nnx, variables)
    np.testing.assert_allclose(y, expected, 1e-5)
    np.testing.assert_allclose(y_of_linen, expected, 1e-5)


def test_gradients_of_full_dpp():
    layer = jaxpool.nnx.DPP((2, 2), features=3, form="full", rngs=nnx.Rngs(0))
    found = nnx.jit(nnx.grad(lambda layer: (layer(X) ** 2).sum()))(layer)
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(found))


def test_full_dpp_under_a_mask():
    layer = jaxpool.nnx.DPP((2, 2), features=3, form="full", rngs=nnx.Rngs(0))
    where = np.arange(6)[:, None, None] != 2
    dirty = np.where(where, X, np.float32(np.nan))
    loss = nnx.grad(lambda layer, x: layer(x, where=where).sum(), argnums=(0, 1))
    gradient = nnx.jit(loss)(layer, dirty)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert jax.eval_shape(layer, X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
