"""Bodies of the layers, shared by `nnx.py` and `linen.py`.

A body is a dataclass with the options of its function as fields; input arrays go to the
call. To add a layer, write its body here, its class in `nnx.py` and `linen.py`, and its
options in `tests/test_modules.py`, which fails until all agree with the function. What
a layer learns is made by its two classes, from what its body says.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ._mean import avg_pool, sum_pool
from ._norm import gem_pool, lp_pool, lse_pool
from ._order import max_pool, median_pool, min_pool
from ._weighted import soft_pool
from ._window import Padding, PerAxis

# Every dataclass below is written out, for type checkers, with the same three options.
# eq=False: nnx hashes modules by identity. repr=False: either system has its own.
# kw_only=True: linen puts its `parent` and `name` right after the positional fields.


@dataclass(eq=False, repr=False, kw_only=True)
class _Layer:
    _pool: ClassVar[Callable[..., Any]]

    def __post_init__(self):
        # A list would make the layer unhashable, which linen and nnx.jit refuse.
        for name in self._names():
            setattr(self, name, _as_tuple(getattr(self, name)))
        # linen's modules finish their construction here; nnx's have nothing to do.
        getattr(super(), "__post_init__", lambda: None)()

    def _call(self, *arrays: ArrayLike, **more: ArrayLike | None) -> Any:
        options = {name: getattr(self, name) for name in self._names()}
        return self._pool(*arrays, **options | more)

    def _names(self) -> list[str]:
        # Not simply all fields: linen and subclasses add some of their own.
        known = inspect.signature(self._pool).parameters
        return [field.name for field in fields(self) if field.name in known]


@dataclass(eq=False, repr=False, kw_only=True)
class _Windowed(_Layer):
    window_shape: tuple[int, ...] = field(kw_only=False)
    strides: PerAxis | None = None
    padding: Padding = "VALID"
    dilation: PerAxis = 1
    ceil_mode: bool = False
    axes: tuple[int, ...] | None = None
    empty: float = 0.0

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class _Extremum(_Windowed):
    return_indices: bool = False

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> Any:
        """Pools x, to a pair with the indices if `return_indices`."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class MaxPool(_Extremum):
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
class MinPool(_Extremum):
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
class SumPool(_Windowed):
    """Adds up the elements of every window.

    The arguments are the options of `jaxpool.sum_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.SumPool((2,))(jnp.arange(4.0)[:, None])[:, 0]
      Array([1., 5.], dtype=float32)
    """

    _pool = staticmethod(sum_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class AvgPool(_Windowed):
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
class LpPool(_Windowed):
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
class MedianPool(_Windowed):
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
class SoftPool(_Windowed):
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


# --- With a parameter -----------------------------------------------------------------


@dataclass(eq=False, repr=False, kw_only=True)
class _Learned(_Windowed):
    """A pool with a learned parameter: one for all, or one per channel."""

    features: int | None = None
    param_dtype: DTypeLike = jnp.float32

    def _full(self, value: float) -> jax.Array:
        """The parameter at the start."""
        shape = () if self.features is None else (self.features,)
        return jnp.full(shape, value, self.param_dtype)


@dataclass(eq=False, repr=False, kw_only=True)
class GeMPool(_Learned):
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
    p: Any = 3.0  # in nnx the parameter takes its place
    eps: float = 1e-6


@dataclass(eq=False, repr=False, kw_only=True)
class PowerAvgPool(_Learned):
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
class LSEPool(_Learned):
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
    temperature: float = 1.0

    def _log_temperature(self) -> jax.Array:
        if not self.temperature > 0:
            raise ValueError(f"`temperature` must be positive, got {self.temperature}")
        return jnp.log(self._full(self.temperature))


def _as_tuple(value):
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value
