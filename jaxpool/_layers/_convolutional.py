"""Bodies of the layers made of convolutions: local importance and strip pooling.

Each names its convolutions, and says what it does with them. Its two classes make them,
with the norms after them, of Flax's own layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers, relu, sigmoid
from jax.nn.initializers import Initializer
from jax.typing import ArrayLike, DTypeLike

from .._adaptive import adaptive_avg_pool
from .._strip import strip_pool
from .._weighted import local_importance_pool
from .._window import Padding, PerAxis, check_float
from ._base import Layer


class Convolution(NamedTuple):
    """A convolution, and the norm after it in place of a bias."""

    in_features: int
    features: int
    kernel_size: tuple[int, ...]
    norm: Literal["batch", "instance"] | None = "batch"
    kernel_init: Initializer = initializers.lecun_normal()

    @property
    def options(self) -> dict[str, Any]:
        """What the convolution of either system is given."""
        return {
            "kernel_size": self.kernel_size,
            "use_bias": self.norm is None,
            "kernel_init": self.kernel_init,
        }

    @property
    def norm_options(self) -> dict[str, Any]:
        """What the norm of either system is given."""
        if self.norm == "batch":
            return {"momentum": 0.9, "epsilon": 1e-5}
        # Flax's InstanceNorm knows one batch axis only.
        space = tuple(range(-len(self.kernel_size) - 1, -1))
        return {"reduction_axes": space, "epsilon": 1e-5, "use_fast_variance": False}


@dataclass(eq=False, repr=False, kw_only=True)
class Block(Layer):
    """Convolutions by name, and what is done with them."""

    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    # The convolutions by name, for x with so many channels.
    _convolutions: ClassVar[Callable[..., dict[str, Convolution]]]
    # The result, from x and an object with the layers as attributes.
    _forward: ClassVar[Callable[..., jax.Array]]


# --- Local importance pooling ---------------------------------------------------------


@dataclass(eq=False, repr=False, kw_only=True)
class _LIP(Block):
    _pool = staticmethod(local_importance_pool)
    window_shape: tuple[int, ...] = (3, 3)
    strides: PerAxis | None = 2
    padding: Padding = 1
    dilation: PerAxis = 1
    ceil_mode: bool = False

    def _convolution(self, features, out_features, width, zero=False):
        init = {"kernel_init": initializers.zeros} if zero else {}
        size = (width,) * len(self.window_shape)
        return Convolution(features, out_features, size, "instance", **init)


@dataclass(eq=False, repr=False, kw_only=True)
class SimplifiedLIP(_LIP):
    """Averages every window with softmax weights of logits from one convolution.

    `local_importance_pool(x, 12 sigmoid(norm(conv(x))))`, with a convolution 3 wide and
    an instance norm with scale and bias: for a stem, in place of its max pool. The
    convolution starts at 0, and so the pool as the average without padding. `dtype` is
    that of the logits' computation (by default that of x and the parameters, promoted),
    `param_dtype` that of the parameters; the output has x's dtype. For C channels and
    two axes it has `9 C^2 + 2 C` parameters: `conv/kernel`, `norm/scale` and
    `norm/bias` of `logit`.

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

    def _convolutions(self, features: int) -> dict[str, Convolution]:
        return {"logit": self._convolution(features, features, 3, zero=True)}

    def _forward(self, x: ArrayLike, layers: Any) -> jax.Array:
        x = check_float("x", x)
        return self._call(x, 12 * sigmoid(layers.logit(x)))


@dataclass(eq=False, repr=False, kw_only=True)
class LIP(_LIP):
    """Averages every window with softmax weights of logits from a bottleneck.

    `local_importance_pool(x, 12 sigmoid(l))`, where the logits `l` come from
    convolutions 1, 3 and 1 wide, to `width`, `width` and x's channels: `reduce`, `mix`
    and `logit`, each with an instance norm with scale and bias, and ReLU between them.
    The last convolution starts at 0, and so the pool as the average without padding.
    `dtype` is that of the logits' computation (by default that of x and the parameters,
    promoted), `param_dtype` that of the parameters; the output has x's dtype. For 256
    channels and two axes it has 214,016 parameters.

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

    def _convolutions(self, features: int) -> dict[str, Convolution]:
        return {
            "reduce": self._convolution(features, self.width, 1),
            "mix": self._convolution(self.width, self.width, 3),
            "logit": self._convolution(self.width, features, 1, zero=True),
        }

    def _forward(self, x: ArrayLike, layers: Any) -> jax.Array:
        x = check_float("x", x)
        logits = layers.logit(relu(layers.mix(relu(layers.reduce(x)))))
        return self._call(x, 12 * sigmoid(logits))


# --- Strip pooling --------------------------------------------------------------------


@dataclass(eq=False, repr=False, kw_only=True)
class _Strips(Block):
    _pool = staticmethod(strip_pool)
    use_running_average: bool | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class SPBlock(_Strips):
    """Multiplies x by a gate that sees whole rows and columns (strip pooling module).

    `x sigmoid(conv(relu(rows + columns)))`, where `rows` and `columns` are the means of
    `strip_pool` after a convolution 3 wide along them, with batch norm; the last
    convolution is 1 wide, with a bias, and its name is `gate`. `dtype` is that of the
    gate's computation (by default that of x and the parameters, promoted),
    `param_dtype` that of the parameters; the output has x's dtype. For C channels it
    has `7 C^2 + 5 C` parameters. The authors' class of this name gives the gate, and
    leaves the product to its caller.

    Batch norm is Flax's, with momentum 0.9: it learns its averages unless
    `use_running_average`, an argument of the call and in linen of the constructor, is
    True; in nnx `model.eval()` sets it.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.SPBlock(16, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 8, 6, 16))).shape
      (2, 8, 6, 16)

    References:
      Hou, Zhang, Cheng, Feng, "Strip Pooling: Rethinking Spatial Pooling for Scene
      Parsing", 2020, https://arxiv.org/abs/2003.13328
    """

    def _convolutions(self, features: int) -> dict[str, Convolution]:
        return {
            "rows": Convolution(features, features, (3, 1)),
            "columns": Convolution(features, features, (1, 3)),
            "gate": Convolution(features, features, (1, 1), None),
        }

    def _forward(self, x: ArrayLike, layers: Any, fixed: bool | None) -> jax.Array:
        x = check_float("x", x)
        rows, columns = self._call(x)
        strips = layers.rows(rows, fixed) + layers.columns(columns, fixed)
        return x * sigmoid(layers.gate(relu(strips))).astype(x.dtype)


@dataclass(eq=False, repr=False, kw_only=True)
class StripPooling(_Strips):
    """Adds to x what strips and averages at several scales see (mixed pooling module).

    Every convolution has batch norm. With `m = C // 4` for C channels, two convolutions
    1 wide with ReLU lead from x to m channels: `local_in` and `strip_in`. The first
    branch adds up a convolution 3 wide (`local`) and one for each adaptive average of
    `sizes` (`pool0`, `pool1`), resized bilinearly (with half-pixel centers); the second
    adds up those of rows and columns, 3 wide along them (`rows`, `columns`). ReLU and
    another convolution 3 wide with ReLU (`local_out`, `strip_out`) end each. Both side
    by side go through a last one, 1 wide (`out`), and `relu(x + out)` is the result.
    `dtype` is that of the branches' computation (by default that of x and the
    parameters, promoted), `param_dtype` that of the parameters; the output has x's
    dtype. For 1024 channels it has 4,397,568 parameters.

    Batch norm is Flax's, with momentum 0.9: it learns its averages unless
    `use_running_average`, an argument of the call and in linen of the constructor, is
    True; in nnx `model.eval()` sets it.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.StripPooling(16, sizes=(4, 2), rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 8, 6, 16))).shape
      (2, 8, 6, 16)

    References:
      Hou, Zhang, Cheng, Feng, "Strip Pooling: Rethinking Spatial Pooling for Scene
      Parsing", 2020, https://arxiv.org/abs/2003.13328
    """

    sizes: tuple[int, ...] = (20, 12)

    def _convolutions(self, features: int) -> dict[str, Convolution]:
        m = features // 4
        if m < 1:
            raise ValueError(f"x must have at least 4 channels, got {features}")
        return {
            "local_in": Convolution(features, m, (1, 1)),
            "strip_in": Convolution(features, m, (1, 1)),
            "local": Convolution(m, m, (3, 3)),
            **{f"pool{i}": Convolution(m, m, (3, 3)) for i in range(len(self.sizes))},
            "rows": Convolution(m, m, (3, 1)),
            "columns": Convolution(m, m, (1, 3)),
            "local_out": Convolution(m, m, (3, 3)),
            "strip_out": Convolution(m, m, (3, 3)),
            "out": Convolution(2 * m, features, (1, 1)),
        }

    def _forward(self, x: ArrayLike, layers: Any, fixed: bool | None) -> jax.Array:
        x = check_float("x", x)
        near = relu(layers.local_in(x, fixed))
        seen = layers.local(near, fixed)
        for i, size in enumerate(self.sizes):
            pooled = adaptive_avg_pool(near, (size, size))
            pooled = getattr(layers, f"pool{i}")(pooled, fixed)
            seen += jax.image.resize(pooled, seen.shape, "bilinear", antialias=False)
        near = relu(layers.local_out(relu(seen), fixed))
        rows, columns = self._call(relu(layers.strip_in(x, fixed)))
        far = layers.rows(rows, fixed) + layers.columns(columns, fixed)
        far = relu(layers.strip_out(relu(far), fixed))
        y = layers.out(jnp.concatenate([near, far], axis=-1), fixed)
        return relu(x + y.astype(x.dtype))
