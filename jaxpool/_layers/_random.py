"""Bodies of the layers that draw random numbers, from the stream `"pool"`."""

from dataclasses import dataclass, field

from .._fractional import fractional_max_pool
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class Random(Layer):
    """A pool with a `key`, or without one where it is `deterministic`."""

    deterministic: bool | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class FractionalMaxPool(Random):
    """Takes the largest element of windows at uneven, random steps.

    The arguments are the options of `jaxpool.fractional_max_pool`. Where it is
    `deterministic` (the argument of the constructor or of the call; in nnx
    `model.eval()` sets it), the steps are those of its inference; else they are drawn
    from the stream `"pool"`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.FractionalMaxPool(
      ...     (2, 2), output_ratio=0.7, rngs=nnx.Rngs(pool=0)
      ... )
      >>> layer(jnp.ones((8, 32, 32, 16))).shape
      (8, 22, 22, 16)
    """

    _pool = staticmethod(fractional_max_pool)
    window_shape: tuple[int, ...] = field(kw_only=False)
    output_shape: tuple[int, ...] | None = None
    output_ratio: float | tuple[float, ...] | None = None
    overlapping: bool = True
    axes: tuple[int, ...] | None = None
    empty: float = 0.0
    return_indices: bool = False
