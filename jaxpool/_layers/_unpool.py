"""Bodies of the layers that un-pool."""

from dataclasses import dataclass, field
from typing import Literal

import jax
from jax.typing import ArrayLike

from .._ada_unpool import ada_unpool
from .._unpool import avg_unpool, max_unpool
from .._window import Padding, PerAxis
from ._base import Layer


@dataclass(eq=False, repr=False, kw_only=True)
class MaxUnpool(Layer):
    """Puts pooled values back where their maxima were, and 0 elsewhere.

    The arguments are the options of `jaxpool.max_unpool`; the call takes the values and
    their indices.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.array([1.0, 5.0, 3.0, 2.0])[:, None]
      >>> y, indices = jaxpool.nnx.MaxPool((2,), return_indices=True)(x)
      >>> jaxpool.nnx.MaxUnpool((4,))(y, indices)[:, 0]
      Array([0., 5., 3., 0.], dtype=float32)
    """

    _pool = staticmethod(max_unpool)
    output_shape: tuple[int, ...] = field(kw_only=False)
    axes: tuple[int, ...] | None = None
    reduce: Literal["set", "add", "max"] = "set"

    def __call__(self, y: ArrayLike, indices: ArrayLike) -> jax.Array:
        """Un-pools y; `indices` are those that its pool returned."""
        return self._call(y, indices)


@dataclass(eq=False, repr=False, kw_only=True)
class AvgUnpool(Layer):
    """Spreads averages over their windows.

    The arguments are the options of `jaxpool.avg_unpool`.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> y = jnp.array([2.0, 6.0])[:, None]
      >>> jaxpool.nnx.AvgUnpool((2,), mode="replicate")(y)[:, 0]
      Array([2., 2., 6., 6.], dtype=float32)
    """

    _pool = staticmethod(avg_unpool)
    window_shape: tuple[int, ...] = field(kw_only=False)
    output_shape: tuple[int, ...] | None = None
    strides: PerAxis | None = None
    padding: Padding = "VALID"
    dilation: PerAxis = 1
    ceil_mode: bool = False
    axes: tuple[int, ...] | None = None
    count_include_pad: bool = True
    mode: Literal["adjoint", "replicate"] = "adjoint"

    def __call__(self, y: ArrayLike) -> jax.Array:
        """Un-pools y."""
        return self._call(y)


@dataclass(eq=False, repr=False, kw_only=True)
class AdaUnpool(Layer):
    """Spreads values over windows by the weights that `AdaPool` has there.

    The arguments are the options of `jaxpool.ada_unpool`, and `beta`: a number or an
    array, such as the parameter of the pool. The call takes the values and what was
    pooled.

    Example:
      >>> import jax.numpy as jnp, jaxpool.nnx
      >>> x = jnp.array([1.0, 3.0, 2.0, 2.0])[:, None]
      >>> y = jaxpool.nnx.AdaPool((2,))(x)
      >>> up = jaxpool.nnx.AdaUnpool((2,), mode="replicate")(y, x)
      >>> [round(v, 3) for v in up[:, 0].tolist()]
      [1.419, 3.404, 2.0, 2.0]
    """

    _pool = staticmethod(ada_unpool)
    window_shape: tuple[int, ...] = field(kw_only=False)
    strides: PerAxis | None = None
    padding: Padding = "VALID"
    dilation: PerAxis = 1
    ceil_mode: bool = False
    axes: tuple[int, ...] | None = None
    beta: float | ArrayLike = 0.5
    mode: Literal["adjoint", "replicate"] = "adjoint"

    def __call__(
        self, y: ArrayLike, x: ArrayLike, *, where: ArrayLike | None = None
    ) -> jax.Array:
        """Un-pools y, which came from x; elements with `where` False get 0."""
        return self._call(y, x, where=where)
