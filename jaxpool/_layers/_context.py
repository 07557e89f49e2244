"""Bodies of the blocks that see context at several scales: ASPP and PPM."""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.nn import initializers

from .._adaptive import adaptive_avg_pool
from .._check import check_choice
from .._global import global_avg_pool
from ._convolutional import TorchNames, Unit
from ._pyramid import PyramidBlock
from ._resize import resize


@dataclass(eq=False, repr=False, kw_only=True)
class ASPP(PyramidBlock):
    """Convolutions of several dilations side by side (atrous spatial pyramid pooling).

    With `form="concat"` (DeepLabv3) the branches are a convolution 1 wide (`branch0`),
    one 3 wide for each of `rates` (`branch1`, `branch2`, ...) dilated by it, and unless
    `image_pool` is False the global average through a convolution 1 wide (`image`),
    spread over the map again. They are concatenated in this order; a convolution 1 wide
    (`out`) leads to the output, and dropout ends it. Each has batch norm and ReLU. With
    `separable` (DeepLabv3+) a dilated convolution goes channel by channel
    (`depthwise1`, ...), and one 1 wide follows. The default `rates`, (6, 12, 18), are
    those for an output stride of 16; for 8, double them.

    With `form="sum"` (DeepLabv2) the branches `branch0`, `branch1`, ... are 3 wide with
    a bias, dilated by `rates`, (6, 12, 18, 24) by default, and their sum is the output:
    a score per class. `norm`, `activation`, `image_pool`, `separable` and
    `dropout_rate` have no part in it.

    `out_features` (in linen `features`) is the number of channels of the output and of
    each branch. `dropout_rate` is that of torchvision; `deterministic`, an argument of
    the call too, switches dropout off, as in nnx `model.eval()` does; in linen it is by
    default what `use_running_average` is. The other arguments are those of
    `ConvNormAct`; `spatial_dims` is the number of pooled axes. From 2048 channels to
    256 with three rates it has 15,535,104 parameters.

    The image branch normalises one number per channel and image: train it with several
    images at a time, as the variance of one number is 0.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.ASPP(8, 4, rates=(1, 2), rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 6, 5, 8))).shape
      (2, 6, 5, 4)

    References:
      Chen, Papandreou, Kokkinos, Murphy, Yuille, "DeepLab: Semantic Image Segmentation
      with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs", 2016,
      https://arxiv.org/abs/1606.00915; Chen, Papandreou, Schroff, Adam, "Rethinking
      Atrous Convolution for Semantic Image Segmentation", 2017,
      https://arxiv.org/abs/1706.05587; Chen et al., "Encoder-Decoder with Atrous
      Separable Convolution for Semantic Image Segmentation", 2018,
      https://arxiv.org/abs/1802.02611
    """

    form: Literal["concat", "sum"] = "concat"
    rates: tuple[int, ...] | None = None
    separable: bool = False
    image_pool: bool = True
    dropout_rate: float = 0.5
    deterministic: bool | None = None

    def __post_init__(self):
        super().__post_init__()
        check_choice("form", self.form, ("concat", "sum"))

    def _dilations(self) -> tuple[int, ...]:
        if self.rates is not None:
            return self.rates
        return (6, 12, 18) if self.form == "concat" else (6, 12, 18, 24)

    def _units(self, in_features: int, features: int) -> dict[str, Unit]:
        if self.form == "sum":
            return self._summands(in_features, features)
        units = {"branch0": self._of_width(in_features, features, 1)}
        for i, rate in enumerate(self._dilations(), 1):
            if self.separable:
                wide = {"dilation": rate, "groups": in_features}
                units[f"depthwise{i}"] = self._of_width(
                    in_features, in_features, 3, **wide
                )
                units[f"branch{i}"] = self._of_width(in_features, features, 1)
            else:
                units[f"branch{i}"] = self._of_width(
                    in_features, features, 3, dilation=rate
                )
        branches = 1 + len(self._dilations())
        if self.image_pool:
            units["image"] = self._of_width(in_features, features, 1)
            branches += 1
        return units | {"out": self._of_width(branches * features, features, 1)}

    def _summands(self, in_features, features):
        plain = {
            "norm": None,
            "activation": None,
            "use_bias": self.use_bias is not False,
            "kernel_init": self.kernel_init or initializers.normal(0.01),
        }
        return {
            f"branch{i}": self._of_width(
                in_features, features, 3, dilation=rate, **plain
            )
            for i, rate in enumerate(self._dilations())
        }

    def _torch_names(self) -> TorchNames:
        count = len(self._dilations())
        if self.form == "sum":
            return {f"branch{i}": (f"c{i}", None) for i in range(count)}
        names = {f"branch{i}": f"convs.{i}" for i in range(count + 1)}
        return {k: (f"{v}.0", f"{v}.1") for k, v in names.items()} | {
            "image": (f"convs.{count + 1}.1", f"convs.{count + 1}.2"),
            "out": ("project.0", "project.1"),
        }

    def _forward(self, x: jax.Array, layers: Any) -> jax.Array:
        count = len(self._dilations())
        if self.form == "sum":
            scores = (getattr(layers, f"branch{i}")(x) for i in range(count))
            return functools.reduce(jnp.add, scores)
        branches = [layers.branch0(x)]
        for i in range(1, count + 1):
            y = getattr(layers, f"depthwise{i}")(x) if self.separable else x
            branches.append(getattr(layers, f"branch{i}")(y))
        if self.image_pool:
            pooled = layers.image(global_avg_pool(x, axes=self._axes(), keepdims=True))
            branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        return layers.out(jnp.concatenate(branches, axis=-1))


@dataclass(eq=False, repr=False, kw_only=True)
class PPM(PyramidBlock):
    """Puts averages over coarse grids beside x (pyramid pooling module).

    For each of `bins`, the adaptive average to so many bins per axis goes through a
    convolution 1 wide with batch norm and ReLU (`bin0`, `bin1`, ...), and is resized
    bilinearly to x's size. The result is x and these, concatenated: `C + len(bins) m`
    channels for the C of x, where `out_features` (in linen `features`) gives `m`, by
    default `C // len(bins)`. With `align_corners`, as in the paper's code, the middles
    of the corner elements keep their places; otherwise the outer edges do. The other
    arguments are those of `ConvNormAct`; `spatial_dims` is the number of pooled axes.
    For 2048 channels it has 4,198,400 parameters.

    A bin of the whole image normalises one number per channel and image: train it with
    several images at a time, as the variance of one number is 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.PPM(8, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 12, 9, 8))).shape
      (2, 12, 9, 16)

    References:
      Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", 2017,
      https://arxiv.org/abs/1612.01105, section 3.2
    """

    bins: tuple[int, ...] = (1, 2, 3, 6)
    align_corners: bool = True

    def _units(self, in_features: int, features: int | None) -> dict[str, Unit]:
        features = in_features // len(self.bins) if features is None else features
        unit = self._of_width(in_features, features, 1)
        return {f"bin{i}": unit for i in range(len(self.bins))}

    def _torch_names(self) -> TorchNames:
        count = range(len(self.bins))
        return {f"bin{i}": (f"features.{i}.1", f"features.{i}.2") for i in count}

    def _forward(self, x: jax.Array, layers: Any) -> jax.Array:
        parts = [x]
        for i, bins in enumerate(self.bins):
            pooled = adaptive_avg_pool(x, (bins,) * self.spatial_dims)
            pooled = getattr(layers, f"bin{i}")(pooled)
            shape = (*x.shape[:-1], pooled.shape[-1])
            parts.append(resize(pooled, shape, self.align_corners))
        return jnp.concatenate([part.astype(parts[-1].dtype) for part in parts], -1)
