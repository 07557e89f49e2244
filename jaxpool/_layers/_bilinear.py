"""Bodies of the layers of the second order."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer, lecun_normal
from jax.typing import ArrayLike, DTypeLike

from .._bilinear import (
    SqrtForm,
    bilinear_pool,
    compact_bilinear_pool,
    covariance_pool,
    low_rank_bilinear_pool,
)
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class BilinearPool(Layer):
    """Averages the outer products of two features over all positions.

    The arguments are the options of `jaxpool.bilinear_pool`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> jax.eval_shape(jaxpool.nnx.BilinearPool(), jnp.ones((8, 7, 7, 64))).shape
      (8, 4096)
    """

    _pool = staticmethod(bilinear_pool)
    axes: tuple[int, ...] = (-3, -2)
    signed_sqrt: SqrtForm | None = "smooth"
    normalize: bool = True
    eps: float = 1e-8

    def __call__(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        where: ArrayLike | None = None,
    ) -> jax.Array:
        """Pools x with y, or with itself; positions with `where` False take no part."""
        return self._call(x, y=y, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class CompactBilinearPool(BilinearPool):
    """Approximates bilinear pooling by random projections.

    The arguments are the options of `jaxpool.compact_bilinear_pool`; `seed` takes the
    place of its key. The projections are drawn anew, the same ones, in every call: they
    are no variables, and jit makes constants of them.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.CompactBilinearPool(1024)
      >>> jax.eval_shape(layer, jnp.ones((8, 7, 7, 64))).shape
      (8, 1024)
    """

    _pool = staticmethod(compact_bilinear_pool)
    features: int = field(kw_only=False)
    seed: int = 0
    method: Literal["tensor_sketch", "random_maclaurin"] = "tensor_sketch"

    def __call__(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        *,
        where: ArrayLike | None = None,
    ) -> jax.Array:
        """Pools x with y, or with itself; positions with `where` False take no part."""
        return self._call(x, y=y, where=where, key=jax.random.key(self.seed))


@dataclass(eq=False, repr=False, kw_only=True)
class CovariancePool(Layer):
    """Takes the square root of the covariance of the channels.

    The arguments are the options of `jaxpool.covariance_pool`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> jax.eval_shape(jaxpool.nnx.CovariancePool(), jnp.ones((8, 7, 7, 256))).shape
      (8, 32896)
    """

    _pool = staticmethod(covariance_pool)
    axes: tuple[int, ...] = (-3, -2)
    iterations: int = 5
    triangle: bool = True

    def __call__(self, x: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
        """Pools x; positions with `where` False take no part."""
        return self._call(x, where=where)


@dataclass(eq=False, repr=False, kw_only=True)
class LowRankBilinearPool(Layer):
    """Averages products of two learned projections over all positions.

    The arguments are the options of `jaxpool.low_rank_bilinear_pool`, by default MLB's;
    MFB takes `factors=5, activation=None, signed_sqrt="smooth", normalize=True`. The
    parameters are `u`, `(in_features, out_features factors)`, and `v`,
    `(other_features, out_features factors)` if `other_features`, the number of the
    second input, is given, else as u; of dtype `param_dtype`, drawn by `kernel_init`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool.nnx
      >>> from flax import nnx
      >>> layer = jaxpool.nnx.LowRankBilinearPool(64, 100, rngs=nnx.Rngs(0))
      >>> jax.eval_shape(layer, jnp.ones((8, 7, 7, 64))).shape
      (8, 100)
    """

    _pool = staticmethod(low_rank_bilinear_pool)
    factors: int = 1
    activation: Callable[[jax.Array], jax.Array] | None = jnp.tanh
    axes: tuple[int, ...] = (-3, -2)
    signed_sqrt: SqrtForm | None = None
    normalize: bool = False
    eps: float = 1e-8
    kernel_init: Initializer = lecun_normal()  # noqa: RUF009 a function, not a default
    param_dtype: DTypeLike = jnp.float32
