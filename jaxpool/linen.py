"""The pools as layers of `flax.linen`.

linen wraps only the methods that a class defines itself, and records (`tabulate`,
`capture_intermediates`) and intercepts only wrapped calls: hence every `__call__`. It
writes a docstring of its own unless the class has one: hence every `__doc__`.
"""
# ruff: noqa: D101 (each docstring is its body's)

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax.typing import ArrayLike

from . import _layers


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


class LpPool(_layers.LpPool, linen.Module):
    __doc__ = _layers.LpPool.__doc__
    __call__ = _layers.LpPool.__call__


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


class SoftPool(_layers.SoftPool, linen.Module):
    __doc__ = _layers.SoftPool.__doc__
    __call__ = _layers.SoftPool.__call__


class SumPool(_layers.SumPool, linen.Module):
    __doc__ = _layers.SumPool.__doc__
    __call__ = _layers.SumPool.__call__


# --- With a parameter -----------------------------------------------------------------


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
