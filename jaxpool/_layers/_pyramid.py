"""Bodies of the layers of the SPP family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.nn import relu, silu
from jax.typing import ArrayLike

from .._check import check_sizes
from .._pyramid import max_pool_pyramid, spatial_pyramid_pool
from ._base import Layer
from ._convolutional import Activation, Block, TorchNames, Unit


@dataclass(eq=False, repr=False, kw_only=True)
class SpatialPyramidPool(Layer):
    """Pools x into grids of several sizes: a vector of the same length for any size.

    The arguments are the options of `jaxpool.spatial_pyramid_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> jaxpool.nnx.SpatialPyramidPool()(jnp.ones((8, 13, 13, 256))).shape
      (8, 5376)
    """

    _pool = staticmethod(spatial_pyramid_pool)
    levels: tuple[int | tuple[int, ...], ...] = (4, 2, 1)
    reducer: Literal["max", "avg"] = "max"
    windows: Literal["adaptive", "paper", "caffe"] = "adaptive"
    channels_first: bool = False
    axes: tuple[int, ...] = (-3, -2)
    empty: float = 0.0

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class MaxPoolPyramid(Layer):
    """Takes maxima of windows of several sizes around every element.

    The arguments are the options of `jaxpool.max_pool_pyramid`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> [y.shape for y in jaxpool.nnx.MaxPoolPyramid()(jnp.ones((8, 20, 20, 64)))]
      [(8, 20, 20, 64), (8, 20, 20, 64), (8, 20, 20, 64)]
    """

    _pool = staticmethod(max_pool_pyramid)
    sizes: tuple[int, ...] = (5, 9, 13)
    axes: tuple[int, ...] = (-3, -2)
    empty: float = 0.0

    def __call__(
        self, x: ArrayLike, *, where: ArrayLike | None = None
    ) -> tuple[jax.Array, ...]:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where)


# --- Blocks ---------------------------------------------------------------------------


@dataclass(eq=False, repr=False, kw_only=True)
class PyramidBlock(Block):
    """A block whose convolutions are as wide along every pooled axis."""

    spatial_dims: int = 2

    def _of_width(self, in_features: int, features: int, width: int, **more) -> Unit:
        size = (width,) * self.spatial_dims
        return self._unit(in_features, features, size, **more)

    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.spatial_dims - 1, -1))


@dataclass(eq=False, repr=False, kw_only=True)
class _Yolo(PyramidBlock):
    activation: Activation = silu
    epsilon: float = 1e-3
    momentum: float = 0.97

    # What its implementations in PyTorch call each unit.
    _torch: ClassVar[Mapping[str, str]]
    # The windows that it pools by.
    _sizes: ClassVar[Callable[..., tuple[int, ...]]]

    def _torch_names(self) -> TorchNames:
        return {k: (f"{v}.conv", f"{v}.bn") for k, v in self._torch.items()}

    def _with_maxima(self, x: jax.Array) -> jax.Array:
        """x and its maxima at every scale, concatenated."""
        maxima = max_pool_pyramid(x, sizes=self._sizes(), axes=self._axes())
        return jnp.concatenate([x, *maxima], axis=-1)


@dataclass(eq=False, repr=False, kw_only=True)
class _Separate(_Yolo):
    """Windows one by one."""

    kernel_sizes: tuple[int, ...] = (5, 9, 13)

    def _sizes(self) -> tuple[int, ...]:
        return check_sizes("kernel_sizes", self.kernel_sizes)


@dataclass(eq=False, repr=False, kw_only=True)
class _Chained(_Yolo):
    """The windows of one pool applied once, twice, and so on."""

    kernel_size: int = 5
    repeats: int = 3

    def _sizes(self) -> tuple[int, ...]:
        (k,) = check_sizes("kernel_size", (self.kernel_size,))
        (n,) = check_sizes("repeats", (self.repeats,))
        return tuple(i * (k - 1) + 1 for i in range(1, n + 1))


@dataclass(eq=False, repr=False, kw_only=True)
class _Straight(_Yolo):
    """A convolution before the maxima, and one after them."""

    _torch = MappingProxyType({"reduce": "cv1", "out": "cv2"})
    expansion: float = 0.5

    def _units(self, in_features: int, features: int) -> dict[str, Unit]:
        hidden, scales = int(in_features * self.expansion), 1 + len(self._sizes())
        return {
            "reduce": self._of_width(in_features, hidden, 1),
            "out": self._of_width(scales * hidden, features, 1),
        }

    def _forward(self, x: jax.Array, layers: Any) -> jax.Array:
        return layers.out(self._with_maxima(layers.reduce(x)))


@dataclass(eq=False, repr=False, kw_only=True)
class SPP(_Separate, _Straight):
    """Maxima at several scales beside x, between convolutions (YOLO's SPP).

    A convolution 1 wide (`reduce`) to `expansion` times x's channels; its maxima over
    windows of `kernel_sizes` (`max_pool_pyramid`) beside it; and a convolution 1 wide
    (`out`) to the output. Each convolution has batch norm and SiLU. The other
    arguments, and those that these are the defaults of, are those of `ConvNormAct`;
    `spatial_dims` is the number of pooled axes. From 1024 channels to 1024 it has
    2,624,512 parameters.

    Batch norm learns its averages unless `use_running_average`, an argument of the call
    too, is True; in nnx `model.eval()` sets it.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.SPP(8, 16, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 7, 9, 8))).shape
      (2, 7, 9, 16)

    References:
      He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for
      Visual Recognition", 2014, https://arxiv.org/abs/1406.4729; Bochkovskiy, Wang,
      Liao, "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020,
      https://arxiv.org/abs/2004.10934, section 3.4
    """


@dataclass(eq=False, repr=False, kw_only=True)
class SPPF(_Chained, _Straight):
    """Maxima at several scales beside x, between convolutions: `SPP`, written shorter.

    `SPP` with the windows of a max pool of `kernel_size` applied once, twice, ...,
    `repeats` times: `k`, `2 k - 1`, ..., which for 5 and 3 are 5, 9 and 13. The layers,
    parameters and results are the same. With `reduce_activation=False` the first
    convolution has no activation, and with `shortcut` x is added to the output, as
    later versions of YOLO have it. The other arguments, and those that these are the
    defaults of, are those of `ConvNormAct`; `spatial_dims` is the number of pooled
    axes. From 1024 channels to 1024 it has 2,624,512 parameters.

    Batch norm learns its averages unless `use_running_average`, an argument of the call
    too, is True; in nnx `model.eval()` sets it.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.SPPF(8, 16, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 7, 9, 8))).shape
      (2, 7, 9, 16)

    References:
      He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for
      Visual Recognition", 2014, https://arxiv.org/abs/1406.4729; Jocher, "YOLOv5",
      2020, https://doi.org/10.5281/zenodo.3908559
    """

    reduce_activation: bool = True
    shortcut: bool = False

    def _units(self, in_features: int, features: int) -> dict[str, Unit]:
        if self.shortcut and in_features != features:
            raise ValueError(
                "`shortcut` must be False unless the output has as many channels as x, "
                f"got {in_features} and {features}"
            )
        units = super()._units(in_features, features)
        if not self.reduce_activation:
            units["reduce"].options["activation"] = None
        return units

    def _forward(self, x: jax.Array, layers: Any) -> jax.Array:
        y = super()._forward(x, layers)
        return x.astype(y.dtype) + y if self.shortcut else y


@dataclass(eq=False, repr=False, kw_only=True)
class SimSPPF(SPPF):
    """`SPPF` with ReLU, as YOLOv6 has it.

    The arguments and the parameters are those of `SPPF`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.SimSPPF(8, 16, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 7, 9, 8))).shape
      (2, 7, 9, 16)

    References:
      Li et al., "YOLOv6: A Single-Stage Object Detection Framework for Industrial
      Applications", 2022, https://arxiv.org/abs/2209.02976
    """

    activation: Activation = relu


@dataclass(eq=False, repr=False, kw_only=True)
class _CrossStage(_Yolo):
    _torch = MappingProxyType(
        {
            "reduce": "cv1",
            "bypass": "cv2",
            "mix": "cv3",
            "squeeze": "cv4",
            "fuse": "cv5",
            "refine": "cv6",
            "out": "cv7",
        }
    )
    expansion: float = 0.5

    def _hidden(self, features: int) -> int:
        return int(2 * features * self.expansion)

    def _units(self, in_features: int, features: int) -> dict[str, Unit]:
        hidden, scales = self._hidden(features), 1 + len(self._sizes())
        return {
            "reduce": self._of_width(in_features, hidden, 1),
            "bypass": self._of_width(in_features, hidden, 1),
            "mix": self._of_width(hidden, hidden, 3),
            "squeeze": self._of_width(hidden, hidden, 1),
            "fuse": self._of_width(scales * hidden, hidden, 1),
            "refine": self._of_width(hidden, hidden, 3),
            "out": self._of_width(2 * hidden, features, 1),
        }

    def _paths(self, x: jax.Array, layers: Any) -> tuple[jax.Array, jax.Array]:
        y = layers.squeeze(layers.mix(layers.reduce(x)))
        return layers.refine(layers.fuse(self._with_maxima(y))), layers.bypass(x)

    def _forward(self, x: jax.Array, layers: Any) -> jax.Array:
        paths = self._paths(x, layers)
        return layers.out(jnp.concatenate(paths, axis=-1))


@dataclass(eq=False, repr=False, kw_only=True)
class SPPCSPC(_Separate, _CrossStage):
    """Maxima at several scales on one of two paths (YOLOv7's SPP).

    With `h = 2 expansion out_features` channels: one path is convolutions 1, 3 and 1
    wide (`reduce`, `mix`, `squeeze`), their maxima over windows of `kernel_sizes`
    beside them, and convolutions 1 and 3 wide (`fuse`, `refine`); the other a
    convolution 1 wide (`bypass`). A convolution 1 wide (`out`) of the two, the pooled
    one first, leads to the output. Each convolution has batch norm and SiLU. The other
    arguments, and those that these are the defaults of, are those of `ConvNormAct`;
    `spatial_dims` is the number of pooled axes. From 1024 channels to 512 it has
    7,609,344 parameters.

    Batch norm learns its averages unless `use_running_average`, an argument of the call
    too, is True; in nnx `model.eval()` sets it.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.SPPCSPC(8, 16, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 7, 9, 8))).shape
      (2, 7, 9, 16)

    References:
      Wang, Bochkovskiy, Liao, "YOLOv7: Trainable bag-of-freebies sets new
      state-of-the-art for real-time object detectors", 2022,
      https://arxiv.org/abs/2207.02696; Wang et al., "CSPNet: A New Backbone that can
      Enhance Learning Capability of CNN", 2019, https://arxiv.org/abs/1911.11929
    """


@dataclass(eq=False, repr=False, kw_only=True)
class SPPFCSPC(_Chained, _CrossStage):
    """`SPPCSPC` with the windows of a max pool applied again and again.

    They are those of `SPPF`: `kernel_size` applied once, twice, ..., `repeats` times.
    The layers, the other arguments, and for 5 and 3 the results are those of `SPPCSPC`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.SPPFCSPC(8, 16, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 7, 9, 8))).shape
      (2, 7, 9, 16)

    References:
      Wang, Bochkovskiy, Liao, "YOLOv7: Trainable bag-of-freebies sets new
      state-of-the-art for real-time object detectors", 2022,
      https://arxiv.org/abs/2207.02696
    """


@dataclass(eq=False, repr=False, kw_only=True)
class CSPSPPF(SPPFCSPC):
    """`SPPFCSPC` at half the width, and with the paths the other way round (YOLOv6).

    `h = expansion out_features` channels, and the path without pools comes first in
    the last convolution. With `activation=jax.nn.relu` it is SimCSPSPPF. The other
    arguments are those of `SPPFCSPC`. From 1024 channels to 1024 it has 8,134,656
    parameters.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.CSPSPPF(8, 16, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 7, 9, 8))).shape
      (2, 7, 9, 16)

    References:
      Li et al., "YOLOv6 v3.0: A Full-Scale Reloading", 2023,
      https://arxiv.org/abs/2301.05586
    """

    def _hidden(self, features: int) -> int:
        return int(features * self.expansion)

    def _paths(self, x: jax.Array, layers: Any) -> tuple[jax.Array, jax.Array]:
        pooled, bypass = super()._paths(x, layers)
        return bypass, pooled
