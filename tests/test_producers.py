"""Gradients of pools behind elementwise functions.

XLA computes such a function anew in every loop that uses it, and may round it
differently each time: an element must be found again all the same.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpool

# As outside of tests: what rounds differently is optimised code.
jit = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 3,
        "xla_llvm_disable_expensive_passes": False,
    },
)
RNG = np.random.default_rng(0)
X, SCALE, BIAS = (
    RNG.normal(size=size).astype(np.float32)
    for size in [(2, 24, 24, 16), (1, 1, 1, 16), (1, 1, 1, 16)]
)


def normalised(x):
    mean, variance = (f(x, (1, 2), keepdims=True) for f in (jnp.mean, jnp.var))
    return (x - mean) * jax.lax.rsqrt(variance + np.float32(1e-5)) * SCALE + BIAS


def gated(x):
    return x * jax.nn.sigmoid(x)


FUNCTIONS = {"float32": normalised, "bfloat16": gated}
POOLS = {
    "max_pool 5x5/s1": lambda x: jaxpool.max_pool(x, (5, 5), strides=1, padding="SAME"),
    "max_pool 13x13/s1": lambda x: jaxpool.max_pool(x, (13, 13), strides=1),
    "median_pool 3x3/s2": lambda x: jaxpool.median_pool(x, (3, 3), strides=2),
    "adaptive_max_pool 7x7": lambda x: jaxpool.adaptive_max_pool(x, (7, 7)),
    "adaptive_max_pool 1x4": lambda x: jaxpool.adaptive_max_pool(x, (1, 4)),
    "global_max_pool": jaxpool.global_max_pool,
    "segment_max_pool": lambda x: jaxpool.segment_max_pool(
        x.reshape(-1, 16), np.arange(1152) // 50, num_segments=24
    ),
}


@pytest.mark.parametrize("dtype", FUNCTIONS)
def test_every_window_gives_its_gradient_to_one_of_its_largest(dtype):
    x, function = X.astype(dtype), FUNCTIONS[dtype]

    # Two programs as a reference, the second of which has the values in memory.
    u = jit(function)(x)
    pullback = jit(lambda x, g: jax.vjp(function, x)[1](g)[0])
    for name, pool in POOLS.items():
        g = np.ones(jax.eval_shape(pool, u).shape, dtype)
        by_u = jit(lambda u, g, f=pool: jax.vjp(f, u)[1](g)[0])(u, g)
        want = np.asarray(pullback(x, by_u), np.float32)

        def both(x, g, f=pool):
            return jax.vjp(lambda x: f(function(x)), x)[1](g)[0]

        got = np.asarray(jit(both)(x, g), np.float32)
        far = np.abs(got - want) > 0.02 * (1 + np.abs(want))
        assert far.mean() < 0.002, f"{name}: {far.mean():.1%} of the gradient"
