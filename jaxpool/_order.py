"""Pools that select by order: max, min, median.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `x` an input `(*batch, *space, channels)`.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._window import (
    Padding,
    PerAxis,
    Window,
    check_array,
    check_choice,
    check_where,
    make_window,
)


def max_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Takes the largest element of every window.

    `y[o] = max_{i in W(o)} x[i]`, and the derivative goes to the first maximum in
    row-major order, or to the first NaN: `dx[i] = sum of g[o] over the windows o that
    were taken from i`. A window wholly in padding gives `-inf` (the dtype's minimum).

    **Strides default to the window**, as in PyTorch and Keras; in Flax they default
    to 1.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding never wins.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      return_indices: whether to return the position of each maximum too.

    Returns:
      The maxima, with x's dtype; with `return_indices` a pair `(maxima, indices)`:
      int32 positions in the unpadded pooled axes, flattened row-major (PyTorch's
      convention), -1 for a window without elements.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(16.0).reshape(4, 4, 1)
      >>> jaxpool.max_pool(x, (2, 2))[..., 0]
      Array([[ 5.,  7.],
             [13., 15.]], dtype=float32)

    References:
      Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional
      Neural Networks", 2012 (overlapping windows),
      https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks
    """
    x = check_array("x", x)
    window = make_window(
        x.shape,
        window_shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        axes=axes,
    )
    valid = check_where(where, x.shape)
    with jax.named_scope("jaxpool.max_pool"):
        return _extremum_pool(x, window, lax.max, valid, empty, return_indices)


def min_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Takes the smallest element of every window.

    `y[o] = min_{i in W(o)} x[i]`; ties, NaN, masks, indices and the derivative as in
    `max_pool`. A window wholly in padding gives `+inf` (or the dtype's maximum).

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding never wins.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      return_indices: whether to return the position of each minimum too.

    Returns:
      The minima, with x's dtype; with `return_indices` a pair `(minima, indices)` as
      `max_pool` gives it.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(16.0).reshape(4, 4, 1)
      >>> jaxpool.min_pool(x, (2, 2))[..., 0]
      Array([[ 0.,  2.],
             [ 8., 10.]], dtype=float32)

    References:
      Serra, "Image Analysis and Mathematical Morphology", 1982 (erosion by a flat
      structuring element).
    """
    x = check_array("x", x)
    window = make_window(
        x.shape,
        window_shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        axes=axes,
    )
    valid = check_where(where, x.shape)
    with jax.named_scope("jaxpool.min_pool"):
        return _extremum_pool(x, window, lax.min, valid, empty, return_indices)


def median_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    even: Literal["lower", "upper", "mean"] = "lower",
) -> jax.Array:
    """Takes the median of every window.

    `y[o] = x_(r)`, the element of rank `r = floor((n - 1) / 2)` of the `n` elements of
    `W(o)` in ascending order. Padding takes no part. The derivative goes to the first
    element in row-major order that equals the median. A NaN in the window gives NaN.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      even: which median of an even number of elements: the `"lower"` of the middle two
        (`torch.median`), the `"upper"`, or their `"mean"` (`jnp.median`; integers
        become the default float).

    Returns:
      The medians, with x's dtype. A window wholly in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([3.0, 9.0, 1.0, 4.0, 4.0, 0.0])[:, None]
      >>> jaxpool.median_pool(x, (3,))[:, 0]
      Array([3., 4.], dtype=float32)

    References:
      Tukey, "Exploratory Data Analysis", 1977; timm, `MedianPool2d` (which pads by
      reflection: pad x with `jnp.pad(..., mode="reflect")` for its numbers).
    """
    x = check_array("x", x)
    window = make_window(
        x.shape,
        window_shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        axes=axes,
    )
    valid = check_where(where, x.shape)
    check_choice("even", even, ("lower", "upper", "mean"))
    with jax.named_scope("jaxpool.median_pool"):
        if even == "mean" and not jnp.issubdtype(x.dtype, jnp.floating):
            x = x.astype(jnp.result_type(float))
        elements = _engine.spread_mask(valid, x, window)
        if elements is None and window.padded:
            elements = jnp.ones_like(x, bool)
        sides = {"lower": (False,), "upper": (True,), "mean": (False, True)}[even]
        medians = [
            _engine.select(x, elements, window, functools.partial(_median, side))
            for side in sides
        ]
        if even == "mean":
            y = (medians[0] * np.asarray(0.5, x.dtype)) + (
                medians[1] * np.asarray(0.5, x.dtype)
            )
        else:
            (y,) = medians
        return _engine.fill_empty(y, window, valid, empty)


def _extremum_pool(x, window, reducer, valid, empty, return_indices):
    valid = _engine.spread_mask(valid, x, window)
    if valid is not None:
        x = jnp.where(valid, x, _engine.identity(reducer, x.dtype))
    best = _engine.select(x, valid, window, reducer)
    y = best
    if valid is not None:
        y = _engine.fill_empty(best, window, valid, empty)
    if not return_indices:
        return y
    code = _engine.arg_tap(x, best, valid, window, reducer)
    return y, _engine.flat_index(code, window, valid)


def _median(upper: bool, x: jax.Array, valid: jax.Array | None, window: Window):
    """Median of every window: sorts the taps, with those left out at the end."""
    dtype = x.dtype
    if dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    last = _engine.identity(lax.min, x.dtype)
    stack = jnp.stack(list(_engine.taps(_engine.pad(x, window, last), window)))
    isnan = stack != stack
    middle = window.taps // 2 if upper else (window.taps - 1) // 2
    if valid is None:
        y = jnp.sort(stack, axis=0)[middle]
    else:
        valid = jnp.stack(list(_engine.taps(_engine.pad(valid, window, False), window)))
        isnan &= valid
        count = valid.sum(axis=0, dtype=jnp.int32)
        rank = count // 2 if upper else (count - 1) // 2
        ranked = jnp.sort(jnp.where(valid, stack, last), axis=0)
        y = jnp.take_along_axis(ranked, jnp.maximum(rank, 0)[None], axis=0)[0]
    if jnp.issubdtype(dtype, jnp.floating):
        y = jnp.where(isnan.any(axis=0), np.asarray(np.nan, dtype), y)
    return y.astype(dtype)
