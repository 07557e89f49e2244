"""The pools made of convolutions, as layers of `flax.linen`."""

import functools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, traverse_util
from jax.typing import ArrayLike

from .. import _layers
from .._check import check_float


class _BatchNorm(linen.BatchNorm):
    """Flax's, with the unbiased variance in its running average, as in PyTorch."""

    @linen.compact
    def __call__(self, x: jax.Array, use_running_average: bool | None = None, **more):
        before = self.get_variable("batch_stats", "var")
        y = super().__call__(x, use_running_average, **more)
        given = (self.use_running_average, use_running_average)
        fixed = linen.merge_param("use_running_average", *given)
        if not (fixed or self.is_initializing()):
            after = self.get_variable("batch_stats", "var")
            biased = after - self.momentum * before
            after += biased * _layers.bessel(x)
            self.put_variable("batch_stats", "var", after)
        return y


def _load_state_dict(
    self,
    state_dict: Mapping[str, Any],
    *,
    prefix: str = "",
    names: _layers.TorchNames | None = None,
) -> dict[str, Any]:
    """The variables with the weights of an implementation in PyTorch.

    Args:
      state_dict: arrays by name, as `torch.nn.Module.state_dict` gives them.
      prefix: what the names of this layer begin with, such as `"model.9."`.
      names: the names of the convolution and of the norm for each part, such as
        `{"reduce": ("cv1.conv", "cv1.bn"), ...}`; by default the published ones.

    Returns:
      `{"params": ..., "batch_stats": ...}`, as `apply` takes it.

    Raises:
      ValueError: if a variable is missing, unknown or of another shape.
    """
    names = self._torch_names() if names is None else names
    _, channels, *space = _layers.kernel_shape(state_dict, names, prefix)
    channels *= getattr(self, "groups", 1)
    x = jax.ShapeDtypeStruct((1,) * len(space) + (channels,), jnp.float32)
    module = self.clone(use_running_average=True)
    abstract = jax.eval_shape(module.init, jax.random.key(0), x)
    flat: Any = {c: traverse_util.flatten_dict(v) for c, v in abstract.items()}
    shapes = {path: leaf.shape for part in flat.values() for path, leaf in part.items()}
    values = _layers.from_torch(state_dict, shapes, names, prefix)
    return {
        c: traverse_util.unflatten_dict(
            {path: jnp.asarray(values[path], leaf.dtype) for path, leaf in part.items()}
        )
        for c, part in flat.items()
    }


class ConvNormAct(_layers.ConvNormAct, linen.Module):
    __doc__ = _layers.ConvNormAct.__doc__
    features: int
    kernel_size: tuple[int, ...]

    @linen.compact
    def __call__(
        self, x: ArrayLike, use_running_average: bool | None = None
    ) -> jax.Array:
        """Applies it to x; `use_running_average` is given here or to the layer."""
        options = self._conv_options(self.kernel_size)
        y = linen.Conv(self.features, name="conv", **options)(jnp.asarray(x))
        options = self._norm_options(self.features, len(self.kernel_size))
        if self.norm == "batch":
            given = (self.use_running_average, use_running_average)
            fixed = linen.merge_param("use_running_average", *given)
            y = _BatchNorm(name="norm", **options)(y, fixed)
        elif self.norm is not None:
            norm = linen.GroupNorm if self.norm == "group" else linen.LayerNorm
            y = norm(name="norm", **options)(y)
        return self._activated(y)

    load_state_dict = _load_state_dict


# These bases hold no options: those of a body come after them, with its own defaults.
class _Block(_layers.Layer, linen.Module):
    load_state_dict = _load_state_dict

    def _channels(self, x: jax.Array) -> tuple[Any, ...]:
        return x.shape[-1:]

    @linen.compact
    def __call__(
        self, x: ArrayLike, use_running_average: bool | None = None
    ) -> jax.Array:
        """Pools x; `use_running_average` is given here or to the layer."""
        x = check_float("x", x)
        of_layer = {"use_running_average": self.use_running_average}
        of_call = {"use_running_average": use_running_average}
        bound = {}
        for name, unit in self._units(*self._channels(x)).items():
            layer = ConvNormAct(unit.features, **unit.options, **of_layer, name=name)
            bound[name] = functools.partial(layer, **of_call)
        return self._forward(x, SimpleNamespace(**bound))


class _Projection(_Block):
    features: Any

    def _channels(self, x: jax.Array) -> tuple[Any, ...]:
        return (x.shape[-1], self.features)


class SimplifiedLIP(_Block, _layers.SimplifiedLIP):
    __doc__ = _layers.SimplifiedLIP.__doc__


class LIP(_Block, _layers.LIP):
    __doc__ = _layers.LIP.__doc__


class SPBlock(_Block, _layers.SPBlock):
    __doc__ = _layers.SPBlock.__doc__


class StripPooling(_Block, _layers.StripPooling):
    __doc__ = _layers.StripPooling.__doc__


class SPP(_Projection, _layers.SPP):
    __doc__ = _layers.SPP.__doc__


class SPPF(_Projection, _layers.SPPF):
    __doc__ = _layers.SPPF.__doc__


class SimSPPF(_Projection, _layers.SimSPPF):
    __doc__ = _layers.SimSPPF.__doc__


class SPPCSPC(_Projection, _layers.SPPCSPC):
    __doc__ = _layers.SPPCSPC.__doc__


class SPPFCSPC(_Projection, _layers.SPPFCSPC):
    __doc__ = _layers.SPPFCSPC.__doc__


class CSPSPPF(_Projection, _layers.CSPSPPF):
    __doc__ = _layers.CSPSPPF.__doc__


class PPM(_Projection, _layers.PPM):
    __doc__ = _layers.PPM.__doc__
    features: int | None = None


class ASPP(_Projection, _layers.ASPP):
    __doc__ = _layers.ASPP.__doc__

    @linen.compact
    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        deterministic: bool | None = None,
    ) -> jax.Array:
        """Pools x; `use_running_average` is given here or to the layer.

        So is `deterministic`, which is by default the same.
        """
        y = super().__call__(x, use_running_average)
        if self.form == "sum":
            return y
        given = (self.deterministic, deterministic, use_running_average)
        fixed = next((g for g in given if g is not None), self.use_running_average)
        return linen.Dropout(self.dropout_rate)(y, deterministic=fixed)
