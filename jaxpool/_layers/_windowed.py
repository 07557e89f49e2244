"""Bodies of the layers with windows."""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
from jax.typing import ArrayLike

from .._mean import avg_pool, sum_pool
from .._norm import lp_pool
from .._order import max_pool, median_pool, min_pool
from .._rank import topk_avg_pool
from .._weighted import soft_pool
from .._window import Padding, PerAxis
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class OfWindows(Layer):
    """The options that every windowed pool has."""

    window_shape: tuple[int, ...] = field(kw_only=False)
    strides: PerAxis | None = None
    padding: Padding = "VALID"
    dilation: PerAxis = 1
    ceil_mode: bool = False
    axes: tuple[int, ...] | None = None
    empty: float = 0.0


@dataclass(eq=False, repr=False, kw_only=True)
class Windowed(OfWindows):
    """A windowed pool that is called with an array, and perhaps a mask."""

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class Extremum(Windowed):
    """A pool that can give indices."""

    return_indices: bool = False

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> Any:
        """Pools x, to a pair with the indices if `return_indices`."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class MaxPool(Extremum):
    """Takes the largest element of every window.

    The arguments are the options of `jaxpool.max_pool`. **Strides default to the
    window**, where Flax's are 1.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.MaxPool((3, 3), strides=2, padding="SAME")
      >>> layer(jnp.ones((8, 32, 32, 16))).shape
      (8, 16, 16, 16)
    """

    _pool = staticmethod(max_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class MinPool(Extremum):
    """Takes the smallest element of every window.

    The arguments are the options of `jaxpool.min_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.MinPool((2,), return_indices=True)
      >>> y, indices = layer(jnp.array([[3.0], [1.0], [2.0], [4.0]]))
      >>> indices[:, 0]
      Array([1, 2], dtype=int32)
    """

    _pool = staticmethod(min_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class SumPool(Windowed):
    """Adds up the elements of every window.

    The arguments are the options of `jaxpool.sum_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.SumPool((2,))(jnp.arange(4.0)[:, None])[:, 0]
      Array([1., 5.], dtype=float32)
    """

    _pool = staticmethod(sum_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class AvgPool(Windowed):
    """Averages the elements of every window.

    The arguments are the options of `jaxpool.avg_pool`. **Strides default to the
    window**, where Flax's are 1.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.AvgPool((3,), padding=1, count_include_pad=False)
      >>> layer(jnp.arange(5.0)[:, None])[:, 0]
      Array([0.5, 3. ], dtype=float32)
    """

    _pool = staticmethod(avg_pool)
    count_include_pad: bool = True
    divisor_override: float | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class LpPool(Windowed):
    """Takes the Lp norm of every window.

    The arguments are the options of `jaxpool.lp_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.LpPool((2,), p=2.0)
      >>> layer(jnp.array([3.0, -4.0, 0.0, 2.0])[:, None])[:, 0]
      Array([5., 2.], dtype=float32)
    """

    _pool = staticmethod(lp_pool)
    p: float | ArrayLike = 2.0
    mean: bool = False


@dataclass(eq=False, repr=False, kw_only=True)
class MedianPool(Windowed):
    """Takes the median of every window.

    The arguments are the options of `jaxpool.median_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.MedianPool((2,), even="mean")
      >>> layer(jnp.array([3.0, 9.0, 1.0, 4.0])[:, None])[:, 0]
      Array([6. , 2.5], dtype=float32)
    """

    _pool = staticmethod(median_pool)
    even: Literal["lower", "upper", "mean"] = "lower"


@dataclass(eq=False, repr=False, kw_only=True)
class TopKAvgPool(Windowed):
    """Averages the k largest elements of every window.

    The arguments are the options of `jaxpool.topk_avg_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.TopKAvgPool((3,), k=2)
      >>> layer(jnp.array([3.0, 9.0, 1.0, 4.0, 4.0, 0.0])[:, None])[:, 0]
      Array([6., 4.], dtype=float32)
    """

    _pool = staticmethod(topk_avg_pool)
    k: int


@dataclass(eq=False, repr=False, kw_only=True)
class SoftPool(Windowed):
    """Averages every window with softmax weights of its own elements.

    The arguments are the options of `jaxpool.soft_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.SoftPool((2,), temperature=1.0)
      >>> layer(jnp.array([0.0, 1.0, 2.0, 2.0])[:, None])[:, 0].round(4)
      Array([0.7311, 2.    ], dtype=float32)
    """

    _pool = staticmethod(soft_pool)
    temperature: float | ArrayLike = 1.0
    gradient: Literal["exact", "paper"] = "exact"
