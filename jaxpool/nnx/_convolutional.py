"""The pools made of convolutions, as layers of `flax.nnx`."""

from dataclasses import InitVar, dataclass, field
from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from .. import _layers


class _ConvNorm(nnx.Module):
    def __init__(self, convolution: _layers.Convolution, **more: Any):
        sizes = (convolution.in_features, convolution.features)
        self.conv = nnx.Conv(*sizes, **convolution.options, **more)
        norm = nnx.BatchNorm if convolution.norm == "batch" else nnx.LayerNorm
        self.norm = norm(sizes[1], **convolution.norm_options, **more)

    def __call__(self, x: jax.Array, *use_running_average: bool) -> jax.Array:
        return self.norm(self.conv(x), *use_running_average)


@dataclass(eq=False, repr=False, kw_only=True)
class _Block(_layers.Block, nnx.Module):
    in_features: int = field(kw_only=False)
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        more = {"dtype": self.dtype, "param_dtype": self.param_dtype, "rngs": rngs}
        for name, convolution in self._convolutions(self.in_features).items():
            if convolution.norm is None:
                sizes = (convolution.in_features, convolution.features)
                layer = nnx.Conv(*sizes, **convolution.options, **more)
            else:
                layer = _ConvNorm(convolution, **more)
            setattr(self, name, layer)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pools x."""
        return self._forward(x, self)


@dataclass(eq=False, repr=False, kw_only=True)
class _BatchNormed(_Block):
    use_running_average: bool | None = False

    def __call__(
        self, x: ArrayLike, *, use_running_average: bool | None = None
    ) -> jax.Array:
        """Pools x; `use_running_average` takes the place of the constructor's."""
        if use_running_average is None:
            use_running_average = self.use_running_average
        return self._forward(x, self, use_running_average)

    def set_view(self, use_running_average: bool | None = None):
        """What `nnx.view` changes."""
        if use_running_average is not None:
            self.use_running_average = use_running_average


@dataclass(eq=False, repr=False, kw_only=True)
class SimplifiedLIP(_Block, _layers.SimplifiedLIP):
    __doc__ = _layers.SimplifiedLIP.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class LIP(_Block, _layers.LIP):
    __doc__ = _layers.LIP.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class SPBlock(_BatchNormed, _layers.SPBlock):
    __doc__ = _layers.SPBlock.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class StripPooling(_BatchNormed, _layers.StripPooling):
    __doc__ = _layers.StripPooling.__doc__
