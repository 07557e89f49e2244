"""Pyramids: the same input pooled at several scales.

Letters: `n` input size, `l` the bins of a level along one axis, `k` a window size, `x`
an input `(*batch, *space, channels)`.
"""

import functools
import itertools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from . import _engine, _selection
from ._adaptive import adaptive_avg_pool, adaptive_max_pool
from ._check import (
    check_array,
    check_bool,
    check_choice,
    check_empty,
    check_sizes,
    check_static,
    check_where,
    per_axis,
    pooled_axes,
)
from ._mean import avg_pool
from ._order import max_pool
from ._window import make_window


def spatial_pyramid_pool(
    x: ArrayLike,
    *,
    levels: tuple[int | tuple[int, ...], ...] = (4, 2, 1),
    reducer: Literal["max", "avg"] = "max",
    windows: Literal["adaptive", "paper", "caffe"] = "adaptive",
    channels_first: bool = False,
    axes: tuple[int, ...] = (-3, -2),
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Pools x into grids of several sizes: a vector of the same length for any size.

    A level `l` cuts each pooled axis into `l` bins and takes the maximum, or average,
    of every cell: `l * l` numbers per channel for two axes, whatever their size. The
    default levels give `16 + 4 + 1 = 21` per channel.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      levels: the bins of each level: an int, or one per pooled axis.
      reducer: `"max"`, with the derivative of `max_pool`, or `"avg"`.
      windows: where the cells lie. `"adaptive"`: from `floor(i n / l)` to
        `ceil((i + 1) n / l)`, which covers every input and fits any size. `"paper"`:
        windows of `ceil(n / l)` at strides of `floor(n / l)`, which miss the end of
        some sizes, and do not fit others. `"caffe"`: disjoint windows of `ceil(n / l)`,
        padded at both ends (which an average counts), which do not fit small sizes.
      channels_first: whether the numbers of a level are ordered by channel first, then
        by bin, as those of a flattened `(N, C, H, W)` are: for weights of a dense layer
        that were trained so. By default bins come first, then channels.
      axes: the pooled axes, one at least.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a cell in which `where` leaves no element.

    Returns:
      `(*batch, bins * channels)`: the levels in their order, the cells of each in
      row-major order. The last axis of x that is not pooled counts as its channels. It
      has x's dtype; an average of integers has the default float.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range, a pooled axis has size 0, or the
        windows of `"paper"` or `"caffe"` do not give as many bins as a level asks for.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool
      >>> for shape in [(13, 13, 256), (10, 10, 256), (7, 11, 256)]:
      ...   x = jax.ShapeDtypeStruct(shape, jnp.float32)
      ...   print(jax.eval_shape(jaxpool.spatial_pyramid_pool, x).shape)
      (5376,)
      (5376,)
      (5376,)

    References:
      He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for
      Visual Recognition", 2014, https://arxiv.org/abs/1406.4729, section 2.2 and
      figure 3; Caffe, `SPPLayer` (the padded windows).
    """
    x = check_array("x", x)
    axes = pooled_axes(x.shape, axes, 1)
    if len(axes) == x.ndim:
        raise ValueError(
            f"`axes` must leave an axis of x with shape {x.shape} for channels, got "
            f"{axes}"
        )
    grids = _check_levels(levels, len(axes))
    check_choice("reducer", reducer, ("max", "avg"))
    check_choice("windows", windows, ("adaptive", "paper", "caffe"))
    check_bool("channels_first", channels_first)
    options: dict[str, Any] = {"axes": axes, "where": where, "empty": empty}
    calls = []
    for grid in grids:
        if windows == "adaptive":
            pool = adaptive_max_pool if reducer == "max" else adaptive_avg_pool
            calls.append(functools.partial(pool, output_shape=grid, **options))
        else:
            check_static(x.shape, axes)
            fixed = _PLACED[windows](x.shape, axes, grid)
            pool = max_pool if reducer == "max" else avg_pool
            calls.append(functools.partial(pool, **fixed, **options))
    with jax.named_scope("jaxpool.spatial_pyramid_pool"):
        flat = functools.partial(_flat, axes=axes, channels_first=channels_first)
        return jnp.concatenate([flat(call(x)) for call in calls], axis=-1)


def max_pool_pyramid(
    x: ArrayLike,
    *,
    sizes: tuple[int, ...] = (5, 9, 13),
    axes: tuple[int, ...] = (-3, -2),
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> tuple[jax.Array, ...]:
    """Takes maxima of windows of several sizes around every element.

    `y_k = max_pool(x, (k, k), strides=1, padding="SAME")` for every size `k`, with the
    same values, and the same derivatives at ties and at NaN. The sizes share their
    work: a maximum over `k` elements of maxima over `j` is one over `j + k - 1`.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      sizes: the window sizes, the same along each pooled axis.
      axes: the pooled axes, one at least.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.

    Returns:
      A tuple of one array per size, in the order of `sizes`, with x's shape and dtype.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 3.0, 0.0, 0.0, 0.0])[:, None]
      >>> for y in jaxpool.max_pool_pyramid(x, sizes=(3, 5), axes=(-2,)):
      ...   print(y[:, 0])
      [3. 3. 3. 0. 0.]
      [3. 3. 3. 3. 0.]

    References:
      He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for
      Visual Recognition", 2014, https://arxiv.org/abs/1406.4729; Redmon, Farhadi,
      "YOLOv3: An Incremental Improvement", 2018, https://arxiv.org/abs/1804.02767
      (whose SPP variant has these windows).
    """
    x = check_array("x", x)
    axes = pooled_axes(x.shape, axes, 1)
    sizes = check_sizes("sizes", sizes)
    windows = {k: _grown(x.shape, axes, k) for k in sorted(set(sizes))}
    valid = check_where(where, x.shape)
    fill = check_empty(empty, x.dtype)
    with jax.named_scope("jaxpool.max_pool_pyramid"):
        if valid is not None:
            valid = _engine.spread_mask(valid, windows[sizes[0]])
            x = jnp.where(valid, x, _engine.identity(lax.max, x.dtype))
        ascending = _maxima(x, valid, axes, tuple(windows))
        maxima = dict(zip(windows, ascending, strict=True))
        if valid is not None:
            for k, window in windows.items():
                maxima[k] = _engine.fill_empty(maxima[k], window, valid, fill)
        return tuple(maxima[k] for k in sizes)


# --- Spatial pyramid ------------------------------------------------------------------


def _check_levels(levels, count):
    if isinstance(levels, str) or not isinstance(levels, (tuple, list)):
        raise TypeError(
            "`levels` must be a tuple with an int, or one int per pooled axis, per "
            f"level, got {levels!r}"
        )
    if not levels:
        raise ValueError("`levels` must have at least one level, got ()")
    return [per_axis("levels", level, count, 1) for level in levels]


def _paper_windows(shape, axes, grid):
    pairs = [(shape[axis], bins) for axis, bins in zip(axes, grid, strict=True)]
    window = [-(-n // bins) for n, bins in pairs]
    strides = [n // bins for n, bins in pairs]
    for (n, bins), k, s in zip(pairs, window, strides, strict=True):
        if s == 0 or (n - k) // s + 1 != bins:
            raise ValueError(
                f"`levels` must fit the windows of the paper: along an axis of size "
                f"{n} of x with shape {tuple(shape)}, they do not give {bins} bins"
            )
    return {"window_shape": tuple(window), "strides": tuple(strides)}


def _caffe_windows(shape, axes, grid):
    window, padding = [], []
    for axis, bins in zip(axes, grid, strict=True):
        n = shape[axis]
        k = -(-n // bins)
        low = (k * bins - n + 1) // 2
        if low >= k:
            raise ValueError(
                f"`levels` must fit Caffe's windows: along an axis of size {n} of x "
                f"with shape {tuple(shape)}, {bins} bins would hold padding alone"
            )
        window.append(k)
        padding.append((low, k * bins - n - low))
    return {"window_shape": tuple(window), "padding": tuple(padding)}


_PLACED = {"paper": _paper_windows, "caffe": _caffe_windows}


def _flat(y, axes, channels_first):
    """The cells of a level and its channels as one axis, the last."""
    count = len(axes)
    ends = range(-count, 0) if channels_first else range(-count - 1, -1)
    y = jnp.moveaxis(y, axes, ends)
    batch, cells = y.shape[: -count - 1], y.shape[-count - 1 :]
    return y.reshape((*batch, math.prod(cells)))


# --- Maxima of several sizes ----------------------------------------------------------


def _grown(shape, axes, k, j=1):
    """The window whose maxima, of maxima over `j` elements, are those over `k`."""
    pads = ((k - 1) // 2 - (j - 1) // 2, k // 2 - j // 2)
    size, padding = (k - j + 1,) * len(axes), (pads,) * len(axes)
    return make_window(shape, size, strides=1, padding=padding, axes=axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _maxima(x, valid, axes, sizes):
    """The maxima of windows of ascending sizes, each from the one before."""
    maxima = []
    for j, k in itertools.pairwise((1, *sizes)):
        x = _engine.reduce(x, _grown(x.shape, axes, k, j), lax.max)
        maxima.append(x)
    return tuple(maxima)


@_maxima.defjvp
def _maxima_jvp(axes, sizes, primals, tangents):
    x, valid = primals
    maxima = functools.partial(_maxima_by_axis, valid=valid, axes=axes, sizes=sizes)
    return jax.jvp(maxima, (x,), tangents[:1])


def _maxima_by_axis(x, valid, axes, sizes):
    """The same, with the derivative at the first of equal maxima in row-major order.

    Windows grow along the last axis; each size then goes along the others by itself.
    A window grown along two axes at once would find the first of its parts, which need
    not hold the first of its elements.
    """
    *others, last = axes
    maxima = []
    for j, k in itertools.pairwise((1, *sizes)):
        x, valid = _select(x, valid, _grown(x.shape, (last,), k, j))
        y = x
        if others:
            y, _ = _select(x, valid, _grown(x.shape, others, k))
        maxima.append(y)
    return tuple(maxima)


def _select(x, valid, window):
    """The maxima of x, and which of them are of an element that takes part."""
    y = _selection.select(x, valid, window, lax.max)
    return y, None if valid is None else _engine.window_any(valid, window)
