"""Products, norms and softmax of vectors, safe where there is nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._engine import without

# Sums of products at full precision on every platform.
einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)


def unit(x: jax.Array) -> jax.Array:
    """Vectors, along the last axis, with norm 1; 0 for 0."""
    tiny = np.asarray(1e-24, x.dtype)
    return x * lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), tiny))


def softmax(logits: jax.Array, valid: jax.Array) -> jax.Array:
    """The softmax over the last axis of what is valid; 0 where nothing is."""
    low = np.asarray(-np.inf, logits.dtype)
    level = jnp.where(valid, logits, low).max(-1, keepdims=True, initial=low)
    level = lax.stop_gradient(level)
    level = without(level, jnp.isfinite(level))
    weights = without(jnp.exp(without(logits - level, valid)), valid)
    total = weights.sum(-1, keepdims=True)
    return weights / jnp.where(total > 0, total, np.ones((), total.dtype))
