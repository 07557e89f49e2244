"""Reductions of whole axes, and the derivative of a maximum over them.

`axes` are negative and ascending. Arrays keep these axes, with size 1, up to `finish`.
`valid` is a mask of x with the full size of the axes, or None.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _engine, _selection
from ._check import check_empty
from ._lowering import per_platform


def finish(y, dtype, axes, keepdims, valid, empty):
    """`empty` where nothing takes part, the dtype of x, the shape asked for."""
    y, empty = y.astype(dtype), check_empty(empty, dtype)
    if valid is not None:
        some = valid.any(axes, keepdims=True)
        y = jnp.where(some, y, empty)
    return y if keepdims else lax.squeeze(y, axes)


def total_of(x, axes, valid):
    x = _engine.without(_engine.widen(x), valid)
    return x.sum(axes, keepdims=True, dtype=x.dtype)


def mean_of(x, axes, valid):
    total = total_of(x, axes, valid)
    return total / count_of(x.shape, axes, valid, total.dtype)


def count_of(shape, axes, valid, dtype):
    """How many elements take part, at least 1."""
    if valid is None:  # sizes may be symbolic
        return jnp.asarray(math.prod(shape[axis] for axis in axes), dtype)
    count = valid.sum(axes, keepdims=True, dtype=jnp.int32)
    return jnp.maximum(count, np.int32(1)).astype(dtype)


def level_of(x, axes, valid):
    """The maximum, a constant; whether it is finite; which elements then count."""
    x = lax.stop_gradient(x)
    some = x > np.asarray(-np.inf, x.dtype)
    if valid is not None:
        x = jnp.where(valid, x, np.asarray(-np.inf, x.dtype))
        some &= valid
    level = reduce_extremum(x, axes, lax.max)
    finite = jnp.isfinite(level)
    return level, finite, some & finite


def log_mean_exp(above, some, axes, valid, finite):
    """`log(1/n sum exp(above))`, for numbers up to 0, of which one is 0.

    An element counts as -inf unless `some`. By expm1 where the mean is near 1, or a
    high temperature would round the differences away.
    """
    above = jnp.where(some, above, np.asarray(-np.inf, above.dtype))
    count = count_of(above.shape, axes, valid, above.dtype)
    mean = jnp.exp(above).sum(axes, keepdims=True) / count
    less = jnp.expm1(above)
    if valid is not None:
        less = jnp.where(valid, less, np.zeros((), less.dtype))
    less = less.sum(axes, keepdims=True) / count
    near = finite & (mean > np.asarray(0.5, mean.dtype))
    far = finite & ~near
    return jnp.where(
        far,
        jnp.log(jnp.where(far, mean, np.ones((), mean.dtype))),
        jnp.log1p(jnp.where(near, less, np.zeros((), less.dtype))),
    )


def reduce_extremum(
    x: jax.Array, axes: tuple[int, ...], reducer: _engine.Reducer
) -> jax.Array:
    """`jnp.max` or `jnp.min` with `keepdims`, in which NaN wins."""
    if _engine.is_half(x.dtype):
        return per_platform(functools.partial(_reduce_half, axes, reducer), x)
    # XLA:CPU writes what it reduces to memory: better an eighth of it. Integers stay
    # apart from it, or reducing them is slow: 224 -> 7 of bfloat16 14 ms, apart 2.6.
    x = functools.reduce(reducer, _eighths(x, axes[0]))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = _engine.keep(x)
    return _reduce_eighth(x, axes, reducer)


def _reduce_half(axes, reducer, rule, x):
    """As integers, which hold NaN too: (8, 112, 112, 64) 1.4 ms, as float32 1.8."""
    if not rule.integer_order:
        return reduce_extremum(_engine.widen(x), axes, reducer).astype(x.dtype)
    key, _ = _engine.comparable(rule, x, reducer, large=False)
    return _engine.from_comparable(reduce_extremum(key, axes, reducer), x.dtype)


def _reduce_eighth(x, axes, reducer):
    best = jnp.max if reducer is lax.max else jnp.min
    y = best(x, axes, keepdims=True)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return y
    # XLA:CPU drops NaN from a reduction (jaxlib 0.9.1 to 0.12), but not elementwise. A
    # look for NaN takes four times as long as the maximum, so on an eighth of x only.
    isnan = jnp.isnan(x).any(axes, keepdims=True)
    return jnp.where(isnan, np.asarray(np.nan, x.dtype), y)


def find_extremum(
    x: jax.Array, axes: tuple[int, ...], valid: Any, reducer: _engine.Reducer
) -> tuple[jax.Array, jax.Array]:
    """`reduce_extremum`, and the row-major number of the first, or of the first NaN.

    The number is that of some element where nothing is valid.
    """
    # By eighths: (8, 112, 112, 64) with gradient 9 for 18 ms (2 cores, jax 0.10.2,
    # 2026-11-27). They are kept: equality below must not meet an x that XLA rounds
    # differently.
    parts = [_every_eighth(a, axes[0]) for a in (_row_major(x.shape, axes), x)]
    valids: list = [None] * len(parts[0])
    if valid is not None:
        valids = _every_eighth(valid, axes[0])
    number = _engine.keep(_selection.first(reducer, zip(*parts, valids, strict=True)))
    x = _engine.keep(functools.reduce(reducer, parts[1]))
    y = _engine.keep(_reduce_eighth(x, axes, reducer))
    match = (x == y) | (x != x)
    if valid is not None:
        match &= functools.reduce(jnp.logical_or, valids)
    nowhere = np.asarray(np.iinfo(number.dtype).max, number.dtype)
    return y, jnp.where(match, number, nowhere).min(axes, keepdims=True)


def _eighths(x: jax.Array, axis: int) -> list[jax.Array]:
    """Eight parts of an axis in a row, which may overlap; all of a symbolic one."""
    n = x.shape[axis]
    if not isinstance(n, int):
        return [x]
    size = -(-n // 8)
    starts = sorted({min(i * size, n - size) for i in range(8)})
    return [lax.slice_in_dim(x, i, i + size, axis=axis) for i in starts]


def _every_eighth(x: jax.Array, axis: int) -> list[jax.Array]:
    """The elements of each eight in a row; the eighths where some would be left over.

    They lie near each other: the search of (8, 224, 224, 64) in bfloat16 for 32 rows
    each takes 5.9 ms, by eighths 7.8 (2 cores, jax 0.10.2, 2026-11-28).
    """
    n, here = x.shape[axis], axis % x.ndim
    if not isinstance(n, int) or n % 8:
        return _eighths(x, axis)
    x = x.reshape(*x.shape[:here], n // 8, 8, *x.shape[here + 1 :])
    return [lax.index_in_dim(x, i, here + 1, keepdims=False) for i in range(8)]


def extremum(x, axes, valid, reducer):
    if valid is not None:
        x = jnp.where(valid, x, _engine.identity(reducer, x.dtype))
    return _select(x, valid, axes, reducer)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _select(x, valid, axes, reducer):
    """`reduce_extremum`, whose derivative goes to the first that wins."""
    return reduce_extremum(x, axes, reducer)


@_select.defjvp
def _select_jvp(axes, reducer, primals, tangents):
    (x, valid), tangent = primals, _engine.widen(tangents[0])
    wide = _engine.widen(lax.stop_gradient(x))
    y, first = find_extremum(wide, axes, valid, reducer)
    zero = np.zeros((), tangent.dtype)
    # Not take_along_axis: the transpose of this is a comparison, not a scatter.
    picked = jnp.where(_row_major(x.shape, axes) == first, tangent, zero)
    return y.astype(x.dtype), picked.sum(axes, keepdims=True).astype(x.dtype)


def _row_major(shape, axes):
    """Number of each element among those of the pooled axes, in row-major order."""
    size = math.prod(shape[axis] for axis in axes)
    dtype = _selection.code_dtype(size + 1) if isinstance(size, int) else np.int32
    number, ones = jnp.zeros((1,) * len(shape), dtype), [1] * len(shape)
    for axis in axes:
        line = ones.copy()
        line[axis] = shape[axis]
        place = lax.broadcasted_iota(dtype, line, len(shape) + axis)
        number = number * jnp.asarray(shape[axis], dtype) + place
    return number
