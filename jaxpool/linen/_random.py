"""The pools of chance, as layers of `flax.linen`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax.typing import ArrayLike

from .. import _layers


class _Random(_layers.Random, linen.Module):
    def __call__(
        self,
        x: ArrayLike,
        *,
        where: ArrayLike | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Pools x; elements with `where` False take no part.

        `deterministic` is given here or to the layer; where it is False, the stream
        "pool" gives the key.
        """
        return self._call(x, where=where, key=self._key(deterministic))

    def _key(self, deterministic):
        fixed = linen.merge_param("deterministic", self.deterministic, deterministic)
        return None if fixed else self.make_rng("pool")


class FractionalMaxPool(_Random, _layers.FractionalMaxPool):
    __doc__ = _layers.FractionalMaxPool.__doc__


class RandomMixedPool(_Random, _layers.RandomMixedPool):
    __doc__ = _layers.RandomMixedPool.__doc__

    @linen.compact
    def __call__(
        self,
        x: ArrayLike,
        *,
        where: ArrayLike | None = None,
        deterministic: bool | None = None,
    ) -> jax.Array:
        """Pools x; elements with `where` False take no part.

        `deterministic` is given here or to the layer; where it is False, the stream
        "pool" gives the key.
        """
        key = self._key(deterministic)
        if self.inference == "expectation":
            return self._call(x, where=where, key=key)
        taken = self.variable("batch_stats", "taken", self._taken)
        if key is None:
            alpha = self._more_often(taken.value, jnp.ndim(x))
            return self._call(x, where=where, alpha=alpha)
        if not self.is_initializing():
            taken.value = self._counted(taken.value, key, x)
        return self._call(x, where=where, key=key)


class RandomPool(_Random, _layers.RandomPool):
    __doc__ = _layers.RandomPool.__doc__


class S3Pool(_Random, _layers.S3Pool):
    __doc__ = _layers.S3Pool.__doc__


class StochasticPool(_Random, _layers.StochasticPool):
    __doc__ = _layers.StochasticPool.__doc__
