"""Graph pools by selection: the nodes with the largest scores, and their edges.

Letters: dense graphs with features `x` `(*batch, N, C)` and adjacency `A`
`(*batch, N, N)`, of which `k` nodes are kept.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.typing import ArrayLike

from ._check import as_int, check_float
from ._engine import widen, without
from ._graph import check_graph
from ._vectors import einsum


class NodeSelection(NamedTuple):
    """The nodes of a graph that were kept, the largest score first."""

    x: jax.Array  # (*batch, k, C)
    adjacency: jax.Array  # (*batch, k, k)
    where: jax.Array  # (*batch, k), which of them are nodes
    indices: jax.Array  # (*batch, k), where they were; -1 for none
    scores: jax.Array  # (*batch, k)


export.register_namedtuple_serialization(
    NodeSelection, serialized_name="jaxpool.NodeSelection"
)


def topk_pool(
    x: ArrayLike,
    adjacency: ArrayLike,
    weights: ArrayLike,
    *,
    k: int | None = None,
    ratio: float | None = None,
    where: ArrayLike | None = None,
) -> NodeSelection:
    """Keeps the nodes that lie furthest along a direction.

    `z = x p / |p|` scores the nodes; of those with the k largest, `x'` is `x tanh(z)`
    and `A'` has the edges among them. Ties go to the first node; one whose score is
    not finite is not kept. The gradient reaches p through the gate `tanh(z)`; the
    choice itself has none.

    Args:
      x: `(*batch, N, C)`, features, of any real dtype.
      adjacency: `(*batch, N, N)`, weights of edges.
      weights: p, `(C,)`, learned.
      k: how many nodes are kept of each graph: those that it has, if they are fewer.
      ratio: instead of k, the part in (0, 1] of its nodes that each graph keeps,
        rounded up. There is room for `ceil(ratio N)`.
      where: boolean, broadcastable to `(*batch, N)`; nodes with False take no part,
        nor do their edges, whatever they hold.

    Returns:
      A named tuple: `x` `(*batch, k, C)` and `adjacency` `(*batch, k, k)` with x's
      dtype (the default float for integers), 0 where there is no node; `where`
      `(*batch, k)`, whether there is one; int32 `indices` `(*batch, k)` of the nodes,
      -1 where there is none; and the gates, `scores` `(*batch, k)`.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit, or not exactly one of k and ratio is given.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[1.0], [-3.0], [9.0]])
      >>> path = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 2.0], [0.0, 2.0, 0.0]])
      >>> kept = jaxpool.topk_pool(x, path, jnp.ones(1), k=2)
      >>> kept.indices, kept.x[:, 0].round(3)
      (Array([2, 0], dtype=int32), Array([9.   , 0.762], dtype=float32))

    References:
      Gao, Ji, "Graph U-Nets", 2019, https://arxiv.org/abs/1905.05178, equation 2 (whose
      gate is a sigmoid); Cangea et al., "Towards Sparse Hierarchical Graph
      Classifiers", 2018, https://arxiv.org/abs/1811.01287.
    """
    x, a, nodes, dtype = check_graph(x, adjacency, where)
    p = widen(check_float("weights", weights)).astype(x.dtype)
    if p.shape != x.shape[-1:]:
        raise ValueError(f"`weights` must have shape {x.shape[-1:]}, got {p.shape}")
    room = _room(k, ratio, x.shape[-2])
    with jax.named_scope("jaxpool.topk_pool"):
        square = (p * p).sum()
        norm = jnp.sqrt(jnp.where(square > 0, square, np.ones((), p.dtype)))
        scores = einsum("...nc,c->...n", x, p / norm)
        return _select(x, a, nodes[..., 0], scores, room, ratio, dtype)


def sag_pool(
    x: ArrayLike,
    adjacency: ArrayLike,
    scores: ArrayLike,
    *,
    k: int | None = None,
    ratio: float | None = None,
    where: ArrayLike | None = None,
) -> NodeSelection:
    """Keeps the nodes with the largest scores of a graph network.

    As `topk_pool`, with the given `z = scores`: of the k nodes with the largest,
    `x' = x tanh(z)`. The scores come from a graph convolution, as in the layer
    `SAGPool`, so that features and edges decide. (PyG multiplies them with a number of
    random sign, by which it may keep the smallest.)

    Args:
      x: `(*batch, N, C)`, features, of any real dtype.
      adjacency: `(*batch, N, N)`, weights of edges.
      scores: `(*batch, N)`, before the gate.
      k: how many nodes are kept of each graph: those that it has, if they are fewer.
      ratio: instead of k, the part in (0, 1] of its nodes that each graph keeps,
        rounded up. There is room for `ceil(ratio N)`.
      where: boolean, broadcastable to `(*batch, N)`; nodes with False take no part,
        nor do their edges, whatever they hold.

    Returns:
      A named tuple as that of `topk_pool`.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit, or not exactly one of k and ratio is given.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x, scores = jnp.array([[1.0], [-3.0], [9.0]]), jnp.array([0.0, 9.0, 1.0])
      >>> kept = jaxpool.sag_pool(x, jnp.ones((3, 3)), scores, ratio=0.5)
      >>> kept.indices, [round(v, 2) for v in kept.x[:, 0].tolist()]
      (Array([1, 2], dtype=int32), [-3.0, 6.85])

    References:
      Lee, Lee, Kang, "Self-Attention Graph Pooling", 2019,
      https://arxiv.org/abs/1904.08082, equations 3 to 5.
    """
    x, a, nodes, dtype = check_graph(x, adjacency, where)
    z = widen(check_float("scores", scores)).astype(x.dtype)
    if z.shape != x.shape[:-1]:
        raise ValueError(f"`scores` must have shape {x.shape[:-1]}, got {z.shape}")
    room = _room(k, ratio, x.shape[-2])
    with jax.named_scope("jaxpool.sag_pool"):
        scores = without(z, nodes[..., 0])
        return _select(x, a, nodes[..., 0], scores, room, ratio, dtype)


# --- Helpers --------------------------------------------------------------------------


def _room(k: Any, ratio: Any, nodes: int) -> int:
    """How many nodes there is room for."""
    if (k is None) == (ratio is None):
        raise ValueError(f"one of `k` and `ratio` must be given, got {k} and {ratio}")
    if k is None:
        if not 0 < ratio <= 1:
            raise ValueError(f"`ratio` must be in (0, 1], got {ratio!r}")
        return int(_part(ratio, nodes))
    if as_int("k", k) < 1:
        raise ValueError(f"`k` must be at least 1, got {k}")
    return k


def _part(ratio, nodes):
    """`ceil(ratio * nodes)`, where 0.07 of 100 nodes are 7."""
    return np.ceil(np.round(ratio * nodes, 9)).astype(np.int32)


def _select(x, a, nodes, scores, room, ratio, dtype):
    low = np.asarray(-np.inf, scores.dtype)
    some = nodes & jnp.isfinite(scores)
    scores = without(scores, some)
    ranked = lax.stop_gradient(jnp.where(some, scores, low))
    missing = max(room - ranked.shape[-1], 0)
    pads = [(0, 0)] * (ranked.ndim - 1) + [(0, missing)]
    ranked = jnp.pad(ranked, pads, constant_values=-np.inf)
    # Not top_k, for which XLA would gather a sharded batch.
    order = jnp.argsort(ranked, descending=True, stable=True)[..., :room]
    kept = jnp.take_along_axis(ranked, order, -1) > low
    if ratio is not None:
        number = _part(ratio, np.arange(nodes.shape[-1] + 1))
        count = jnp.asarray(number)[nodes.sum(-1, keepdims=True)]
        kept &= lax.broadcasted_iota(jnp.int32, kept.shape, kept.ndim - 1) < count
    index = jnp.where(kept, order, -1).astype(jnp.int32)
    # One-hot rows: a gather whose gradient scatters nothing.
    rows = jax.nn.one_hot(index, x.shape[-2], dtype=x.dtype)
    chosen = (rows > 0).any(-2)  # NaN of other nodes would reach the products
    x, a = without(x, chosen[..., None]), without(a, chosen[..., None])
    a = without(a, chosen[..., None, :])
    gate = jnp.tanh(einsum("...kn,...n->...k", rows, scores))
    y = einsum("...kn,...nc->...kc", rows, x) * gate[..., None]
    edges = einsum("...kn,...nm->...km", rows, a)
    edges = einsum("...km,...lm->...kl", edges, rows)
    y, edges, gate = (t.astype(dtype) for t in (y, edges, gate))
    return NodeSelection(y, edges, kept, index, gate)
