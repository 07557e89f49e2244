"""The pools made of convolutions, as layers of `flax.nnx`."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from .. import _layers
from .._check import check_float


class _BatchNorm(nnx.BatchNorm):
    """Flax's, with the unbiased variance in its running average, as in PyTorch."""

    def __call__(self, x: jax.Array, use_running_average: bool | None = None, **more):
        before = self.var[...]
        y = super().__call__(x, use_running_average, **more)
        if use_running_average is None:
            use_running_average = self.use_running_average
        if not use_running_average:
            biased = self.var[...] - self.momentum * before
            self.var[...] += biased * _layers.bessel(x)
        return y


# These bases hold no options: those of a body come after them, with its own defaults.
class _Portable(_layers.Layer, nnx.Module):
    _torch_names: ClassVar[Callable[..., _layers.TorchNames]]

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        *,
        prefix: str = "",
        names: _layers.TorchNames | None = None,
    ) -> None:
        """Takes the weights of an implementation in PyTorch.

        Args:
          state_dict: arrays by name, as `torch.nn.Module.state_dict` gives them.
          prefix: what the names of this layer begin with, such as `"model.9."`.
          names: the names of the convolution and of the norm for each part, such as
            `{"reduce": ("cv1.conv", "cv1.bn"), ...}`; by default the published ones.

        Raises:
          ValueError: if a variable is missing, unknown or of another shape.
        """
        state = nnx.state(self, (nnx.Param, nnx.BatchStat))
        variables: dict[Any, Any] = dict(nnx.to_flat_state(state))
        shapes = {path: variable.shape for path, variable in variables.items()}
        names = self._torch_names() if names is None else names
        values = _layers.from_torch(state_dict, shapes, names, prefix)
        for path, value in values.items():
            variable = variables[path]
            variable[...] = jnp.asarray(value, variable.dtype)
        nnx.update(self, state)


@dataclass(eq=False, repr=False, kw_only=True)
class ConvNormAct(_Portable, _layers.ConvNormAct):
    __doc__ = _layers.ConvNormAct.__doc__
    in_features: int = field(kw_only=False)
    out_features: int = field(kw_only=False)
    kernel_size: tuple[int, ...] = field(kw_only=False)
    use_running_average: bool | None = False
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        sizes: Any = (self.in_features, self.out_features)
        options = self._conv_options(self.kernel_size)
        self.conv = nnx.Conv(*sizes, **options, rngs=rngs)
        if self.norm is not None:
            kinds = {"batch": _BatchNorm, "group": nnx.GroupNorm}
            options = self._norm_options(sizes[1], len(self.kernel_size))
            if self.norm == "batch":
                options["use_running_average"] = self.use_running_average
            norm = kinds.get(self.norm, nnx.LayerNorm)(sizes[1], **options, rngs=rngs)
            self.norm = nnx.data(norm)

    def __call__(
        self, x: ArrayLike, use_running_average: bool | None = None
    ) -> jax.Array:
        """Applies it to x; `use_running_average` takes the place of the layer's."""
        y = self.conv(jnp.asarray(x))
        norm: Any = self.norm
        if isinstance(norm, nnx.BatchNorm):
            y = norm(y, use_running_average)
        elif norm is not None:
            y = norm(y)
        return self._activated(y)


@dataclass(eq=False, repr=False, kw_only=True)
class _Block(_Portable):
    _units: ClassVar[Callable[..., dict[str, _layers.Unit]]]
    _forward: ClassVar[Callable[..., jax.Array]]
    in_features: int = field(kw_only=False)
    use_running_average: bool | None = False
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        more = {"use_running_average": self.use_running_average, "rngs": rngs}
        for name, unit in self._units(*self._channels()).items():
            channels = (unit.in_features, unit.features)
            setattr(self, name, ConvNormAct(*channels, **unit.options, **more))

    def _channels(self) -> tuple[Any, ...]:
        return (self.in_features,)

    def __call__(
        self, x: ArrayLike, use_running_average: bool | None = None
    ) -> jax.Array:
        """Pools x; `use_running_average` takes the place of the layer's."""
        units = {k: v for k, v in vars(self).items() if isinstance(v, ConvNormAct)}
        given = {"use_running_average": use_running_average}
        bound = {k: functools.partial(unit, **given) for k, unit in units.items()}
        return self._forward(check_float("x", x), SimpleNamespace(**bound))


@dataclass(eq=False, repr=False, kw_only=True)
class _Projection(_Block):
    out_features: Any = field(kw_only=False)

    def _channels(self) -> tuple[Any, ...]:
        return (self.in_features, self.out_features)


@dataclass(eq=False, repr=False, kw_only=True)
class SimplifiedLIP(_Block, _layers.SimplifiedLIP):
    __doc__ = _layers.SimplifiedLIP.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class LIP(_Block, _layers.LIP):
    __doc__ = _layers.LIP.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class SPBlock(_Block, _layers.SPBlock):
    __doc__ = _layers.SPBlock.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class StripPooling(_Block, _layers.StripPooling):
    __doc__ = _layers.StripPooling.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class SPP(_Projection, _layers.SPP):
    __doc__ = _layers.SPP.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class SPPF(_Projection, _layers.SPPF):
    __doc__ = _layers.SPPF.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class SimSPPF(_Projection, _layers.SimSPPF):
    __doc__ = _layers.SimSPPF.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class SPPCSPC(_Projection, _layers.SPPCSPC):
    __doc__ = _layers.SPPCSPC.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class SPPFCSPC(_Projection, _layers.SPPFCSPC):
    __doc__ = _layers.SPPFCSPC.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class CSPSPPF(_Projection, _layers.CSPSPPF):
    __doc__ = _layers.CSPSPPF.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class PPM(_Projection, _layers.PPM):
    __doc__ = _layers.PPM.__doc__
    out_features: int | None = field(default=None, kw_only=False)


@dataclass(eq=False, repr=False, kw_only=True)
class ASPP(_Projection, _layers.ASPP):
    __doc__ = _layers.ASPP.__doc__
    deterministic: bool | None = False

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__(rngs)
        rate = self.dropout_rate if self.form == "concat" else 0.0
        # Without dropout, no stream for it is asked for.
        more = {"deterministic": self.deterministic, "rngs": rngs if rate else None}
        self.dropout = nnx.Dropout(rate, **more)

    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> jax.Array:
        """Pools x; the other arguments take the place of the layer's."""
        y = super().__call__(x, use_running_average)
        return self.dropout(y, deterministic=deterministic, rngs=rngs)
