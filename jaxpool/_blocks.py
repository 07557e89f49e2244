"""Blocks: the transposed view of windows, in which gradients are fast.

Cut each pooled axis into blocks of `stride` elements, from the first element on:
position `s * q + r` is element `r` of block `q`. The window of output `o` begins at
element `e` of block `o - c`, where `e = s * c - lo`, and lies in `A = ceil((e + ke) /
s)` blocks. A sum over windows is then a sum over `A` shifts per axis of elementwise
expressions:

    y[o] = sum_a sum_r f(x[o - c + a, r])        (f is 0 where (a, r) is no tap)

and its transpose reads, for each input element, only the outputs that cover it: no
scatter, no interior padding, and every read contiguous.

A blocked array has two axes `(Q, stride)` in place of each pooled axis.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from ._window import Window

Shift = tuple[int, ...]
Pads = Sequence[tuple[int, int]]  # (low, high) per axis; negative: cut off


class _Cut(NamedTuple):
    """How an axis is cut."""

    before: int  # positions of block 0 before the first element
    back: int  # `c`: the first block of output `o` is `o - c`
    offset: int  # `e`: where in it the window begins
    per_window: int  # `A`
    blocks: int  # `Q`


def padded(x: jax.Array, pads: Pads | None = None, value: Any = 0) -> jax.Array:
    """x with `value` around it, or without its borders."""
    if pads is None:
        return x
    return lax.pad(x, np.asarray(value, x.dtype), [(lo, hi, 0) for lo, hi in pads])


def view(
    x: jax.Array,
    axes: Sequence[int],
    starts: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    value: Any,
) -> jax.Array:
    """`x[start + stride * i]`, `i < size`, along axes; `value` for what is outside x.

    Pads axis by axis as they are given: an axis that is split over devices passes on
    fewer borders the earlier it comes.
    """
    limits, steps, first = list(x.shape), [1] * x.ndim, [0] * x.ndim
    for axis, start, size, stride in zip(axes, starts, sizes, strides, strict=True):
        n, stop = x.shape[axis], start + (size - 1) * stride + 1
        if start < 0 or stop > n:
            config = [(0, 0, 0)] * x.ndim
            config[axis] = (-start, stop - n, 0)
            x = lax.pad(x, value, config)
            start, stop = 0, stop - start
        first[axis], limits[axis], steps[axis] = start, stop, stride
    return lax.slice(x, first, limits, steps)


def to_blocks(x: jax.Array, window: Window, value: Any = 0) -> jax.Array:
    """Cuts each pooled axis into `(Q, stride)`; `value` stands where x ends before."""
    cuts = _cuts(window)
    config = [
        (cut.before, cut.blocks * s - cut.before - n, 0)
        for cut, s, n in zip(cuts, window.strides, window.input, strict=True)
    ]
    value = np.asarray(value, x.dtype)
    x = lax.pad(x, value, window.along(x.ndim, config, (0, 0, 0)))
    # Axis by axis, innermost first: with explicit sharding JAX reshapes only one.
    each = zip(window.axes, cuts, window.strides, strict=True)
    for i, (axis, cut, s) in reversed(list(enumerate(each))):
        here = x.ndim + axis - (len(cuts) - 1 - i)
        x = x.reshape(*x.shape[:here], cut.blocks, s, *x.shape[here + 1 :])
    return x


def cut_taps(kernel: jax.Array, window: Window) -> jax.Array:
    """Cuts the taps of a window, on the pooled axes, into `(A, stride)`, 0 between."""
    cuts, config = _cuts(window), [(0, 0, 0)] * kernel.ndim
    pairs: list[tuple[int, ...]] = [(n,) for n in kernel.shape]
    for axis, cut, s, ke, d in zip(
        window.axes, cuts, window.strides, window.extent, window.dilation, strict=True
    ):
        pairs[axis] = (cut.per_window, s)
        config[axis] = (cut.offset, cut.per_window * s - ke - cut.offset, d - 1)
    kernel = lax.pad(kernel, zero(kernel), config)
    return kernel.reshape(tuple(itertools.chain.from_iterable(pairs)))


def shifts(window: Window, ndim: int) -> Iterator[tuple[Shift, np.ndarray, np.ndarray]]:
    """Every shift of blocks, the tap number of each element of a block, and is it one.

    Numbers and mask broadcast over blocked arrays of `ndim + len(shift)` axes.
    """
    cuts = _cuts(window)
    for shift in np.ndindex(*(cut.per_window for cut in cuts)):
        number, real = np.zeros((), np.int64), np.ones((), bool)
        for i, a in enumerate(shift):
            position = np.arange(window.strides[i]) + a * window.strides[i]
            tap, rest = np.divmod(position - cuts[i].offset, window.dilation[i])
            shape = [1] * (ndim + len(shift))
            shape[inner_axes(ndim, window)[i]] = -1
            is_tap = (rest == 0) & (tap >= 0) & (tap < window.size[i])
            real = real & is_tap.reshape(shape)
            number = number * window.size[i] + tap.reshape(shape)
        if real.any():
            yield shift, number, real


def occupied(shift: Shift, window: Window, ndim: int) -> np.ndarray:
    """Which blocks lie at `shift` in the window of some output."""
    mask = np.ones((), bool)
    for i, (a, cut, o) in enumerate(
        zip(shift, _cuts(window), window.output, strict=True)
    ):
        window.check_static(i)
        index = np.arange(cut.blocks) + cut.back - a
        shape = [1] * (ndim + len(shift))
        shape[inner_axes(ndim, window)[i] - 1] = -1
        mask = mask & ((index >= 0) & (index < o)).reshape(shape)
    return mask


def placing(
    y: jax.Array,
    window: Window,
    value: Any = 0,
    pads: bool = False,
    keep: Callable[..., jax.Array] = padded,
) -> Callable[[Shift], jax.Array]:
    """Lays an output over the block at a given shift of each of its windows.

    `value` stands where there is no output; axes of size 1 broadcast. Slices of one
    array padded by `keep`, or with `pads` each a pad of its own: see `Rule.pads`.
    """
    ranges = []  # per axis: the first index for a shift of 0, and the count
    config = [(0, 0)] * y.ndim
    for axis, cut, o, margins in zip(
        window.axes, _cuts(window), window.output, _margins(window), strict=True
    ):
        spread = y.shape[axis] == 1 != o
        if not spread and not pads:
            config[axis] = margins
        first = cut.back if pads else cut.per_window - 1
        ranges.append((0, 1, 0) if spread else (first, cut.blocks, 1))
    value = np.asarray(value, y.dtype)
    y = padded(y, config, value) if value else keep(y, config)

    def at(shift: Shift) -> jax.Array:
        each = zip(shift, ranges, strict=True)
        starts = [first - step * a for a, (first, _, step) in each]
        sizes = [count for _, count, _ in ranges]
        laid = view(y, window.axes, starts, sizes, (1,) * len(sizes), value)
        return lax.expand_dims(laid, inner_axes(laid.ndim, window))

    return at


def window_sums(
    parts: Iterable[tuple[Shift, jax.Array]],
    window: Window,
    ndim: int,
    pads: bool = False,
    keep: Callable[..., jax.Array] = padded,
) -> jax.Array:
    """Sums `(shift, blocks)` per window: the transpose of `placing`."""
    cuts, steps = _cuts(window), (1,) * len(window.axes)

    def of_windows(shift, part):
        part = part.sum(inner_axes(ndim, window))
        if pads:  # innermost first, so that the transpose is outermost first
            starts = [a - cut.back for a, cut in zip(shift, cuts, strict=True)]
            reverse = slice(None, None, -1)
            order = window.axes[reverse], starts[reverse], window.output[reverse]
            return view(part, *order, steps, zero(part))
        each = zip(shift, cuts, strict=True)
        config = [(cut.per_window - 1 - a, a) for a, cut in each]
        return padded(part, window.along(ndim, config, (0, 0)))

    total = functools.reduce(lax.add, (of_windows(*part) for part in parts))
    if pads:
        return total
    config = [(-lo, -hi) for lo, hi in _margins(window)]
    return keep(total, window.along(ndim, config, (0, 0)))


def zero(x):
    return np.zeros((), x.dtype)


def _cuts(window):
    """A `_Cut` per axis.

    Where the windows begin with a block instead of inside of one if that would add a
    block to them: disjoint ones stay so.
    """
    cuts = []
    for (lo, _), ke, s, n, o in zip(
        window.padding,
        window.extent,
        window.strides,
        window.input,
        window.output,
        strict=True,
    ):
        before, back, offset = 0, -(-lo // s), -lo % s
        if -(-(offset + ke) // s) > -(-ke // s):
            before, back, offset = lo % s, lo // s, 0
        per_window = -(-(offset + ke) // s)
        of_windows, of_input = o - back + per_window - 1, -(-(n + before) // s)
        cuts.append(_Cut(before, back, offset, per_window, min(of_windows, of_input)))
    return cuts


def _margins(window):
    """By how much shifts of an output over the blocks reach beyond it, per axis."""
    return [
        (cut.per_window - 1 - cut.back, cut.blocks + cut.back - o)
        for cut, o in zip(_cuts(window), window.output, strict=True)
    ]


def inner_axes(ndim: int, window: Window) -> tuple[int, ...]:
    """Where a blocked array has its axes of size stride."""
    return tuple(ndim + axis + i + 1 for i, axis in enumerate(window.axes))
