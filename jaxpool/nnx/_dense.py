"""The pools around dense layers, of tokens and of graphs, as layers of `flax.nnx`."""

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar

import jax
from flax import nnx
from jax.nn.initializers import normal, xavier_uniform
from jax.typing import ArrayLike

from .. import _layers

_XAVIER = xavier_uniform()


def _dense(layer: Any, rngs: nnx.Rngs, *channels: int) -> None:
    """Gives a layer its dense layers, for so many channels."""
    kind: Any = {"dtype": layer.dtype, "param_dtype": layer.param_dtype}
    for name, widths in layer._widths(*channels).items():
        setattr(layer, name, nnx.Linear(*widths, **kind, rngs=rngs))


@dataclass(eq=False, repr=False, kw_only=True)
class AttentionPool(_layers.AttentionPool, nnx.Module):
    __doc__ = _layers.AttentionPool.__doc__
    in_features: int = field(kw_only=False)
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        c, mlp = self.in_features, self.mlp_features or 4 * self.in_features
        kind: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype, "rngs": rngs}
        self.probe = nnx.Param(_XAVIER(rngs.params(), (1, c), self.param_dtype))
        heads: Any = {"num_heads": self.num_heads, "in_features": c, "decode": False}
        self.attention = nnx.MultiHeadAttention(**heads, kernel_init=_XAVIER, **kind)
        self.norm = nnx.LayerNorm(c, epsilon=1e-6, **kind)
        self.hidden = nnx.Linear(c, mlp, kernel_init=_XAVIER, **kind)
        self.out = nnx.Linear(mlp, c, kernel_init=_XAVIER, **kind)

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; tokens with `where` False take no part."""
        return self._forward(x, where, self, self.probe[...])


@dataclass(eq=False, repr=False, kw_only=True)
class AttentionPool2D(_layers.AttentionPool2D, nnx.Module):
    __doc__ = _layers.AttentionPool2D.__doc__
    in_features: int = field(kw_only=False)
    out_features: int = field(kw_only=False)
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        c = self.in_features
        self.position = nnx.Param(self._position(rngs.params(), c))
        self.attention = nnx.MultiHeadAttention(
            self.num_heads,
            c,
            out_features=self.out_features,
            kernel_init=normal(c**-0.5),
            decode=False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            rngs=rngs,
        )

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pools x."""
        return self._forward(x, self, self.position[...])


@dataclass(eq=False, repr=False, kw_only=True)
class PMA(_layers.PMA, nnx.Module):
    __doc__ = _layers.PMA.__doc__
    in_features: int = field(kw_only=False)
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        c = self.in_features
        seeds = _XAVIER(rngs.params(), (self.num_seeds, c), self.param_dtype)
        self.seeds = nnx.Param(seeds)
        _dense(self, rngs, c)
        if self.layer_norm:
            kind: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
            self.norm_0 = nnx.LayerNorm(c, **kind, rngs=rngs)
            self.norm_1 = nnx.LayerNorm(c, **kind, rngs=rngs)

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; tokens with `where` False take no part."""
        return self._forward(x, where, self, self.seeds[...])


# These bases hold no options: those of a body come after them, with its own defaults.
@dataclass(eq=False, repr=False, kw_only=True)
class _Graph(_layers.Layer, nnx.Module):
    _forward: ClassVar[Callable[..., Any]]
    in_features: int = field(kw_only=False)
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__()
        _dense(self, rngs, *self._channels())

    def _channels(self) -> tuple[int, ...]:
        return (self.in_features,)

    def __call__(
        self, x: ArrayLike, adjacency: ArrayLike, *, where: ArrayLike | None = None
    ) -> Any:
        """Pools a graph; nodes with `where` False take no part."""
        return self._forward(x, adjacency, where, self)


@dataclass(eq=False, repr=False, kw_only=True)
class _Clusters(_Graph):
    clusters: int = field(kw_only=False)

    def _channels(self) -> tuple[int, ...]:
        return self.in_features, self.clusters


@dataclass(eq=False, repr=False, kw_only=True)
class DiffPool(_Clusters, _layers.DiffPool):
    __doc__ = _layers.DiffPool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class MinCutPool(_Clusters, _layers.MinCutPool):
    __doc__ = _layers.MinCutPool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class SAGPool(_Graph, _layers.SAGPool):
    __doc__ = _layers.SAGPool.__doc__


@dataclass(eq=False, repr=False, kw_only=True)
class StructPool(_Clusters, _layers.StructPool):
    __doc__ = _layers.StructPool.__doc__

    def __post_init__(self, rngs: nnx.Rngs):
        super().__post_init__(rngs)
        self.compatibility = nnx.Param(self._start(self.clusters))

    def __call__(
        self, x: ArrayLike, adjacency: ArrayLike, *, where: ArrayLike | None = None
    ) -> Any:
        """Pools a graph; nodes with `where` False take no part."""
        return self._forward(x, adjacency, where, self, self.compatibility[...])
