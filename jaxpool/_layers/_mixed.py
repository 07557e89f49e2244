"""Bodies of the layers made of other pools."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .._combined import combined_pool
from ._windowed import Windowed


@dataclass(eq=False, repr=False, kw_only=True)
class CombinedPool(Windowed):
    """Pools in several ways and joins the results.

    The arguments are the options of `jaxpool.combined_pool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> layer = jaxpool.nnx.CombinedPool((2,), pools=("max", "min", "avg"))
      >>> layer(jnp.array([1.0, 3.0, 0.0, 2.0])[:, None])
      Array([[3., 1., 2.],
             [2., 0., 1.]], dtype=float32)
    """

    _pool = staticmethod(combined_pool)
    pools: Sequence[str] = ("max", "avg")
    mode: Literal["concat", "add", "mean"] = "concat"
