"""Bodies of the layers that draw random numbers, from the stream `"pool"`."""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._check import canonical_axes, check_choice, check_float
from .._engine import widen
from .._fractional import fractional_max_pool
from .._mixed import channel_axis, random_mixed_pool, takes_maximum
from .._s3 import s3_pool
from .._stochastic import random_pool, stochastic_pool
from .._window import Padding, PerAxis
from ._base import Layer
from ._windowed import Windowed


@dataclass(eq=False, repr=False, kw_only=True)
class Random(Layer):
    """A pool with a `key`, or without one where it is `deterministic`."""

    deterministic: bool | None = None

    def _drawn(self, x, where, key) -> Any:
        return self._call(x, where=where, key=key)


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


@dataclass(eq=False, repr=False, kw_only=True)
class StochasticPool(Random, Windowed):
    """Draws an element of every window, by default in proportion to its value.

    The arguments are the options of `jaxpool.stochastic_pool`. Where it is
    `deterministic` (the argument of the constructor or of the call; in nnx
    `model.eval()` sets it), it gives the expectation; else it draws from the stream
    `"pool"`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.StochasticPool((2,), rngs=nnx.Rngs(pool=0))
      >>> x = jnp.array([1.0, 3.0, 0.0, 2.0])[:, None]
      >>> layer(x)[1, 0], layer(x, deterministic=True)[:, 0]
      (Array(2., dtype=float32), Array([2.5, 2. ], dtype=float32))
    """

    _pool = staticmethod(stochastic_pool)
    sampling: Literal["multinomial", "uniform"] = "multinomial"
    value: Literal["sample", "max", "avg"] = "sample"


@dataclass(eq=False, repr=False, kw_only=True)
class RandomPool(Random, Windowed):
    """Draws an element of every window, each with the same probability.

    The arguments are the options of `jaxpool.random_pool`. Where it is `deterministic`
    (the argument of the constructor or of the call; in nnx `model.eval()` sets it), it
    gives the average; else it draws from the stream `"pool"`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.RandomPool((2,), rngs=nnx.Rngs(pool=0))
      >>> x = jnp.array([1.0, 3.0, 5.0, 5.0])[:, None]
      >>> layer(x)[1, 0], layer(x, deterministic=True)[:, 0]
      (Array(5., dtype=float32), Array([2., 5.], dtype=float32))
    """

    _pool = staticmethod(random_pool)


@dataclass(eq=False, repr=False, kw_only=True)
class S3Pool(Random, Windowed):
    """Max pooling with stride 1, then a random choice of its rows and columns.

    The arguments are the options of `jaxpool.s3_pool`. Where it is `deterministic` (the
    argument of the constructor or of the call; in nnx `model.eval()` sets it), it
    averages disjoint windows of the maxima; else it draws from the stream `"pool"`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.S3Pool((2,), rngs=nnx.Rngs(pool=0))
      >>> x = jnp.array([1.0, 3.0, 5.0, 5.0])[:, None]
      >>> layer(x)[1, 0], layer(x, deterministic=True)[:, 0]
      (Array(5., dtype=float32), Array([4., 5.], dtype=float32))
    """

    _pool = staticmethod(s3_pool)
    padding: Padding = "SAME"
    grid: PerAxis | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class RandomMixedPool(Random, Windowed):
    """Takes the maximum or the average of every window, at random.

    The arguments are the options of `jaxpool.random_mixed_pool`. Where it is
    `deterministic` (the argument of the constructor or of the call; in nnx
    `model.eval()` sets it), it gives the expectation; else it draws from the stream
    `"pool"`.

    With `inference="frequency"` it counts what it draws, once per call, and then takes
    what it drew more often, the paper's rule (the expectation where both are as often).
    `taken`, int32, holds the numbers of maxima and of averages: `(2,)`, or `(2,
    features)` for draws per channel, whose number must be given; draws per region are
    not counted. It is among the `"batch_stats"` (in nnx an `nnx.BatchStat`).

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.RandomMixedPool((2,), rngs=nnx.Rngs(pool=0))
      >>> x = jnp.array([1.0, 3.0, 2.0, 2.0])[:, None]
      >>> layer(x)[1, 0], layer(x, deterministic=True)[:, 0]
      (Array(2., dtype=float32), Array([2.5, 2. ], dtype=float32))
    """

    _pool = staticmethod(random_mixed_pool)
    per: Literal["layer", "channel", "region"] = "channel"
    alpha: float | ArrayLike = 0.5
    inference: Literal["expectation", "frequency"] = "expectation"
    features: int | None = None

    def __post_init__(self):
        check_choice("inference", self.inference, ("expectation", "frequency"))
        if self.inference == "frequency":
            check_choice("per", self.per, ("layer", "channel"))
            if self.per == "channel" and self.features is None:
                raise ValueError(
                    "`features` must be given, the number of channels, to count the "
                    'draws of each: `inference` is "frequency", got None'
                )
            if np.size(self.alpha) not in (1, *self._draws()):
                raise ValueError(
                    "`alpha` must be one number per draw, of which there are "
                    f"{int(np.prod(self._draws()))}, got shape {np.shape(self.alpha)}"
                )
        super().__post_init__()

    def _taken(self) -> jax.Array:
        return jnp.zeros((2, *self._draws()), jnp.int32)

    def _draws(self) -> tuple[Any, ...]:
        return (self.features,) if self.per == "channel" else ()

    def _counted(self, taken: jax.Array, key: jax.Array, x: ArrayLike) -> jax.Array:
        """The counts with the draws that the function makes of this key."""
        alpha = self._probability(widen(check_float("x", x)).dtype)
        maximum = takes_maximum(key, self._draws(), alpha)
        return taken + jnp.stack([maximum, ~maximum]).astype(jnp.int32)

    def _probability(self, dtype: Any) -> jax.Array:
        alpha = jnp.asarray(self.alpha, dtype)
        return alpha.reshape(self._draws() if alpha.size > 1 else ())

    def _taken_more_often(self, x, where, taken) -> jax.Array:
        maxima, averages = taken
        alpha = self._probability(jnp.result_type(float))
        more = (maxima > averages).astype(alpha.dtype)
        alpha = jnp.where(maxima == averages, alpha, more)
        axes = self.axes or tuple(range(-len(self.window_shape) - 1, -1))
        axes = canonical_axes(jnp.shape(x), axes, None)
        behind = -1 - channel_axis(axes, jnp.ndim(x))
        return self._call(
            x, where=where, alpha=alpha.reshape(*alpha.shape, *[1] * behind)
        )
