"""Bodies of what layers made of convolutions have in common.

A block names its convolutions, each with the norm and the activation after it, and says
what it does with them. The classes of either system make them of Flax's own layers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers, relu
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from .._check import check_choice
from .._window import PerAxis
from ._base import Layer

Norm = Literal["batch", "group", "instance"] | None
Activation = Callable[[jax.Array], jax.Array] | None
TorchNames = Mapping[str, tuple[str, str | None]]


@dataclass(eq=False, repr=False, kw_only=True)
class Convolutional(Layer):
    """The options that every convolution has."""

    norm: Norm = "batch"
    activation: Activation = relu
    use_bias: bool | None = None
    epsilon: float = 1e-5
    momentum: float = 0.9
    kernel_init: Initializer | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_running_average: bool | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.norm is not None:
            check_choice("norm", self.norm, ("batch", "group", "instance"))

    def _torch_names(self) -> TorchNames:
        """What implementations in PyTorch call the convolution and norm of each."""
        return {}

    def _activated(self, x: jax.Array) -> jax.Array:
        return x if self.activation is None else self.activation(x)


@dataclass(eq=False, repr=False, kw_only=True)
class ConvNormAct(Convolutional):
    """A convolution, then a norm, then an activation: what the blocks are made of.

    `activation(norm(conv(x)))`, with the parameters `kernel` (and `bias`) of `conv`,
    and `scale` and `bias` of `norm`; batch norm also keeps `mean` and `var`.

    Args of the constructor, after the channels and `kernel_size` (a tuple of ints):
    `strides`, `dilation` and `groups` of the convolution; `padding`, by default half
    the extent of the kernel at both ends, which keeps the size at stride 1 if the
    extent is odd; `norm`, one of `"batch"`, `"group"` (with as many groups as divide
    the channels, 32 at most), `"instance"` and None; `activation`, a function or None;
    `use_bias`, by default whether there is no norm; `epsilon` and `momentum` of the
    norm; `kernel_init`, by default uniform between `+-1 / sqrt(fan_in)` as in PyTorch;
    `dtype` of the computation (by default that of x and the parameters, promoted);
    `param_dtype`; `use_running_average`.

    Batch norm is Flax's, with one difference: its running variance is the unbiased one,
    as PyTorch's is. It learns its averages unless `use_running_average`, an argument of
    the call too, is True; in nnx `model.eval()` sets it.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.ConvNormAct(8, 16, (3, 3), strides=2, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 8, 6, 8))).shape
      (2, 4, 3, 16)

    References:
      Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by
      Reducing Internal Covariate Shift", 2015, https://arxiv.org/abs/1502.03167
    """

    strides: PerAxis = 1
    padding: PerAxis | str | tuple[tuple[int, int], ...] | None = None
    dilation: PerAxis = 1
    groups: int = 1

    def _torch_names(self) -> TorchNames:
        return {"": ("conv", "bn")}

    def _conv_options(self, kernel_size: tuple[int, ...]) -> dict[str, Any]:
        """What the convolution of either system is given."""
        if not isinstance(kernel_size, tuple):
            raise TypeError(
                "`kernel_size` must be a tuple with one int per axis, got "
                f"{kernel_size!r}"
            )
        padding = self.padding
        if padding is None:
            dilation = self.dilation
            if isinstance(dilation, int):
                dilation = (dilation,) * len(kernel_size)
            pairs = zip(kernel_size, dilation, strict=True)
            padding = tuple((d * (k - 1) + 1) // 2 for k, d in pairs)
        if isinstance(padding, tuple):
            padding = [(p, p) if isinstance(p, int) else p for p in padding]
        return {
            "kernel_size": kernel_size,
            "strides": self.strides,
            "padding": padding,
            "kernel_dilation": self.dilation,
            "feature_group_count": self.groups,
            "use_bias": self.norm is None if self.use_bias is None else self.use_bias,
            "kernel_init": self.kernel_init or _uniform,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }

    def _norm_options(self, features: int, space: int) -> dict[str, Any]:
        """What the norm of either system is given, for an input with `space` axes."""
        options = {n: getattr(self, n) for n in ("epsilon", "dtype", "param_dtype")}
        # Two passes, as PyTorch: the mean square less the squared mean loses digits.
        options["use_fast_variance"] = False
        if self.norm == "batch":
            return options | {"momentum": self.momentum}
        # Any number of batch axes: Flax's GroupNorm and InstanceNorm know only one.
        axes = tuple(range(-space - 1, -1))
        if self.norm == "group":
            groups = math.gcd(features, 32)
            return options | {"num_groups": groups, "reduction_axes": (*axes, -1)}
        return options | {"reduction_axes": axes}


def bessel(x: jax.Array) -> float:
    """What `n / (n - 1)` adds to 1, for the `n` numbers per channel of x."""
    return 1 / max(math.prod(x.shape[:-1]) - 1, 1)


_uniform = initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Unit(NamedTuple):
    """A `ConvNormAct` of a block: its channels, and its options."""

    in_features: int
    features: int
    options: dict[str, Any]


_COMMON = [field.name for field in fields(Convolutional)]
_COMMON.remove("use_running_average")


@dataclass(eq=False, repr=False, kw_only=True)
class Block(Convolutional):
    """Convolutions by name, and what is done with them."""

    # By name, for x with so many channels (and for so many of the output).
    _units: ClassVar[Callable[..., dict[str, Unit]]]
    # The result, from x and an object with the units as attributes.
    _forward: ClassVar[Callable[..., jax.Array]]

    def _unit(self, in_features: int, features: int, size: tuple[int, ...], **more):
        if min(in_features, features) < 1:
            raise ValueError(
                f"{type(self).__name__} must have at least one channel everywhere, got "
                f"a convolution from {in_features} to {features}"
            )
        options = {name: getattr(self, name) for name in _COMMON}
        return Unit(in_features, features, options | {"kernel_size": size} | more)
