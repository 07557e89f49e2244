"""Adaptive pools: windows placed so that the output has a given size.

Letters: `n` the size of a pooled axis, `o` that of the output along it, `W(i)` the
window of output position `i`, `x` an input `(*batch, *space, channels)`.

`W(i)` is `[floor(i n / o), ceil((i + 1) n / o))`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._check import (
    as_int,
    canonical_axes,
    check_array,
    check_bool,
    check_empty,
    check_inexact,
    check_where,
)
from ._uneven import counts, search, select, window_any, window_sums


class FixedWindow(NamedTuple):
    """Window and stride of a plain pool, and whether it equals the adaptive one."""

    window: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    exact: bool


class _Options(TypedDict, total=False):
    axes: tuple[int, ...] | None
    where: ArrayLike | None
    empty: float


def adaptive_avg_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Averages windows placed so that the output has a given size.

    `y[i] = mean of x over W(i) = [floor(i n / o), ceil((i + 1) n / o))` along each
    pooled axis, for any sizes `n` and `o`; these are PyTorch's windows. They differ in
    size by one at most, and neighbours share an element where `o` does not divide `n`.

    Args:
      x: `(*batch, *space, channels)`, of any dtype.
      output_shape: tuple with the output size of each pooled axis; None keeps the axis.
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.

    Returns:
      `(*batch, *output_shape, channels)`, with x's dtype; the default float for
      integers and bool. 16-bit floats add up in float32.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.adaptive_avg_pool(jnp.arange(10.0)[:, None], (4,))[:, 0]
      Array([1., 3., 6., 8.], dtype=float32)

    References:
      PyTorch, `torch.nn.AdaptiveAvgPool2d`,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html
    """
    x = check_inexact("x", x)
    sizes = _check_sizes(x.shape, output_shape, axes)
    valid = check_where(where, x.shape, tuple(sizes))
    fill = check_empty(empty, x.dtype)
    with jax.named_scope("jaxpool.adaptive_avg_pool"):
        if valid is None:
            total = window_sums(x, sizes)
            return (total / counts(x.shape, sizes, total.dtype)).astype(x.dtype)
        total = window_sums(_engine.without(x, valid), sizes)
        count = window_sums(valid.astype(jnp.int32), sizes)
        divisor = jnp.maximum(count, np.int32(1)).astype(total.dtype)
        y = (total / divisor).astype(x.dtype)
        return jnp.where(count > 0, y, fill)


@overload
def adaptive_max_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    return_indices: Literal[False] = False,
    **options: Unpack[_Options],
) -> jax.Array: ...


@overload
def adaptive_max_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    return_indices: Literal[True],
    **options: Unpack[_Options],
) -> tuple[jax.Array, jax.Array]: ...


@overload
def adaptive_max_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    return_indices: bool,
    **options: Unpack[_Options],
) -> jax.Array | tuple[jax.Array, jax.Array]: ...
def adaptive_max_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Takes the largest element of windows placed so that the output has a given size.

    The windows are those of `adaptive_avg_pool` (PyTorch's). Ties, NaN and the
    derivative as in `max_pool`: all go to the first maximum in row-major order, or the
    first NaN (PyTorch's index is that of the last NaN).

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      output_shape: tuple with the output size of each pooled axis; None keeps the axis.
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      return_indices: whether to return the position of each maximum too.

    Returns:
      `(*batch, *output_shape, channels)`, with x's dtype; with `return_indices` a pair
      `(maxima, indices)`: int32 positions in the pooled axes of x, flattened row-major
      (PyTorch's convention), -1 for a window without elements.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.adaptive_max_pool(jnp.arange(10.0)[:, None], (4,))[:, 0]
      Array([2., 4., 7., 9.], dtype=float32)

    References:
      PyTorch, `torch.nn.AdaptiveMaxPool2d`,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html
    """
    x = check_array("x", x)
    sizes = _check_sizes(x.shape, output_shape, axes)
    valid = check_where(where, x.shape, tuple(sizes))
    check_bool("return_indices", return_indices)
    with jax.named_scope("jaxpool.adaptive_max_pool"):
        return _extremum_pool(x, sizes, lax.max, valid, empty, return_indices)


@overload
def adaptive_min_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    return_indices: Literal[False] = False,
    **options: Unpack[_Options],
) -> jax.Array: ...


@overload
def adaptive_min_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    return_indices: Literal[True],
    **options: Unpack[_Options],
) -> tuple[jax.Array, jax.Array]: ...


@overload
def adaptive_min_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    return_indices: bool,
    **options: Unpack[_Options],
) -> jax.Array | tuple[jax.Array, jax.Array]: ...
def adaptive_min_pool(
    x: ArrayLike,
    output_shape: tuple[int | None, ...],
    *,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Takes the smallest element of windows placed so that the output has a given size.

    As `adaptive_max_pool`, with the first minimum.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      output_shape: tuple with the output size of each pooled axis; None keeps the axis.
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      return_indices: whether to return the position of each minimum too.

    Returns:
      `(*batch, *output_shape, channels)`, with x's dtype; with `return_indices` a pair
      `(minima, indices)` as `adaptive_max_pool` gives it.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.adaptive_min_pool(jnp.arange(10.0)[:, None], (4,))[:, 0]
      Array([0., 2., 5., 7.], dtype=float32)

    References:
      PyTorch, `torch.nn.AdaptiveMaxPool2d` (of -x),
      https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html
    """
    x = check_array("x", x)
    sizes = _check_sizes(x.shape, output_shape, axes)
    valid = check_where(where, x.shape, tuple(sizes))
    check_bool("return_indices", return_indices)
    with jax.named_scope("jaxpool.adaptive_min_pool"):
        return _extremum_pool(x, sizes, lax.min, valid, empty, return_indices)


def fixed_window(
    input_size: int | tuple[int, ...], output_size: int | tuple[int, ...]
) -> FixedWindow:
    """Window and stride of a plain pool with the output size of an adaptive one.

    `stride = floor(n / o)` and `window = n - (o - 1) stride`: for runtimes that have no
    adaptive pools. The windows cover the input and are those of an adaptive pool
    exactly if the remainder of `n / o` is 0 or 1; otherwise they are longer, and placed
    evenly.

    Args:
      input_size: the size `n` of the axis; or a tuple of them.
      output_size: the size `o` of the output, at most `n`; a tuple if that is one.

    Returns:
      A named tuple `(window, stride, exact)`: ints, or tuples of ints, and whether the
      windows are the adaptive ones, along every axis.

    Raises:
      TypeError: if a size is not an int.
      ValueError: if a size is out of range.

    Example:
      >>> import jaxpool
      >>> jaxpool.fixed_window(15, 7)
      FixedWindow(window=3, stride=2, exact=True)
      >>> jaxpool.fixed_window((224, 10), (7, 4))
      FixedWindow(window=(32, 4), stride=(32, 2), exact=False)

    References:
      PyTorch, `torch.nn.AdaptiveAvgPool2d` (whose windows are meant),
      https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html
    """
    several = isinstance(input_size, tuple)
    inputs = input_size if isinstance(input_size, tuple) else (input_size,)
    outputs = output_size if isinstance(output_size, tuple) else (output_size,)
    if isinstance(output_size, tuple) != several or len(inputs) != len(outputs):
        raise ValueError(
            "`output_size` must have one int per entry of `input_size` "
            f"{input_size!r}, got {output_size!r}"
        )
    pairs = [
        (as_int("input_size", n), as_int("output_size", o))
        for n, o in zip(inputs, outputs, strict=True)
    ]
    if any(not 1 <= o <= n for n, o in pairs):
        raise ValueError(
            f"`output_size` must lie between 1 and `input_size` {input_size!r}, got "
            f"{output_size!r}"
        )
    stride = tuple(n // o for n, o in pairs)
    window = tuple(n - (o - 1) * s for (n, o), s in zip(pairs, stride, strict=True))
    exact = all(n % o <= 1 for n, o in pairs)
    if several:
        return FixedWindow(window, stride, exact)
    return FixedWindow(window[0], stride[0], exact)


def _check_sizes(shape, output_shape, axes) -> dict[int, int]:
    """Output size of each pooled axis, negative and ascending; kept ones too."""
    if isinstance(output_shape, (int, np.integer)):
        o = int(output_shape)
        raise TypeError(
            "`output_shape` must be a tuple with one int or None per pooled axis, got "
            f"the int {o}: write ({o}, {o}) to pool two axes"
        )
    if isinstance(output_shape, str) or not isinstance(output_shape, Sequence):
        raise TypeError(
            "`output_shape` must be a tuple with one int or None per pooled axis, got "
            f"{output_shape!r}"
        )
    count = len(output_shape)
    if not count:
        raise ValueError("`output_shape` must have at least one entry, got ()")
    if axes is None:
        if count >= len(shape):
            raise ValueError(
                f"`output_shape` must have at most {max(len(shape) - 1, 0)} entries "
                f"(the axes of x with shape {tuple(shape)} before its channels), got "
                f"{tuple(output_shape)}"
            )
        axes = tuple(range(-count - 1, -1))
    axes = canonical_axes(shape, axes, count, "output_shape")
    sizes = {}
    for axis, o in sorted(zip(axes, output_shape, strict=True)):
        n = shape[axis]
        if n == 0:
            raise ValueError(f"`x` must not be empty along axes {axes}, got {shape}")
        sizes[axis] = n if o is None else as_int("output_shape", o)
        if o is None:
            continue
        if sizes[axis] < 1:
            raise ValueError(f"`output_shape` must be at least 1, got {output_shape}")
        if not isinstance(n, int):
            raise ValueError(
                "`output_shape` must be None along an axis of unknown size, got "
                f"{output_shape} for x with shape {shape}"
            )
    return sizes


def _extremum_pool(x, sizes, reducer, valid, empty, return_indices):
    dtype, fill = x.dtype, check_empty(empty, x.dtype)
    if valid is not None:
        x = jnp.where(valid, x, _engine.identity(reducer, dtype))
    if dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    y = select(x, valid, tuple(sizes.items()), reducer).astype(dtype)
    some = None if valid is None else window_any(valid, sizes)
    if some is not None:
        y = jnp.where(some, y, fill)
    if not return_indices:
        return y
    index, scale = jnp.zeros_like(y, jnp.int32), 1
    _, _, number = search(x, valid, sizes, reducer)
    for axis in reversed(sizes):
        n = x.shape[axis]
        place = lax.broadcasted_iota(jnp.int32, y.shape, y.ndim + axis)
        if n != sizes[axis] and number is not None:
            place, number = number % np.int32(n), number // np.int32(n)
        index = index + place * jnp.asarray(scale, jnp.int32)
        scale *= n
    if some is not None:
        index = jnp.where(some, index, np.int32(-1))
    return y, index
