"""The pools of chance, as layers of `flax.linen`."""

from typing import Any

from flax import linen
from jax.typing import ArrayLike

from .. import _layers


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
