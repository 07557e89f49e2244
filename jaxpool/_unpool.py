"""Un-pooling: back to the resolution before a pool.

Letters: `W(o)` the window of position `o` of the pooled array `y`, `i` a position of
the array it is spread over; `n` positions in the pooled axes of that, flat row-major.

References: Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks",
2014; PyTorch, `torch.nn.MaxUnpool2d`.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._check import (
    check_array,
    check_bool,
    check_choice,
    check_inexact,
    check_integers,
    check_sizes,
)
from ._indices import flatten, rows, sized_axes, unflatten
from ._lowering import per_platform
from ._window import Padding, PerAxis, Window, make_window


def max_unpool(
    y: ArrayLike,
    indices: ArrayLike,
    output_shape: tuple[int, ...],
    *,
    axes: tuple[int, ...] | None = None,
    reduce: Literal["set", "add", "max"] = "set",
) -> jax.Array:
    """Puts pooled values back where their maxima were, and 0 elsewhere.

    `x[i] = y[o]` for the window `o` with `indices[o] = i`. Where overlapping windows
    share a maximum, `reduce` decides:

    * `"set"`: the last of these windows in row-major order, on every backend;
    * `"add"`: the sum over them, the exact adjoint of max pooling: applied to a
      cotangent it is the gradient of `max_pool`;
    * `"max"`: the largest, the first window of equals (or the first NaN).

    The derivative is that of this formula: `dy[o] = dx[indices[o]]` for each window
    that was kept, 0 for the others. PyTorch's backward is a plain gather, which gives
    windows that were overwritten a gradient as well. Bits are the same on every run.

    Args:
      y: `(*batch, *space, channels)`, pooled values of any dtype.
      indices: integers, with y's shape: positions in the un-pooled axes, flattened
        row-major, as `max_pool(..., return_indices=True)` gives them; -1 for nowhere.
      output_shape: tuple with the size of each un-pooled axis: the shape of the pool's
        input in these axes.
      axes: the un-pooled axes; by default those right before the last.
      reduce: what becomes of windows with the same index.

    Returns:
      `(*batch, *output_shape, channels)`, with y's dtype. 16-bit floats add up in
      float32, and bool as int32.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if shapes do not fit, or an index is outside of `output_shape`. Where
        indices are traced, and not known, such a value is dropped.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 5.0, 3.0, 2.0, 0.0, 4.0])[:, None]
      >>> y, indices = jaxpool.max_pool(x, (2,), return_indices=True)
      >>> jaxpool.max_unpool(y, indices, (6,))[:, 0]
      Array([0., 5., 3., 0., 0., 4.], dtype=float32)

    References:
      Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", 2014,
      https://arxiv.org/abs/1311.2901 (switches); PyTorch, `torch.nn.MaxUnpool2d`.
    """
    check_choice("reduce", reduce, ("set", "add", "max"))
    y = check_array("y", y, complex_ok=reduce != "max")
    axes, sizes = sized_axes("y", y.shape, output_shape, axes)
    indices = _check_indices(indices, y.shape, sizes)
    with jax.named_scope("jaxpool.max_unpool"):
        dtype = y.dtype
        if dtype == jnp.bool_:  # which cannot be added to
            dtype = jnp.int32 if reduce == "add" else dtype
            y = y.astype(jnp.int32)
        (flat, axis), (index, _) = _as_one(y, axes), _as_one(indices, axes)
        n = math.prod(sizes)
        if reduce == "add":
            x = _add_at(flat, index, n, axis)
        else:
            x = _put(flat, index, n, axis, reduce)
        return _apart(x, axes, sizes).astype(dtype)


def avg_unpool(
    y: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    output_shape: tuple[int, ...] | None = None,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    count_include_pad: bool = True,
    mode: Literal["adjoint", "replicate"] = "adjoint",
) -> jax.Array:
    """Spreads averages over their windows.

    Two definitions are in use; both give 0 to an element that no window covers.

    * `mode="adjoint"`: `x[i] = sum of y[o] / D[o] over the windows o with i`, `D` the
      divisor of `avg_pool`: the exact adjoint of `avg_pool` with the same arguments,
      `<avg_pool(x), y> = <x, avg_unpool(y)>`. It keeps the sum of y.
    * `mode="replicate"`: `x[i]` is the average of `y[o]` over the windows `o` with `i`.
      It keeps values: `avg_pool(avg_unpool(y)) = y` for disjoint windows.

    Args:
      y: `(*batch, *space, channels)`, averages of any dtype.
      window_shape: tuple with one int per un-pooled axis.
      output_shape: tuple with the size of each un-pooled axis, of which the windows
        must give y's shape. None means the size that the windows fill exactly,
        `(o - 1) * stride + dilation * (k - 1) + 1 - low - high`, and `o * stride` for
        `"SAME"` and `"SAME_LOWER"`.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis: that of the pool.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether the pool kept a last, partial window (PyTorch's rule).
      axes: the un-pooled axes; by default those right before the last.
      count_include_pad: whether padding counted in `D`; no matter for `"replicate"`.
      mode: which of the two definitions.

    Returns:
      `(*batch, *output_shape, channels)`, with y's dtype; the default float for
      integers and bool.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if the windows do not give y's shape, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> y = jnp.array([2.0, 6.0])[:, None]
      >>> jaxpool.avg_unpool(y, (2,))[:, 0]
      Array([1., 1., 3., 3.], dtype=float32)
      >>> jaxpool.avg_unpool(y, (2,), mode="replicate")[:, 0]
      Array([2., 2., 6., 6.], dtype=float32)

    References:
      Zeiler, Taylor, Fergus, "Adaptive Deconvolutional Networks for Mid and High Level
      Feature Learning", 2011, https://doi.org/10.1109/ICCV.2011.6126474
    """
    y = check_inexact("y", y)
    check_choice("mode", mode, ("adjoint", "replicate"))
    check_bool("count_include_pad", count_include_pad)
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    options |= {"ceil_mode": ceil_mode, "axes": axes}
    window = _window_over(y.shape, window_shape, output_shape, options)
    with jax.named_scope("jaxpool.avg_unpool"):
        wide = _engine.widen(y)
        if mode == "adjoint":
            divisor = np.maximum(window.counts(y.ndim, count_include_pad), 1)
            x = _spread(wide / divisor.astype(wide.dtype), window)
        else:
            windows = np.maximum(window.windows_per_element(y.ndim), 1)
            x = _spread(wide, window) / windows.astype(wide.dtype)
        return x.astype(y.dtype)


# --- Checks ---------------------------------------------------------------------------


def _check_indices(given, shape, sizes):
    indices = check_integers("indices", given)
    if indices.shape != tuple(shape):
        raise ValueError(
            f"`indices` must have the shape of y, {tuple(shape)}, got {indices.shape}"
        )
    try:
        known = np.asarray(given)  # not yet cut to 32 bits
    except jax.errors.TracerArrayConversionError:
        return indices
    most = math.prod(sizes) - 1
    if known.size and not (known.min() >= -1 and known.max() <= most):
        raise ValueError(
            f"`indices` must lie in [-1, {most}], the positions in `output_shape` "
            f"{sizes}, got {known.min()} to {known.max()} for y with shape "
            f"{tuple(shape)}"
        )
    return indices


def _window_over(shape, window_shape, output_shape, options) -> Window:
    """The window that pools an array of `output_shape` to `shape`."""
    # On an array that any window fits, to have all arguments checked and per axis.
    like = make_window([2**20] * len(shape), window_shape, **options)
    if output_shape is None:
        axes, sizes = like.axes, _filled(shape, like, options["padding"])
    else:
        axes, sizes = options["axes"], check_sizes("output_shape", output_shape)
        axes = like.axes if axes is None else axes
        if len(sizes) != len(axes):
            raise ValueError(
                "`output_shape` must have one int per entry of `window_shape` "
                f"({len(axes)}), got {sizes}"
            )
    whole = list(shape)
    for axis, n in zip(axes, sizes, strict=True):
        whole[axis] = n
    window = make_window(whole, window_shape, **options)
    got = tuple(shape[a] for a in window.axes)
    if window.output != got:
        raise ValueError(
            f"`output_shape` must be one that these windows pool to y with shape "
            f"{tuple(shape)}, got {tuple(sizes)}, which they pool to {window.output}"
        )
    return window


def _filled(shape, window, padding):
    """The sizes that windows fill exactly, so many as `shape` has."""
    sizes = []
    for axis, s, ke, (lo, hi) in zip(
        window.axes, window.strides, window.extent, window.padding, strict=True
    ):
        same = padding in ("SAME", "SAME_LOWER")
        n = shape[axis] * s if same else (shape[axis] - 1) * s + ke - lo - hi
        if n < 1:
            raise ValueError(
                f"`padding` {padding!r} must leave something of the un-pooled array, "
                f"got a size of {n} along axis {axis} for y with shape {tuple(shape)}"
            )
        sizes.append(n)
    return sizes


# --- Scatters, of arrays whose pooled axes are one ------------------------------------


def _as_one(x, axes):
    """x with its pooled axes, ascending, as one; and where that is.

    In place where they are in a row: un-pooling (8, 112, 112, 64) by 2x2 takes 25
    ms, and 92 with the positions last (2 cores, jax 0.10.2, 2026-11-26).
    """
    if axes != tuple(range(axes[0], axes[-1] + 1)):
        return flatten(x, axes), -1
    first, last = x.ndim + axes[0], x.ndim + axes[-1] + 1
    positions = math.prod(x.shape[first:last])
    return x.reshape(*x.shape[:first], positions, *x.shape[last:]), axes[-1]


def _apart(x, axes, sizes):
    """The inverse of `_as_one`."""
    if axes != tuple(range(axes[0], axes[-1] + 1)):
        return unflatten(x, axes, sizes)
    here = x.ndim + axes[-1]
    return x.reshape(*x.shape[:here], *sizes, *x.shape[here + 1 :])


def _scatter(op, x, place, y, axis, unique=False):
    """`op` (lax.scatter, lax.scatter_add, ...) of y into x, at places of one axis.

    The others are batch axes, which may be sharded.
    """
    here = x.ndim + axis
    others = tuple(i for i in range(x.ndim) if i != here)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(here,),
        scatter_dims_to_operand_dims=(here,),
        operand_batching_dims=others,
        scatter_indices_batching_dims=others,
    )
    place = jnp.expand_dims(place, -1)
    return op(x, place, y, numbers, unique_indices=unique, mode="drop")


def _gather(x, place, axis):
    """`x` at places of one axis, of which those outside are clipped."""
    here = x.ndim + axis
    others = tuple(i for i in range(x.ndim) if i != here)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=(here,),
        start_index_map=(here,),
        operand_batching_dims=others,
        start_indices_batching_dims=others,
    )
    place = jnp.expand_dims(place, -1)
    return lax.gather(x, place, numbers, (1,) * x.ndim, mode="clip")


def _full(y, n, axis, value):
    """`value` at n positions, sharded and batched as y is."""
    shape = list(y.shape)
    shape[axis] = n
    return jnp.full_like(y, value, shape=tuple(shape))


def _numbers(y, axis):
    """0, 1, ... along an axis of arrays like y."""
    shape = [1] * y.ndim
    shape[axis] = y.shape[axis]
    return np.arange(y.shape[axis], dtype=np.int32).reshape(shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _put(y, index, n, axis, reduce):
    """The value that is kept at each place, with the derivative of `_put_at`."""
    put = functools.partial(_put_per_rule, n, axis, reduce)
    return per_platform(put, y, index)


@_put.defjvp
def _put_jvp(n, axis, reduce, primals, tangents):
    y, index = primals
    kept = _kept(y, index, n, axis, reduce)
    return _put(y, index, n, axis, reduce), _put_at(tangents[0], kept, n, axis)


def _put_per_rule(n, axis, reduce, rule, y, index):
    if reduce != "set" or rule.native or not rule.ordered_scatter:
        return _put_at(y, _kept(y, index, n, axis, reduce), n, axis)
    place = jnp.where(index < 0, np.int32(n), index)
    return _scatter(lax.scatter, _full(y, n, axis, 0), place, y, axis)  # the last stays


def _put_at(y, index, n, axis):
    """`x[index[o]] = y[o]` for distinct indices; those from n on are dropped."""
    # Added to 0, since that is linear: its transpose is a gather.
    zeros = _full(y, n, axis, 0)
    return _scatter(lax.scatter_add, zeros, index, y, axis, unique=True)


def _kept(y, index, n, axis, reduce):
    """`index` of the windows that are kept, and n or more, all distinct, for others."""
    y, number = lax.stop_gradient(y), _numbers(y, axis)
    rank = number if reduce == "set" else np.int32(y.shape[axis] - 1) - number
    inside = (index >= 0) & (index < n)
    place = jnp.where(inside, index, np.int32(n))
    if reduce == "max":
        inside &= _largest(y, place, n, axis)
    # A maximum of integers is the same in whatever order it is taken.
    entry = jnp.where(inside, rank, np.int32(-1))
    nobody = _full(entry, n, axis, np.int32(-1))
    best = _scatter(lax.scatter_max, nobody, place, entry, axis)
    kept = inside & (_gather(best, place, axis) == rank)
    return jnp.where(kept, index, n + number)


def _largest(y, place, n, axis):
    """Whether y is the largest of those that go to its place, or NaN."""
    y = _engine.keep(_engine.widen(y))  # XLA might round it differently each time
    lowest = _engine.identity(lax.max, y.dtype)
    entry = jnp.where(y == y, y, lowest)
    best = _full(y, n, axis, lowest)
    best = _gather(_scatter(lax.scatter_max, best, place, entry, axis), place, axis)
    nan = (y != y).astype(jnp.int32)
    found = _scatter(lax.scatter_max, _full(nan, n, axis, 0), place, nan, axis)
    return jnp.where(_gather(found, place, axis) > 0, y != y, y == best)


def _add_at(y, index, n, axis):
    """`x[i] = sum of y[o] over index[o] = i`, with the same bits on every run."""
    add = functools.partial(_add_per_rule, n, axis)
    return per_platform(add, _engine.widen(y), index).astype(y.dtype)


def _add_per_rule(n, axis, rule, y, index):
    place = jnp.where((index >= 0) & (index < n), index, np.int32(n))
    if rule.ordered_scatter:
        return _scatter(lax.scatter_add, _full(y, n, axis, 0), place, y, axis)
    y, place = (jnp.moveaxis(a, axis, -1) for a in (y, place))
    x = rows(lambda y, place: _sorted_add(y, place, n), y, place)
    return jnp.moveaxis(x, -1, axis)


def _sorted_add(y, place, n):
    """A scatter-add without two additions to one place, whose order would be free.

    Sorted by place, the sum of each run of equals is a segmented scan.
    """
    number = np.arange(y.shape[-1], dtype=np.int32)
    place, order = lax.sort((place, jnp.asarray(number)), num_keys=1)
    first = jnp.concatenate([jnp.ones(1, bool), place[1:] != place[:-1]])
    last = jnp.concatenate([first[1:], jnp.ones(1, bool)])

    def add(a, b):
        return a[0] | b[0], jnp.where(b[0], b[1], a[1] + b[1])

    y = y.at[order].get(mode="promise_in_bounds", unique_indices=True)
    _, total = lax.associative_scan(add, (first, y))
    place = jnp.where(last & (place < n), place, n + number)
    return jnp.zeros(n, y.dtype).at[place].add(total, mode="drop", unique_indices=True)


# --- Averages -------------------------------------------------------------------------


def _spread(y, window):
    """The adjoint of the sum pool: each element adds up the windows that cover it.

    That is the sum, at stride 1, over y with `stride - 1` zeros between its elements.
    """
    moves = [ke - 1 for ke in window.extent]
    around = Window(
        axes=window.axes,
        size=window.size,
        strides=(1,) * len(moves),
        dilation=window.dilation,
        padding=((0, 0),) * len(moves),
        input=tuple(n + move for n, move in zip(window.input, moves, strict=True)),
        output=window.input,
    )
    pads = []
    for n, o, s, move, (lo, _) in zip(
        around.input, window.output, window.strides, moves, window.padding, strict=True
    ):
        low = move - lo
        pads.append((low, n - low - (o - 1) * s - 1, s - 1))
    zero = np.zeros((), y.dtype)
    y = lax.pad(y, zero, window.along(y.ndim, pads, (0, 0, 0)))
    return _engine.reduce(y, around, lax.add)
