"""Windows of uneven sizes, placed so that the output has a given size.

Letters: `n` the size of a pooled axis, `o` that of the output along it, `W(i)` the
window of output position `i`.

`W(i)` is `[floor(i n / o), ceil((i + 1) n / o))`, so that the input elements of output
`i` are as far apart as those outputs are that cover one element: with `n` and `o`
exchanged, the same formula gives the outputs that cover input element `j`. Sums are
their own transposes in this way, and no derivative needs a scatter.

`sizes` is the output size of each pooled axis, `{axis: o}`, axes negative and
ascending.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from . import _engine, _selection
from ._lowering import per_platform
from ._whole import find_extremum, reduce_extremum
from ._window import make_window

# Windows of more elements are reduced along an axis of their own: an expression per
# element would take long to compile, and in bfloat16 long to run: the maxima of
# 224 -> 7 51 against 5 ms (2 cores, jax 0.10.2, 2026-11-25).
_LARGEST_UNROLLED = 16


@functools.lru_cache(maxsize=256)
def edges(n: int, o: int) -> tuple[np.ndarray, np.ndarray]:
    """First element of each window, and the one after its last."""
    i = np.arange(o, dtype=np.int64)
    return i * n // o, -(-(i + 1) * n // o)


def counts(shape, sizes, dtype):
    """Elements of each window, shaped to broadcast over an array of `shape`."""
    counts = np.ones((1,) * len(shape), np.int64)
    for axis, o in sizes.items():
        if o != shape[axis]:  # a kept axis may have a symbolic size
            starts, ends = edges(shape[axis], o)
            counts = counts * _along(ends - starts, len(shape), axis)
    return counts.astype(dtype)


def _passes(shape, sizes, few=9):
    """Axes whose size changes, the new size, and what keeps a pass from the one before.

    Passes over windows of few elements are faster in one kernel: 2x2 windows of 14 -> 7
    with gradient 0.18 against 0.38 ms.
    """
    changed = [(axis, o) for axis, o in sizes.items() if o != shape[axis]]
    taps = math.prod(_windows(shape[axis], o).taps for axis, o in changed)
    apart = _engine.keep if taps > few else lambda x: x
    for i, (axis, o) in enumerate(changed):
        yield axis, o, apart if i else lambda x: x


# --- Reductions of the windows along one axis -----------------------------------------


class _Windows(NamedTuple):
    """Where the elements of the windows of an axis are: a line per element.

    A short window repeats its last element. `lines` are what is static, `values` the
    same numbers for expressions.
    """

    n: int
    o: int
    lines: Sequence[np.ndarray]  # each (o,); all in one, (o * taps,), if there are many
    values: Sequence[Any]

    @property
    def taps(self) -> int:
        """Elements of the largest window."""
        return len(self.lines) * len(self.lines[0]) // self.o


def _windows(n: int, o: int, like: jax.Array | None = None) -> _Windows:
    """The windows from size n to size o, for use with `like` in `_linear`."""
    starts, ends = edges(n, o)
    taps = np.arange((ends - starts).max())
    lines = np.minimum(starts + taps[:, None], ends - 1).astype(np.int32)
    if len(taps) > _LARGEST_UNROLLED:
        lines = lines.T.reshape(1, -1)
    lines = values = list(lines)
    if like is not None:
        # What a solver closes over must vary over the same axes of a mesh.
        values = [lax.full_like(like, 0, v.dtype, v.shape) + v for v in values]
    return _Windows(n, o, lines, values)


def _reduce(
    op: _engine.Reducer,
    term: Callable[..., Any],
    axis: int,
    windows: _Windows,
    inputs: Sequence[Any],
    outputs: Sequence[Any] = (),
) -> jax.Array:
    """Reduces `term(position, inside, *inputs, *outputs)` over each window.

    `inputs` have size n along the axis, `outputs` size o; `position` is that of the
    input element, and `inside` is False where it is a repeated one, or None.
    """
    ndim = inputs[0].ndim
    o, taps, here = windows.o, windows.taps, ndim + axis
    pairs = list(zip(windows.lines, windows.values, strict=True))

    def taken(line, value):
        return (_take(x, line, value, axis) for x in inputs)

    if taps == len(pairs):
        terms, before = [], None
        for line, value in pairs:
            at, inside = _along(value, ndim, axis), None
            if before is not None and (line == windows.lines[len(terms) - 1]).any():
                inside = at != before
            terms.append(term(at, inside, *taken(line, value), *outputs))
            before = at
        return functools.reduce(op, terms)

    ((line, value),) = pairs
    at = value.reshape(o, taps)
    inside = at[:, 1:] != at[:, :-1]
    inside = lax.pad(inside, True, [(0, 0, 0), (1, 0, 0)])
    at, inside = (_along(v, ndim, axis) for v in (at, inside))
    spreads = (_spread(x, axis, o, taps) for x in taken(line, value))
    terms = term(at, inside, *spreads, *(_spread(y, axis, o, 1) for y in outputs))
    if op is lax.add:
        return terms.sum(here + 1, dtype=terms.dtype)
    return lax.squeeze(reduce_extremum(terms, (here + 1,), op), (here + 1,))


def _spread(x: jax.Array, axis: int, *sizes: int) -> jax.Array:
    """x with one axis as several."""
    here = x.ndim + axis
    return x.reshape(*x.shape[:here], *sizes, *x.shape[here + 1 :])


def _along(values: Any, ndim: int, axis: int) -> Any:
    """`values`, in place of one axis of an array of `ndim` axes."""
    return values.reshape((1,) * (ndim + axis) + values.shape + (1,) * (-1 - axis))


def _take(x: jax.Array, line: np.ndarray, value: Any, axis: int) -> jax.Array:
    """Elements of an axis at static positions."""
    n, count, here = x.shape[axis], len(line), x.ndim + axis
    step = int(line[1] - line[0]) if count > 1 else 1
    if step > 0 and (np.diff(line) == step).all():
        return lax.slice_in_dim(x, int(line[0]), int(line[-1]) + 1, step, axis)
    if count % n == 0 and (line == np.arange(count) // (count // n)).all():
        lead, rest = x.shape[: here + 1], x.shape[here + 1 :]
        x = jnp.broadcast_to(jnp.expand_dims(x, here + 1), (*lead, count // n, *rest))
        return x.reshape(*lead[:-1], count, *rest)
    # Batched over the axes before, so that the result is laid out as x is: with the
    # gathered axis first XLA:CPU transposes it (64 -> 13 with gradient 7 against 5 ms).
    before = tuple(range(here))
    index = value.reshape((1,) * here + (count, 1))
    return lax.gather(
        x,
        jnp.broadcast_to(index, (*x.shape[:here], count, 1)),
        lax.GatherDimensionNumbers(
            offset_dims=tuple(range(here + 1, x.ndim)),
            collapsed_slice_dims=(here,),
            start_index_map=(here,),
            operand_batching_dims=before,
            start_indices_batching_dims=before,
        ),
        slice_sizes=(1,) * (here + 1) + x.shape[here + 1 :],
        mode="promise_in_bounds",
    )


def _linear(forward: Callable, transpose: Callable, t: jax.Array, axis: int, o: int):
    """`forward(t)`, a linear map to size o along an axis, and its transpose.

    JAX's own transpose of a gather is a scatter. `custom_linear_solve` is how a linear
    map and its transpose are stated for jvp, vjp and vmap alike: with `(u, v)` joined
    along the axis, `v = forward(t)` solves the system `u = t, v - forward(u) = 0`.
    """
    n = t.shape[axis]
    # Kept for the backward are the places, not what is compared with them.
    forward, transpose = (
        jax.checkpoint(f, prevent_cse=False) for f in (forward, transpose)
    )

    def halves(uv):
        u = lax.slice_in_dim(uv, 0, n, axis=axis)
        return u, lax.slice_in_dim(uv, n, n + o, axis=axis)

    def join(u, v):
        return lax.concatenate([u, v], u.ndim + axis)

    def system(uv):
        u, v = halves(uv)
        return join(u, v - forward(u))

    def solve(_, b):
        u, v = halves(b)
        return join(u, v + forward(u))

    def transpose_solve(_, b):
        u, v = halves(b)
        return join(u + transpose(v), v)

    config = [(0, 0, 0)] * t.ndim
    config[axis] = (0, o, 0)
    b = lax.pad(t, np.zeros((), t.dtype), config)
    return halves(lax.custom_linear_solve(system, b, solve, transpose_solve))[1]


# --- Sums -----------------------------------------------------------------------------


def window_sums(x, sizes):
    """Sums of windows, in float32 for 16-bit floats."""
    changed = {axis: o for axis, o in sizes.items() if o != x.shape[axis]}
    shape = tuple(x.shape[axis] // o for axis, o in changed.items())
    divisible = all(x.shape[axis] % o == 0 for axis, o in changed.items())
    # Large windows of equal size as a plain pool: 224 -> 7 in bfloat16, forward and
    # gradient, 27 against 68 ms; small ones not, 14 -> 7 0.17 against 0.08.
    if divisible and max(shape, default=0) > _LARGEST_UNROLLED:
        window = make_window(x.shape, shape, axes=tuple(changed))
        return _engine.reduce(x, window, lax.add)
    # 6x6 windows of 64 -> 13: float32 0.44 ms at once, 0.73 apart; bfloat16, whose
    # conversion would be repeated, 1.13 and 0.66, and 0.62 with the last axis first
    # (2026-11-27).
    half = _engine.is_half(x.dtype)
    sizes = dict(reversed(sizes.items())) if half else sizes
    for axis, o, apart in _passes(x.shape, sizes, few=9 if half else 100):
        x = _axis_sum(apart(x), axis, o)
    return _engine.widen(x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _axis_sum(x, axis, o):
    return _reduce(lax.add, _if_inside, axis, _windows(x.shape[axis], o), (x,))


@_axis_sum.defjvp
def _axis_sum_jvp(axis, o, primals, tangents):
    ((x,), (t,)), n = (primals, tangents), primals[0].shape[axis]
    forward, transpose = (
        functools.partial(_reduce, lax.add, _if_inside, axis, _windows(*nm, like=t))
        for nm in ((n, o), (o, n))
    )
    picked = _linear(
        lambda t: forward((t,)), lambda g: transpose((g,)), _engine.widen(t), axis, o
    )
    return _axis_sum(x, axis, o), picked


def _if_inside(position, inside, x):
    x = _engine.widen(x)
    return x if inside is None else jnp.where(inside, x, np.zeros((), x.dtype))


# --- Maxima and minima ----------------------------------------------------------------


def window_any(valid, sizes):
    """Whether each window has an element that takes part."""
    for axis, o, _ in _passes(valid.shape, sizes):
        windows = _windows(valid.shape[axis], o)
        valid = _reduce(lax.max, _itself, axis, windows, (valid,))
    return valid


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def select(x, valid, sizes, reducer):
    """Maximum of each window, whose derivative goes to the first in row-major order.

    16-bit floats become float32, in which gradients add up.
    """
    return per_platform(functools.partial(_maxima, dict(sizes), reducer), x)


def _maxima(sizes, reducer, rule, x):
    key, _ = _engine.comparable(rule, x, reducer, large=True)
    for axis, o, apart in _passes(x.shape, sizes):
        windows = _windows(x.shape[axis], o)
        key = _reduce(reducer, _itself, axis, windows, (apart(key),))
    return _engine.widen(_engine.from_comparable(key, x.dtype))


@select.defjvp
def _select_jvp(sizes, reducer, primals, tangents):
    (x, valid), (t, _) = primals, tangents
    y, codes, _ = search(lax.stop_gradient(x), valid, dict(sizes), reducer)
    t = _engine.widen(t)
    for code, (axis, o, apart) in zip(
        codes, _passes(x.shape, dict(sizes)), strict=True
    ):
        t, n = apart(t), t.shape[axis]
        forward = functools.partial(_pick, axis, _windows(n, o, like=t), code)
        transpose = functools.partial(_give, axis, _windows(o, n, like=t), code)
        t = _linear(forward, transpose, t, axis, o)
    return y, t


def search(x, valid, sizes, reducer):
    """The maxima and where the first are: codes, one array per axis, and a number.

    A code is the place of each maximum along its axis, when the axes before are pooled
    already; the number is the place along all axes together, row-major. Rows come
    first, since that is faster: among the columns with the largest maximum, the one
    whose number is lowest holds the first in row-major order.
    """
    return per_platform(functools.partial(_search, sizes, reducer), x, valid)


def _search(sizes, reducer, rule, x, valid):
    dtype, codes, number = x.dtype, [], None
    for axis, o, _ in _passes(x.shape, sizes):
        n = x.shape[axis]
        windows = _windows(n, o)
        if number is None:
            x, number = _first(rule, axis, windows, x, valid, reducer)
            code = number
        else:
            y = _engine.keep(_reduce(reducer, _itself, axis, windows, (x,)))
            number = _engine.keep(_lowest(axis, windows, x, y, valid, number))
            x, code = y, number % np.int32(n)
        if valid is not None:
            valid = window_any(valid, {axis: o})
            code = jnp.where(valid, code, np.int32(n))
        code = _engine.keep(code.astype(_selection.code_dtype(n + 1)))
        codes.append(checkpoint_name(code, "pool_index"))
    return _engine.widen(_engine.from_comparable(x, dtype)), codes, number


def _itself(position, inside, x):
    return x


def _first(rule, axis, windows, x, valid, reducer):
    """The maximum of each window, comparable, and where the first is, or first NaN.

    Neither from the other: XLA may compute x again, and round it differently.
    """
    ndim, here = x.ndim, x.ndim + axis
    unrolled = windows.taps <= _LARGEST_UNROLLED
    x, _ = _engine.comparable(rule, x, reducer, large=unrolled)
    if not unrolled:
        ((line, value),) = zip(windows.lines, windows.values, strict=True)
        x = _spread(_take(x, line, value, axis), axis, windows.o, windows.taps)
        if valid is not None:
            valid = _take(valid, line, value, axis)
            valid = _spread(valid, axis, windows.o, windows.taps)
        found = find_extremum(x, (axis,), valid, reducer)
        y, tap = (lax.squeeze(a, (here + 1,)) for a in found)
        y, _ = _engine.comparable(rule, y, reducer, large=True)
        starts, _ = edges(windows.n, windows.o)
        starts = _along(starts.astype(np.int32), ndim, axis)
        return y, _engine.keep(tap.astype(np.int32) + starts)
    y = _engine.keep(_reduce(reducer, _itself, axis, windows, (x,)))
    # Of the mirrored x: XLA:CPU would keep the taps that y is made of in memory, all of
    # them, if they were the same (64 -> 13 with gradient 24 against 7 ms).
    x = _mirrored(x)
    opposite = lax.min if reducer is lax.max else lax.max
    dtype = _selection.code_dtype(windows.n + 1)
    terms = (
        (
            _along(value.astype(dtype), ndim, axis),
            _take(x, line, value, axis),
            None if valid is None else _take(valid, line, value, axis),
        )
        for line, value in zip(windows.lines, windows.values, strict=True)
    )
    return y, _engine.keep(_selection.first(opposite, terms)).astype(jnp.int32)


def _mirrored(x):
    return -x if jnp.issubdtype(x.dtype, jnp.floating) else ~x


def _lowest(axis, windows, x, y, valid, number):
    """The lowest number of the elements of x, kept in memory, that equal their y."""
    n = np.int32(windows.n)
    nowhere = np.asarray(np.iinfo(np.int32).max, np.int32)

    def place(position, inside, x, number, *rest):
        *valid, y = rest
        match = (x == y) | (x != x)
        for only in valid:
            match &= only
        return jnp.where(match, number * n + position.astype(np.int32), nowhere)

    # Mirrored, as in `_first`.
    inputs = (_mirrored(x), number) if valid is None else (_mirrored(x), number, valid)
    return _reduce(lax.min, place, axis, windows, inputs, (_mirrored(y),))


def _pick(axis, windows, code, x):
    """The element of each window at the place that `code` names."""

    def term(position, inside, x, code):
        hit = code == position.astype(code.dtype)
        hit = hit if inside is None else hit & inside
        return jnp.where(hit, x, np.zeros((), x.dtype))

    return _reduce(lax.add, term, axis, windows, (x,), (code,))


def _give(axis, windows, code, g):
    """The transpose of `_pick`: adds up what each element is given by its windows."""
    shape = [1] * g.ndim
    shape[axis] = windows.o
    place = lax.broadcasted_iota(code.dtype, shape, g.ndim + axis)

    def term(position, inside, code, g, place):
        hit = code == place
        hit = hit if inside is None else hit & inside
        return jnp.where(hit, g, np.zeros((), g.dtype))

    return _reduce(lax.add, term, axis, windows, (code, g), (place,))
