"""Bodies of the layers with parameters, which their classes make."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer, normal
from jax.typing import DTypeLike

from .._adapool import Gradient, ada_pool
from .._check import as_int, check_parameter, check_sizes
from .._global import global_gem_pool, global_lse_pool
from .._mixed import gated_pool, mixed_pool, tree_pool
from .._norm import gem_pool, lp_pool, lse_pool
from .._rank import rank_pool
from ._base import Layer
from ._global import Global
from ._windowed import Windowed

_NORMAL = normal(0.1)


@dataclass(eq=False, repr=False, kw_only=True)
class Learned(Layer):
    """A pool with a learned parameter: one for all, or one per channel."""

    features: int | None = None
    param_dtype: DTypeLike = jnp.float32

    def _given(
        self, name: str, expected: str, holds: Callable[[np.ndarray], np.ndarray]
    ) -> jax.Array:
        """The parameter at the start, an option: a number, or a tuple, one per channel.

        Not an array: as an attribute it would be part of the state, or unhashable.
        """
        value, shape = getattr(self, name), self._shape()
        value = check_parameter(name, value, shape, self.param_dtype, expected, holds)
        return jnp.broadcast_to(value, shape)

    def _full(self, value: float, *head: int) -> jax.Array:
        """The parameter at the start."""
        return jnp.full(self._shape(*head), value, self.param_dtype)

    def _shape(self, *head: int) -> tuple[int, ...]:
        return head if self.features is None else (*head, self.features)


@dataclass(eq=False, repr=False, kw_only=True)
class _OfTaps(Learned, Windowed):
    """A pool with a parameter for each tap of its window."""

    def _taps(self) -> int:
        return math.prod(check_sizes("window_shape", self.window_shape))


@dataclass(eq=False, repr=False, kw_only=True)
class GeM(Learned):
    """A generalised mean with a learned exponent."""

    p: Any = 3.0  # in nnx the parameter takes its place
    eps: float = 1e-6

    def _start(self) -> jax.Array:
        return self._given("p", "be positive", lambda v: v > 0)


@dataclass(eq=False, repr=False, kw_only=True)
class LSE(Learned):
    """A pool with a learned temperature."""

    temperature: float | tuple[float, ...] = 1.0

    def _log_temperature(self) -> jax.Array:
        return jnp.log(self._given("temperature", "be positive", lambda v: v > 0))


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
class PowerAvgPool(Learned, Windowed):
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
    p: float | tuple[float, ...] = 2.0

    def _rho(self) -> jax.Array:
        p = self._given("p", "be above 1", lambda v: v > 1)
        return jnp.log(jnp.expm1(p - 1))

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


@dataclass(eq=False, repr=False, kw_only=True)
class RankPool(_OfTaps):
    """Adds up every window's elements, with a learned weight for each rank.

    The arguments are the options of `jaxpool.rank_pool`. The parameter `weights`, for
    the largest element first, is `(taps,)`, or `(taps, features)` if `features` is
    given, of dtype `param_dtype`. It starts as the average, `1 / taps`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.RankPool((2,), features=1)
      >>> layer.weights.shape, layer(jnp.array([[3.0], [9.0]]))
      ((2, 1), Array([[6.]], dtype=float32))
    """

    _pool = staticmethod(rank_pool)

    def _weights(self) -> jax.Array:
        taps = self._taps()
        return self._full(1 / taps, taps)


@dataclass(eq=False, repr=False, kw_only=True)
class MixedPool(Learned, Windowed):
    """Mixes the maximum and the average of every window, with a learned part of each.

    The arguments are the options of `jaxpool.mixed_pool`; `alpha` is the part of the
    maximum at the start. The parameter `alpha` is one for all channels, or
    `(features,)` if `features` is given, of dtype `param_dtype`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.MixedPool((2,))
      >>> layer(jnp.array([1.0, 3.0, 0.0, 2.0])[:, None])[:, 0]
      Array([2.5, 1.5], dtype=float32)
    """

    _pool = staticmethod(mixed_pool)
    alpha: Any = 0.5  # in nnx the parameter takes its place

    def _start(self) -> jax.Array:
        return self._given("alpha", "be finite", np.isfinite)


@dataclass(eq=False, repr=False, kw_only=True)
class GatedPool(_OfTaps):
    """Mixes the maximum and the average of every window by a learned gate.

    The arguments are the options of `jaxpool.gated_pool`. The parameter `gate` is
    `(taps,)`, or `(taps, features)` if `features` is given, of dtype `param_dtype`. It
    starts at 0, the middle of both (the paper's experiments draw it from N(0, 0.1^2)).

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.GatedPool((2,))
      >>> layer(jnp.array([1.0, 3.0, 0.0, 2.0])[:, None])[:, 0]
      Array([2.5, 1.5], dtype=float32)
    """

    _pool = staticmethod(gated_pool)

    def _gate(self) -> jax.Array:
        return self._full(0.0, self._taps())


@dataclass(eq=False, repr=False, kw_only=True)
class TreePool(_OfTaps):
    """Mixes learned filters of every window in a tree of learned gates.

    The arguments are the options of `jaxpool.tree_pool`. A tree of `levels`, 2 or 3 in
    the paper, has `L = 2^(levels - 1)` leaves: the parameters `leaves`, `(L, taps)`,
    and `gates`, `(L - 1, taps)`, each with `features` as last axis if given, of dtype
    `param_dtype`. `leaves_init` and `gates_init` draw them from the stream `"params"`,
    by default from N(0, 0.1^2) as the authors do.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.TreePool((3, 3), levels=3, rngs=nnx.Rngs(0))
      >>> layer.leaves.shape, layer.gates.shape
      ((4, 9), (3, 9))
      >>> layer(jnp.ones((8, 9, 9, 16))).shape
      (8, 3, 3, 16)
    """

    _pool = staticmethod(tree_pool)
    levels: int = 2
    leaves_init: Initializer = _NORMAL
    gates_init: Initializer = _NORMAL

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the leaves and of the gates."""
        levels = as_int("levels", self.levels)
        if levels < 2:
            raise ValueError(f"`levels` must be at least 2, got {levels}")
        count, taps = 2 ** (levels - 1), self._taps()
        return self._shape(count, taps), self._shape(count - 1, taps)


@dataclass(eq=False, repr=False, kw_only=True)
class AdaPool(Learned, Windowed):
    """Mixes two weighted averages of every window, with a learned part of each.

    The arguments are the options of `jaxpool.ada_pool`; `beta` is the part of
    `edscw_pool` at the start, the rest is that of `soft_pool`. The parameter `beta` is
    one for all channels, `(features,)` if `features` is given, or, as in the paper,
    `output_shape` if that is given: one for each position of an output of this size. It
    is of dtype `param_dtype`. The call clips it to [0, 1]; beyond, it has no gradient.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.array([1.0, 3.0, -1.0, 0.0, 1.0, 5.0])[:, None]
      >>> layer = jaxpool.nnx.AdaPool((2,), output_shape=(3,))
      >>> layer.beta[...]
      Array([0.5, 0.5, 0.5], dtype=float32)
      >>> [round(v, 3) for v in layer(x)[:, 0].tolist()]
      [2.412, -0.479, 4.104]
    """

    _pool = staticmethod(ada_pool)
    output_shape: tuple[int, ...] | None = None
    beta: Any = 0.5  # in nnx the parameter takes its place
    gradient: Gradient = "exact"

    def _beta(self) -> jax.Array:
        if self.output_shape is None:
            return self._given("beta", "be finite", np.isfinite)
        if self.features is not None:
            raise ValueError(
                "`features` must be None where `output_shape` is given, got "
                f"{self.features}"
            )
        return jnp.full(self.output_shape, self.beta, self.param_dtype)

    def _clipped(self, beta: jax.Array, ndim: int) -> jax.Array:
        """Beta in [0, 1], for an output with `ndim` axes."""
        beta = jnp.clip(beta, 0, 1)
        if self.output_shape is None:
            return beta
        axes = range(-beta.ndim - 1, -1) if self.axes is None else self.axes
        beta = beta.reshape(beta.shape + (1,) * (ndim - beta.ndim))
        return jnp.moveaxis(beta, range(len(axes)), axes)
