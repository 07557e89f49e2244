"""Graph pools by clusters: soft assignments of nodes, and the coarser graph they give.

Letters: dense graphs with features `x` `(*batch, N, C)` and adjacency `A`
`(*batch, N, N)`; an assignment `S` `(*batch, N, K)` of nodes to clusters, whose rows
add up to 1, and are 0 for nodes that take no part.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.typing import ArrayLike

from ._check import as_int, check_choice, check_float, check_parameter, check_where
from ._engine import widen, without
from ._vectors import einsum, softmax

Assignment = Literal["soft", "hard", "straight_through"]
Kernel = Literal["dot", "softmax"]


class GraphPool(NamedTuple):
    """A pooled graph, the assignment that pooled it, and losses to train with."""

    x: jax.Array  # (*batch, K, C)
    adjacency: jax.Array  # (*batch, K, K)
    assignment: jax.Array  # (*batch, N, K)
    losses: dict[str, jax.Array]  # (*batch,) each


export.register_namedtuple_serialization(GraphPool, serialized_name="jaxpool.GraphPool")


def diff_pool(
    x: ArrayLike,
    adjacency: ArrayLike,
    logits: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> GraphPool:
    """Pools a graph by a soft assignment of its nodes.

    `S = softmax(logits)`, `x' = S^T x`, `A' = S^T A S`. The losses are
    `link = |A - S S^T|_F / n^2` and `entropy = 1/n sum_i H(S[i])`, for each graph over
    its own `n` nodes: PyG takes one norm over the whole batch, padding included.

    Args:
      x: `(*batch, N, C)`, features, of any real dtype.
      adjacency: `(*batch, N, N)`, weights of edges.
      logits: `(*batch, N, K)`, from a graph network of their own in the paper.
      where: boolean, broadcastable to `(*batch, N)`; nodes with False take no part,
        nor do their edges, whatever they hold.

    Returns:
      A named tuple: `x` `(*batch, K, C)`, `adjacency` `(*batch, K, K)`, `assignment`
      `(*batch, N, K)`, and `losses`, a dict of `"link"` and `"entropy"`, `(*batch,)`
      each. All with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[1.0], [3.0], [5.0]])
      >>> path = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
      >>> logits = 99 * jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> pooled = jaxpool.diff_pool(x, path, logits)
      >>> pooled.x[:, 0], pooled.adjacency
      (Array([4., 5.], dtype=float32), Array([[2., 1.],
             [1., 0.]], dtype=float32))

    References:
      Ying, You, Morris, Ren, Hamilton, Leskovec, "Hierarchical Graph Representation
      Learning with Differentiable Pooling", 2018, https://arxiv.org/abs/1806.08804,
      equations 3, 4 and 6.
    """
    x, a, s, nodes, dtype = _graph(x, adjacency, logits, where)
    with jax.named_scope("jaxpool.diff_pool"):
        s = without(softmax(s, jnp.ones_like(s, bool)), nodes)
        count = _count(nodes, s.dtype)
        gap = a - without(einsum("...ik,...jk->...ij", s, s), _pairs(nodes))
        log = jnp.log(jnp.where(s > 0, s, np.ones((), s.dtype)))
        losses = {
            "link": _norm(gap) / (count * count),
            "entropy": -(s * log).sum((-2, -1)) / count,
        }
        return _pooled(x, a, s, losses, dtype)


def mincut_pool(
    x: ArrayLike,
    adjacency: ArrayLike,
    logits: ArrayLike,
    *,
    where: ArrayLike | None = None,
    temperature: float | ArrayLike = 1.0,
) -> GraphPool:
    """Pools a graph by a soft assignment that cuts few edges.

    `S = softmax(logits / temperature)`, `x' = S^T x`, and `A'` is `S^T A S` without its
    diagonal, entry `(i, j)` divided by the square roots of the sums of rows i and j.
    The losses are `cut = -tr(S^T A S) / tr(S^T D S)`, with the diagonal D of degrees,
    and `orthogonality = | S^T S / |S^T S|_F - I / sqrt(K) |_F`. A graph without edges
    has cut 0, and A' is 0 wherever a sum is not positive.

    Args:
      x: `(*batch, N, C)`, features, of any real dtype.
      adjacency: `(*batch, N, N)`, weights of edges, not negative.
      logits: `(*batch, N, K)`, from a dense layer in the paper.
      where: boolean, broadcastable to `(*batch, N)`; nodes with False take no part,
        nor do their edges, whatever they hold.
      temperature: divides the logits: a positive number, or a scalar array that may be
        learned.

    Returns:
      A named tuple: `x` `(*batch, K, C)`, `adjacency` `(*batch, K, K)`, `assignment`
      `(*batch, N, K)`, and `losses`, a dict of `"cut"` and `"orthogonality"`,
      `(*batch,)` each. All with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit, or `temperature` is not positive.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[1.0], [3.0], [5.0]])
      >>> path = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
      >>> logits = 99 * jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> pooled = jaxpool.mincut_pool(x, path, logits)
      >>> pooled.adjacency, pooled.losses["cut"]
      (Array([[0., 1.],
             [1., 0.]], dtype=float32), Array(-0.5, dtype=float32))

    References:
      Bianchi, Grattarola, Alippi, "Spectral Clustering with Graph Neural Networks for
      Graph Pooling", 2020, https://arxiv.org/abs/1907.00481, equations 5 to 8.
    """
    x, a, s, nodes, dtype = _graph(x, adjacency, logits, where)
    positive = "be positive", lambda t: t > 0
    divisor = check_parameter("temperature", temperature, (), s.dtype, *positive)
    with jax.named_scope("jaxpool.mincut_pool"):
        s = s / divisor
        s = without(softmax(s, jnp.ones_like(s, bool)), nodes)
        degree = a.sum(-1)
        kept = einsum("...ik,...ij,...jk->...", s, a, s)
        volume = einsum("...i,...ik,...ik->...", degree, s, s)
        square = einsum("...ik,...il->...kl", s, s)
        clusters = s.shape[-1]
        even = np.eye(clusters, dtype=s.dtype) / np.sqrt(clusters).astype(s.dtype)
        gap = _ratio(square, _norm(square)[..., None, None]) - jnp.broadcast_to(
            even, square.shape
        )
        losses = {"cut": -_ratio(kept, volume), "orthogonality": _norm(gap)}
        pooled = _pooled(x, a, s, losses, s.dtype)
        off = pooled.adjacency * (1 - _eye(pooled.adjacency))
        total = off.sum(-1)
        root = jnp.sqrt(jnp.where(total > 0, total, np.ones((), total.dtype)))
        inverse = without(1 / root, total > 0)
        off = off * inverse[..., None] * inverse[..., None, :]
        return _cast(pooled._replace(adjacency=off), dtype)


def struct_pool(
    x: ArrayLike,
    adjacency: ArrayLike,
    logits: ArrayLike,
    *,
    where: ArrayLike | None = None,
    iterations: int = 5,
    kernel: Kernel = "dot",
    hops: int | None = None,
    compatibility: ArrayLike | None = None,
    assignment: Assignment = "soft",
) -> GraphPool:
    """Pools a graph by the clusters of a conditional random field over its nodes.

    The field's energy is that of single nodes, `-logits[i, k]`, and of pairs, `w[i, j]
    m[k, l]` for nodes i and j in clusters k and l. Mean field inference starts from
    `Q = logits` and repeats

        P = softmax(Q)    M[i] = sum_j w[i, j] P[j] / sum_j w[i, j]    Q = logits - M m

    with the kernel `w[i, j] = <x[i], x[j]>`, 0 for i = j, and the compatibility `m`, by
    default `-I`: likely to be where its alike are. The assignment is
    `S = softmax(Q)`, and `x' = S^T x`, `A' = S^T A S` as in `diff_pool`.

    Differs from the authors' code: S is soft by default, theirs is one-hot by a
    comparison, which lets no gradient through to the field (and puts ties into several
    clusters; here the first). A row of w whose sum is 0 gives no message; with negative
    features the sum may be near 0 or negative, which `kernel="softmax"` avoids.

    Args:
      x: `(*batch, N, C)`, features, of any real dtype.
      adjacency: `(*batch, N, N)`, weights of edges.
      logits: `(*batch, N, K)`, the unary energies negated, from a graph network.
      where: boolean, broadcastable to `(*batch, N)`; nodes with False take no part,
        nor do their edges, whatever they hold.
      iterations: of mean field inference; with 0 it is `diff_pool`.
      kernel: `"dot"`, or `"softmax"` of the same over each row.
      hops: pairs further apart than so many edges have `w = 0`; None for no limit, the
        authors' default. Edges are the entries of `adjacency` that are not 0.
      compatibility: `(K, K)`, may be learned.
      assignment: `"soft"`, `"hard"` (one-hot, no gradient to the logits), or
        `"straight_through"` (one-hot, with the gradient of the soft one).

    Returns:
      A named tuple: `x` `(*batch, K, C)`, `adjacency` `(*batch, K, K)`, `assignment`
      `(*batch, N, K)`, and `losses`, empty: the field is trained by what follows. All
      with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> path = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
      >>> logits = jnp.array([[9.0, 0.0], [0.0, 0.0], [0.0, 9.0]])
      >>> jaxpool.struct_pool(x, path, logits).assignment.round(2)
      Array([[1.  , 0.  ],
             [0.73, 0.27],
             [0.  , 1.  ]], dtype=float32)

    References:
      Yuan, Ji, "StructPool: Structured Graph Pooling via Conditional Random Fields",
      2020, https://openreview.net/forum?id=BJxg_hVtwH, equations 3 to 7, algorithm 1.
    """
    check_choice("kernel", kernel, ("dot", "softmax"))
    check_choice("assignment", assignment, ("soft", "hard", "straight_through"))
    if as_int("iterations", iterations) < 0:
        raise ValueError(f"`iterations` must not be negative, got {iterations}")
    if hops is not None and as_int("hops", hops) < 1:
        raise ValueError(f"`hops` must be at least 1, got {hops}")
    x, a, unary, nodes, dtype = _graph(x, adjacency, logits, where)
    m = _check_compatibility(compatibility, unary)
    with jax.named_scope("jaxpool.struct_pool"):
        pairs = _pairs(nodes) & ~_eye(a).astype(bool)
        if hops is not None:
            pairs &= _within(a, hops)
        w = _kernel(x, pairs, kernel)
        everywhere = jnp.ones_like(unary, bool)
        q = unary
        for _ in range(iterations):
            message = einsum(
                "...ij,...jk->...ik", w, without(softmax(q, everywhere), nodes)
            )
            q = unary - einsum("...ik,kl->...il", message, m)
        s = softmax(q, everywhere)
        if assignment != "soft":
            first = jnp.argmax(lax.stop_gradient(s), -1)
            hard = jax.nn.one_hot(first, s.shape[-1], dtype=s.dtype)
            s = hard if assignment == "hard" else s + lax.stop_gradient(hard - s)
        return _pooled(x, a, without(s, nodes), {}, dtype)


# --- Helpers --------------------------------------------------------------------------


def check_graph(x: Any, adjacency: Any, where: Any):
    """x and A without what takes no part, in float32 at least; which nodes do,
    `(*batch, N, 1)`; and the dtype of the result.
    """
    x, a = check_float("x", x), check_float("adjacency", adjacency)
    if x.ndim < 2:
        raise ValueError(f"`x` must have nodes and features, got shape {x.shape}")
    *batch, n, _ = x.shape
    if a.shape != (*batch, n, n):
        raise ValueError(
            f"`adjacency` must have shape {(*batch, n, n)} for x with shape {x.shape}, "
            f"got shape {a.shape}"
        )
    valid = check_where(where, x.shape[:-1])
    if valid is None:
        valid = jnp.ones((1,) * (x.ndim - 1), bool)
    nodes = jnp.broadcast_to(valid, x.shape[:-1])[..., None]
    wide = widen(x)
    a = without(widen(a).astype(wide.dtype), _pairs(nodes))
    return without(wide, nodes), a, nodes, x.dtype


def _graph(x: Any, adjacency: Any, logits: Any, where: Any):
    x, a, nodes, dtype = check_graph(x, adjacency, where)
    logits = check_float("logits", logits)
    if logits.ndim != x.ndim or logits.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"`logits` must have shape {(*x.shape[:-1], 'K')} for x with shape "
            f"{x.shape}, got shape {logits.shape}"
        )
    return x, a, without(widen(logits).astype(x.dtype), nodes), nodes, dtype


def _check_compatibility(compatibility, logits):
    k = logits.shape[-1]
    if compatibility is None:
        return -jnp.eye(k, dtype=logits.dtype)
    m = check_float("compatibility", compatibility)
    if m.shape != (k, k):
        raise ValueError(f"`compatibility` must have shape {(k, k)}, got {m.shape}")
    return widen(m).astype(logits.dtype)


def _pairs(nodes):
    """Pairs of nodes that both take part."""
    return nodes & jnp.swapaxes(nodes, -1, -2)


def _eye(a):
    return jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)


def _count(nodes, dtype):
    return jnp.maximum(nodes.sum((-2, -1)), 1).astype(dtype)


def _norm(x):
    """The Frobenius norm, with gradient 0 at 0."""
    square = (x * x).sum((-2, -1))
    some = square > 0
    return without(jnp.sqrt(jnp.where(some, square, np.ones((), x.dtype))), some)


def _ratio(x, y):
    """x / y, and 0 where y is 0."""
    some = y != 0
    return without(x / jnp.where(some, y, np.ones((), y.dtype)), some)


def _within(a, hops):
    """Pairs of nodes at most so many edges apart."""
    edge = ((a != 0) | _eye(a).astype(bool)).astype(a.dtype)
    reach = edge
    for _ in range(hops - 1):
        reach = (einsum("...ij,...jk->...ik", reach, edge) > 0).astype(a.dtype)
    return reach > 0


def _kernel(x, pairs, kernel):
    """The weights of messages, which add up to 1 over each row, or are all 0."""
    w = einsum("...ic,...jc->...ij", x, x)
    if kernel == "softmax":
        return softmax(w, pairs)
    w = without(w, pairs)
    return _ratio(w, w.sum(-1, keepdims=True))


def _pooled(x, a, s, losses, dtype):
    pooled = einsum("...nk,...nc->...kc", s, x)
    coarse = einsum("...ik,...ij->...kj", s, a)
    coarse = einsum("...kj,...jl->...kl", coarse, s)
    return _cast(GraphPool(pooled, coarse, s, losses), dtype)


def _cast(pooled, dtype):
    return jax.tree.map(lambda t: t.astype(dtype), pooled)
