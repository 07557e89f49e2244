"""The pools around dense layers, of tokens and of graphs, as layers of `flax.linen`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen
from jax.nn.initializers import normal, xavier_uniform
from jax.typing import ArrayLike

from .. import _layers

_XAVIER = xavier_uniform()


def _dense(layer: Any, *channels: int) -> SimpleNamespace:
    """The dense layers of a layer, for so many channels."""
    kind: Any = {"dtype": layer.dtype, "param_dtype": layer.param_dtype}
    return SimpleNamespace(
        **{
            name: linen.Dense(out, name=name, **kind)
            for name, (_, out) in layer._widths(*channels).items()
        }
    )


class AttentionPool(_layers.AttentionPool, linen.Module):
    __doc__ = _layers.AttentionPool.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; tokens with `where` False take no part."""
        c = jnp.shape(x)[-1]
        kind: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        dense = {"kernel_init": _XAVIER, **kind}
        layers = SimpleNamespace(
            attention=linen.MultiHeadDotProductAttention(
                self.num_heads, name="attention", **dense
            ),
            norm=linen.LayerNorm(epsilon=1e-6, name="norm", **kind),
            hidden=linen.Dense(self.mlp_features or 4 * c, name="hidden", **dense),
            out=linen.Dense(c, name="out", **dense),
        )
        probe = self.param("probe", _XAVIER, (1, c), self.param_dtype)
        return self._forward(x, where, layers, probe)


class AttentionPool2D(_layers.AttentionPool2D, linen.Module):
    __doc__ = _layers.AttentionPool2D.__doc__
    features: int

    @linen.compact
    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pools x."""
        c = jnp.shape(x)[-1]
        attention = linen.MultiHeadDotProductAttention(
            self.num_heads,
            out_features=self.features,
            kernel_init=normal(c**-0.5),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="attention",
        )
        position = self.param("position", lambda key: self._position(key, c))
        return self._forward(x, SimpleNamespace(attention=attention), position)


class PMA(_layers.PMA, linen.Module):
    __doc__ = _layers.PMA.__doc__

    @linen.compact
    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; tokens with `where` False take no part."""
        c = jnp.shape(x)[-1]
        seeds = self.param("seeds", _XAVIER, (self.num_seeds, c), self.param_dtype)
        layers = _dense(self, c)
        if self.layer_norm:
            kind: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
            layers.norm_0 = linen.LayerNorm(name="norm_0", **kind)
            layers.norm_1 = linen.LayerNorm(name="norm_1", **kind)
        return self._forward(x, where, layers, seeds)


# These bases hold no options: those of a body come after them, with its own defaults.
class _Graph(_layers.Layer, linen.Module):
    _forward: ClassVar[Callable[..., Any]]

    def _channels(self, x: ArrayLike) -> tuple[int, ...]:
        return jnp.shape(x)[-1:]

    @linen.compact
    def __call__(
        self, x: ArrayLike, adjacency: ArrayLike, *, where: ArrayLike | None = None
    ) -> Any:
        """Pools a graph; nodes with `where` False take no part."""
        return self._forward(x, adjacency, where, _dense(self, *self._channels(x)))


class _Clusters(_Graph):
    clusters: int

    def _channels(self, x: ArrayLike) -> tuple[int, ...]:
        return jnp.shape(x)[-1], self.clusters


class DiffPool(_Clusters, _layers.DiffPool):
    __doc__ = _layers.DiffPool.__doc__


class MinCutPool(_Clusters, _layers.MinCutPool):
    __doc__ = _layers.MinCutPool.__doc__


class SAGPool(_Graph, _layers.SAGPool):
    __doc__ = _layers.SAGPool.__doc__


class StructPool(_Clusters, _layers.StructPool):
    __doc__ = _layers.StructPool.__doc__

    @linen.compact
    def __call__(
        self, x: ArrayLike, adjacency: ArrayLike, *, where: ArrayLike | None = None
    ) -> Any:
        """Pools a graph; nodes with `where` False take no part."""
        layers = _dense(self, *self._channels(x))
        start = lambda key: self._start(self.clusters)  # noqa: E731
        compatibility = self.param("compatibility", start)
        return self._forward(x, adjacency, where, layers, compatibility)
