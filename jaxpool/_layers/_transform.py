"""Bodies of the layers that leave out high frequencies."""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
from jax.typing import ArrayLike

from .._transform import Wavelet, spectral_pool, wavelet_pool
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class SpectralPool(Layer):
    """Keeps the lowest frequencies of the discrete Fourier transform.

    The arguments are the options of `jaxpool.spectral_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.array([1.0, 2.0, 4.0, 1.0])[:, None]
      >>> jaxpool.nnx.SpectralPool((2,))(x)[:, 0].round(4)
      Array([1.25, 2.75], dtype=float32)
    """

    _pool = staticmethod(spectral_pool)
    output_shape: tuple[int, ...] = field(kw_only=False)
    axes: tuple[int, ...] | None = None
    scale: Literal["mean", "ortho"] = "mean"

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pools x."""
        return self._call(x)


@dataclass(eq=False, repr=False, kw_only=True)
class WaveletPool(Layer):
    """Keeps the approximation of a wavelet decomposition, at half the resolution.

    The arguments are the options of `jaxpool.wavelet_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.arange(16.0).reshape(4, 4, 1)
      >>> jaxpool.nnx.WaveletPool(scale="mean")(x)[..., 0].round(4)
      Array([[ 2.5,  4.5],
             [10.5, 12.5]], dtype=float32)
    """

    _pool = staticmethod(wavelet_pool)
    wavelet: Wavelet = "haar"
    axes: tuple[int, ...] = (-3, -2)
    scale: Literal["orthonormal", "mean"] = "orthonormal"
    subbands: bool = False
    gradient: Literal["exact", "paper"] = "exact"

    def __call__(self, x: ArrayLike) -> Any:
        """Pools x, to a dictionary of bands if `subbands`."""
        return self._call(x)
