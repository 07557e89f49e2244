"""The pools of chance, as layers of `flax.linen`."""

from typing import Any

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
        fixed = linen.merge_param("deterministic", self.deterministic, deterministic)
        return self._drawn(x, where, None if fixed else self.make_rng("pool"))


class FractionalMaxPool(_Random, _layers.FractionalMaxPool):
    __doc__ = _layers.FractionalMaxPool.__doc__


class RandomMixedPool(_Random, _layers.RandomMixedPool):
    __doc__ = _layers.RandomMixedPool.__doc__

    def setup(self):
        if self.inference == "frequency":
            self.taken = self.variable("batch_stats", "taken", self._taken)

    def _drawn(self, x, where, key):
        if self.inference == "frequency" and key is None:
            return self._taken_more_often(x, where, self.taken.value)
        if self.inference == "frequency" and not self.is_initializing():
            self.taken.value = self._counted(self.taken.value, key, x)
        return super()._drawn(x, where, key)


class RandomPool(_Random, _layers.RandomPool):
    __doc__ = _layers.RandomPool.__doc__


class S3Pool(_Random, _layers.S3Pool):
    __doc__ = _layers.S3Pool.__doc__


class StochasticPool(_Random, _layers.StochasticPool):
    __doc__ = _layers.StochasticPool.__doc__
