"""Bodies of the layers that sample, and of those that do it without aliases."""

from dataclasses import dataclass, field
from typing import Any

import jax
from jax.typing import ArrayLike

from .._antialias import blur_pool, max_blur_pool, polyphase_pool, subsample
from .._filter import PaddingMode
from .._window import Padding, PerAxis
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class Subsample(Layer):
    """Takes every s-th element.

    The arguments are the options of `jaxpool.subsample`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.Subsample((3,), offset=1)(jnp.arange(7)[:, None])[:, 0]
      Array([1, 4], dtype=int32)
    """

    _pool = staticmethod(subsample)
    strides: PerAxis = field(kw_only=False)
    offset: PerAxis = 0
    axes: tuple[int, ...] | None = None

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Samples x."""
        return self._call(x)


@dataclass(eq=False, repr=False, kw_only=True)
class BlurPool(Layer):
    """Blurs by a binomial filter, then takes every s-th element.

    The arguments are the options of `jaxpool.blur_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.array([0.0, 0.0, 0.0, 4.0, 0.0, 0.0])[:, None]
      >>> jaxpool.nnx.BlurPool(axes=(-2,))(x)[:, 0]
      Array([0., 1., 1.], dtype=float32)
    """

    _pool = staticmethod(blur_pool)
    strides: PerAxis = 2
    filter_size: int = 3
    padding_mode: PaddingMode = "reflect"
    axes: tuple[int, ...] = (-3, -2)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pools x."""
        return self._call(x)


@dataclass(eq=False, repr=False, kw_only=True)
class MaxBlurPool(Layer):
    """Takes the maximum of every window at stride 1, then blurs and subsamples.

    The arguments are the options of `jaxpool.max_blur_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.array([0.0, 0.0, 0.0, 4.0, 0.0, 0.0])[:, None]
      >>> jaxpool.nnx.MaxBlurPool((2,))(x)[:, 0]
      Array([0., 3., 1.], dtype=float32)
    """

    _pool = staticmethod(max_blur_pool)
    window_shape: tuple[int, ...] = field(kw_only=False)
    strides: PerAxis = 2
    padding: Padding = "SAME"
    filter_size: int = 3
    padding_mode: PaddingMode = "reflect"
    axes: tuple[int, ...] | None = None

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pools x."""
        return self._call(x)


@dataclass(eq=False, repr=False, kw_only=True)
class PolyphasePool(Layer):
    """Subsamples at the offset where the samples have the largest norm.

    The arguments are the options of `jaxpool.polyphase_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.array([1.0, 5.0, 2.0, 4.0])[:, None]
      >>> jaxpool.nnx.PolyphasePool(axes=(-2,))(x)[:, 0]
      Array([5., 4.], dtype=float32)
    """

    _pool = staticmethod(polyphase_pool)
    strides: PerAxis = 2
    axes: tuple[int, ...] = (-3, -2)
    channel_axis: int | None = -1
    norm: float = 2
    return_phase: bool = False

    def __call__(self, x: ArrayLike, *, phase: ArrayLike | None = None) -> Any:
        """Pools x, at `phase` if given, to a pair with the phase if `return_phase`."""
        return self._call(x, phase=phase)
