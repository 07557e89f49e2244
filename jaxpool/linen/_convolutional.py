"""The pools made of convolutions, as layers of `flax.linen`."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
from flax import linen
from jax.typing import ArrayLike, DTypeLike

from .. import _layers


class _ConvNorm(linen.Module):
    convolution: _layers.Convolution
    dtype: DTypeLike | None
    param_dtype: DTypeLike

    @linen.compact
    def __call__(self, x: jax.Array, *use_running_average: bool) -> jax.Array:
        more = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        options = self.convolution.options | more
        x = linen.Conv(self.convolution.features, name="conv", **options)(x)
        options = self.convolution.norm_options | more
        batch = self.convolution.norm == "batch"
        norm = linen.BatchNorm if batch else linen.LayerNorm
        return norm(name="norm", **options)(x, *use_running_average)


def _layers_of(self, x: ArrayLike) -> SimpleNamespace:
    more = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    found = SimpleNamespace()
    for name, convolution in self._convolutions(jnp.shape(x)[-1]).items():
        if convolution.norm is None:
            options = convolution.options | more
            layer = linen.Conv(convolution.features, name=name, **options)
        else:
            layer = _ConvNorm(convolution, name=name, **more)
        setattr(found, name, layer)
    return found


@linen.compact
def _call_block(self, x: ArrayLike) -> jax.Array:
    """Pools x."""
    return self._forward(x, _layers_of(self, x))


@linen.compact
def _call_batch_normed(
    self, x: ArrayLike, *, use_running_average: bool | None = None
) -> jax.Array:
    """Pools x; `use_running_average` is given here or to the layer."""
    given = (self.use_running_average, use_running_average)
    fixed = linen.merge_param("use_running_average", *given)
    return self._forward(x, _layers_of(self, x), fixed)


class SimplifiedLIP(_layers.SimplifiedLIP, linen.Module):
    __doc__ = _layers.SimplifiedLIP.__doc__
    __call__ = _call_block


class LIP(_layers.LIP, linen.Module):
    __doc__ = _layers.LIP.__doc__
    __call__ = _call_block


class SPBlock(_layers.SPBlock, linen.Module):
    __doc__ = _layers.SPBlock.__doc__
    __call__ = _call_batch_normed


class StripPooling(_layers.StripPooling, linen.Module):
    __doc__ = _layers.StripPooling.__doc__
    __call__ = _call_batch_normed
