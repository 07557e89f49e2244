"""Windows on arrays: taps, blocks, per-axis reductions, and their derivatives.

*Taps.* The `prod(window)` strided slices of the padded input, each shaped like the
output: tap `t` holds the t-th element of every window, row-major. Values are computed
from taps, tangents from blocks (see `_blocks.py`), whose transpose is a fast gradient.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _blocks as blocks
from ._check import check_empty
from ._lowering import Rule, per_platform
from ._window import Window

Reducer = Callable[[Any, Any], Any]

# Most elements of a row whose sum is written out: compiling 8192 took minutes.
_LONGEST = 32


def identity(reducer: Reducer, dtype: Any) -> np.ndarray:
    """The element that leaves `reducer` (lax.add, lax.max, lax.min) unchanged."""
    if reducer is lax.add:
        return np.zeros((), dtype)
    lowest = reducer is lax.max
    if dtype == jnp.bool_:
        return np.array(not lowest)
    if jnp.issubdtype(dtype, jnp.integer):
        info = jnp.iinfo(dtype)
        return np.array(info.min if lowest else info.max, dtype)
    return np.array(-np.inf if lowest else np.inf, dtype)


def is_half(dtype: Any) -> bool:
    """Whether `dtype` is a 16-bit float."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize == 2


def widen(x: jax.Array) -> jax.Array:
    """16-bit floats as float32, in which they are accumulated."""
    return x.astype(jnp.float32) if is_half(x.dtype) else x


def taps(
    x: jax.Array, window: Window, value: Any, pads: bool = False
) -> Iterator[jax.Array]:
    """The taps of x in row-major order; `value` stands in the padding.

    Slices of one padded array, or with `pads` each a pad of x: see `Rule.pads`.
    """
    value = np.asarray(value, x.dtype)
    before = [lo for lo, _ in window.reach]
    if not pads:
        config = [(lo, hi, 0) for lo, hi in window.reach]
        x = lax.pad(x, value, window.along(x.ndim, config, (0, 0, 0)))
        before = [0] * len(before)
    for offsets in np.ndindex(*window.size):
        each = zip(offsets, window.dilation, before, strict=True)
        starts = [t * d - lo for t, d, lo in each]
        yield blocks.view(x, window.axes, starts, window.output, window.strides, value)


def is_zero(tangent: Any) -> bool:
    """Whether a custom derivative is told that a tangent is 0."""
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


# --- Reductions ---------------------------------------------------------------------


def reduce(x: jax.Array, window: Window, reducer: Reducer) -> jax.Array:
    """Reduces every window by lax.add, lax.max or lax.min.

    Differentiable for lax.add; `select` differentiates the others. Sums of 16-bit
    floats are float32.
    """
    return per_platform(functools.partial(_reduce, window, reducer), x)


def _reduce(window: Window, reducer: Reducer, rule: Rule, x: jax.Array) -> jax.Array:
    if reducer is lax.add:
        return _sum(rule, x, window)
    if rule.native and window.taps <= rule.value_taps:
        return reduce_window(x, window, reducer, identity(reducer, x.dtype))
    key, init = comparable(rule, x, reducer, large=False)
    one_axis = len(window.axes) == 1 and window.overlapping
    short = one_axis and window.taps <= rule.value_taps
    if rule.native_axis and short and x.dtype.itemsize == 4:
        return reduce_window(x, window, reducer, init)
    y = extremum(rule, key, init, window, reducer)
    return from_comparable(y, x.dtype)


def reduce_window(
    x: jax.Array, window: Window, reducer: Reducer, init: Any
) -> jax.Array:
    """The stock reduction of every window."""
    ones = (1,) * x.ndim
    pads = [(lo, max(hi, 0)) for lo, hi in window.reach]
    return lax.reduce_window(
        x,
        init[()],
        reducer,
        window.along(x.ndim, window.size, 1),
        window.along(x.ndim, window.strides, 1),
        window.along(x.ndim, pads, (0, 0)),
        base_dilation=ones,
        window_dilation=window.along(x.ndim, window.dilation, 1),
    )


def _sum(rule, x, window):
    if rule.native and window.taps <= rule.value_taps:
        x = widen(x)
        return reduce_window(x, window, lax.add, identity(lax.add, x.dtype))
    if not window.overlapping and 1 not in window.size:
        return _disjoint_sum(x, window, rule)
    # The outermost of several axes by reduce-window, which asks least of the neighbours
    # where that axis is split over devices.
    outermost, *inner = window.split()
    for one in reversed(inner or [outermost]):
        # Numbers of 4 bytes at stride 1 are as fast by reduce-window, or faster.
        gains = (is_half(x.dtype) or one.strides[0] > 1) and one.static
        by_taps = gains and one.taps <= rule.sum_taps
        x = _row_sum(x, one) if by_taps else _sum_by_axis(x, one)
    return _sum_by_axis(x, outermost) if inner else x


def _sum_by_axis(x, window):
    """A reduce-window per axis: 5x5/s1 4 against 38 ms, its transpose 4 against 30."""
    x = widen(x)
    zero = identity(lax.add, x.dtype)
    for one in reversed(window.split()):
        if one.taps == 1:
            (x,) = taps(x, one, zero)
        else:
            x = reduce_window(x, one, lax.add, zero)
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _row_sum(x, window):
    """Sums of taps along one axis; those at the edges apart.

    The others then read x itself, and no padded or float32 copy of it.
    """
    (n,), (ke,), ((lo, _),) = window.input, window.extent, window.padding
    (changes,) = np.nonzero(np.diff(window.inside(0).all(axis=1)))
    sums = []
    for outputs in np.split(np.arange(window.output[0]), changes + 1):
        start, stop = outputs[[0, -1]] * window.strides[0] + (-lo, ke - lo)
        here, end = np.clip((start, stop), 0, n)
        before = np.clip(-start, 0, stop - start)
        part = lax.slice_in_dim(x, here, end, axis=window.axes[0])
        one = dataclasses.replace(
            window,
            padding=((before, stop - start - before - (end - here)),),
            input=(end - here,),
            output=(len(outputs),),
        )
        sums.append(functools.reduce(jnp.add, map(widen, taps(part, one, 0))))
    return lax.concatenate(sums, x.ndim + window.axes[0])


@_row_sum.defjvp
def _row_sum_jvp(window, primals, tangents):
    (x,), (tangent,) = primals, tangents
    return _row_sum(x, window), _sum_by_blocks(tangent, window)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _disjoint_sum(x, window, rule):
    """Sums of disjoint windows; the gradient of a reduce-window looks at every tap.

    Forward and gradient of (8, 112, 112, 64) on 2 cores: 2x2/s2 4.5 against 13 ms,
    8x8/s8 4.6 against 216 ms (jax 0.10.2, 2026-11-25).
    """
    if window.taps <= rule.sum_taps:
        return _sum_of_taps(x, window, rule)
    rest = [window]
    if rule.sum_taps and is_half(x.dtype) and max(window.size) <= _LONGEST:
        # Not widened in memory; rows are contiguous.
        first, *rest = window.split()
        x = rule.keep(_sum_of_taps(x, first, rule))
    x = widen(x)
    for one in rest:
        x = reduce_window(x, one, lax.add, identity(lax.add, x.dtype))
    return x


def _sum_of_taps(x, window, rule):
    """Sums of taps in expressions of at most `rule.sum_taps` taps."""
    every = [widen(tap) for tap in taps(x, window, 0)]
    few = rule.sum_taps
    groups = (every[i : i + few] for i in range(0, len(every), few))
    parts = [functools.reduce(jnp.add, group) for group in groups]
    if len(parts) == 1:
        return parts[0]
    return functools.reduce(jnp.add, map(rule.keep, parts))


@_disjoint_sum.defjvp
def _disjoint_sum_jvp(window, rule, primals, tangents):
    (x,), (tangent,) = primals, tangents
    return _disjoint_sum(x, window, rule), _sum_by_blocks(tangent, window)


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=1)
def _sum_by_blocks(x, window):
    """Sums whose transpose is fast, and keeps no mask of the elements in padding."""
    cut = widen(blocks.to_blocks(x, window))
    zero = np.zeros((), cut.dtype)
    parts = (
        (shift, cut if real.all() else jnp.where(real, cut, zero))
        for shift, _, real in blocks.shifts(window, x.ndim)
    )
    return blocks.window_sums(parts, window, x.ndim)


def extremum(
    rule: Rule, x: jax.Array, init: Any, window: Window, reducer: Reducer
) -> jax.Array:
    """Maximum or minimum of every window by the rule; no derivative."""

    def of_taps(x, window):
        return functools.reduce(reducer, taps(x, window, init, rule.pads))

    narrow = x.dtype.itemsize < 4
    cheap = narrow or jnp.issubdtype(x.dtype, jnp.integer)
    if window.taps <= (rule.narrow_taps if cheap else rule.value_taps):
        return of_taps(x, window)
    # Reduce-window for 4 bytes and more, where it vectorises, and for overlap: disjoint
    # windows XLA:CPU gives to YNNPACK, which drops NaN (jaxlib 0.9.1 to 0.12).
    for axis in reversed(window.split()):
        long = not narrow and 0 < rule.axis_values < axis.taps
        for one in axis.in_two() if long else (axis,):
            if one.overlapping and not narrow:
                x = reduce_window(x, one, reducer, init)
            else:
                x = rule.keep(of_taps(x, one))
    return x


def comparable(
    rule: Rule, x: jax.Array, reducer: Reducer, large: bool
) -> tuple[jax.Array, np.ndarray]:
    """x as the rule compares it in `large` windows, and the identity in that form."""
    size = x.dtype.itemsize if jnp.issubdtype(x.dtype, jnp.floating) else 0
    if rule.integer_order and (size == 2 or (size == 4 and large)):
        return _as_integers(x, reducer)
    return x, identity(reducer, x.dtype)


def _as_integers(x, reducer):
    """Floats as integers of the same order, and the integer of the identity.

    -0 equals +0, and NaN lies beyond the infinity that it has to win against.
    """
    dtype = np.dtype(f"int{8 * x.dtype.itemsize}")
    bits = lax.bitcast_convert_type(x, dtype)
    zero, most = np.zeros((), dtype), np.array(np.iinfo(dtype).max, dtype)
    magnitude = bits & most
    key = jnp.where(bits < zero, ~magnitude, magnitude)
    key = jnp.where(magnitude == zero, zero, key)
    infinity = np.array(np.inf, x.dtype).view(dtype)
    beyond = most if reducer is lax.max else ~most
    init = ~infinity if reducer is lax.max else infinity
    return jnp.where(magnitude > infinity, beyond, key), init


def from_comparable(key: jax.Array, dtype: Any) -> jax.Array:
    """The elements of `dtype` that `comparable` gave this form."""
    if key.dtype == dtype:
        return key
    least = np.array(np.iinfo(key.dtype).min, key.dtype)
    bits = jnp.where(key < np.zeros((), key.dtype), ~key | least, key)
    return lax.bitcast_convert_type(bits, dtype)


def keep(x: jax.Array, pads: blocks.Pads | None = None) -> jax.Array:
    """x, padded with 0; what comes before is not computed again in what comes after."""
    return per_platform(lambda rule, x: rule.keep(x, pads), x)


# --- Masks ----------------------------------------------------------------------------


def everything(ndim: int, window: Window) -> jax.Array:
    """A mask that tells elements from padding also where sizes are symbolic."""
    return jnp.ones(window.along(ndim, window.input, 1), bool)


def spread_mask(valid: jax.Array, window: Window) -> jax.Array:
    """`valid` with its full size along the pooled axes, ready for taps."""
    return jnp.broadcast_to(valid, window.resized(valid.shape, window.input))


def without(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """x with 0 for what a mask leaves out."""
    return x if valid is None else jnp.where(valid, x, np.zeros((), x.dtype))


def window_any(valid: jax.Array, window: Window) -> jax.Array:
    """Whether each window has an element that takes part."""
    for one in reversed(window.split()):
        valid = functools.reduce(jnp.logical_or, taps(valid, one, False))
    return valid


def window_count(valid: jax.Array, window: Window) -> jax.Array:
    """Number of elements that take part in each window, int32."""
    valid = spread_mask(valid, window)
    return reduce(valid.astype(jnp.int32), window, lax.add)


def element_count(x: jax.Array, window: Window, valid: jax.Array | None) -> jax.Array:
    """Number of elements of each window, at least 1, in x's dtype."""
    if valid is None and window.hides_edges:
        valid = everything(x.ndim, window)
    if valid is None:
        count = np.maximum(window.counts(x.ndim, False), 1)
        return jnp.asarray(count, x.dtype)
    return jnp.maximum(window_count(valid, window), 1).astype(x.dtype)


def fill_empty(
    y: jax.Array, window: Window, valid: jax.Array | None, empty: Any
) -> jax.Array:
    """Puts `empty` where a mask leaves nothing of a window, 0 where all is padding."""
    empty = check_empty(empty, y.dtype)
    if valid is None and window.hides_edges:
        valid, empty = everything(y.ndim, window), np.zeros((), y.dtype)
    if valid is not None:
        any_valid = window_any(spread_mask(valid, window), window)
        return jnp.where(any_valid, y, empty)
    counts = window.counts(y.ndim, False)
    if counts.all():
        return y
    return jnp.where(counts > 0, y, np.zeros((), y.dtype))
