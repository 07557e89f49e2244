"""Layers of convolutions: local importance pooling, and the blocks of strip pooling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parity import by_name, copy_to_nnx

import jaxpool
import jaxpool.linen
import jaxpool.nnx

FEATURES = 8
X = np.random.default_rng(0).normal(size=(2, 7, 6, FEATURES)).astype(np.float32)
LIPS = ["SimplifiedLIP", "LIP"]
STRIPS = ["SPBlock", "StripPooling"]
OPTIONS = {"LIP": {"width": 5}, "StripPooling": {"sizes": (4, 3)}}

every_layer = pytest.mark.parametrize("name", LIPS + STRIPS)
strips = pytest.mark.parametrize("name", STRIPS)


def of_nnx(name, **more):
    options = OPTIONS.get(name, {}) | {"rngs": nnx.Rngs(0)} | more
    return getattr(jaxpool.nnx, name)(FEATURES, **options)


def of_linen(name, **more):
    more |= {"use_running_average": False} if name in STRIPS else {}
    return getattr(jaxpool.linen, name)(**OPTIONS.get(name, {}), **more)


def moved(name):
    """A layer of either system, with the same variables away from where they start."""
    layer = nnx.eval_shape(lambda: of_nnx(name))
    abstract = jax.eval_shape(of_linen(name).init, jax.random.key(0), X)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda v: rng.uniform(0.1, 1, v.shape).astype(v.dtype), abstract
    )
    variables["params"] = jax.tree.map(
        lambda v: v * rng.choice(np.float32([-1, 1]), v.shape), variables["params"]
    )
    copy_to_nnx(layer, variables)
    return layer, of_linen(name), variables


run = nnx.jit(lambda layer, x: layer(x))


# --- The definitions ------------------------------------------------------------------


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normed(x, part, axes):
    """A convolution and its norm over `axes`."""
    x = convolve(x, part["conv"]["kernel"])
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    norm = part["norm"]
    scale, bias = norm["scale"][None, None, None], norm["bias"][None, None, None]
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def lip(x, logits):
    weights = jnp.exp(12 * jax.nn.sigmoid(logits))
    mean = functools.partial(jaxpool.avg_pool, window_shape=(3, 3), strides=2)
    return mean(x * weights, padding=1) / mean(weights, padding=1)


def simplified_lip(x, parts):
    return lip(x, normed(x, parts["logit"], (1, 2)))


def bottleneck_lip(x, parts):
    norm, relu = functools.partial(normed, axes=(1, 2)), jax.nn.relu
    hidden = relu(norm(relu(norm(x, parts["reduce"])), parts["mix"]))
    return lip(x, norm(hidden, parts["logit"]))


def gate_of_strips(x, parts):
    norm = functools.partial(normed, axes=(0, 1, 2))
    rows = norm(x.mean(2, keepdims=True), parts["rows"])
    columns = norm(x.mean(1, keepdims=True), parts["columns"])
    gate = convolve(jax.nn.relu(rows + columns), parts["gate"]["kernel"])
    return x * jax.nn.sigmoid(gate + parts["gate"]["bias"][None, None, None])


def strip_pooling(x, parts):
    def norm(name, x):
        return normed(x, parts[name], (0, 1, 2))

    relu, seen = jax.nn.relu, []
    near = relu(norm("local_in", x))
    seen.append(norm("local", near))
    for name, size in (("pool0", 4), ("pool1", 3)):
        pooled = norm(name, jaxpool.adaptive_avg_pool(near, (size, size)))
        seen.append(enlarge(enlarge(pooled, 1, 7), 2, 6))
    near = relu(norm("local_out", relu(seen[0] + seen[1] + seen[2])))
    far = relu(norm("strip_in", x))
    rows = norm("rows", far.mean(2, keepdims=True))
    columns = norm("columns", far.mean(1, keepdims=True))
    far = relu(norm("strip_out", relu(rows + columns)))
    return relu(x + norm("out", jnp.concatenate([near, far], -1)))


def enlarge(x, axis, size):
    """Linear interpolation between the middles of pixels."""
    old = x.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    matrix = np.maximum(1 - np.abs(at[:, None] - np.arange(old)), 0)
    y = jnp.tensordot(x, matrix.astype(np.float32), [[axis], [1]])
    return jnp.moveaxis(y, -1, axis)


DEFINITIONS = {
    "SimplifiedLIP": simplified_lip,
    "LIP": bottleneck_lip,
    "SPBlock": gate_of_strips,
    "StripPooling": strip_pooling,
}


@every_layer
def test_both_systems_equal_the_definition(name):
    layer, module, variables = moved(name)
    expected = jax.jit(DEFINITIONS[name])(X, variables["params"])

    @nnx.jit
    @functools.partial(nnx.grad, argnums=(0, 1), has_aux=True)
    def gradients(layer, x):
        y = layer(x)
        return (y**3).sum(), y

    found, y = gradients(layer, X)
    np.testing.assert_allclose(y, expected, 1e-4, 1e-5)
    # They reach x and every parameter.
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(found))
    apply = jax.jit(functools.partial(module.apply, mutable=["batch_stats"]))
    y_of_linen, changed = apply(variables, X)
    np.testing.assert_allclose(y_of_linen, y, 1e-6, 1e-6)
    if name in STRIPS:  # the averages that were learned are the same, too
        statistics = by_name(layer, "batch_stats")
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-7),
            statistics,
            changed["batch_stats"],
        )
        mean = variables["batch_stats"]["rows"]["norm"]["mean"]
        assert (statistics["rows"]["norm"]["mean"] != mean).all()


@pytest.mark.parametrize(
    "name, features, expected",
    [
        ("SimplifiedLIP", 64, 36_992),
        ("LIP", 256, 214_016),
        ("LIP", 512, 280_064),
        ("SPBlock", 256, 460_032),
        ("StripPooling", 1024, 4_397_568),
    ],
)
def test_numbers_of_parameters(name, features, expected):
    def sizes(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    make = getattr(jaxpool.nnx, name)
    layer = nnx.eval_shape(lambda: make(features, rngs=nnx.Rngs(0)))
    assert sizes(nnx.state(layer, nnx.Param)) == expected
    x = jax.ShapeDtypeStruct((1, 4, 4, features), jnp.float32)
    more = {"use_running_average": True} if name in STRIPS else {}
    module = getattr(jaxpool.linen, name)(**more)
    found = jax.eval_shape(module.init, jax.random.key(0), x)
    assert sizes(found["params"]) == expected


@every_layer
@jax.numpy_dtype_promotion("standard")  # Flax's norms rely on it
def test_dtypes(name, key):
    float32, bfloat16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)
    for dtype, param_dtype, x in (
        (None, float32, X.astype(bfloat16)),
        (bfloat16, float32, X.astype(bfloat16)),
        (bfloat16, bfloat16, X),
    ):
        options = {"dtype": dtype, "param_dtype": param_dtype}
        init = of_linen(name, **options).init_with_output
        y, variables = jax.eval_shape(init, key, x)
        layer = nnx.eval_shape(lambda options=options: of_nnx(name, **options))
        graphdef, state = nnx.split(layer)
        params = (variables["params"], nnx.state(layer, nnx.Param))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {param_dtype}
        of_state = jax.make_jaxpr(lambda s, x, g=graphdef: nnx.merge(g, s)(x))
        jaxpr = of_state(state, x)
        assert y.dtype == jaxpr.out_avals[0].dtype == x.dtype
        inside = {
            eqn.outvars[0].aval.dtype
            for eqn in jaxpr.eqns
            if eqn.primitive.name == "conv_general_dilated"
        }
        assert inside == {bfloat16 if dtype else float32}


@every_layer
def test_in_models(name, key):
    layer, module, _ = moved(name)
    assert layer.__doc__ == module.__doc__
    assert name in module.tabulate(key, X, console_kwargs={"width": 200})
    assert module == of_linen(name) and hash(module) == hash(of_linen(name))
    graphdef, state = nnx.split(layer)
    np.testing.assert_array_equal(run(nnx.merge(graphdef, state), X), run(layer, X))


# --- Local importance pooling ---------------------------------------------------------


@pytest.mark.parametrize(
    "name, window",
    [
        ("LIP", {}),
        ("SimplifiedLIP", {}),
        ("SimplifiedLIP", {"window_shape": (2,), "padding": 0}),
    ],
)
def test_lip_starts_as_the_average(name, window, key):
    options = {"window_shape": (3, 3), "strides": 2, "padding": 1} | window
    expected = jaxpool.avg_pool(X, **options, count_include_pad=False)

    @jax.jit
    def start(x):
        y, _ = of_linen(name, **window).init_with_output(key, x)
        return y, of_nnx(name, **window)(x)

    for y in start(X):
        np.testing.assert_allclose(y, expected, 1e-5, 1e-6)


def test_lip_takes_any_number_of_batch_axes():
    layer, _, _ = moved("SimplifiedLIP")
    y = run(layer, X)
    np.testing.assert_allclose(run(layer, X[None, :]), y[None], 1e-5, 1e-5)
    np.testing.assert_allclose(run(layer, X[1]), y[1], 1e-5, 1e-5)


# --- Batch norm -----------------------------------------------------------------------


@strips
def test_running_averages(name):
    layer, module, variables = moved(name)
    before = by_name(layer, "batch_stats")
    layer.eval()
    fixed = run(layer, X)
    apply = jax.jit(module.clone(use_running_average=True).apply)
    np.testing.assert_allclose(apply(variables, X), fixed, 1e-5, 1e-6)
    after = by_name(layer, "batch_stats")
    jax.tree.map(np.testing.assert_array_equal, before, after)
    layer.train()
    view = nnx.view(layer, use_running_average=True)
    np.testing.assert_array_equal(run(view, X), fixed)
    assert jnp.abs(run(layer, X) - fixed).max() > 0.01
    copy_to_nnx(layer, variables)
    given = nnx.jit(lambda layer, x: layer(x, use_running_average=True))(layer, X)
    np.testing.assert_allclose(given, fixed, 1e-5, 1e-6)


@strips
def test_linen_wants_to_know_what_to_average(name, key):
    module = of_linen(name).clone(use_running_average=None)
    with pytest.raises(ValueError, match="use_running_average"):
        module.init(key, X)
    assert jax.eval_shape(
        functools.partial(module.init, use_running_average=True), key, X
    )


def test_strip_pooling_needs_four_channels(key):
    with pytest.raises(ValueError, match="at least 4 channels, got 3"):
        jaxpool.nnx.StripPooling(3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="at least 4 channels, got 3"):
        of_linen("StripPooling").init(key, X[..., :3])
