"""Bodies of the layers that pool whole axes."""

from dataclasses import dataclass
from typing import Literal

import jax
from jax.typing import ArrayLike

from .._global import (
    global_avg_max_pool,
    global_avg_pool,
    global_max_pool,
    global_min_pool,
    global_sum_pool,
)
from .._strip import strip_pool
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class Global(Layer):
    """The options that every global pool has."""

    axes: tuple[int, ...] = (-3, -2)
    keepdims: bool = False
    empty: float = 0.0

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class GlobalAvgPool(Global):
    """Averages whole axes.

    The arguments are the options of `jaxpool.global_avg_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.GlobalAvgPool()(jnp.ones((8, 7, 7, 512))).shape
      (8, 512)
    """

    _pool = staticmethod(global_avg_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class GlobalMaxPool(Global):
    """Takes the largest element of whole axes.

    The arguments are the options of `jaxpool.global_max_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.GlobalMaxPool(keepdims=True)(jnp.ones((8, 7, 7, 512))).shape
      (8, 1, 1, 512)
    """

    _pool = staticmethod(global_max_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class GlobalMinPool(Global):
    """Takes the smallest element of whole axes.

    The arguments are the options of `jaxpool.global_min_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.GlobalMinPool()(jnp.arange(4.0).reshape(2, 2, 1))
      Array([0.], dtype=float32)
    """

    _pool = staticmethod(global_min_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class GlobalSumPool(Global):
    """Adds up whole axes.

    The arguments are the options of `jaxpool.global_sum_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.GlobalSumPool()(jnp.arange(4.0).reshape(2, 2, 1))
      Array([6.], dtype=float32)
    """

    _pool = staticmethod(global_sum_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class GlobalAvgMaxPool(Global):
    """Takes the average and the maximum of whole axes.

    The arguments are the options of `jaxpool.global_avg_max_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.GlobalAvgMaxPool(mode="concat")
      >>> layer(jnp.ones((8, 7, 7, 512))).shape
      (8, 1024)
    """

    _pool = staticmethod(global_avg_max_pool)
    mode: Literal["mean", "add", "concat"] = "mean"


@dataclass(eq=False, repr=False, kw_only=True)
class StripPool(Layer):
    """Averages over every row, and over every column.

    The arguments are the options of `jaxpool.strip_pool`. `SPBlock` and `StripPooling`
    learn from these.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> rows, columns = jaxpool.nnx.StripPool()(jnp.arange(6.0).reshape(2, 3, 1))
      >>> rows[:, 0, 0], columns[0, :, 0]
      (Array([1., 4.], dtype=float32), Array([1.5, 2.5, 3.5], dtype=float32))
    """

    _pool = staticmethod(strip_pool)
    axes: tuple[int, ...] = (-3, -2)
    empty: float = 0.0

    def __call__(
        self, x: ArrayLike, *, where: ArrayLike | None = None
    ) -> tuple[jax.Array, ...]:
        """Pools x, to one array per axis; elements with `where` False take no part."""
        return self._call(x, where=where)
