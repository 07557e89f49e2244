"""Bodies of the blocks of strip pooling."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from .._adaptive import adaptive_avg_pool
from .._strip import strip_pool
from ._convolutional import Block, TorchNames, Unit
from ._resize import resize


@dataclass(eq=False, repr=False, kw_only=True)
class SPBlock(Block):
    """Multiplies x by a gate that sees whole rows and columns (strip pooling module).

    `x sigmoid(conv(relu(rows + columns)))`, where `rows` and `columns` are the means of
    `strip_pool` after a convolution 3 wide along them, with batch norm; the last
    convolution is 1 wide, with a bias, and its name is `gate`. `dtype` is that of the
    gate's computation (by default that of x and the parameters, promoted),
    `param_dtype` that of the parameters; the output has x's dtype. For C channels it
    has `7 C^2 + 5 C` parameters. The authors' class of this name gives the gate, and
    leaves the product to its caller. The other arguments are those of `ConvNormAct`.

    Batch norm learns its averages unless `use_running_average`, an argument of the call
    too, is True; in nnx `model.eval()` sets it.

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

    def _units(self, in_features: int) -> dict[str, Unit]:
        c, plain = in_features, {"norm": None, "use_bias": True, "activation": None}
        return {
            "rows": self._unit(c, c, (3, 1), activation=None),
            "columns": self._unit(c, c, (1, 3), activation=None),
            "gate": self._unit(c, c, (1, 1), **plain),
        }

    def _torch_names(self) -> TorchNames:
        return {
            "rows": ("conv1", "bn1"),
            "columns": ("conv2", "bn2"),
            "gate": ("conv3", None),
        }

    def _forward(self, x: jax.Array, layers: Any) -> jax.Array:
        rows, columns = strip_pool(x)
        strips = self._activated(layers.rows(rows) + layers.columns(columns))
        return x * sigmoid(layers.gate(strips)).astype(x.dtype)


@dataclass(eq=False, repr=False, kw_only=True)
class StripPooling(Block):
    """Adds to x what strips and averages at several scales see (mixed pooling module).

    Every convolution has batch norm. With `m = C // 4` for C channels, two convolutions
    1 wide with ReLU lead from x to m channels: `local_in` and `strip_in`. The first
    branch adds up a convolution 3 wide (`local`) and one for each adaptive average of
    `sizes` (`pool0`, `pool1`), resized bilinearly (with half-pixel centers, or with
    `align_corners` as PyTorch's option of this name); the second adds up those of rows
    and columns, 3 wide along them (`rows`, `columns`). ReLU and another convolution
    3 wide with ReLU (`local_out`, `strip_out`) end each. Both side by side go through
    a last one, 1 wide (`out`), and `relu(x + out)` is the result. `dtype` is that of
    the branches' computation (by default that of x and the parameters, promoted),
    `param_dtype` that of the parameters; the output has x's dtype. For 1024 channels
    it has 4,397,568 parameters. The other arguments are those of `ConvNormAct`.

    Batch norm learns its averages unless `use_running_average`, an argument of the call
    too, is True; in nnx `model.eval()` sets it.

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
    align_corners: bool = False

    def _units(self, in_features: int) -> dict[str, Unit]:
        c, m = in_features, in_features // 4
        summand = {"activation": None}
        return {
            "local_in": self._unit(c, m, (1, 1)),
            "strip_in": self._unit(c, m, (1, 1)),
            "local": self._unit(m, m, (3, 3), **summand),
            **{
                f"pool{i}": self._unit(m, m, (3, 3), **summand)
                for i in range(len(self.sizes))
            },
            "columns": self._unit(m, m, (1, 3), **summand),
            "rows": self._unit(m, m, (3, 1), **summand),
            "local_out": self._unit(m, m, (3, 3)),
            "strip_out": self._unit(m, m, (3, 3)),
            "out": self._unit(2 * m, c, (1, 1), **summand),
        }

    def _torch_names(self) -> TorchNames:
        # conv1_1, conv1_2, conv2_0 and so on, in the order of the units.
        pools = len(self.sizes)
        numbers = ["1_1", "1_2", *(f"2_{i}" for i in range(pools + 5)), "3"]
        names = self._units(4)
        return {
            name: (f"conv{number}.0", f"conv{number}.1")
            for name, number in zip(names, numbers, strict=True)
        }

    def _forward(self, x: jax.Array, layers: Any) -> jax.Array:
        near = layers.local_in(x)
        seen = layers.local(near)
        for i, size in enumerate(self.sizes):
            pooled = getattr(layers, f"pool{i}")(adaptive_avg_pool(near, (size, size)))
            seen += resize(pooled, seen.shape, self.align_corners)
        near = layers.local_out(self._activated(seen))
        rows, columns = strip_pool(layers.strip_in(x))
        far = layers.strip_out(
            self._activated(layers.rows(rows) + layers.columns(columns))
        )
        y = layers.out(jnp.concatenate([near, far], axis=-1))
        return self._activated(x + y.astype(x.dtype))
