"""The pools of chance, as layers of `flax.nnx`."""

from dataclasses import dataclass
from typing import Any

from flax import nnx
from jax.typing import ArrayLike

from .. import _layers


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
            return self._drawn(x, where, None)
        stream = self.rngs if rngs is None else _stream(rngs)
        if stream is None:
            raise ValueError(
                "`rngs` must be given to the layer or its call where `deterministic` "
                "is False"
            )
        return self._drawn(x, where, stream())

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

    def __post_init__(self):
        super().__post_init__()
        if self.inference == "frequency":
            self.taken = nnx.BatchStat(self._taken())

    def _drawn(self, x, where, key):
        if self.inference == "frequency" and key is None:
            return self._taken_more_often(x, where, self.taken[...])
        if self.inference == "frequency":
            self.taken[...] = self._counted(self.taken[...], key, x)
        return super()._drawn(x, where, key)


@dataclass(eq=False, repr=False, kw_only=True)
class RandomPool(_Random, _layers.RandomPool):
    __doc__ = _layers.RandomPool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class S3Pool(_Random, _layers.S3Pool):
    __doc__ = _layers.S3Pool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class StochasticPool(_Random, _layers.StochasticPool):
    __doc__ = _layers.StochasticPool.__doc__
