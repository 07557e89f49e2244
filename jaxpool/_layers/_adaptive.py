"""Bodies of the adaptive layers, which are given the size of their output."""

from dataclasses import dataclass, field
from typing import Any

import jax
from jax.typing import ArrayLike

from .._adaptive import adaptive_avg_pool, adaptive_max_pool, adaptive_min_pool
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class _Adaptive(Layer):
    output_shape: tuple[int | None, ...] = field(kw_only=False)
    axes: tuple[int, ...] | None = None
    empty: float = 0.0

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class _AdaptiveExtremum(_Adaptive):
    return_indices: bool = False

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> Any:
        """Pools x, to a pair with the indices if `return_indices`."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class AdaptiveAvgPool(_Adaptive):
    """Averages windows placed so that the output has a given size.

    The arguments are the options of `jaxpool.adaptive_avg_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.AdaptiveAvgPool((4,))(jnp.arange(10.0)[:, None])[:, 0]
      Array([1., 3., 6., 8.], dtype=float32)
    """

    _pool = staticmethod(adaptive_avg_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class AdaptiveMaxPool(_AdaptiveExtremum):
    """Takes the largest element of windows placed so that the output has a given size.

    The arguments are the options of `jaxpool.adaptive_max_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.AdaptiveMaxPool((4,))(jnp.arange(10.0)[:, None])[:, 0]
      Array([2., 4., 7., 9.], dtype=float32)
    """

    _pool = staticmethod(adaptive_max_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class AdaptiveMinPool(_AdaptiveExtremum):
    """Takes the smallest element of windows placed so that the output has a given size.

    The arguments are the options of `jaxpool.adaptive_min_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.AdaptiveMinPool((4,))(jnp.arange(10.0)[:, None])[:, 0]
      Array([0., 2., 5., 7.], dtype=float32)
    """

    _pool = staticmethod(adaptive_min_pool)
