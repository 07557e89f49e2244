"""Sampling: every s-th element, and what to do against the aliases it makes.

Letters: `n` the size of a pooled axis, `s` its stride, `k` the size of a filter, `x` an
input `(*batch, *space, channels)`. Every function gives `ceil(n / s)` outputs.

References: Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019; Chaman,
Dokmanić, "Truly Shift-Invariant Convolutional Neural Networks", 2021.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _blocks as blocks
from . import _engine, _selection
from ._check import (
    as_array,
    as_int,
    canonical_axes,
    check_array,
    check_bool,
    check_choice,
    check_inexact,
    check_static,
    per_axis,
    pooled_axes,
)
from ._filter import PADDING_MODES, PaddingMode, elements, filter_axis
from ._window import Padding, PerAxis, Window, make_window


def subsample(
    x: ArrayLike,
    strides: PerAxis,
    *,
    offset: PerAxis = 0,
    axes: tuple[int, ...] | None = None,
) -> jax.Array:
    """Takes every s-th element.

    `y[o] = x[offset + s o]`: a max pool of window 1, and with a random offset the
    cheapest pool of all. Neighbours of what is taken have no part in it: see
    `blur_pool` for sampling without aliases.

    Args:
      x: `(*batch, *space, channels)`, of any dtype.
      strides: int or one per pooled axis.
      offset: int or one per pooled axis, from 0 to below the stride.
      axes: the pooled axes; by default those right before the last, one per entry of
        `strides`, and two of them if it is an int.

    Returns:
      `ceil((n - offset) / s)` elements per pooled axis, with x's dtype.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or nothing would be left.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.subsample(jnp.arange(7)[:, None], (3,), offset=1)[:, 0]
      Array([1, 4], dtype=int32)

    References:
      Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for Simplicity: The All
      Convolutional Net", 2014, https://arxiv.org/abs/1412.6806
    """
    x = check_array("x", x, complex_ok=True)
    if axes is None:
        count = len(strides) if isinstance(strides, Sequence) else 2
        axes = tuple(range(-count - 1, -1))
    axes = pooled_axes(x.shape, axes)
    strides = per_axis("strides", strides, len(axes), 1)
    offsets = per_axis("offset", offset, len(axes), 0)
    for axis, s, start in zip(axes, strides, offsets, strict=True):
        if start >= s:
            raise ValueError(
                f"`offset` must be below `strides` {strides}, got {offset!r}"
            )
        if start >= x.shape[axis]:
            raise ValueError(
                f"`offset` must lie inside of x with shape {x.shape}, got {start} for "
                f"axis {axis}"
            )
    with jax.named_scope("jaxpool.subsample"):
        for axis, s, start in zip(axes, strides, offsets, strict=True):
            x = lax.slice_in_dim(x, start, None, s, axis)
        return x


def blur_pool(
    x: ArrayLike,
    *,
    strides: PerAxis = 2,
    filter_size: int = 3,
    padding_mode: PaddingMode = "reflect",
    axes: tuple[int, ...] = (-3, -2),
) -> jax.Array:
    """Blurs by a binomial filter, then takes every s-th element.

    `y[o] = sum_t a[t] x[s o + t - floor((k - 1) / 2)]` along each pooled axis in turn,
    with `a[t] = C(k - 1, t) / 2^(k - 1)`: [1, 1] / 2 for k = 2, [1, 2, 1] / 4 for
    k = 3. What a stride would alias is filtered out, so that the output changes little
    when the input shifts. It stands for an average pool, and after a stride-1
    convolution for a strided one.

    Args:
      x: `(*batch, *space, channels)`, of any dtype.
      strides: int or one per pooled axis; 1 blurs only.
      filter_size: `k`, of any size; the paper has 1 (which is `subsample`) to 7.
      padding_mode: what lies beyond the edges: `"reflect"` (x mirrored at its outermost
        elements, again and again if it is shorter than the filter), `"edge"` (them
        repeated), `"zero"` (constants darken at the edges), `"circular"` (x again).
      axes: the pooled axes.

    Returns:
      `ceil(n / s)` elements per pooled axis, with x's dtype; the default float for
      integers and bool. 16-bit floats add up in float32.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 0.0, 0.0, 4.0, 0.0, 0.0])[:, None]
      >>> jaxpool.blur_pool(x, axes=(-2,))[:, 0]
      Array([0., 1., 1.], dtype=float32)

    References:
      Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019,
      https://arxiv.org/abs/1904.11486. Its code has k = 4 by default in two dimensions;
      timm pads even filters to one output more.
    """
    x = check_inexact("x", x)
    window = _blur_window(x.shape, strides, filter_size, axes)
    check_choice("padding_mode", padding_mode, PADDING_MODES)
    with jax.named_scope("jaxpool.blur_pool"):
        return _blur(x, window, padding_mode)


def max_blur_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis = 2,
    padding: Padding = "SAME",
    filter_size: int = 3,
    padding_mode: PaddingMode = "reflect",
    axes: tuple[int, ...] | None = None,
) -> jax.Array:
    """Takes the maximum of every window at stride 1, then blurs and subsamples.

    `y = blur_pool(max_pool(x, window_shape, strides=1))`: a max pool in two steps, the
    second of which alone makes aliases, and is blurred.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis: the window of the maximum.
      strides: int or one per pooled axis: those of the blur.
      padding: of the maximum, as in `max_pool`.
      filter_size: the size of the blur's filter, as in `blur_pool`.
      padding_mode: what the blur sees beyond the edges, as in `blur_pool`.
      axes: the pooled axes; by default those right before the last.

    Returns:
      `ceil(n / s)` elements per pooled axis, with x's dtype; the default float for
      integers and bool. With another padding than "SAME", `n` is the size it gives.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 0.0, 0.0, 4.0, 0.0, 0.0])[:, None]
      >>> jaxpool.max_blur_pool(x, (2,))[:, 0]
      Array([0., 3., 1.], dtype=float32)

    References:
      Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019,
      https://arxiv.org/abs/1904.11486
    """
    x = check_array("x", x)
    dense = make_window(x.shape, window_shape, strides=1, padding=padding, axes=axes)
    shape = dense.resized(x.shape, dense.output)
    if axes is None:
        axes = dense.axes
    window = _blur_window(shape, strides, filter_size, axes)
    check_choice("padding_mode", padding_mode, PADDING_MODES)
    with jax.named_scope("jaxpool.max_blur_pool"):
        largest = _selection.select(x, None, dense, lax.max)
        return _blur(check_inexact("x", largest), window, padding_mode)


class _PolyphaseOptions(TypedDict, total=False):
    strides: PerAxis
    axes: tuple[int, ...]
    channel_axis: int | None
    norm: float
    phase: ArrayLike | None


@overload
def polyphase_pool(
    x: ArrayLike,
    *,
    return_phase: Literal[False] = False,
    **options: Unpack[_PolyphaseOptions],
) -> jax.Array: ...


@overload
def polyphase_pool(
    x: ArrayLike,
    *,
    return_phase: Literal[True],
    **options: Unpack[_PolyphaseOptions],
) -> tuple[jax.Array, jax.Array]: ...


@overload
def polyphase_pool(
    x: ArrayLike,
    *,
    return_phase: bool,
    **options: Unpack[_PolyphaseOptions],
) -> jax.Array | tuple[jax.Array, jax.Array]: ...
def polyphase_pool(
    x: ArrayLike,
    *,
    strides: PerAxis = 2,
    axes: tuple[int, ...] = (-3, -2),
    channel_axis: int | None = -1,
    norm: float = 2,
    phase: ArrayLike | None = None,
    return_phase: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Subsamples at the offset where the samples have the largest norm.

    The polyphase components of x are its subsamples at every offset, `x_r[o] =
    x[r + s o]`; `y = x_r` with `r = argmax ||x_r||`, one r for each example, the norm
    taken over positions and channels. A shift of x permutes its components, so that y
    only shifts, by whole elements: exact for circular shifts of sizes that the stride
    divides. Other sizes are extended at the end, circularly. The derivative goes to the
    component that was taken; the choice itself has none.

    A branch beside this one must be sampled at the same phase, and so must a blurred
    x, whose phase the paper takes before the blur: see the example.

    Args:
      x: `(*batch, *space, channels)`, of any dtype.
      strides: int or one per pooled axis.
      axes: the pooled axes.
      channel_axis: an axis that the norm covers too; None for a phase per channel.
      norm: 2, 1 or `inf`.
      phase: int32, as `return_phase` gives it: to be taken instead of the argmax.
      return_phase: whether to return the phase too.

    Returns:
      `ceil(n / s)` elements per pooled axis, with x's dtype; with `return_phase` a pair
      `(y, phase)`: int32, with the shape of x without its pooled axes and its channel
      axis, the offsets in the order of x's axes as one number, row-major. Ties go to
      the smallest; the authors' code numbers columns first.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range. Under `jit` and `vmap`, where a given
        phase is not known, one out of range counts as 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 5.0, 2.0, 4.0])[:, None]
      >>> y, phase = jaxpool.polyphase_pool(x, axes=(-2,), return_phase=True)
      >>> y[:, 0], phase
      (Array([5., 4.], dtype=float32), Array(1, dtype=int32))
      >>> blurred = jaxpool.blur_pool(
      ...     x, strides=1, padding_mode="circular", axes=(-2,)
      ... )
      >>> jaxpool.polyphase_pool(blurred, phase=phase, axes=(-2,))[:, 0]
      Array([3.25, 2.75], dtype=float32)

    References:
      Chaman, Dokmanić, "Truly Shift-Invariant Convolutional Neural Networks", 2021,
      https://arxiv.org/abs/2011.14214
    """
    x = check_array("x", x, complex_ok=True)
    axes = pooled_axes(x.shape, axes)
    check_static(x.shape, axes)
    strides = per_axis("strides", strides, len(axes), 1)
    if channel_axis is not None:
        (channel_axis,) = canonical_axes(x.shape, (channel_axis,), None)
        if channel_axis in axes:
            raise ValueError(
                f"`channel_axis` must not be one of `axes` {axes}, got {channel_axis}"
            )
    if isinstance(norm, bool) or np.ndim(norm) or norm not in (1, 2, np.inf):
        raise ValueError(f"`norm` must be 1, 2 or inf, got {norm!r}")
    check_bool("return_phase", return_phase)
    window = make_window(
        _whole_shape(x.shape, axes, strides), strides, strides=strides, axes=axes
    )
    gone = window.axes if channel_axis is None else (*window.axes, channel_axis)
    given = None if phase is None else _check_phase(phase, x.shape, gone, window)
    with jax.named_scope("jaxpool.polyphase_pool"):
        for axis, n in zip(window.axes, window.input, strict=True):
            x = elements(x, axis, np.arange(n) % x.shape[axis])
        cut = blocks.to_blocks(x, window)
        if given is None:
            given = _largest_phase(cut, window, channel_axis, norm)
        y = _component(cut, given, window)
        return (y, given.squeeze(gone)) if return_phase else y


# --- Blurs ----------------------------------------------------------------------------


def _blur_window(shape, strides, filter_size, axes) -> Window:
    """The window of a blur: `ceil(n / s)` outputs, even filters lean to the right."""
    k = as_int("filter_size", filter_size)
    if k < 1:
        raise ValueError(f"`filter_size` must be at least 1, got {k}")
    axes = pooled_axes(shape, axes)
    return make_window(
        shape,
        (k,) * len(axes),
        strides=strides,
        padding=(((k - 1) // 2, k // 2),) * len(axes),
        axes=axes,
    )


def _blur(x, window, mode):
    k = window.size[0]
    weights = tuple(math.comb(k - 1, t) / 2 ** (k - 1) for t in range(k))
    y = _engine.widen(x)
    for one in reversed(window.split()):
        y = filter_axis(y, one, weights, mode)
    return y.astype(x.dtype)


# --- Polyphase components -------------------------------------------------------------


def _whole_shape(shape, axes, strides):
    """`shape` with sizes that the strides divide."""
    shape = list(shape)
    for axis, s in zip(axes, strides, strict=True):
        shape[axis] = -(-shape[axis] // s) * s
    return shape


def _check_phase(phase: Any, shape, gone, window: Window) -> jax.Array:
    """`phase` with the axes `gone` of x as axes of size 1."""
    phase = as_array("phase", phase)
    if not jnp.issubdtype(phase.dtype, jnp.integer):
        raise TypeError(f"`phase` must hold ints, got dtype {phase.dtype}")
    batch = tuple(n for i, n in enumerate(shape) if i - len(shape) not in gone)
    if phase.shape != batch:
        raise ValueError(
            f"`phase` must have the shape {batch}, that of x {tuple(shape)} without "
            f"axes {gone}, got {phase.shape}"
        )
    try:
        known = np.asarray(phase)
    except jax.errors.TracerArrayConversionError:
        known = np.zeros((), int)
    if ((known < 0) | (known >= window.taps)).any():
        raise ValueError(
            f"`phase` must lie in [0, {window.taps}) for strides {window.strides}, got "
            f"{phase}"
        )
    return jnp.expand_dims(phase.astype(jnp.int32), gone)


def _largest_phase(cut, window, channel_axis, norm):
    """The number of the component with the largest norm; pooled axes have size 1."""
    cut = lax.stop_gradient(cut)
    size = jnp.abs(_engine.widen(check_inexact("x", cut)))
    ndim = cut.ndim - len(window.axes)
    inner = blocks.inner_axes(ndim, window)
    over = [i - 1 for i in inner]
    if channel_axis is not None:
        before = sum(axis < channel_axis for axis in window.axes)
        over.append(ndim + channel_axis + before)
    if norm == np.inf:
        total = size.max(over, keepdims=True, initial=0)
    else:
        # Of the largest as a unit: nothing overflows.
        unit = size.max((*over, *inner), keepdims=True, initial=0)
        size = size / jnp.where(unit > 0, unit, np.ones((), unit.dtype))
        total = (size * size if norm == 2 else size).sum(over, keepdims=True)
    total = jnp.moveaxis(total, inner, range(-len(inner), 0))
    shape = total.shape[:ndim]
    return jnp.argmax(total.reshape((*shape, window.taps)), -1).astype(jnp.int32)


def _component(cut, phase, window):
    """The component of blocks that `phase` names, for each example."""
    inner = blocks.inner_axes(cut.ndim - len(window.axes), window)

    def component(offsets):
        part = cut
        for axis, offset in reversed(list(zip(inner, offsets, strict=True))):
            part = lax.index_in_dim(part, offset, axis, keepdims=False)
        return part

    y, *others = map(component, np.ndindex(*window.strides))
    for number, part in enumerate(others, 1):
        y = jnp.where(phase == np.int32(number), part, y)
    return y
