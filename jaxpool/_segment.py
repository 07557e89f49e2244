"""Readouts of packed graphs: the nodes of all graphs in one array, pooled by graph.

Letters: `x` `(M, C)`, the nodes of all graphs; `segment_ids` `(M,)`, the graph of each.
jraph's `n_node` gives them as
`jnp.repeat(jnp.arange(G), n_node, total_repeat_length=M)`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from ._check import (
    as_int,
    broadcasts,
    check_array,
    check_empty,
    check_float,
    check_inexact,
    check_integers,
    check_where,
)
from ._engine import keep, widen, without


def segment_sum_pool(
    x: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int,
    *,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Adds up the nodes of every graph.

    `y[g] = sum_{m: segment_ids[m] = g} x[m]`, in float32 at least. A scatter-add: on a
    GPU in no fixed order, unless XLA's flag `xla_gpu_deterministic_ops` is set; its
    gradient is a gather.

    Args:
      x: `(M, *features)`, of any dtype; bool counts as int32.
      segment_ids: `(M,)` ints, in any order; nodes with others than `0` to
        `num_segments - 1` are left out.
      num_segments: the number of graphs, a Python int.
      where: boolean `(M,)`; nodes with False take no part, whatever they hold.
      empty: value of a graph without nodes.

    Returns:
      `(num_segments, *features)`, with x's dtype.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x, ids = jnp.array([[1.0], [2.0], [5.0]]), jnp.array([0, 0, 2])
      >>> jaxpool.segment_sum_pool(x, ids, 3)[:, 0]
      Array([3., 0., 5.], dtype=float32)

    References:
      Xu, Hu, Leskovec, Jegelka, "How Powerful are Graph Neural Networks?", 2019,
      https://arxiv.org/abs/1810.00826, section 4.2.
    """
    x = check_array("x", x, complex_ok=True)
    x, segments = _segments(x, segment_ids, num_segments, where)
    with jax.named_scope("jaxpool.segment_sum_pool"):
        dtype = x.dtype
        if dtype == jnp.bool_:
            x, dtype = x.astype(jnp.int32), jnp.dtype(jnp.int32)
        y = segments.sum(widen(x)).astype(dtype)
        return segments.fill(y, empty)


def segment_avg_pool(
    x: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int,
    *,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Averages the nodes of every graph.

    `y[g] = mean_{m: segment_ids[m] = g} x[m]`: `segment_sum_pool` over the number of
    nodes.

    Args:
      x: `(M, *features)`, of any dtype.
      segment_ids: `(M,)` ints, in any order; nodes with others than `0` to
        `num_segments - 1` are left out.
      num_segments: the number of graphs, a Python int.
      where: boolean `(M,)`; nodes with False take no part, whatever they hold.
      empty: value of a graph without nodes.

    Returns:
      `(num_segments, *features)`, with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x, ids = jnp.array([[1.0], [2.0], [5.0]]), jnp.array([0, 0, 2])
      >>> jaxpool.segment_avg_pool(x, ids, 3)[:, 0]
      Array([1.5, 0. , 5. ], dtype=float32)

    References:
      Hamilton, Ying, Leskovec, "Inductive Representation Learning on Large Graphs",
      2017, https://arxiv.org/abs/1706.02216, section 3.3.
    """
    x = check_inexact("x", x)
    x, segments = _segments(x, segment_ids, num_segments, where)
    with jax.named_scope("jaxpool.segment_avg_pool"):
        total = segments.sum(widen(x))
        count = jnp.maximum(segments.counts(total), 1)
        return segments.fill((total / count.astype(total.dtype)).astype(x.dtype), empty)


def segment_max_pool(
    x: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int,
    *,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Takes the largest of the nodes of every graph, feature by feature.

    `y[g] = max_{m: segment_ids[m] = g} x[m]`. Ties go to the first node and NaN wins,
    in values and derivatives. (`jax.ops.segment_max` splits the gradient of ties, and
    gives -inf for a graph without nodes.)

    Args:
      x: `(M, *features)`, of any real dtype.
      segment_ids: `(M,)` ints, in any order; nodes with others than `0` to
        `num_segments - 1` are left out.
      num_segments: the number of graphs, a Python int.
      where: boolean `(M,)`; nodes with False take no part, whatever they hold.
      empty: value of a graph without nodes.

    Returns:
      `(num_segments, *features)`, with x's dtype.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x, ids = jnp.array([[1.0], [2.0], [-5.0]]), jnp.array([0, 0, 2])
      >>> jaxpool.segment_max_pool(x, ids, 3)[:, 0]
      Array([ 2.,  0., -5.], dtype=float32)

    References:
      Qi, Su, Mo, Guibas, "PointNet", 2017, https://arxiv.org/abs/1612.00593,
      section 4.2.
    """
    x = check_array("x", x)
    x, segments = _segments(x, segment_ids, num_segments, where)
    with jax.named_scope("jaxpool.segment_max_pool"):
        return segments.fill(segments.first_largest(x), empty)


def segment_softmax_pool(
    x: ArrayLike,
    logits: ArrayLike,
    segment_ids: ArrayLike,
    num_segments: int,
    *,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Averages the nodes of every graph with weights by the softmax of logits.

    `y[g] = sum_m w[m] x[m]`, `w = softmax(logits)` over the nodes of the graph; each
    graph is shifted by its largest logit, so that nothing overflows or vanishes.

    Args:
      x: `(M, *features)`, of any real dtype.
      logits: broadcastable to x: `(M, 1)` for one weight per node.
      segment_ids: `(M,)` ints, in any order; nodes with others than `0` to
        `num_segments - 1` are left out.
      num_segments: the number of graphs, a Python int.
      where: boolean `(M,)`; nodes with False take no part, whatever they hold.
      empty: value of a graph without nodes.

    Returns:
      `(num_segments, *features)`, with x's dtype; the default float for integers.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x, ids = jnp.array([[1.0], [2.0], [5.0]]), jnp.array([0, 0, 2])
      >>> jaxpool.segment_softmax_pool(x, jnp.zeros((3, 1)), ids, 3)[:, 0]
      Array([1.5, 0. , 5. ], dtype=float32)

    References:
      Li, Tarlow, Brockschmidt, Zemel, "Gated Graph Sequence Neural Networks", 2016,
      https://arxiv.org/abs/1511.05493, equation 7; Li, Xiong, Thabet, Ghanem,
      "DeeperGCN", 2020, https://arxiv.org/abs/2006.07739, equation 3.
    """
    x, logits = check_float("x", x), check_float("logits", logits)
    dtype = x.dtype
    x, segments = _segments(x, segment_ids, num_segments, where)
    if logits.ndim != x.ndim or not broadcasts(logits.shape, x.shape):
        raise ValueError(
            f"`logits` must broadcast to x with shape {x.shape}, got shape "
            f"{logits.shape}"
        )
    with jax.named_scope("jaxpool.segment_softmax_pool"):
        x = widen(x)
        logits = jnp.broadcast_to(logits, x.shape[:1] + logits.shape[1:])
        logits = without(widen(logits).astype(x.dtype), segments.mask(logits))
        level = segments.first_largest(lax.stop_gradient(logits))
        level = without(level, jnp.isfinite(level))
        weights = jnp.exp(logits - segments.spread(level))
        weights = without(weights, segments.mask(weights))
        total = segments.sum(weights)
        total = jnp.where(total > 0, total, np.ones((), total.dtype))
        y = segments.sum(x * (weights / segments.spread(total)))
        return segments.fill(y.astype(dtype), empty)


# --- Helpers --------------------------------------------------------------------------


class _Segments(NamedTuple):
    """The graph of each node; `number` for nodes that take no part."""

    ids: jax.Array  # (M,)
    number: int

    def mask(self, x: jax.Array) -> jax.Array:
        """Which nodes take part, shaped to broadcast to x."""
        return self._beside(self.ids < self.number, x)

    def sum(self, x: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(x, self.ids, self.number + 1)[:-1]

    def counts(self, x: jax.Array) -> jax.Array:
        """The number of nodes of each graph, shaped to broadcast to a pool of x."""
        return self._beside(self.sum(jnp.ones_like(self.ids)), x)

    def spread(self, y: jax.Array) -> jax.Array:
        """What is known of each graph, at its nodes; 0 at those that take no part."""
        y = jnp.concatenate([y, jnp.zeros_like(y, shape=(1, *y.shape[1:]))])
        return y.at[self.ids].get(mode="promise_in_bounds")

    def first_largest(self, x: jax.Array) -> jax.Array:
        """The largest, taken from the first node that has it."""
        if not x.shape[0]:
            return jnp.zeros((self.number, *x.shape[1:]), x.dtype)
        fixed = keep(lax.stop_gradient(x))  # XLA might round it differently below
        largest = jax.ops.segment_max(fixed, self.ids, self.number + 1)
        match = fixed == largest.at[self.ids].get(mode="promise_in_bounds")
        if jnp.issubdtype(x.dtype, jnp.floating):
            match |= fixed != fixed
        node = lax.broadcasted_iota(jnp.int32, x.shape, 0)
        last = jnp.asarray(x.shape[0] - 1, jnp.int32)  # may be symbolic
        node = jnp.where(match, node, last)
        first = jax.ops.segment_min(node, self.ids, self.number + 1)[:-1]
        return jnp.take_along_axis(x, jnp.minimum(first, last), 0)

    def fill(self, y: jax.Array, empty: float) -> jax.Array:
        return jnp.where(self.counts(y) > 0, y, check_empty(empty, y.dtype))

    @staticmethod
    def _beside(of_first_axis, x):
        return of_first_axis.reshape(-1, *(1,) * (x.ndim - 1))


def _segments(x: jax.Array, segment_ids: Any, num_segments: Any, where: Any):
    """x without what takes no part, and the segments."""
    number = as_int("num_segments", num_segments)
    if number < 1:
        raise ValueError(f"`num_segments` must be at least 1, got {number}")
    if x.ndim < 1:
        raise ValueError(f"`x` must have an axis of nodes, got shape {x.shape}")
    ids = check_integers("segment_ids", segment_ids)
    if ids.shape != x.shape[:1]:
        raise ValueError(
            f"`segment_ids` must have one int per node, shape {x.shape[:1]} for x with "
            f"shape {x.shape}, got shape {ids.shape}"
        )
    inside = (ids >= 0) & (ids < number)
    valid = check_where(where, ids.shape)
    if valid is not None:
        inside &= valid
    segments = _Segments(jnp.where(inside, ids, np.int32(number)), number)
    return without(x, segments.mask(x)), segments
