"""Bodies of the layers that pool graphs."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._engine import without
from .._graph import (
    Assignment,
    Kernel,
    check_graph,
    diff_pool,
    mincut_pool,
    struct_pool,
)
from .._graph_select import sag_pool, topk_pool
from .._segment import (
    segment_avg_pool,
    segment_max_pool,
    segment_softmax_pool,
    segment_sum_pool,
)
from .._vectors import einsum
from ._base import Layer


def neighbour_mean(x: ArrayLike, adjacency: ArrayLike, where: Any) -> jax.Array:
    """`D^-1 (A + I) x`: the mean of every node and its neighbours."""
    x, a, nodes, dtype = check_graph(x, adjacency, where)
    degree = 1 + a.sum(-1, keepdims=True)
    total = x + einsum("...ij,...jc->...ic", a, x)
    # Where weights are negative, a degree may be 0.
    y = total / jnp.where(degree == 0, jnp.ones_like(degree), degree)
    return without(y, nodes).astype(dtype)


@dataclass(eq=False, repr=False, kw_only=True)
class Graph(Layer):
    """A graph pool around dense layers, which follow `neighbour_mean`."""

    # The number of features in and out of each dense layer.
    _widths: ClassVar[Callable[..., dict[str, tuple[int, int]]]]
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32


@dataclass(eq=False, repr=False, kw_only=True)
class DiffPool(Graph):
    """Pools a graph by a soft assignment from a graph convolution.

    `jaxpool.diff_pool` of features `relu(G(x))` and logits `G(x)`, each with a graph
    convolution `G(x) = D^-1 (A + I) x W + b` of its own: `embed`, to `out_features`
    (None pools x itself, without `embed`), and `assign`, to `clusters`. The call takes
    features `(*batch, N, C)`, adjacency `(*batch, N, N)` and `where`, boolean
    `(*batch, N)`, and gives what the function does, losses included.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.DiffPool(8, 4, rngs=nnx.Rngs(0))
      >>> pooled = jax.eval_shape(layer, jnp.ones((2, 9, 8)), jnp.ones((2, 9, 9)))
      >>> pooled.x.shape, pooled.adjacency.shape
      ((2, 4, 8), (2, 4, 4))

    References:
      Ying et al., "Hierarchical Graph Representation Learning with Differentiable
      Pooling", 2018, https://arxiv.org/abs/1806.08804, equations 5 and 6.
    """

    _pool = staticmethod(diff_pool)
    out_features: int | None = None

    def _widths(self, features: int, clusters: int) -> dict[str, tuple[int, int]]:
        widths = {"assign": (features, clusters)}
        if self.out_features is not None:
            widths["embed"] = (features, self.out_features)
        return widths

    def _forward(self, x: Any, adjacency: Any, where: Any, layers: Any) -> Any:
        mean = neighbour_mean(x, adjacency, where)
        if self.out_features is not None:
            x = jax.nn.relu(layers.embed(mean))
        return self._call(x, adjacency, layers.assign(mean), where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class MinCutPool(Graph):
    """Pools a graph by a soft assignment that learns to cut few edges.

    `jaxpool.mincut_pool` with logits from one dense layer, `assign`, to `clusters`. The
    call takes features `(*batch, N, C)`, adjacency `(*batch, N, N)` and `where`,
    boolean `(*batch, N)`, and gives what the function does, losses included.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.MinCutPool(8, 4, rngs=nnx.Rngs(0))
      >>> pooled = jax.eval_shape(layer, jnp.ones((2, 9, 8)), jnp.ones((2, 9, 9)))
      >>> pooled.x.shape, sorted(pooled.losses)
      ((2, 4, 8), ['cut', 'orthogonality'])

    References:
      Bianchi, Grattarola, Alippi, "Spectral Clustering with Graph Neural Networks for
      Graph Pooling", 2020, https://arxiv.org/abs/1907.00481.
    """

    _pool = staticmethod(mincut_pool)
    temperature: float = 1.0

    def _widths(self, features: int, clusters: int) -> dict[str, tuple[int, int]]:
        return {"assign": (features, clusters)}

    def _forward(self, x: Any, adjacency: Any, where: Any, layers: Any) -> Any:
        clean, _, _, dtype = check_graph(x, adjacency, where)
        logits = layers.assign(clean.astype(dtype))
        return self._call(x, adjacency, logits, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class StructPool(Graph):
    """Pools a graph by the clusters of a conditional random field over its nodes.

    `jaxpool.struct_pool` with logits from graph convolutions
    `tanh(D^-1 (A + I) x W + b)`, `hidden` wide and the last one to `clusters`:
    `conv_0`, `conv_1`, ..., and with a learned `compatibility` `(clusters, clusters)`
    that starts as `-I`. The call takes features `(*batch, N, C)`, adjacency
    `(*batch, N, N)` and `where`, boolean `(*batch, N)`, and gives what the function
    does. (The authors' compatibility is not learned, nor are their convolutions, which
    no gradient reaches.)

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.StructPool(8, 4, rngs=nnx.Rngs(0))
      >>> pooled = jax.eval_shape(layer, jnp.ones((2, 9, 8)), jnp.ones((2, 9, 9)))
      >>> pooled.x.shape, pooled.adjacency.shape
      ((2, 4, 8), (2, 4, 4))

    References:
      Yuan, Ji, "StructPool: Structured Graph Pooling via Conditional Random Fields",
      2020, https://openreview.net/forum?id=BJxg_hVtwH
    """

    _pool = staticmethod(struct_pool)
    hidden: tuple[int, ...] = (48, 48)
    iterations: int = 5
    kernel: Kernel = "dot"
    hops: int | None = None
    assignment: Assignment = "soft"

    def _start(self, clusters: int) -> jax.Array:
        return -jnp.eye(clusters, dtype=self.param_dtype)

    def _widths(self, features: int, clusters: int) -> dict[str, tuple[int, int]]:
        widths = (features, *self.hidden, clusters)
        return {f"conv_{i}": pair for i, pair in enumerate(itertools.pairwise(widths))}

    def _forward(
        self, x: Any, adjacency: Any, where: Any, layers: Any, compatibility: jax.Array
    ) -> Any:
        y = x
        for i in range(len(self.hidden) + 1):
            conv = getattr(layers, f"conv_{i}")
            y = jnp.tanh(conv(neighbour_mean(y, adjacency, where)))
        given = {"where": where, "compatibility": compatibility}
        return self._call(x, adjacency, y, **given)


@dataclass(eq=False, repr=False, kw_only=True)
class TopKPool(Layer):
    """Keeps the nodes that lie furthest along a learned direction.

    `jaxpool.topk_pool` with a learned `weights` `(C,)`, uniform in +-1 / sqrt(C) at the
    start. The call takes features `(*batch, N, C)`, adjacency `(*batch, N, N)` and
    `where`, boolean `(*batch, N)`, and gives what the function does.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.TopKPool(8, ratio=0.5, rngs=nnx.Rngs(0))
      >>> kept = jax.eval_shape(layer, jnp.ones((2, 9, 8)), jnp.ones((2, 9, 9)))
      >>> kept.x.shape, kept.where.shape
      ((2, 5, 8), (2, 5))
    """

    _pool = staticmethod(topk_pool)
    k: int | None = None
    ratio: float | None = None
    param_dtype: DTypeLike = jnp.float32

    def _start(self, key: jax.Array, features: int) -> jax.Array:
        bound = features**-0.5
        return jax.random.uniform(key, (features,), self.param_dtype, -bound, bound)


@dataclass(eq=False, repr=False, kw_only=True)
class SAGPool(Graph):
    """Keeps the nodes with the largest scores of a graph convolution.

    `jaxpool.sag_pool` with scores `D^-1 (A + I) x W + b`, from `score`. The call takes
    features `(*batch, N, C)`, adjacency `(*batch, N, N)` and `where`, boolean
    `(*batch, N)`, and gives what the function does.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.SAGPool(8, k=3, rngs=nnx.Rngs(0))
      >>> kept = jax.eval_shape(layer, jnp.ones((2, 9, 8)), jnp.ones((2, 9, 9)))
      >>> kept.x.shape, kept.where.shape
      ((2, 3, 8), (2, 3))

    References:
      Lee, Lee, Kang, "Self-Attention Graph Pooling", 2019,
      https://arxiv.org/abs/1904.08082
    """

    _pool = staticmethod(sag_pool)
    k: int | None = None
    ratio: float | None = None

    def _widths(self, features: int) -> dict[str, tuple[int, int]]:
        return {"score": (features, 1)}

    def _forward(self, x: Any, adjacency: Any, where: Any, layers: Any) -> Any:
        scores = layers.score(neighbour_mean(x, adjacency, where))[..., 0]
        return self._call(x, adjacency, scores, where=where)


# --- Readouts -------------------------------------------------------------------------


@dataclass(eq=False, repr=False, kw_only=True)
class _Packed(Layer):
    num_segments: int = field(kw_only=False)
    empty: float = 0.0


@dataclass(eq=False, repr=False, kw_only=True)
class _Segment(_Packed):
    def __call__(
        self,
        x: ArrayLike,
        segment_ids: ArrayLike,
        *,
        where: ArrayLike | None = None,
    ) -> jax.Array:
        """Pools the nodes of every graph; those with `where` False take no part."""
        return self._call(x, segment_ids, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class SegmentSumPool(_Segment):
    """Adds up the nodes of every graph.

    The arguments are the options of `jaxpool.segment_sum_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x, ids = jnp.array([[1.0], [2.0], [5.0]]), jnp.array([0, 0, 1])
      >>> jaxpool.nnx.SegmentSumPool(2)(x, ids)[:, 0]
      Array([3., 5.], dtype=float32)
    """

    _pool = staticmethod(segment_sum_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class SegmentAvgPool(_Segment):
    """Averages the nodes of every graph.

    The arguments are the options of `jaxpool.segment_avg_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x, ids = jnp.array([[1.0], [2.0], [5.0]]), jnp.array([0, 0, 1])
      >>> jaxpool.nnx.SegmentAvgPool(2)(x, ids)[:, 0]
      Array([1.5, 5. ], dtype=float32)
    """

    _pool = staticmethod(segment_avg_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class SegmentMaxPool(_Segment):
    """Takes the largest of the nodes of every graph, feature by feature.

    The arguments are the options of `jaxpool.segment_max_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x, ids = jnp.array([[1.0], [2.0], [5.0]]), jnp.array([0, 0, 1])
      >>> jaxpool.nnx.SegmentMaxPool(2)(x, ids)[:, 0]
      Array([2., 5.], dtype=float32)
    """

    _pool = staticmethod(segment_max_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class SegmentSoftmaxPool(_Packed):
    """Averages the nodes of every graph with weights by the softmax of logits.

    The arguments are the options of `jaxpool.segment_softmax_pool`; the call takes the
    nodes, their logits and their graphs.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x, ids = jnp.array([[1.0], [2.0], [5.0]]), jnp.array([0, 0, 1])
      >>> jaxpool.nnx.SegmentSoftmaxPool(2)(x, jnp.zeros((3, 1)), ids)[:, 0]
      Array([1.5, 5. ], dtype=float32)
    """

    _pool = staticmethod(segment_softmax_pool)

    def __call__(
        self,
        x: ArrayLike,
        logits: ArrayLike,
        segment_ids: ArrayLike,
        *,
        where: ArrayLike | None = None,
    ) -> jax.Array:
        """Pools the nodes of every graph; those with `where` False take no part."""
        return self._call(x, logits, segment_ids, where=where)
