"""Layers that pool by importance from convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_blocks import build, moved
from transforms import QUICK

import jaxpool
import jaxpool.linen
import jaxpool.nnx

X = np.random.default_rng(0).normal(size=(2, 7, 6, 8)).astype(np.float32)


# --- The definitions ------------------------------------------------------------------


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normed(x, part):
    """A convolution, and its norm over space."""
    x = convolve(x, part["conv"]["kernel"])
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    norm = part["norm"]
    scale, bias = norm["scale"][None, None, None], norm["bias"][None, None, None]
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def lip(x, logits):
    weights = jnp.exp(12 * jax.nn.sigmoid(logits))
    mean = functools.partial(jaxpool.avg_pool, window_shape=(3, 3), strides=2)
    return mean(x * weights, padding=1) / mean(weights, padding=1)


def simplified_lip(x, parts):
    return lip(x, normed(x, parts["logit"]))


def bottleneck_lip(x, parts):
    relu = jax.nn.relu
    hidden = relu(normed(relu(normed(x, parts["reduce"])), parts["mix"]))
    return lip(x, normed(hidden, parts["logit"]))


@pytest.mark.parametrize(
    "name, definition", [("SimplifiedLIP", simplified_lip), ("LIP", bottleneck_lip)]
)
def test_both_systems_equal_the_definition(name, definition):
    layer, module, variables = moved(name)
    graphdef, state = nnx.split(layer)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(state, variables, x):
        def loss(layer, x):
            y = layer(x)
            return (y**3).sum(), y

        grad = nnx.grad(loss, argnums=(0, 1), has_aux=True)
        gradients, y = grad(nnx.merge(graphdef, state), x)
        expected = definition(x, variables["params"])
        return gradients, y, module.apply(variables, x), expected

    gradients, y, y_of_linen, expected = run(state, variables, X)
    np.testing.assert_allclose(y, expected, 1e-4, 1e-5)
    np.testing.assert_allclose(y_of_linen, y, 1e-5, 1e-5)
    # They reach x and every parameter.
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradients))


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

    @functools.partial(jax.jit, compiler_options=QUICK)
    def start(x):
        y, _ = build(name, "linen", **window).init_with_output(key, x)
        return y, build(name, "nnx", **window)(x)

    for y in start(X):
        np.testing.assert_allclose(y, expected, 1e-5, 1e-6)


def test_lip_takes_any_number_of_batch_axes():
    layer, _, _ = moved("SimplifiedLIP")
    graphdef, state = nnx.split(layer)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(state, x):
        layer = nnx.merge(graphdef, state)
        return layer(x), layer(x[None, :]), layer(x[1])

    y, more, less = run(state, X)
    np.testing.assert_allclose(more, y[None], 1e-5, 1e-5)
    np.testing.assert_allclose(less, y[1], 1e-5, 1e-5)
