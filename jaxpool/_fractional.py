"""Fractional max pooling: windows at uneven, random steps.

Letters, one of each per pooled axis: `n` input size, `o` output size, `k` window size,
`u` the sample in [0, 1) that shifts the windows, `alpha` their mean step.

References: Graham, "Fractional Max-Pooling", 2014; PyTorch, `FractionalMaxPool2d`.
"""

import functools
import math
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import ArrayLike

from . import _engine
from ._check import (
    canonical_axes,
    check_array,
    check_bool,
    check_empty,
    check_float,
    check_key,
    check_sizes,
    check_static,
    check_where,
)
from ._indices import flatten, rows, unflatten
from ._lowering import per_platform
from ._window import make_window


class FractionalOptions(TypedDict, total=False):
    """The keyword arguments of `fractional_max_pool` but `return_indices`."""

    output_shape: tuple[int, ...] | None
    output_ratio: float | tuple[float, ...] | None
    key: jax.Array | None
    samples: ArrayLike | None
    overlapping: bool
    axes: tuple[int, ...] | None
    where: ArrayLike | None
    empty: float


@overload
def fractional_max_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: Literal[False] = False,
    **options: Unpack[FractionalOptions],
) -> jax.Array: ...


@overload
def fractional_max_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: Literal[True],
    **options: Unpack[FractionalOptions],
) -> tuple[jax.Array, jax.Array]: ...


@overload
def fractional_max_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    return_indices: bool,
    **options: Unpack[FractionalOptions],
) -> jax.Array | tuple[jax.Array, jax.Array]: ...
def fractional_max_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    output_shape: tuple[int, ...] | None = None,
    output_ratio: float | tuple[float, ...] | None = None,
    key: jax.Array | None = None,
    samples: ArrayLike | None = None,
    overlapping: bool = True,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Takes the largest element of windows at uneven steps, for any output size.

    * `overlapping=True`, PyTorch's windows: `y[j] = max x[a_j : a_j + k]` with
      `a_j = int((j + u) alpha) - int(u alpha)`, `alpha = (n - k) / (o - 1)`, and the
      last at `n - k`. Where `alpha > k`, the windows leave gaps.
    * `overlapping=False`, Graham's disjoint regions, which cover the input:
      `y[j] = max x[a_j : a_{j+1}]` with `a_j = ceil(alpha (j + v)) - 1`,
      `alpha = n / o`, `a_0 = 0` and `a_o = n`. As in TensorFlow, `v` is `u` times the
      largest number for which every region has `floor(alpha)` or one more elements.

    The sample `u` of an axis is random: with `key` one draw per axis, the same for the
    whole batch and all channels, as in TensorFlow; with `samples` as you like, such as
    PyTorch's `samples=jax.random.uniform(key, (N, C, 2))`. With neither, for inference,
    it is 0.5. Ties, NaN and the derivative are those of `max_pool`; no derivative goes
    to the samples.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis; with `overlapping=False` the
        size that the regions may not exceed, `ceil(n / o)` or more.
      output_shape: tuple with the size of each pooled axis of the output.
      output_ratio: instead, the output's size as a part of the input's, in (0, 1); one
        for all axes or one per axis. The product is truncated.
      key: a random key, or None.
      samples: numbers in [0, 1), `(pooled axes,)` or broadcastable to
        `(*batch, channels, pooled axes)`, in the order of `window_shape`; windows are
        placed in their precision, float32 at least. PyTorch's 2-D pool (not the 3-D
        one) has them the other way round: `_random_samples[..., ::-1]` of it.
      overlapping: whether windows have a fixed size, or end where the next one starts.
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      return_indices: whether to return the position of each maximum too.

    Returns:
      The maxima, with x's dtype; with `return_indices` a pair `(maxima, indices)`:
      int32 positions in the pooled axes, flattened row-major, -1 for a window without
      elements.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the windows do not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(8.0)[:, None]
      >>> jaxpool.fractional_max_pool(x, (2,), output_shape=(5,))[:, 0]
      Array([1., 3., 4., 6., 7.], dtype=float32)
      >>> y = jaxpool.fractional_max_pool(
      ...     x, (2,), output_shape=(5,), samples=(0.9,), overlapping=False
      ... )
      >>> y[:, 0]
      Array([1., 3., 5., 6., 7.], dtype=float32)

    References:
      Graham, "Fractional Max-Pooling", 2014, https://arxiv.org/abs/1412.6071;
      PyTorch, `torch.nn.FractionalMaxPool2d`; TensorFlow, `tf.nn.fractional_max_pool`
      (whose overlapping regions share one element instead).
    """
    x = check_array("x", x)
    window = make_window(x.shape, window_shape, strides=1, axes=axes)
    check_static(x.shape, window.axes)
    order = _order(x.shape, axes, len(window.axes))
    check_bool("overlapping", overlapping)
    output = _output(x.shape, window, order, output_shape, output_ratio, overlapping)
    samples = _samples(x.shape, window, order, key, samples)
    valid = check_where(where, x.shape)
    fill = check_empty(empty, x.dtype)
    check_bool("return_indices", return_indices)
    with jax.named_scope("jaxpool.fractional_max_pool"):
        parts = _parts(x.ndim, window, output, samples, overlapping)
        fixed = lax.stop_gradient(x)
        if valid is not None:
            valid = jnp.broadcast_to(valid, x.shape)
            fixed = jnp.where(valid, fixed, _engine.identity(lax.max, x.dtype))
        best, index, found = _search(fixed, valid, parts)
        if valid is not None:
            best = jnp.where(found, best, fill)
            index = jnp.where(found, index, np.int32(-1))
        copies = tuple(part.copies for part in parts)
        y = _select(x, best, checkpoint_name(index, "pool_index"), window.axes, copies)
        return (y, index) if return_indices else y


# --- Checks ---------------------------------------------------------------------------


def _order(shape, axes, count):
    """The order that sorts what the caller gave per axis."""
    axes = range(count) if axes is None else canonical_axes(shape, axes, count)
    return sorted(range(count), key=lambda i: axes[i])


def _output(shape, window, order, output_shape, output_ratio, overlapping):
    """The output's size per pooled axis."""
    if (output_shape is None) == (output_ratio is None):
        raise ValueError(
            "one of `output_shape` and `output_ratio` must be given, got "
            f"{output_shape!r} and {output_ratio!r}"
        )
    if output_shape is None:
        name, given = "output_ratio", output_ratio
        output = _of_ratio(window, order, output_ratio)
    else:
        name = "output_shape"
        output = given = check_sizes(name, output_shape)
        if len(output) != len(order):
            raise ValueError(
                f"`output_shape` must have one int per entry of `window_shape` "
                f"({len(order)}), got {output}"
            )
        output = tuple(output[i] for i in order)
    for axis, n, k, o in zip(
        window.axes, window.input, window.size, output, strict=True
    ):
        most = n - k + 1 if overlapping else n
        if not 1 <= o <= most:
            raise ValueError(
                f"`{name}` {given} must give 1 to {most} outputs along axis {axis} of "
                f"x with shape {tuple(shape)} for a window of {k}, got {o}"
            )
        if not overlapping and k * o < n:
            raise ValueError(
                f"`window_shape` must be at least {-(-n // o)} along axis {axis} of x "
                f"with shape {tuple(shape)}, which {o} disjoint regions have to cover, "
                f"got {k}"
            )
    return output


def _of_ratio(window, order, ratio):
    ratios = ratio if isinstance(ratio, (tuple, list)) else (ratio,) * len(order)
    if not all(isinstance(r, (float, np.floating)) for r in ratios):
        raise TypeError(
            f"`output_ratio` must be a float or one per axis, got {ratio!r}"
        )
    if len(ratios) != len(order) or not all(0 < r < 1 for r in ratios):
        raise ValueError(
            "`output_ratio` must lie in (0, 1), one for all or one per pooled axis "
            f"({len(order)}), got {ratio!r}"
        )
    return tuple(int(n * ratios[i]) for n, i in zip(window.input, order, strict=True))


def _samples(shape, window, order, key, samples):
    """u, `(*rest, pooled axes)` with size 1 where it is shared, axes ascending."""
    count = len(order)
    if key is not None and samples is not None:
        raise ValueError("one of `key` and `samples` must be None, got both")
    if (key := check_key(key)) is not None:
        # float32 whatever the default: the same windows with and without x64.
        samples = jax.random.uniform(key, (count,), jnp.float32)
    elif samples is None:
        samples = jnp.full(count, np.float32(0.5))
    else:
        samples = _check_range(check_float("samples", samples))
    rest = tuple(n for i, n in enumerate(shape) if i - len(shape) not in window.axes)
    padded = (1,) * (len(rest) + 1 - samples.ndim) + samples.shape
    fits = len(padded) == len(rest) + 1 and padded[-1] == count
    if not fits or any(m not in (1, n) for m, n in zip(padded, rest, strict=False)):
        raise ValueError(
            f"`samples` must have shape ({count},) or broadcast to {(*rest, count)} "
            f"for x with shape {tuple(shape)}, got {samples.shape}"
        )
    samples = lax.stop_gradient(_engine.widen(samples)).reshape(padded)
    return samples[..., np.array(order)]


def _check_range(samples):
    try:
        known = np.asarray(samples)
    except jax.errors.TracerArrayConversionError:
        return samples
    if not ((known >= 0) & (known < 1)).all():
        raise ValueError(f"`samples` must lie in [0, 1), got {known}")
    return samples


# --- Where the windows start ----------------------------------------------------------


class _Part(NamedTuple):
    """The windows along one axis of x."""

    axis: int
    taps: int
    starts: jax.Array  # shaped like x, with size 1 where shared and o along the axis
    ends: jax.Array | None  # the same, where windows have not all the same size
    copies: int  # windows o and o + copies have no element in common


def _parts(ndim, window, output, samples, overlapping) -> list[_Part]:
    parts = []
    count = len(window.axes)
    for i, (k, n, o) in enumerate(zip(window.size, window.input, output, strict=True)):
        u = samples[..., i, None]
        if overlapping:
            starts, least = _fixed_starts(u, n, k, o)
            ends, taps, copies = None, k, -(-k // least)
        else:
            starts, ends = _region_bounds(u, n, o)
            taps, copies = -(-n // o), 1

        def place(a, i=i):
            shape = [a.shape[-1] if j == i else 1 for j in range(count)]
            return unflatten(a, window.axes, shape)

        ends = None if ends is None else place(ends)
        parts.append(_Part(window.axes[i], taps, place(starts), ends, copies))
    return parts


def _fixed_starts(u, n, k, o):
    """PyTorch's starts (*rest, o), and the least step between them."""
    if o == 1:
        return jnp.full((*u.shape[:-1], 1), np.int32(n - k)), 1
    alpha = np.asarray(n - k, u.dtype) / np.asarray(o - 1, u.dtype)
    steps = np.arange(o, dtype=u.dtype).reshape((1,) * (u.ndim - 1) + (-1,))
    starts = ((steps + u) * alpha).astype(jnp.int32) - (u * alpha).astype(jnp.int32)
    # Rounding may bend what holds for exact numbers, that each step is at least
    # floor(alpha) and the last start n - k. The derivative builds on it.
    least = (n - k) // (o - 1)
    even = np.arange(o, dtype=np.int32) * np.int32(least)
    even = even.reshape((1,) * (u.ndim - 1) + (-1,))
    room = np.int32(n - k - even.max())
    ahead = lax.cummax(jnp.clip(starts - even, 0, room), axis=u.ndim - 1)
    last = np.arange(o).reshape(even.shape) == o - 1
    return even + jnp.where(last, room, ahead), least


def _region_bounds(u, n, o):
    """Graham's starts and ends, each (*rest, o), in integers and so without rounding.

    `ceil(alpha (j + v)) = ceil((n j + w) / o)` for the integer `w = ceil(n v)`, and
    every region has `floor(alpha)` or one more elements for `1 <= w <= most`.
    """
    most = min(2 * o - n % o, o + n % o)
    w = jnp.ceil(u * np.asarray(most, u.dtype)).astype(jnp.int32)
    w = jnp.clip(w, 1, most)
    j = np.arange(1, o).reshape((1,) * (u.ndim - 1) + (-1,))
    whole, rest = (n * j // o).astype(np.int32), (n * j % o).astype(np.int32)
    inner = whole + (rest + w + np.int32(o - 1)) // np.int32(o) - np.int32(1)
    edge = (*u.shape[:-1], 1)
    starts = jnp.concatenate([jnp.zeros(edge, jnp.int32), inner], -1)
    ends = jnp.concatenate([inner, jnp.full(edge, np.int32(n))], -1)
    return starts, ends


# --- Maxima ---------------------------------------------------------------------------


def _search(x, valid, parts) -> Any:
    """The first maximum of every window: its value, position, and whether it exists.

    Axis by axis, the last one first: the first maximum of a window is that of the first
    row with the largest one.
    """
    scale, best = 1, (x, None, valid)
    for part in reversed(parts):
        taps = (_tap(*best, part, t, np.int32(scale)) for t in range(part.taps))
        best = functools.reduce(_better, taps)
        scale *= x.shape[part.axis]
    return best


def _tap(x, index, valid, part, t, scale):
    at = part.starts + np.int32(t)
    inside = None if part.ends is None else at < part.ends
    at = jnp.minimum(at, np.int32(x.shape[part.axis] - 1))

    def take(a):
        return jnp.take_along_axis(a, at, part.axis, mode="promise_in_bounds")

    x = take(x)
    here = at * scale
    index = jnp.broadcast_to(here, x.shape) if index is None else take(index) + here
    valid = None if valid is None else take(valid)
    if inside is not None:
        inside = jnp.broadcast_to(inside, x.shape)
        # The first tap of a region is always inside; others repeat an element of it.
        valid = inside if valid is None else valid & inside
    return x, index, valid


def _better(a, b):
    """The first of two taps, or the second if it is larger, or the first NaN."""
    (x, i, found), (y, j, valid) = a, b
    wins = (y > x) | ((y != y) & (x == x))
    if valid is not None:
        wins = valid & (wins | ~found)
        found = found | valid
    return jnp.where(wins, y, x), jnp.where(wins, j, i), found


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _select(x, y, index, axes, copies):
    """y, whose derivative is that of `x[index]`, 0 where the index is -1."""
    return y


@_select.defjvp
def _select_jvp(axes, copies, primals, tangents):
    _, y, index = primals
    shape = [y.shape[a] for a in axes]
    number = [np.arange(o) % c for o, c in zip(shape, copies, strict=True)]
    kind = np.ravel_multi_index(np.ix_(*number), copies).ravel()
    pick = functools.partial(_pick, kind, math.prod(copies))
    pick = functools.partial(per_platform, pick)
    # Recomputed in the backward, which would otherwise keep the index in several forms.
    pick = jax.checkpoint(pick, prevent_cse=False)
    tangent = tangents[0]
    if math.prod(copies) > 1:
        tangent = _engine.widen(tangent)  # gradients of overlapping windows add up
    tangent = flatten(tangent, axes)
    picked = pick(tangent, flatten(index, axes))
    return y, unflatten(picked, axes, shape).astype(y.dtype)


def _pick(kind, copies, rule, tangent, index):
    """`tangent[index]`, whose transpose adds nothing twice to one place.

    Where additions have no order, windows that may share an element take it from
    different copies, and the gradient adds up the copies.
    """
    if rule.ordered_scatter:
        kind, copies = np.zeros_like(kind), 1
    n, kind = tangent.shape[-1], kind.astype(np.int32)
    nowhere = n + np.arange(kind.size, dtype=np.int32)

    def row(tangent, index):
        place = jnp.where(index < 0, nowhere, index)
        # Never so, but it depends on the index: vmap over keys alone then copies too.
        tangent = jnp.where(place[0] < 0, np.zeros((), tangent.dtype), tangent)
        copied = jnp.broadcast_to(tangent, (copies, n)).at[kind, place]
        return copied.get(
            mode="fill", fill_value=0, unique_indices=not rule.ordered_scatter
        )

    return rows(row, tangent, index)
