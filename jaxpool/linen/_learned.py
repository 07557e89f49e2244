"""The pools that learn, as layers of `flax.linen`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax.typing import ArrayLike

from .. import _layers


class _GeM(_layers.GeM, linen.Module):
    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        p = self.param("p", lambda key: self._start())
        return self._call(x, where=where, p=p)


class _LSE(_layers.LSE, linen.Module):
    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        start = self.param("log_temperature", lambda key: self._log_temperature())
        return self._call(x, where=where, temperature=jnp.exp(start))


class GeMPool(_GeM, _layers.GeMPool):
    __doc__ = _layers.GeMPool.__doc__


class GlobalGeMPool(_GeM, _layers.GlobalGeMPool):
    __doc__ = _layers.GlobalGeMPool.__doc__


class LSEPool(_LSE, _layers.LSEPool):
    __doc__ = _layers.LSEPool.__doc__


class GlobalLSEPool(_LSE, _layers.GlobalLSEPool):
    __doc__ = _layers.GlobalLSEPool.__doc__


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
        alpha = self.param("alpha", lambda key: self._start())
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


class NetVLAD(_layers.NetVLAD, linen.Module):
    __doc__ = _layers.NetVLAD.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; tokens with `where` False take no part."""
        c, k, dtype = jnp.shape(x)[-1], self.clusters, self.param_dtype
        centers = self.param("centers", self.centers_init, (k, c), dtype)
        kernel = self.param("kernel", self.kernel_init, (c, k), dtype)
        zeros = linen.initializers.zeros
        bias = self.param("bias", zeros, (k,), dtype) if self.use_bias else None
        return self._call(x, centers, kernel, bias=bias, where=where)


class LowRankBilinearPool(_layers.LowRankBilinearPool, linen.Module):
    __doc__ = _layers.LowRankBilinearPool.__doc__
    features: int

    @linen.compact
    def __call__(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        where: ArrayLike | None = None,
    ) -> jax.Array:
        """Pools x with y, or with itself; positions with `where` False take no part."""
        width, init, dtype = (
            self.features * self.factors,
            self.kernel_init,
            self.param_dtype,
        )
        other = x if y is None else y
        u = self.param("u", init, (jnp.shape(x)[-1], width), dtype)
        v = self.param("v", init, (jnp.shape(other)[-1], width), dtype)
        return self._call(x, u, v, y=y, where=where)


class TopKPool(_layers.TopKPool, linen.Module):
    __doc__ = _layers.TopKPool.__doc__

    @linen.compact
    def __call__(
        self, x: ArrayLike, adjacency: ArrayLike, *, where: ArrayLike | None = None
    ) -> Any:
        """Pools a graph; nodes with `where` False take no part."""
        features = jnp.shape(x)[-1]
        weights = self.param("weights", lambda key: self._start(key, features))
        return self._call(x, adjacency, weights, where=where)
