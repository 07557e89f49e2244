"""Pools of sets and sequences of tokens, by attention and by clusters.

Letters: `N` tokens, in no order that matters.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._check import check_bool, check_float, check_parameter, check_where
from ._engine import widen, without
from ._vectors import einsum, softmax, unit


def attention_pool(
    queries: ArrayLike,
    keys: ArrayLike,
    values: ArrayLike,
    *,
    where: ArrayLike | None = None,
    scale: float | ArrayLike | None = None,
) -> jax.Array:
    """Averages tokens with weights by the softmax of their keys' likeness to queries.

    `y[q] = sum_n w[q, n] v[n]`, `w[q] = softmax_n(scale <q, k[n]>)` over the tokens
    that take part; without any, 0. In float32 at least. The heads of multi-head
    attention are a batch axis. The plain average of tokens is
    `global_avg_pool(x, axes=(-2,), where=mask[..., None])`.

    Args:
      queries: `(*batch, Q, D)`, of any real dtype.
      keys: `(*batch, N, D)`.
      values: `(*batch, N, V)`.
      where: boolean, broadcastable to `(*batch, N)`; tokens with False take no part,
        whatever they hold.
      scale: a number, or a scalar array that may be learned; by default `1 / sqrt(D)`.

    Returns:
      `(*batch, Q, V)`, with the dtype of values; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> keys = values = jnp.array([[0.0], [1.0], [50.0]])
      >>> y = jaxpool.attention_pool(jnp.array([[0.0], [9.0]]), keys, values)[:, 0]
      >>> [round(v, 3) for v in y.tolist()]
      [17.0, 50.0]

    References:
      Vaswani et al., "Attention Is All You Need", 2017,
      https://arxiv.org/abs/1706.03762, equation 1; Lee et al., "Set Transformer", 2019,
      https://arxiv.org/abs/1810.00825 (as a pool, with learned queries).
    """
    queries, keys = check_float("queries", queries), check_float("keys", keys)
    values = check_float("values", values)
    _check_tokens(queries, keys, values)
    valid = check_where(where, keys.shape[:-1])
    if scale is None:
        scale = 1 / math.sqrt(keys.shape[-1])
    finite = "be finite", np.isfinite
    factor = check_parameter("scale", scale, (), widen(values).dtype, *finite)
    with jax.named_scope("jaxpool.attention_pool"):
        q, k, v = widen(queries), widen(keys), widen(values)
        dtype = jnp.result_type(q, k, v)
        if valid is None:
            valid = jnp.ones((1,) * (k.ndim - 1), bool)
        valid = valid[..., None]
        k, v = without(k, valid), without(v, valid)
        logits = einsum("...qd,...nd->...qn", q.astype(dtype), k.astype(dtype))
        logits *= factor.astype(dtype)
        weights = softmax(logits, jnp.swapaxes(valid, -1, -2))
        y = einsum("...qn,...nv->...qv", weights, v.astype(dtype))
        return y.astype(values.dtype)


def netvlad(
    x: ArrayLike,
    centers: ArrayLike,
    weights: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    normalize_input: bool = True,
) -> jax.Array:
    """Adds up the residuals of tokens to the centres of clusters.

    `V[k] = sum_n a[n, k] (x[n] - c[k])`, `a[n] = softmax_k(W^T x[n] + b)`, the soft
    assignment of a token to the clusters. Tokens are first divided by their norms; each
    `V[k]` is divided by its norm, and at last the whole. An empty cluster gives 0.

    With `W = 2 alpha c^T` and `b = -alpha |c|^2` the assignment is the paper's softmax
    of squared distances, `exp(-alpha |x - c|^2)`, which starts its training there; `W`,
    `b` and `c` are free of each other.

    Args:
      x: `(*batch, N, D)`, of any real dtype.
      centers: c, `(K, D)`.
      weights: W, `(D, K)`.
      bias: b, `(K,)`; None means 0.
      where: boolean, broadcastable to `(*batch, N)`; tokens with False take no part,
        whatever they hold.
      normalize_input: whether tokens are divided by their norms.

    Returns:
      `(*batch, K D)`, with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
      >>> centers = jnp.eye(2)
      >>> y = jaxpool.netvlad(x, centers, 1000 * centers)
      >>> [round(v, 3) for v in y.tolist()]
      [0.0, 0.0, 0.949, -0.316]

    References:
      Arandjelović, Gronat, Torii, Pajdla, Sivic, "NetVLAD", 2016,
      https://arxiv.org/abs/1511.07247, equations 1 to 4.
    """
    x, centers = check_float("x", x), check_float("centers", centers)
    weights = check_float("weights", weights)
    check_bool("normalize_input", normalize_input)
    if x.ndim < 2:
        raise ValueError(f"`x` must have tokens and channels, got shape {x.shape}")
    k, d = centers.shape if centers.ndim == 2 else (0, 0)
    if d != x.shape[-1]:
        raise ValueError(
            f"`centers` must have shape (K, {x.shape[-1]}) for x with shape {x.shape}, "
            f"got shape {centers.shape}"
        )
    if weights.shape != (d, k):
        raise ValueError(f"`weights` must have shape {(d, k)}, got {weights.shape}")
    bias = jnp.zeros(k, weights.dtype) if bias is None else check_float("bias", bias)
    if bias.shape != (k,):
        raise ValueError(f"`bias` must have shape {(k,)}, got {bias.shape}")
    valid = check_where(where, x.shape[:-1])
    with jax.named_scope("jaxpool.netvlad"):
        tokens = widen(x)
        if valid is not None:
            tokens = without(tokens, valid[..., None])
        centers, weights, bias = (
            t.astype(tokens.dtype) for t in (centers, weights, bias)
        )
        if normalize_input:
            tokens = unit(tokens)
        logits = einsum("...nd,dk->...nk", tokens, weights)
        assigned = jax.nn.softmax(logits + jnp.broadcast_to(bias, logits.shape))
        if valid is not None:
            assigned = without(assigned, valid[..., None])
        total = assigned.sum(-2)[..., None]
        residuals = einsum("...nk,...nd->...kd", assigned, tokens)
        residuals -= total * centers.reshape((1,) * (total.ndim - 2) + centers.shape)
        found = unit(residuals)
        *batch, clusters, features = found.shape
        return unit(found.reshape(*batch, clusters * features)).astype(x.dtype)


# --- Helpers --------------------------------------------------------------------------


def _check_tokens(queries, keys, values):
    for name, array in (("queries", queries), ("keys", keys), ("values", values)):
        if array.ndim < 2:
            raise ValueError(f"`{name}` must have two axes at least, got {array.shape}")
    if queries.shape[-1] != keys.shape[-1]:
        raise ValueError(
            f"`queries` and `keys` must have as many channels, got shapes "
            f"{queries.shape} and {keys.shape}"
        )
    if keys.shape[:-1] != values.shape[:-1]:
        raise ValueError(
            f"`keys` and `values` must have the same tokens, got shapes {keys.shape} "
            f"and {values.shape}"
        )
    if queries.shape[:-2] != keys.shape[:-2]:
        raise ValueError(
            f"`queries` and `keys` must have the same batch, got shapes "
            f"{queries.shape} and {keys.shape}"
        )
