"""The pools as layers of `flax.nnx`."""
# ruff: noqa: D101, D105 (each docstring is its body's)

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from . import _layers


class AvgPool(_layers.AvgPool, nnx.Module):
    __doc__ = _layers.AvgPool.__doc__


class LpPool(_layers.LpPool, nnx.Module):
    __doc__ = _layers.LpPool.__doc__


class MaxPool(_layers.MaxPool, nnx.Module):
    __doc__ = _layers.MaxPool.__doc__


class MedianPool(_layers.MedianPool, nnx.Module):
    __doc__ = _layers.MedianPool.__doc__


class MinPool(_layers.MinPool, nnx.Module):
    __doc__ = _layers.MinPool.__doc__


class SoftPool(_layers.SoftPool, nnx.Module):
    __doc__ = _layers.SoftPool.__doc__


class SumPool(_layers.SumPool, nnx.Module):
    __doc__ = _layers.SumPool.__doc__


# --- With a parameter -----------------------------------------------------------------


class GeMPool(_layers.GeMPool, nnx.Module):
    __doc__ = _layers.GeMPool.__doc__

    def __post_init__(self):
        super().__post_init__()
        self.p = nnx.data(nnx.Param(self._full(self.p)))

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where, p=self.p[...])


class PowerAvgPool(_layers.PowerAvgPool, nnx.Module):
    __doc__ = _layers.PowerAvgPool.__doc__

    def __post_init__(self):
        super().__post_init__()
        self.rho = nnx.Param(self._rho())

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        return self._call(x, where=where, p=self._exponent(self.rho[...]))


class LSEPool(_layers.LSEPool, nnx.Module):
    __doc__ = _layers.LSEPool.__doc__

    def __post_init__(self):
        super().__post_init__()
        self.log_temperature = nnx.Param(self._log_temperature())

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; elements with `where` False take no part."""
        temperature = jnp.exp(self.log_temperature[...])
        return self._call(x, where=where, temperature=temperature)
