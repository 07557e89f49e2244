"""Bodies of the layers that weight windows by logits from convolutions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
from jax.nn import initializers, sigmoid

from .._weighted import local_importance_pool
from .._window import Padding, PerAxis
from ._convolutional import Block, Norm, Unit


@dataclass(eq=False, repr=False, kw_only=True)
class _LIP(Block):
    _pool = staticmethod(local_importance_pool)
    window_shape: tuple[int, ...] = (3, 3)
    strides: PerAxis | None = 2
    padding: Padding = 1
    dilation: PerAxis = 1
    ceil_mode: bool = False
    norm: Norm = "instance"

    # The logits of x, from the units.
    _logits: ClassVar[Callable[..., jax.Array]]

    def _of_width(self, in_features: int, features: int, width: int, **more) -> Unit:
        size = (width,) * len(self.window_shape)
        return self._unit(in_features, features, size, **more)

    def _logit(self, in_features: int, features: int, width: int) -> Unit:
        start = {"kernel_init": initializers.zeros, "activation": None}
        return self._of_width(in_features, features, width, **start)

    def _forward(self, x: jax.Array, layers: Any) -> jax.Array:
        return self._call(x, 12 * sigmoid(self._logits(x, layers)))


@dataclass(eq=False, repr=False, kw_only=True)
class SimplifiedLIP(_LIP):
    """Averages every window with softmax weights of logits from one convolution.

    `local_importance_pool(x, 12 sigmoid(norm(conv(x))))`, with a convolution 3 wide and
    an instance norm with scale and bias: for a stem, in place of its max pool. The
    convolution starts at 0, and so the pool as the average without padding. `dtype` is
    that of the logits' computation (by default that of x and the parameters, promoted),
    `param_dtype` that of the parameters; the output has x's dtype. For C channels and
    two axes it has `9 C^2 + 2 C` parameters: `conv/kernel`, `norm/scale` and
    `norm/bias` of `logit`. The other arguments are those of `ConvNormAct`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.SimplifiedLIP(16, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 8, 8, 16))).shape
      (2, 4, 4, 16)

    References:
      Gao, Wang, Wu, "LIP: Local Importance-based Pooling", 2019,
      https://arxiv.org/abs/1908.04156
    """

    def _units(self, in_features: int) -> dict[str, Unit]:
        return {"logit": self._logit(in_features, in_features, 3)}

    def _logits(self, x: jax.Array, layers: Any) -> jax.Array:
        return layers.logit(x)


@dataclass(eq=False, repr=False, kw_only=True)
class LIP(_LIP):
    """Averages every window with softmax weights of logits from a bottleneck.

    `local_importance_pool(x, 12 sigmoid(l))`, where the logits `l` come from
    convolutions 1, 3 and 1 wide, to `width`, `width` and x's channels: `reduce`, `mix`
    and `logit`, each with an instance norm with scale and bias, and ReLU between them.
    The last convolution starts at 0, and so the pool as the average without padding.
    `dtype` is that of the logits' computation (by default that of x and the parameters,
    promoted), `param_dtype` that of the parameters; the output has x's dtype. For 256
    channels and two axes it has 214,016 parameters. The other arguments are those of
    `ConvNormAct`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.LIP(16, window_shape=(2, 2), padding=0, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 8, 8, 16))).shape
      (2, 4, 4, 16)

    References:
      Gao, Wang, Wu, "LIP: Local Importance-based Pooling", 2019,
      https://arxiv.org/abs/1908.04156
    """

    width: int = 128

    def _units(self, in_features: int) -> dict[str, Unit]:
        return {
            "reduce": self._of_width(in_features, self.width, 1),
            "mix": self._of_width(self.width, self.width, 3),
            "logit": self._logit(self.width, in_features, 1),
        }

    def _logits(self, x: jax.Array, layers: Any) -> jax.Array:
        return layers.logit(layers.mix(layers.reduce(x)))
