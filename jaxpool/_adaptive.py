"""Adaptive pools: windows placed so that the output has a given size.

Letters: `n` the size of a pooled axis, `o` that of the output along it, `W(i)` the
window of output position `i`, `x` an input `(*batch, *space, channels)`.

`W(i)` is `[floor(i n / o), ceil((i + 1) n / o))`, so that the input elements of output
`i` are as far apart as those outputs are that cover one element: with `n` and `o`
exchanged, the same formula gives the outputs that cover input element `j`. Sums are
their own transposes in this way, and no derivative needs a scatter.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import ArrayLike

from . import _engine
from ._global import reduce_extremum
from ._window import (
    as_int,
    canonical_axes,
    check_array,
    check_bool,
    check_inexact,
    check_where,
    make_window,
)

# Windows of more elements are reduced along an axis of their own: an expression per
# element would take long to compile, and in bfloat16 long to run: the maxima of
# 224 -> 7 51 against 5 ms (2 cores, jax 0.10.2, 2026-11-25).
_LARGEST_UNROLLED = 16


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
    valid = _check_valid(where, x.shape, sizes)
    with jax.named_scope("jaxpool.adaptive_avg_pool"):
        if valid is None:
            total = _sum(x, sizes)
            return (total / _counts(x.shape, sizes, total.dtype)).astype(x.dtype)
        total = _sum(_engine.without(x, valid), sizes)
        count = _sum(valid.astype(jnp.int32), sizes)
        divisor = jnp.maximum(count, np.int32(1)).astype(total.dtype)
        y = (total / divisor).astype(x.dtype)
        return jnp.where(count > 0, y, np.asarray(empty, x.dtype))


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
    valid = _check_valid(where, x.shape, sizes)
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
    valid = _check_valid(where, x.shape, sizes)
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


# --- Arguments and geometry -----------------------------------------------------------


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
                f"`output_shape` must have at most {len(shape) - 1} entries (the axes "
                f"of x with shape {tuple(shape)} before its channels), got "
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


def _check_valid(where, shape, sizes):
    """`where` with its full size along the pooled axes, or None."""
    valid = check_where(where, shape)
    if valid is None:
        return None
    full = list(valid.shape)
    for axis in sizes:
        full[axis] = shape[axis]
    return jnp.broadcast_to(valid, full)


@functools.lru_cache(maxsize=256)
def _edges(n: int, o: int) -> tuple[np.ndarray, np.ndarray]:
    """First element of each window, and the one after its last."""
    i = np.arange(o, dtype=np.int64)
    return i * n // o, -(-(i + 1) * n // o)


def _counts(shape, sizes, dtype):
    """Elements of each window, shaped to broadcast over an array of `shape`."""
    counts = np.ones((1,) * len(shape), np.int64)
    for axis, o in sizes.items():
        if o != shape[axis]:  # a kept axis may have a symbolic size
            starts, ends = _edges(shape[axis], o)
            counts = counts * _along(ends - starts, len(shape), axis)
    return counts.astype(dtype)


def _passes(shape, sizes):
    """Axes whose size changes, the new size, and what keeps a pass from the one before.

    Passes over few elements are faster in one kernel: 2x2 windows of 14 -> 7 with
    gradient 0.18 against 0.38 ms.
    """
    changed = [(axis, o) for axis, o in sizes.items() if o != shape[axis]]
    taps = math.prod(_windows(shape[axis], o).taps for axis, o in changed)
    apart = _engine.keep if taps > 9 else lambda x: x
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
    starts, ends = _edges(n, o)
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

    def spread(x, *sizes):
        return x.reshape(*x.shape[:here], *sizes, *x.shape[here + 1 :])

    ((line, value),) = pairs
    at = value.reshape(o, taps)
    inside = at[:, 1:] != at[:, :-1]
    inside = lax.pad(inside, True, [(0, 0, 0), (1, 0, 0)])
    at, inside = (_along(v, ndim, axis) for v in (at, inside))
    spreads = (spread(x, o, taps) for x in taken(line, value))
    terms = term(at, inside, *spreads, *(spread(y, o, 1) for y in outputs))
    if op is lax.add:
        return terms.sum(here + 1, dtype=terms.dtype)
    return lax.squeeze(reduce_extremum(terms, (here + 1,), op), (here + 1,))


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


def _sum(x, sizes):
    """Sums of windows, in float32 for 16-bit floats."""
    changed = {axis: o for axis, o in sizes.items() if o != x.shape[axis]}
    shape = tuple(x.shape[axis] // o for axis, o in changed.items())
    divisible = all(x.shape[axis] % o == 0 for axis, o in changed.items())
    # Large windows of equal size as a plain pool: 224 -> 7 in bfloat16, forward and
    # gradient, 27 against 68 ms; small ones not, 14 -> 7 0.17 against 0.08.
    if divisible and max(shape, default=0) > _LARGEST_UNROLLED:
        window = make_window(x.shape, shape, axes=tuple(changed))
        return _engine.reduce(_engine.widen(x), window, lax.add)
    # First axis first: its elements are whole rows.
    for axis, o, apart in _passes(x.shape, sizes):
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


def _extremum_pool(x, sizes, reducer, valid, empty, return_indices):
    dtype = x.dtype
    if valid is not None:
        x = jnp.where(valid, x, _engine.identity(reducer, dtype))
    if dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    y = _select(x, valid, tuple(sizes.items()), reducer).astype(dtype)
    some = None if valid is None else _any(valid, sizes)
    if some is not None:
        y = jnp.where(some, y, np.asarray(empty, dtype))
    if not return_indices:
        return y
    index, scale = jnp.zeros_like(y, jnp.int32), 1
    _, number = _search(x, valid, sizes, reducer)
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


def _any(valid, sizes):
    """Whether each window has an element that takes part."""
    for axis, o, _ in _passes(valid.shape, sizes):
        windows = _windows(valid.shape[axis], o)
        valid = _reduce(lax.max, _itself, axis, windows, (valid,))
    return valid


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _select(x, valid, sizes, reducer):
    """Maximum of each window, whose derivative goes to the first in row-major order.

    16-bit floats become float32, in which gradients add up.
    """
    for axis, o, apart in _passes(x.shape, dict(sizes)):
        windows = _windows(x.shape[axis], o)
        x = _reduce(reducer, _itself, axis, windows, (apart(x),))
    return _engine.widen(x)


@_select.defjvp
def _select_jvp(sizes, reducer, primals, tangents):
    (x, valid), (t, _) = primals, tangents
    y = _engine.keep(_select(x, valid, sizes, reducer))
    codes, _ = _search(lax.stop_gradient(x), valid, dict(sizes), reducer)
    t = _engine.widen(t)
    for code, (axis, o, apart) in zip(
        codes, _passes(x.shape, dict(sizes)), strict=True
    ):
        t, n = apart(t), t.shape[axis]
        forward = functools.partial(_pick, axis, _windows(n, o, like=t), code)
        transpose = functools.partial(_give, axis, _windows(o, n, like=t), code)
        t = _linear(forward, transpose, t, axis, o)
    return y, t


def _search(x, valid, sizes, reducer):
    """Where the first maxima are: codes, one array per axis, and a number.

    A code is the place of each maximum along its axis, when the axes before are pooled
    already; the number is the place along all axes together, row-major. Rows come
    first, since that is faster: among the columns with the largest maximum, the one
    whose number is lowest holds the first in row-major order.
    """
    codes, number = [], None
    for axis, o, _ in _passes(x.shape, sizes):
        windows = _windows(x.shape[axis], o)
        y = _engine.keep(_reduce(reducer, _itself, axis, windows, (x,)))
        code, number = _first(axis, windows, x, y, valid, number)
        codes.append(checkpoint_name(code, "pool_index"))
        if valid is not None:
            valid = _any(valid, {axis: o})
        x = y
    return codes, number


def _itself(position, inside, x):
    return _engine.widen(x)


def _first(axis, windows, x, y, valid, number):
    """The lowest code and number at which x is y in each window, or NaN where y is."""
    n, dtype = windows.n, _engine.code_dtype(windows.n + 1)
    kind = dtype if number is None else np.int32
    nowhere = np.asarray(n if number is None else np.iinfo(np.int32).max, kind)
    # Of -x: XLA:CPU would keep the taps that y is made of in memory, all of them, if
    # they were the same (64 -> 13 with gradient 24 against 7 ms).
    inputs = [-_engine.widen(x)] + [a for a in (valid, number) if a is not None]

    def place(position, inside, x, *rest):
        *rest, y = rest
        match = (x == y) | (x != x)
        if valid is not None:
            match &= rest[0]
        position = position.astype(kind)
        if number is not None:
            position = rest[-1] * np.int32(n) + position
        return jnp.where(match, position, nowhere)

    found = _reduce(lax.min, place, axis, windows, inputs, (-y,))
    if number is None:
        code = _engine.keep(found)
        return code, code.astype(jnp.int32)
    found = _engine.keep(found)
    code = jnp.where(found == nowhere, np.int32(n), found % np.int32(n))
    return _engine.keep(code.astype(dtype)), found


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
