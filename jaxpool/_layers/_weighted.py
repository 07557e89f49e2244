"""Bodies of the layers that take weighted means of windows."""

from dataclasses import dataclass

import jax
from jax.typing import ArrayLike

from .._adapool import Gradient, edscw_pool, idw_pool
from .._detail import detail_preserving_pool
from .._weighted import local_importance_pool
from ._windowed import OfWindows, Windowed


@dataclass(eq=False, repr=False, kw_only=True)
class EDSCWPool(Windowed):
    """Averages every window with weights by the Dice-Sorensen similarity to its mean.

    The arguments are the options of `jaxpool.edscw_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.EDSCWPool((2,))
      >>> y = layer(jnp.array([1.0, 3.0, 1.0, 5.0])[:, None])
      >>> [round(v, 3) for v in y[:, 0].tolist()]
      [2.061, 3.28]
    """

    _pool = staticmethod(edscw_pool)
    gradient: Gradient = "exact"


@dataclass(eq=False, repr=False, kw_only=True)
class IDWPool(Windowed):
    """Averages every window with weights by the inverse distance to its mean.

    The arguments are the options of `jaxpool.idw_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.IDWPool((3,))
      >>> y = layer(jnp.array([0.0, 1.0, 5.0, 7.0, 7.0, 7.0])[:, None])
      >>> [round(v, 3) for v in y[:, 0].tolist()]
      [1.455, 7.0]
    """

    _pool = staticmethod(idw_pool)
    eps: float = 1e-6
    gradient: Gradient = "exact"


@dataclass(eq=False, repr=False, kw_only=True)
class DetailPreservingPool(Windowed):
    """Averages every window with larger weights where it differs from a reference.

    The arguments are the options of `jaxpool.detail_preserving_pool`. `DPP` learns
    `alpha` and `lam`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.DetailPreservingPool((4,))
      >>> y = layer(jnp.array([0.0, 0.0, 0.0, 4.0])[:, None])
      >>> [round(v, 3) for v in y[:, 0].tolist()]
      [1.464]
    """

    _pool = staticmethod(detail_preserving_pool)
    alpha: float | ArrayLike = 1.0
    lam: float | ArrayLike = 1.0
    symmetric: bool = True
    normalize: bool = True

    def __call__(
        self,
        x: ArrayLike,
        *,
        where: ArrayLike | None = None,
        reference: ArrayLike | None = None,
    ) -> jax.Array:
        """Pools x; elements with `where` False take no part.

        `reference` is what the elements are compared with, by default their average.
        """
        return self._call(x, where=where, reference=reference)


@dataclass(eq=False, repr=False, kw_only=True)
class LocalImportancePool(OfWindows):
    """Averages every window with softmax weights of given logits.

    The arguments are the options of `jaxpool.local_importance_pool`; the call takes the
    array and its logits. `LIP` and `SimplifiedLIP` compute logits from the array.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.array([0.0, 1.0, 2.0, 4.0])[:, None]
      >>> logits = jnp.array([0.0, jnp.log(3.0), 500.0, 500.0])[:, None]
      >>> jaxpool.nnx.LocalImportancePool((2,))(x, logits)[:, 0]
      Array([0.75, 3.  ], dtype=float32)
    """

    _pool = staticmethod(local_importance_pool)

    def __call__(
        self, x: ArrayLike, logits: ArrayLike, *, where: ArrayLike | None = None
    ) -> jax.Array:
        """Pools x with weights from `logits`; elements with `where` False take no part.

        `logits` broadcast to x.
        """
        return self._call(x, logits, where=where)
