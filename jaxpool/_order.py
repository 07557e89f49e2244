"""Pools that select by order: max, min, median.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `x` an input `(*batch, *space, channels)`.
"""

import functools
from typing import Literal, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine, _selection
from ._check import check_array, check_bool, check_choice, check_empty, check_where
from ._window import Padding, PerAxis, PoolOptions, Window, make_window


@overload
def max_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: Literal[False] = False,
    **options: Unpack[PoolOptions],
) -> jax.Array: ...


@overload
def max_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: Literal[True],
    **options: Unpack[PoolOptions],
) -> tuple[jax.Array, jax.Array]: ...


@overload
def max_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: bool,
    **options: Unpack[PoolOptions],
) -> jax.Array | tuple[jax.Array, jax.Array]: ...
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


@overload
def min_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: Literal[False] = False,
    **options: Unpack[PoolOptions],
) -> jax.Array: ...


@overload
def min_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: Literal[True],
    **options: Unpack[PoolOptions],
) -> tuple[jax.Array, jax.Array]: ...


@overload
def min_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: bool,
    **options: Unpack[PoolOptions],
) -> jax.Array | tuple[jax.Array, jax.Array]: ...
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
        elements = jnp.ones_like(x, bool) if window.padded else None
        if valid is not None:
            elements = _engine.spread_mask(valid, window)
        sides = {"lower": (False,), "upper": (True,), "mean": (False, True)}[even]
        medians = [
            _selection.select(x, elements, window, functools.partial(_median, side))
            for side in sides
        ]
        if even == "mean":
            # Not a / 2 + b / 2, which XLA takes for the (a + b) / 2 that overflows.
            half = np.asarray(0.5, x.dtype)
            y = medians[0] * half - medians[1] * -half
        else:
            (y,) = medians
        return _engine.fill_empty(y, window, valid, empty)


def _extremum_pool(x, window, reducer, valid, empty, return_indices):
    check_bool("return_indices", return_indices)
    if valid is not None:
        valid = _engine.spread_mask(valid, window)
        x = jnp.where(valid, x, _engine.identity(reducer, x.dtype))
    fill = check_empty(empty, x.dtype)
    best = _selection.select(x, valid, window, reducer)
    y = best
    if valid is not None:
        y = _engine.fill_empty(best, window, valid, fill)
    if not return_indices:
        return y
    code = _selection.arg_tap(x, best, valid, window, reducer)
    return y, _selection.flat_index(code, window, valid)


def _median(upper: bool, x: jax.Array, valid: jax.Array | None, window: Window):
    """Median of every window; elements that take no part are sorted to the end."""
    last = _engine.identity(lax.min, x.dtype)
    tapped = list(_engine.taps(x, window, last))
    if valid is None:
        middle = window.taps // 2 if upper else (window.taps - 1) // 2
        y = _ascending(tapped)[middle]
    else:
        valids = list(_engine.taps(valid, window, False))
        tapped = [jnp.where(v, t, last) for t, v in zip(tapped, valids, strict=True)]
        count = functools.reduce(jnp.add, (v.astype(jnp.int32) for v in valids))
        middle = count // 2 if upper else (count - 1) // 2
        ranked = _ascending(tapped)
        y = ranked[0]
        for rank, value in enumerate(ranked[1:], 1):
            y = jnp.where(middle == rank, value, y)
    if jnp.issubdtype(x.dtype, jnp.floating):
        isnan = functools.reduce(jnp.logical_or, (t != t for t in tapped))
        y = jnp.where(isnan, np.asarray(np.nan, x.dtype), y)
    return y


def _ascending(values: list[jax.Array]) -> list[jax.Array]:
    """Sorts arrays elementwise.

    A network of minima and maxima fuses into one kernel, without what a rank does not
    need: the median of 3x3/s2 takes 5 ms on CPU, by `lax.sort` 900.
    """
    if len(values) > _LARGEST_NETWORK:
        return list(jnp.sort(jnp.stack(values), axis=0))
    values = list(values)
    for i, j in sorting_network(len(values)):
        low, high = jnp.minimum(values[i], values[j]), jnp.maximum(values[i], values[j])
        values[i], values[j] = low, high
    return values


_LARGEST_NETWORK = 64  # 543 comparisons; more of them take long to compile


@functools.cache
def sorting_network(n: int) -> list[tuple[int, int]]:
    """Batcher's merge exchange of n values, as pairs to put in order.

    Knuth, "The Art of Computer Programming", volume 3, 5.2.2, algorithm M.
    """
    pairs: list[tuple[int, int]] = []
    top = p = 2 ** (n - 1).bit_length() // 2
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            q, r, d = q // 2, p, q - p
        p //= 2
    return pairs
