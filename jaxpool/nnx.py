"""The pools as layers of `flax.nnx`."""
# ruff: noqa: D101, D105 (each docstring is its body's)

from dataclasses import InitVar, dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from . import _layers


class AdaUnpool(_layers.AdaUnpool, nnx.Module):
    __doc__ = _layers.AdaUnpool.__doc__


class AdaptiveAvgPool(_layers.AdaptiveAvgPool, nnx.Module):
    __doc__ = _layers.AdaptiveAvgPool.__doc__


class AdaptiveMaxPool(_layers.AdaptiveMaxPool, nnx.Module):
    __doc__ = _layers.AdaptiveMaxPool.__doc__


class AdaptiveMinPool(_layers.AdaptiveMinPool, nnx.Module):
    __doc__ = _layers.AdaptiveMinPool.__doc__


class AvgPool(_layers.AvgPool, nnx.Module):
    __doc__ = _layers.AvgPool.__doc__


class AvgUnpool(_layers.AvgUnpool, nnx.Module):
    __doc__ = _layers.AvgUnpool.__doc__


class BlurPool(_layers.BlurPool, nnx.Module):
    __doc__ = _layers.BlurPool.__doc__


class CombinedPool(_layers.CombinedPool, nnx.Module):
    __doc__ = _layers.CombinedPool.__doc__


class DetailPreservingPool(_layers.DetailPreservingPool, nnx.Module):
    __doc__ = _layers.DetailPreservingPool.__doc__


class EDSCWPool(_layers.EDSCWPool, nnx.Module):
    __doc__ = _layers.EDSCWPool.__doc__


class GlobalAvgMaxPool(_layers.GlobalAvgMaxPool, nnx.Module):
    __doc__ = _layers.GlobalAvgMaxPool.__doc__


class GlobalAvgPool(_layers.GlobalAvgPool, nnx.Module):
    __doc__ = _layers.GlobalAvgPool.__doc__


class GlobalMaxPool(_layers.GlobalMaxPool, nnx.Module):
    __doc__ = _layers.GlobalMaxPool.__doc__


class GlobalMinPool(_layers.GlobalMinPool, nnx.Module):
    __doc__ = _layers.GlobalMinPool.__doc__


class GlobalSumPool(_layers.GlobalSumPool, nnx.Module):
    __doc__ = _layers.GlobalSumPool.__doc__


class IDWPool(_layers.IDWPool, nnx.Module):
    __doc__ = _layers.IDWPool.__doc__


class LocalImportancePool(_layers.LocalImportancePool, nnx.Module):
    __doc__ = _layers.LocalImportancePool.__doc__


class LpPool(_layers.LpPool, nnx.Module):
    __doc__ = _layers.LpPool.__doc__


class MaxBlurPool(_layers.MaxBlurPool, nnx.Module):
    __doc__ = _layers.MaxBlurPool.__doc__


class MaxPool(_layers.MaxPool, nnx.Module):
    __doc__ = _layers.MaxPool.__doc__


class MaxUnpool(_layers.MaxUnpool, nnx.Module):
    __doc__ = _layers.MaxUnpool.__doc__


class MedianPool(_layers.MedianPool, nnx.Module):
    __doc__ = _layers.MedianPool.__doc__


class MinPool(_layers.MinPool, nnx.Module):
    __doc__ = _layers.MinPool.__doc__


class PolyphasePool(_layers.PolyphasePool, nnx.Module):
    __doc__ = _layers.PolyphasePool.__doc__


class SoftPool(_layers.SoftPool, nnx.Module):
    __doc__ = _layers.SoftPool.__doc__


class SpectralPool(_layers.SpectralPool, nnx.Module):
    __doc__ = _layers.SpectralPool.__doc__


class StripPool(_layers.StripPool, nnx.Module):
    __doc__ = _layers.StripPool.__doc__


class Subsample(_layers.Subsample, nnx.Module):
    __doc__ = _layers.Subsample.__doc__


class SumPool(_layers.SumPool, nnx.Module):
    __doc__ = _layers.SumPool.__doc__


class TopKAvgPool(_layers.TopKAvgPool, nnx.Module):
    __doc__ = _layers.TopKAvgPool.__doc__


class WaveletPool(_layers.WaveletPool, nnx.Module):
    __doc__ = _layers.WaveletPool.__doc__


# --- With parameters ------------------------------------------------------------------


class _GeM(_layers.GeM, nnx.Module):
    def __post_init__(self):
        super().__post_init__()
        self.p = nnx.data(nnx.Param(self._full(self.p)))

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where, p=self.p[...])


class _LSE(_layers.LSE, nnx.Module):
    def __post_init__(self):
        super().__post_init__()
        self.log_temperature = nnx.Param(self._log_temperature())

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        temperature = jnp.exp(self.log_temperature[...])
        return self._call(x, where=where, temperature=temperature)


class GeMPool(_GeM, _layers.GeMPool):
    __doc__ = _layers.GeMPool.__doc__


class GlobalGeMPool(_GeM, _layers.GlobalGeMPool):
    __doc__ = _layers.GlobalGeMPool.__doc__


class LSEPool(_LSE, _layers.LSEPool):
    __doc__ = _layers.LSEPool.__doc__


class GlobalLSEPool(_LSE, _layers.GlobalLSEPool):
    __doc__ = _layers.GlobalLSEPool.__doc__


class PowerAvgPool(_layers.PowerAvgPool, nnx.Module):
    __doc__ = _layers.PowerAvgPool.__doc__

    def __post_init__(self):
        super().__post_init__()
        self.rho = nnx.Param(self._rho())

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where, p=self._exponent(self.rho[...]))


class RankPool(_layers.RankPool, nnx.Module):
    __doc__ = _layers.RankPool.__doc__

    def __post_init__(self):
        super().__post_init__()
        self.weights = nnx.Param(self._weights())

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where, weights=self.weights[...])


class MixedPool(_layers.MixedPool, nnx.Module):
    __doc__ = _layers.MixedPool.__doc__

    def __post_init__(self):
        super().__post_init__()
        self.alpha = nnx.data(nnx.Param(self._full(self.alpha)))

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where, alpha=self.alpha[...])


class GatedPool(_layers.GatedPool, nnx.Module):
    __doc__ = _layers.GatedPool.__doc__

    def __post_init__(self):
        super().__post_init__()
        self.gate = nnx.Param(self._gate())

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, self.gate[...], where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class TreePool(_layers.TreePool, nnx.Module):
    __doc__ = _layers.TreePool.__doc__
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        shape, shape_of_gates = self._shapes()
        leaves = self.leaves_init(rngs.params(), shape, self.param_dtype)
        gates = self.gates_init(rngs.params(), shape_of_gates, self.param_dtype)
        self.leaves, self.gates = nnx.Param(leaves), nnx.Param(gates)

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, self.leaves[...], self.gates[...], where=where)


class AdaPool(_layers.AdaPool, nnx.Module):
    __doc__ = _layers.AdaPool.__doc__

    def __post_init__(self):
        super().__post_init__()
        self.beta = nnx.data(nnx.Param(self._beta()))

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        beta = self._clipped(self.beta[...], jnp.ndim(x))
        return self._call(x, where=where, beta=beta)


@dataclass(eq=False, repr=False, kw_only=True)
class DPP(_layers.DPP, nnx.Module):
    __doc__ = _layers.DPP.__doc__
    rngs: InitVar[nnx.Rngs | None] = None

    def __post_init__(self, rngs: nnx.Rngs | None):
        super().__post_init__()
        self.log_alpha = nnx.Param(self._full(0.0))
        self.log_lam = nnx.Param(self._full(0.0))
        if self.form == "full":
            if rngs is None:
                raise ValueError('`rngs` must be given where `form` is "full"')
            sizes: Any = (self.features, self.features)
            self.reference = nnx.Conv(*sizes, **self._convolution(), rngs=rngs)

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        options = self._weights(self.log_alpha[...], self.log_lam[...])
        if self.form == "full":
            options["reference"] = self.reference(self._around(x, where))
        return self._call(x, where=where, **options)


# --- Random ---------------------------------------------------------------------------


@dataclass(eq=False, repr=False, kw_only=True)
class _Random(_layers.Random, nnx.Module):
    deterministic: bool | None = False
    rngs: Any = None  # nnx.Rngs or nnx.RngStream

    def __post_init__(self):
        super().__post_init__()
        self.rngs = nnx.data(_stream(self.rngs, fork=True))

    def __call__(
        self,
        x: ArrayLike,
        *,
        where: ArrayLike | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> Any:
        """Pools x; elements with `where` False take no part.

        `deterministic` and `rngs` take the place of those of the constructor.
        """
        if deterministic is None:
            deterministic = self.deterministic
        if deterministic is None:
            raise ValueError("`deterministic` must be given to the layer or its call")
        if deterministic:
            return self._call(x, where=where, key=None)
        stream = self.rngs if rngs is None else _stream(rngs)
        if stream is None:
            raise ValueError(
                "`rngs` must be given to the layer or its call where `deterministic` "
                "is False"
            )
        return self._call(x, where=where, key=stream())

    def set_view(self, deterministic: bool | None = None):
        """What `nnx.view` changes."""
        if deterministic is not None:
            self.deterministic = deterministic


def _stream(rngs, fork=False):
    if isinstance(rngs, nnx.Rngs):
        rngs = rngs["pool"]
    elif not (rngs is None or isinstance(rngs, nnx.RngStream)):
        raise TypeError(f"`rngs` must be an nnx.Rngs or nnx.RngStream, got {rngs!r}")
    return rngs.fork() if fork and rngs is not None else rngs


@dataclass(eq=False, repr=False, kw_only=True)
class FractionalMaxPool(_Random, _layers.FractionalMaxPool):
    __doc__ = _layers.FractionalMaxPool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class RandomMixedPool(_Random, _layers.RandomMixedPool):
    __doc__ = _layers.RandomMixedPool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class RandomPool(_Random, _layers.RandomPool):
    __doc__ = _layers.RandomPool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class S3Pool(_Random, _layers.S3Pool):
    __doc__ = _layers.S3Pool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class StochasticPool(_Random, _layers.StochasticPool):
    __doc__ = _layers.StochasticPool.__doc__


# --- Of convolutions ------------------------------------------------------------------


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
