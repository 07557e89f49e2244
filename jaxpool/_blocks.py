"""Blocks: the transposed view of windows, in which gradients are fast.

Cut each pooled axis into blocks of `stride` elements: position `s * q + r` is element
`r` of block `q`, and the window of output `o` covers the blocks `o ... o + A - 1`, with
`A = ceil(ke / s)`. A sum over windows is then a sum over `A` shifts per axis of
elementwise expressions:

    y[o] = sum_a sum_r f(x[o + a, r])        (f is 0 where (a, r) is no tap)

and its transpose reads, for each input element, only the outputs that cover it: no
scatter, no interior padding, and every read contiguous.

A blocked array has two axes `(Q, stride)` in place of each pooled axis, with
`Q = o + A - 1`.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._window import Window

Shift = tuple[int, ...]


def to_blocks(x: jax.Array, window: Window, value: Any = 0) -> jax.Array:
    """Cuts each pooled axis into `(Q, stride)`; `value` stands in the padding."""
    _, blocks = _counts(window)
    config = [
        (lo, q * s - lo - n, 0)
        for (lo, _), q, s, n in zip(
            window.padding, blocks, window.strides, window.input, strict=True
        )
    ]
    value = np.asarray(value, x.dtype)
    x = lax.pad(x, value, window.along(x.ndim, config, (0, 0, 0)))
    # Axis by axis, innermost first: with explicit sharding JAX reshapes only one.
    each = zip(window.axes, blocks, window.strides, strict=True)
    for i, (axis, *pair) in reversed(list(enumerate(each))):
        here = x.ndim + axis - (len(blocks) - 1 - i)
        x = x.reshape(*x.shape[:here], *pair, *x.shape[here + 1 :])
    return x


def from_blocks(x: jax.Array, window: Window) -> jax.Array:
    """The transpose of `to_blocks`: joins the blocks and drops the padding."""
    _, blocks = _counts(window)
    ndim = x.ndim - len(blocks)
    config = []
    for axis, (lo, _), q, s, n in zip(
        window.axes, window.padding, blocks, window.strides, window.input, strict=True
    ):
        here = ndim + axis  # the axes before are joined already
        x = x.reshape(*x.shape[:here], q * s, *x.shape[here + 2 :])
        config.append((-lo, n + lo - q * s, 0))
    return lax.pad(x, _zero(x), window.along(ndim, config, (0, 0, 0)))


def shifts(window: Window, ndim: int) -> Iterator[tuple[Shift, np.ndarray, np.ndarray]]:
    """Every shift of blocks, the tap number of each element of a block, and is it one.

    Numbers and mask broadcast over blocked arrays of `ndim + len(shift)` axes.
    """
    per_window, _ = _counts(window)
    for shift in np.ndindex(*per_window):
        number, real = np.zeros((), np.int64), np.ones((), bool)
        for i, a in enumerate(shift):
            position = np.arange(window.strides[i]) + a * window.strides[i]
            tap, rest = np.divmod(position, window.dilation[i])
            shape = [1] * (ndim + len(shift))
            shape[_inner_axes(ndim, window)[i]] = -1
            real = real & ((rest == 0) & (tap < window.size[i])).reshape(shape)
            number = number * window.size[i] + tap.reshape(shape)
        if real.any():
            yield shift, number, real


def occupied(shift: Shift, window: Window, ndim: int) -> np.ndarray:
    """Which blocks lie at `shift` in the window of some output."""
    mask = np.ones((), bool)
    _, blocks = _counts(window)
    for i, (a, q, o) in enumerate(zip(shift, blocks, window.output, strict=True)):
        index = np.arange(q) - a
        shape = [1] * (ndim + len(shift))
        shape[_inner_axes(ndim, window)[i] - 1] = -1
        mask = mask & ((index >= 0) & (index < o)).reshape(shape)
    return mask


def extend(y: jax.Array, window: Window, value: Any = 0) -> jax.Array:
    """Pads an output so that every shift of it is a slice; axes of size 1 broadcast.

    One pad and many slices: a pad per shift made the backward 10 times slower on CPU
    (3x3/s2 of (8, 112, 112, 64): 40 against 3.9 ms).
    """
    per_window, _ = _counts(window)
    config = [
        (0, 0, 0) if y.shape[axis] == 1 < o else (a - 1, a - 1, 0)
        for axis, a, o in zip(window.axes, per_window, window.output, strict=True)
    ]
    value = np.asarray(value, y.dtype)
    return lax.pad(y, value, window.along(y.ndim, config, (0, 0, 0)))


def place(extended: jax.Array, shift: Shift, window: Window) -> jax.Array:
    """Lays an extended output over the block at `shift` of each of its windows."""
    for axis, b, a, q in zip(window.axes, shift, *_counts(window), strict=True):
        if extended.shape[axis] != 1:
            start = a - 1 - b
            extended = lax.slice_in_dim(extended, start, start + q, axis=axis)
    return jnp.expand_dims(extended, _inner_axes(extended.ndim, window))


def window_sums(
    parts: Iterable[tuple[Shift, jax.Array]], window: Window, ndim: int
) -> jax.Array:
    """Sums `(shift, blocks)` per window: the transpose of `extend` and `place`."""
    per_window, _ = _counts(window)

    def extended(shift, part):
        config = [(a - 1 - b, b, 0) for a, b in zip(per_window, shift, strict=True)]
        part = part.sum(_inner_axes(ndim, window))
        return lax.pad(part, _zero(part), window.along(ndim, config, (0, 0, 0)))

    total = functools.reduce(jnp.add, (extended(*part) for part in parts))
    config = [(1 - a, 1 - a, 0) for a in per_window]
    return lax.pad(total, _zero(total), window.along(ndim, config, (0, 0, 0)))


def _zero(x):
    return np.zeros((), x.dtype)


def _counts(window):
    """Blocks per window, and blocks per axis, `A` and `Q = o + A - 1`."""
    per_window = [
        -(-ke // s) for ke, s in zip(window.extent, window.strides, strict=True)
    ]
    blocks = [o + a - 1 for o, a in zip(window.output, per_window, strict=True)]
    return per_window, blocks


def _inner_axes(ndim, window):
    """Where a blocked array has its axes of size stride."""
    return tuple(ndim + axis + i + 1 for i, axis in enumerate(window.axes))
