"""The pools that learn, as layers of `flax.nnx`."""

from dataclasses import InitVar, dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from .. import _layers


class _GeM(_layers.GeM, nnx.Module):
    def __post_init__(self):
        super().__post_init__()
        self.p = nnx.data(nnx.Param(self._start()))

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
        self.alpha = nnx.data(nnx.Param(self._start()))

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


@dataclass(eq=False, repr=False, kw_only=True)
class NetVLAD(_layers.NetVLAD, nnx.Module):
    __doc__ = _layers.NetVLAD.__doc__
    in_features: int = field(kw_only=False)
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        c, k, dtype = self.in_features, self.clusters, self.param_dtype
        self.centers = nnx.Param(self.centers_init(rngs.params(), (k, c), dtype))
        self.kernel = nnx.Param(self.kernel_init(rngs.params(), (c, k), dtype))
        self.bias = nnx.Param(jnp.zeros(k, dtype)) if self.use_bias else None

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; tokens with `where` False take no part."""
        bias = None if self.bias is None else self.bias[...]
        given = (self.centers[...], self.kernel[...])
        return self._call(x, *given, bias=bias, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class LowRankBilinearPool(_layers.LowRankBilinearPool, nnx.Module):
    __doc__ = _layers.LowRankBilinearPool.__doc__
    in_features: int = field(kw_only=False)
    out_features: int = field(kw_only=False)
    other_features: int | None = None
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        width, dtype = self.out_features * self.factors, self.param_dtype
        other = self.other_features or self.in_features
        init = self.kernel_init
        self.u = nnx.Param(init(rngs.params(), (self.in_features, width), dtype))
        self.v = nnx.Param(init(rngs.params(), (other, width), dtype))

    def __call__(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        where: ArrayLike | None = None,
    ) -> jax.Array:
        """Pools x with y, or with itself; positions with `where` False take no part."""
        return self._call(x, self.u[...], self.v[...], y=y, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class TopKPool(_layers.TopKPool, nnx.Module):
    __doc__ = _layers.TopKPool.__doc__
    in_features: int = field(kw_only=False)
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        self.weights = nnx.Param(self._start(rngs.params(), self.in_features))

    def __call__(
        self, x: ArrayLike, adjacency: ArrayLike, *, where: ArrayLike | None = None
    ) -> Any:
        """Pools a graph; nodes with `where` False take no part."""
        return self._call(x, adjacency, self.weights[...], where=where)
