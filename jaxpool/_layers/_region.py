"""Bodies of the layers that pool regions of interest."""

from dataclasses import dataclass, field

import jax
from jax.typing import ArrayLike

from .._position_sensitive import ps_roi_align, ps_roi_pool
from .._region import precise_roi_pool, roi_align, roi_pool
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class _Region(Layer):
    output_shape: tuple[int, int] = field(kw_only=False)
    spatial_scale: float = 1.0
    axes: tuple[int, int] = (-3, -2)

    def __call__(
        self,
        x: ArrayLike,
        boxes: ArrayLike,
        *,
        batch_index: ArrayLike | None = None,
        where: ArrayLike | None = None,
    ) -> jax.Array:
        """Pools the boxes of x; those with `where` False give 0."""
        return self._call(x, boxes, batch_index=batch_index, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class RoIPool(_Region):
    """Takes the largest element of every bin of every box.

    The arguments are the options of `jaxpool.roi_pool`; the call takes the images, the
    boxes, and the image that each box lies on.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.RoIPool((7, 7), spatial_scale=1 / 16)
      >>> x, boxes = jnp.ones((2, 32, 32, 8)), jnp.ones((5, 4))
      >>> jax.eval_shape(layer, x, boxes, batch_index=jnp.zeros(5, int)).shape
      (5, 7, 7, 8)
    """

    _pool = staticmethod(roi_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class RoIAlign(_Region):
    """Averages bilinear samples of every bin of every box.

    The arguments are the options of `jaxpool.roi_align`; the call takes the images, the
    boxes, and the image that each box lies on.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.RoIAlign((7, 7), spatial_scale=1 / 16)
      >>> x, boxes = jnp.ones((2, 32, 32, 8)), jnp.ones((5, 4))
      >>> jax.eval_shape(layer, x, boxes, batch_index=jnp.zeros(5, int)).shape
      (5, 7, 7, 8)
    """

    _pool = staticmethod(roi_align)
    sampling_ratio: int | None = 2
    max_sampling_ratio: int | None = None
    aligned: bool = True


@dataclass(eq=False, repr=False, kw_only=True)
class PSRoIPool(_Region):
    """Averages every bin of every box, each bin over channels of its own.

    The arguments are the options of `jaxpool.ps_roi_pool`; the call takes the images,
    the boxes, and the image that each box lies on.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> x, boxes = jnp.ones((2, 32, 32, 98)), jnp.ones((5, 4))
      >>> layer = jaxpool.nnx.PSRoIPool((7, 7))
      >>> jax.eval_shape(layer, x, boxes, batch_index=jnp.zeros(5, int)).shape
      (5, 7, 7, 2)
    """

    _pool = staticmethod(ps_roi_pool)
    torchvision_compat: bool = False


@dataclass(eq=False, repr=False, kw_only=True)
class PSRoIAlign(_Region):
    """Averages bilinear samples of every bin, over channels of its own.

    The arguments are the options of `jaxpool.ps_roi_align`; the call takes the images,
    the boxes, and the image that each box lies on.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> x, boxes = jnp.ones((2, 32, 32, 98)), jnp.ones((5, 4))
      >>> layer = jaxpool.nnx.PSRoIAlign((7, 7))
      >>> jax.eval_shape(layer, x, boxes, batch_index=jnp.zeros(5, int)).shape
      (5, 7, 7, 2)
    """

    _pool = staticmethod(ps_roi_align)
    sampling_ratio: int | None = 2
    max_sampling_ratio: int | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class PreciseRoIPool(_Region):
    """Integrates the bilinear interpolation of every bin of every box.

    The arguments are the options of `jaxpool.precise_roi_pool`; the call takes the
    images, the boxes, and the image that each box lies on.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.PreciseRoIPool((7, 7), spatial_scale=1 / 16)
      >>> x, boxes = jnp.ones((2, 32, 32, 8)), jnp.ones((5, 4))
      >>> jax.eval_shape(layer, x, boxes, batch_index=jnp.zeros(5, int)).shape
      (5, 7, 7, 8)
    """

    _pool = staticmethod(precise_roi_pool)
