"""The pools as layers of `flax.linen`.

linen wraps only the methods that a class defines itself, and records (`tabulate`,
`capture_intermediates`) and intercepts only wrapped calls: hence every `__call__`. It
writes a docstring of its own unless the class has one: hence every `__doc__`.
"""
# ruff: noqa: D101 (each docstring is its body's)

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax.typing import ArrayLike, DTypeLike

from . import _layers


class AdaUnpool(_layers.AdaUnpool, linen.Module):
    __doc__ = _layers.AdaUnpool.__doc__
    __call__ = _layers.AdaUnpool.__call__


class AdaptiveAvgPool(_layers.AdaptiveAvgPool, linen.Module):
    __doc__ = _layers.AdaptiveAvgPool.__doc__
    __call__ = _layers.AdaptiveAvgPool.__call__


class AdaptiveMaxPool(_layers.AdaptiveMaxPool, linen.Module):
    __doc__ = _layers.AdaptiveMaxPool.__doc__
    __call__ = _layers.AdaptiveMaxPool.__call__


class AdaptiveMinPool(_layers.AdaptiveMinPool, linen.Module):
    __doc__ = _layers.AdaptiveMinPool.__doc__
    __call__ = _layers.AdaptiveMinPool.__call__


class AvgPool(_layers.AvgPool, linen.Module):
    __doc__ = _layers.AvgPool.__doc__
    __call__ = _layers.AvgPool.__call__


class AvgUnpool(_layers.AvgUnpool, linen.Module):
    __doc__ = _layers.AvgUnpool.__doc__
    __call__ = _layers.AvgUnpool.__call__


class BlurPool(_layers.BlurPool, linen.Module):
    __doc__ = _layers.BlurPool.__doc__
    __call__ = _layers.BlurPool.__call__


class CombinedPool(_layers.CombinedPool, linen.Module):
    __doc__ = _layers.CombinedPool.__doc__
    __call__ = _layers.CombinedPool.__call__


class DetailPreservingPool(_layers.DetailPreservingPool, linen.Module):
    __doc__ = _layers.DetailPreservingPool.__doc__
    __call__ = _layers.DetailPreservingPool.__call__


class EDSCWPool(_layers.EDSCWPool, linen.Module):
    __doc__ = _layers.EDSCWPool.__doc__
    __call__ = _layers.EDSCWPool.__call__


class GlobalAvgMaxPool(_layers.GlobalAvgMaxPool, linen.Module):
    __doc__ = _layers.GlobalAvgMaxPool.__doc__
    __call__ = _layers.GlobalAvgMaxPool.__call__


class GlobalAvgPool(_layers.GlobalAvgPool, linen.Module):
    __doc__ = _layers.GlobalAvgPool.__doc__
    __call__ = _layers.GlobalAvgPool.__call__


class GlobalMaxPool(_layers.GlobalMaxPool, linen.Module):
    __doc__ = _layers.GlobalMaxPool.__doc__
    __call__ = _layers.GlobalMaxPool.__call__


class GlobalMinPool(_layers.GlobalMinPool, linen.Module):
    __doc__ = _layers.GlobalMinPool.__doc__
    __call__ = _layers.GlobalMinPool.__call__


class GlobalSumPool(_layers.GlobalSumPool, linen.Module):
    __doc__ = _layers.GlobalSumPool.__doc__
    __call__ = _layers.GlobalSumPool.__call__


class IDWPool(_layers.IDWPool, linen.Module):
    __doc__ = _layers.IDWPool.__doc__
    __call__ = _layers.IDWPool.__call__


class LocalImportancePool(_layers.LocalImportancePool, linen.Module):
    __doc__ = _layers.LocalImportancePool.__doc__
    __call__ = _layers.LocalImportancePool.__call__


class LpPool(_layers.LpPool, linen.Module):
    __doc__ = _layers.LpPool.__doc__
    __call__ = _layers.LpPool.__call__


class MaxBlurPool(_layers.MaxBlurPool, linen.Module):
    __doc__ = _layers.MaxBlurPool.__doc__
    __call__ = _layers.MaxBlurPool.__call__


class MaxPool(_layers.MaxPool, linen.Module):
    __doc__ = _layers.MaxPool.__doc__
    __call__ = _layers.MaxPool.__call__


class MaxUnpool(_layers.MaxUnpool, linen.Module):
    __doc__ = _layers.MaxUnpool.__doc__
    __call__ = _layers.MaxUnpool.__call__


class MedianPool(_layers.MedianPool, linen.Module):
    __doc__ = _layers.MedianPool.__doc__
    __call__ = _layers.MedianPool.__call__


class MinPool(_layers.MinPool, linen.Module):
    __doc__ = _layers.MinPool.__doc__
    __call__ = _layers.MinPool.__call__


class PolyphasePool(_layers.PolyphasePool, linen.Module):
    __doc__ = _layers.PolyphasePool.__doc__
    __call__ = _layers.PolyphasePool.__call__


class SoftPool(_layers.SoftPool, linen.Module):
    __doc__ = _layers.SoftPool.__doc__
    __call__ = _layers.SoftPool.__call__


class SpectralPool(_layers.SpectralPool, linen.Module):
    __doc__ = _layers.SpectralPool.__doc__
    __call__ = _layers.SpectralPool.__call__


class StripPool(_layers.StripPool, linen.Module):
    __doc__ = _layers.StripPool.__doc__
    __call__ = _layers.StripPool.__call__


class Subsample(_layers.Subsample, linen.Module):
    __doc__ = _layers.Subsample.__doc__
    __call__ = _layers.Subsample.__call__


class SumPool(_layers.SumPool, linen.Module):
    __doc__ = _layers.SumPool.__doc__
    __call__ = _layers.SumPool.__call__


class TopKAvgPool(_layers.TopKAvgPool, linen.Module):
    __doc__ = _layers.TopKAvgPool.__doc__
    __call__ = _layers.TopKAvgPool.__call__


class WaveletPool(_layers.WaveletPool, linen.Module):
    __doc__ = _layers.WaveletPool.__doc__
    __call__ = _layers.WaveletPool.__call__


# --- With parameters ------------------------------------------------------------------


@linen.compact
def _call_gem(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Pools x; elements with `where` False take no part."""
    p = self.param("p", lambda key: self._full(self.p))
    return self._call(x, where=where, p=p)


@linen.compact
def _call_lse(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Pools x; elements with `where` False take no part."""
    start = self.param("log_temperature", lambda key: self._log_temperature())
    return self._call(x, where=where, temperature=jnp.exp(start))


class GeMPool(_layers.GeMPool, linen.Module):
    __doc__ = _layers.GeMPool.__doc__
    __call__ = _call_gem


class GlobalGeMPool(_layers.GlobalGeMPool, linen.Module):
    __doc__ = _layers.GlobalGeMPool.__doc__
    __call__ = _call_gem


class LSEPool(_layers.LSEPool, linen.Module):
    __doc__ = _layers.LSEPool.__doc__
    __call__ = _call_lse


class GlobalLSEPool(_layers.GlobalLSEPool, linen.Module):
    __doc__ = _layers.GlobalLSEPool.__doc__
    __call__ = _call_lse


class PowerAvgPool(_layers.PowerAvgPool, linen.Module):
    __doc__ = _layers.PowerAvgPool.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        rho = self.param("rho", lambda key: self._rho())
        return self._call(x, where=where, p=self._exponent(rho))


class RankPool(_layers.RankPool, linen.Module):
    __doc__ = _layers.RankPool.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        weights = self.param("weights", lambda key: self._weights())
        return self._call(x, where=where, weights=weights)


class MixedPool(_layers.MixedPool, linen.Module):
    __doc__ = _layers.MixedPool.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        alpha = self.param("alpha", lambda key: self._full(self.alpha))
        return self._call(x, where=where, alpha=alpha)


class GatedPool(_layers.GatedPool, linen.Module):
    __doc__ = _layers.GatedPool.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        gate = self.param("gate", lambda key: self._gate())
        return self._call(x, gate, where=where)


class TreePool(_layers.TreePool, linen.Module):
    __doc__ = _layers.TreePool.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        shape, shape_of_gates = self._shapes()
        leaves = self.param("leaves", self.leaves_init, shape, self.param_dtype)
        gates = self.param("gates", self.gates_init, shape_of_gates, self.param_dtype)
        return self._call(x, leaves, gates, where=where)


class AdaPool(_layers.AdaPool, linen.Module):
    __doc__ = _layers.AdaPool.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        beta = self.param("beta", lambda key: self._beta())
        return self._call(x, where=where, beta=self._clipped(beta, jnp.ndim(x)))


class DPP(_layers.DPP, linen.Module):
    __doc__ = _layers.DPP.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        log_alpha = self.param("log_alpha", lambda key: self._full(0.0))
        log_lam = self.param("log_lam", lambda key: self._full(0.0))
        options = self._weights(log_alpha, log_lam)
        if self.form == "full":
            features: Any = self.features
            reference = linen.Conv(features, name="reference", **self._convolution())
            options["reference"] = reference(self._around(x, where))
        return self._call(x, where=where, **options)


# --- Random ---------------------------------------------------------------------------


def _call_random(
    self,
    x: ArrayLike,
    *,
    where: ArrayLike | None = None,
    deterministic: bool | None = None,
) -> Any:
    """Pools x; elements with `where` False take no part.

    `deterministic` is given here or to the layer; where it is False, the stream "pool"
    gives the key.
    """
    fixed = linen.merge_param("deterministic", self.deterministic, deterministic)
    key = None if fixed else self.make_rng("pool")
    return self._call(x, where=where, key=key)


class FractionalMaxPool(_layers.FractionalMaxPool, linen.Module):
    __doc__ = _layers.FractionalMaxPool.__doc__
    __call__ = _call_random


class RandomMixedPool(_layers.RandomMixedPool, linen.Module):
    __doc__ = _layers.RandomMixedPool.__doc__
    __call__ = _call_random


class RandomPool(_layers.RandomPool, linen.Module):
    __doc__ = _layers.RandomPool.__doc__
    __call__ = _call_random


class S3Pool(_layers.S3Pool, linen.Module):
    __doc__ = _layers.S3Pool.__doc__
    __call__ = _call_random


class StochasticPool(_layers.StochasticPool, linen.Module):
    __doc__ = _layers.StochasticPool.__doc__
    __call__ = _call_random


# --- Of convolutions ------------------------------------------------------------------


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
