"""Averages of strips: whole rows, whole columns.

Letters: `x` an input `(*batch, *space, channels)`.
"""

import functools

import jax
from jax.typing import ArrayLike

from ._check import check_inexact, pooled_axes
from ._global import global_avg_pool


def strip_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> tuple[jax.Array, ...]:
    """Averages over every row, and over every column.

    `rows[i] = mean_j x[i, j]` and `columns[j] = mean_i x[i, j]`: windows as long as the
    input and one element wide, which see far along one axis and keep the place along
    the other. `rows + columns` broadcasts to x's shape. With more than two axes, each
    output keeps one of them and is the mean over the others.

    Args:
      x: `(*batch, *space, channels)`, of any dtype.
      axes: the pooled axes, two at least.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a strip in which `where` leaves no element.

    Returns:
      A tuple of one array per entry of `axes`, in its order: the means for each place
      along that axis, with size 1 along the others. `(*batch, H, 1, channels)` and
      `(*batch, 1, W, channels)` by default, with x's dtype; the default float for
      integers and bool. 16-bit floats add up in float32.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(6.0).reshape(2, 3, 1)
      >>> rows, columns = jaxpool.strip_pool(x)
      >>> rows[:, 0, 0], columns[0, :, 0]
      (Array([1., 4.], dtype=float32), Array([1.5, 2.5, 3.5], dtype=float32))

    References:
      Hou, Zhang, Cheng, Feng, "Strip Pooling: Rethinking Spatial Pooling for Scene
      Parsing", 2020, https://arxiv.org/abs/2003.13328, equations 1 and 2.
    """
    x = check_inexact("x", x)
    axes = pooled_axes(x.shape, axes, 2)
    with jax.named_scope("jaxpool.strip_pool"):
        over = [tuple(a for a in axes if a != kept) for kept in axes]
        mean = functools.partial(global_avg_pool, keepdims=True, where=where)
        return tuple(mean(x, axes=strip, empty=empty) for strip in over)
