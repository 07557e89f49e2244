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
from ._window import make_window


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


def _reduce_apart(x, axes, reducer):
    """`_reduce_eighth` of integers, apart from what comes before and after it."""
    if len(axes) > 1:
        return _engine.keep(_reduce_eighth(_engine.keep(x), axes, reducer))
    # No fusion crosses a reduce-window: (8, 7, 4, 224, 64) 0.6 ms, kept twice 1.7.
    window = make_window(x.shape, (x.shape[axes[0]],), axes=axes)
    init = _engine.identity(reducer, x.dtype)
    return _engine.reduce_window(x, window, reducer, init)


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

    The number is any where nothing is valid.
    """
    return per_platform(functools.partial(_find, axes, reducer), x, valid)


def _find(axes, reducer, rule, x, valid):
    dtype = x.dtype
    key, _ = _engine.comparable(rule, x, reducer, large=False)
    if rule.integer_order and _packs(key.dtype, x.shape, axes):
        y, number = _find_packed(key, axes, valid, reducer)
        return _engine.from_comparable(y, dtype), number
    x = _engine.widen(x)
    exact = _numbers_fit(x.shape, axes, jnp.finfo(jnp.float32).nmant + 1)
    together = rule.integer_order and x.dtype == jnp.float32 and exact
    best = _best_with_number if together else _best_and_number
    x, number, valid = best(rule, x, axes, valid, reducer)
    y = rule.keep(_reduce_eighth(x, axes, reducer))
    match = (x == y) | (x != x)
    if valid is not None:
        match &= valid
    nowhere = np.asarray(np.iinfo(number.dtype).max, number.dtype)
    number = jnp.where(match, number, nowhere).min(axes, keepdims=True)
    return y.astype(dtype), number


def _best_and_number(rule, x, axes, valid, reducer):
    """The best of eight parts, its number, and whether any of them is valid.

    They are kept: an equality with the best must not meet an x that XLA rounds
    differently.
    """
    terms = list(_terms(x, axes, valid, most=8))
    number = rule.keep(_selection.first(reducer, terms))
    best = rule.keep(functools.reduce(reducer, (x for _, x, _ in terms)))
    return best, number, _any(terms)


def _best_with_number(rule, x, axes, valid, reducer):
    """As `_best_and_number`, of more parts of float32, in one look at them.

    XLA:CPU has no loop with two results, but loops with complex ones: (8, 224, 224, 64)
    for 32 rows each, with gradient, 14.8 ms, by two loops 17.7 (2 cores, jax 0.10.2,
    2026-11-28).
    """
    terms = [
        (number, _engine.comparable(rule, x, reducer, large=True)[0], valid)
        for number, x, valid in _terms(x, axes, valid, most=32)
    ]
    number = _selection.first(reducer, terms)
    best = functools.reduce(reducer, (key for _, key, _ in terms))
    best = _engine.from_comparable(best, x.dtype)
    both = rule.keep(lax.complex(best, number.astype(x.dtype)))
    return both.real, both.imag.astype(number.dtype), _any(terms)


def _terms(x, axes, valid, most):
    """`(number, x, valid)` of each of `_parts`."""
    parts = [_parts(a, axes[0], most) for a in (_row_major(x.shape, axes), x)]
    valids: list = [None] * len(parts[0])
    if valid is not None:
        valids = _parts(valid, axes[0], most)
    return zip(*parts, valids, strict=True)


def _any(terms):
    valids = [valid for *_, valid in terms]
    return None if valids[0] is None else functools.reduce(jnp.logical_or, valids)


def _numbers_fit(shape, axes, bits):
    """Whether `bits` hold the number of every element."""
    sizes = [shape[axis] for axis in axes]  # may be symbolic
    return all(isinstance(n, int) for n in sizes) and math.prod(sizes) <= 2**bits


def _packs(dtype, shape, axes):
    """Whether an integer and its number fit in 32 bits."""
    small = jnp.issubdtype(dtype, jnp.integer) and jnp.iinfo(dtype).max < 2**15
    return small and _numbers_fit(shape, axes, 16)


def _find_packed(x, axes, valid, reducer):
    """`find_extremum` of small integers, each packed with its number: one look at x.

    (8, 224, 224, 64) of bfloat16 for 32 rows each, with gradient, 9.1 ms, by two looks
    11.0 (2 cores, jax 0.10.2, 2026-11-28).
    """
    number, sixteen = _row_major(x.shape, axes), np.int32(16)
    last = np.int32(2**16 - 1)
    # Of equal elements the first wins, and any before those that take no part.
    place = number.astype(jnp.int32)
    if reducer is lax.max:
        place = last - place
    if valid is not None:
        worst = np.int32(0) if reducer is lax.max else last
        place = jnp.where(valid, place, worst)
    parts = [_parts(a, axes[0], 8) for a in (x, place)]
    packed = [
        (x.astype(jnp.int32) << sixteen) + place
        for x, place in zip(*parts, strict=True)
    ]
    best = _reduce_apart(functools.reduce(reducer, packed), axes, reducer)
    place = best & last
    if reducer is lax.max:
        place = last - place
    return (best >> sixteen).astype(x.dtype), place.astype(number.dtype)


def _eighths(x: jax.Array, axis: int) -> list[jax.Array]:
    """Eight parts of an axis in a row, which may overlap; all of a symbolic one."""
    n = x.shape[axis]
    if not isinstance(n, int):
        return [x]
    size = -(-n // 8)
    starts = sorted({min(i * size, n - size) for i in range(8)})
    return [lax.slice_in_dim(x, i, i + size, axis=axis) for i in starts]


def _parts(x: jax.Array, axis: int, most: int) -> list[jax.Array]:
    """Every k-th element from the 1st, the 2nd .. on, for the largest k up to `most`.

    They lie near each other: the search of (8, 224, 224, 64) in bfloat16 for 32 rows
    each takes 5.9 ms, by eighths in a row 7.8 (2 cores, jax 0.10.2, 2026-11-28).
    Eighths where k would be less than 8.
    """
    n, here = x.shape[axis], axis % x.ndim
    if not isinstance(n, int):
        return [x]
    k = max(k for k in range(1, most + 1) if n % k == 0)
    if k < 8:
        return _eighths(x, axis)
    x = x.reshape(*x.shape[:here], n // k, k, *x.shape[here + 1 :])
    return [lax.index_in_dim(x, i, here + 1, keepdims=False) for i in range(k)]


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
    y, first = find_extremum(lax.stop_gradient(x), axes, valid, reducer)

    def pick(first, tangent):
        # Not take_along_axis: the transpose of this is a comparison, not a scatter.
        here = _row_major(x.shape, axes) == first
        picked = jnp.where(here, tangent, np.zeros((), tangent.dtype))
        return picked.sum(axes, keepdims=True).astype(x.dtype)

    # Kept for the backward is the place, not the comparison.
    return y, jax.checkpoint(pick, prevent_cse=False)(first, tangent)


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
