"""The pools as layers of `flax.nnx`."""
# ruff: noqa: D101, D105 (each docstring is its body's)

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from . import _layers


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


class LpPool(_layers.LpPool, nnx.Module):
    __doc__ = _layers.LpPool.__doc__


class MaxPool(_layers.MaxPool, nnx.Module):
    __doc__ = _layers.MaxPool.__doc__


class MaxUnpool(_layers.MaxUnpool, nnx.Module):
    __doc__ = _layers.MaxUnpool.__doc__


class MedianPool(_layers.MedianPool, nnx.Module):
    __doc__ = _layers.MedianPool.__doc__


class MinPool(_layers.MinPool, nnx.Module):
    __doc__ = _layers.MinPool.__doc__


class SoftPool(_layers.SoftPool, nnx.Module):
    __doc__ = _layers.SoftPool.__doc__


class SumPool(_layers.SumPool, nnx.Module):
    __doc__ = _layers.SumPool.__doc__


# --- With a parameter -----------------------------------------------------------------


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
