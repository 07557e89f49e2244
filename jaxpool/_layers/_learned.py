"""Bodies of the layers with a parameter, which their classes make."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .._global import global_gem_pool, global_lse_pool
from .._norm import gem_pool, lp_pool, lse_pool
from ._base import Layer
from ._global import Global
from ._windowed import Windowed


@dataclass(eq=False, repr=False, kw_only=True)
class _Learned(Layer):
    """A pool with a learned parameter: one for all, or one per channel."""

    features: int | None = None
    param_dtype: DTypeLike = jnp.float32

    def _full(self, value: float) -> jax.Array:
        """The parameter at the start."""
        shape = () if self.features is None else (self.features,)
        return jnp.full(shape, value, self.param_dtype)


@dataclass(eq=False, repr=False, kw_only=True)
class GeM(_Learned):
    """A generalised mean with a learned exponent."""

    p: Any = 3.0  # in nnx the parameter takes its place
    eps: float = 1e-6


@dataclass(eq=False, repr=False, kw_only=True)
class LSE(_Learned):
    """A pool with a learned temperature."""

    temperature: float = 1.0

    def _log_temperature(self) -> jax.Array:
        if not self.temperature > 0:
            raise ValueError(f"`temperature` must be positive, got {self.temperature}")
        return jnp.log(self._full(self.temperature))


@dataclass(eq=False, repr=False, kw_only=True)
class GeMPool(GeM, Windowed):
    """Takes the generalised mean of every window, with a learned exponent.

    The arguments are the options of `jaxpool.gem_pool`; `p` is the exponent at the
    start. The parameter `p` is one for all channels, or `(features,)` if `features` is
    given, of dtype `param_dtype`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.GeMPool((2,), p=2.0)
      >>> layer(jnp.array([1.0, 7.0, 5.0, 5.0])[:, None])[:, 0].round(4)
      Array([5., 5.], dtype=float32)
    """

    _pool = staticmethod(gem_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class PowerAvgPool(_Learned, Windowed):
    """Takes the power average of every window, with a learned exponent.

    The arguments are the options of `jaxpool.lp_pool` with `mean=True`; `p` is the
    exponent at the start, above 1. The parameter `rho`, in `p = 1 + softplus(rho)`
    (Gulcehre et al. 2014), is one for all channels, or `(features,)` if `features` is
    given, of dtype `param_dtype`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.PowerAvgPool((2,))
      >>> layer(jnp.array([1.0, -7.0, 5.0, 5.0])[:, None])[:, 0].round(4)
      Array([5., 5.], dtype=float32)
    """

    _pool = staticmethod(functools.partial(lp_pool, mean=True))
    p: float = 2.0

    def _rho(self) -> jax.Array:
        if not self.p > 1:
            raise ValueError(f"`p` must be above 1, got {self.p!r}")
        return jnp.log(jnp.expm1(self._full(self.p - 1)))

    def _exponent(self, rho: jax.Array) -> jax.Array:
        return 1 + jax.nn.softplus(rho)


@dataclass(eq=False, repr=False, kw_only=True)
class LSEPool(LSE, Windowed):
    """Takes the log of the mean exponential of every window, learning its temperature.

    The arguments are the options of `jaxpool.lse_pool`; `temperature` is the one at the
    start. The parameter `log_temperature` is one for all channels, or `(features,)` if
    `features` is given, of dtype `param_dtype`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.LSEPool((2,))
      >>> layer(jnp.array([0.0, 1.0, 2.0, 2.0])[:, None])[:, 0].round(4)
      Array([0.6201, 2.    ], dtype=float32)
    """

    _pool = staticmethod(lse_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class GlobalGeMPool(GeM, Global):
    """Takes the generalised mean of whole axes, with a learned exponent.

    The arguments are the options of `jaxpool.global_gem_pool`; `p` is the exponent at
    the start. The parameter `p` is one for all channels, or `(features,)` if `features`
    is given, of dtype `param_dtype`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.GlobalGeMPool()(jnp.ones((8, 7, 7, 512))).shape
      (8, 512)
    """

    _pool = staticmethod(global_gem_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class GlobalLSEPool(LSE, Global):
    """Takes the log of the mean exponential of whole axes, learning its temperature.

    The arguments are the options of `jaxpool.global_lse_pool`; `temperature` is the one
    at the start. The parameter `log_temperature` is one for all channels, or
    `(features,)` if `features` is given, of dtype `param_dtype`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.GlobalLSEPool()(jnp.ones((8, 7, 7, 512))).shape
      (8, 512)
    """

    _pool = staticmethod(global_lse_pool)
