"""Pooling oracles: plain NumPy loops written from the formulas, no jax.

Every oracle has the signature of the public function it checks. Values come back as
float64 (complex128 for complex input, the input's own dtype where a pool keeps integers
and bool), so that the tests choose the tolerance.

Each pool is two functions of one window's valid elements `v` (1-D, taps in row-major
order): its value, and its derivative by each element. Two loops, `_pool` and `_vjp`,
apply them to every window of an array.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

# --- Window geometry ------------------------------------------------------------------


class Window(NamedTuple):
    """One window: where it goes in the output, and what it covers in the input."""

    out: tuple[int, ...]  # output position over the pooled axes
    taps: list[tuple[int, ...]]  # input positions over the pooled axes, row-major
    padding: int  # further taps in the declared padding, not in ceil-mode overhang


def _axis_padding(padding, n, k, s, d):
    """The (low, high) padding of one axis of n elements."""
    if padding == "VALID":
        return 0, 0
    if isinstance(padding, str):
        out = -(-n // s)  # one output per started stride
        total = max((out - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        return {"SAME": (small, large), "SAME_LOWER": (large, small)}[padding]
    low, high = (padding, padding) if isinstance(padding, int) else padding
    return low, high


def axis_windows(n, k, s, padding="VALID", d=1, ceil_mode=False):
    """The windows of one axis: for each, its taps inside and its count of padded taps.

    `padding` is a string, an int or a (low, high) pair.
    """
    low, high = _axis_padding(padding, n, k, s, d)
    room = n + low + high - (d * (k - 1) + 1)  # how far the first window can slide
    out = room // s + 1
    if ceil_mode:
        out = -(-room // s) + 1
        # PyTorch: the last window starts inside the input or in the low padding.
        if (out - 1) * s >= n + low:
            out -= 1
    if out < 1:
        raise ValueError(f"no window of {k}, dilation {d}, fits {n} elements")
    found = []
    for i in range(out):
        taps = [i * s - low + j * d for j in range(k)]
        inside = [t for t in taps if 0 <= t < n]
        padded = [t for t in taps if -low <= t < n + high and t not in inside]
        found.append((inside, len(padded)))
    return found


def canonical_axes(ndim, window_shape, axes=None):
    """The pooled axes as non-negative ints, in the order of `window_shape`."""
    if axes is None:  # the axes right before the channels
        axes = range(-1 - len(window_shape), -1)
    return tuple(a % ndim for a in axes)


def _windows_per_axis(
    x_shape,
    window_shape,
    *,
    strides=None,
    padding="VALID",
    dilation=1,
    ceil_mode=False,
    axes=None,
):
    def per_axis(option):
        if isinstance(option, (int, str)):
            return [option] * len(window_shape)
        return list(option)

    return [
        axis_windows(x_shape[a], k, s, p, d, ceil_mode)
        for a, k, s, p, d in zip(
            canonical_axes(len(x_shape), window_shape, axes),
            window_shape,
            per_axis(window_shape if strides is None else strides),
            per_axis(padding),
            per_axis(dilation),
            strict=True,
        )
    ]


def windows(x_shape, window_shape, **geometry):
    """All windows, in row-major order, with positions in the order of `axes`.

    `geometry`: strides, padding, dilation, ceil_mode and axes, as in the pools.
    """
    per_axis = _windows_per_axis(x_shape, window_shape, **geometry)
    for out in np.ndindex(*map(len, per_axis)):
        chosen = [w[i] for w, i in zip(per_axis, out, strict=True)]
        taps = list(itertools.product(*(inside for inside, _ in chosen)))
        in_padded = math.prod(len(inside) + padded for inside, padded in chosen)
        yield Window(out, taps, in_padded - len(taps))


def output_shape(x_shape, window_shape, **geometry):
    """The shape of the pooled array."""
    shape = list(x_shape)
    axes = canonical_axes(len(x_shape), window_shape, geometry.get("axes"))
    per_axis = _windows_per_axis(x_shape, window_shape, **geometry)
    for a, found in zip(axes, per_axis, strict=True):
        shape[a] = len(found)
    return tuple(shape)


# --- The two loops --------------------------------------------------------------------


def _wide(x):
    """x in the precision that the oracles compute in."""
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def _flat_positions(shape, axes):
    """Flat index of every element, as (the other axes, the pooled axes)."""
    flat = np.arange(math.prod(shape)).reshape(shape)
    return np.moveaxis(flat, axes, range(-len(axes), 0)).reshape(
        -1, math.prod(shape[a] for a in axes)
    )


def _elements(x_shape, window_shape, *, where=None, axes=None, **geometry):
    """For each output element: its flat index, its valid taps' flat indices, window."""
    axes = canonical_axes(len(x_shape), window_shape, axes)
    y_shape = output_shape(x_shape, window_shape, axes=axes, **geometry)
    sources = _flat_positions(x_shape, axes)
    targets = _flat_positions(y_shape, axes)
    valid = np.broadcast_to(True if where is None else where, x_shape).ravel()
    space = [x_shape[a] for a in axes]
    for i, w in enumerate(windows(x_shape, window_shape, axes=axes, **geometry)):
        places = [int(np.ravel_multi_index(tap, space)) for tap in w.taps]
        for source, target in zip(sources, targets[:, i], strict=True):
            taps = source[places]
            yield target, taps[valid[taps]], w


def _pool(x, window_shape, value, *, fill, **options):
    """value(v, window) of every window, `fill` where v has no element."""
    geometry = {k: o for k, o in options.items() if k != "where"}
    y = np.full(output_shape(x.shape, window_shape, **geometry), fill, x.dtype)
    for target, taps, w in _elements(x.shape, window_shape, **options):
        if len(taps):
            with np.errstate(all="ignore"):  # infinities and NaN are legal input
                y.flat[target] = value(x.flat[taps], w)
    return y


def _float_pool(x, window_shape, value, *, empty=0.0, **options):
    """A float pool: 0 for a window wholly in padding, `empty` for an emptied one."""
    fill = 0.0 if options.get("where") is None else empty
    return _pool(_wide(x), window_shape, value, fill=fill, **options)


def _vjp(x, g, window_shape, slopes, **options):
    """Add up g * slopes(v, window), the derivatives of each window's value by v."""
    x, g = _wide(x), _wide(g)
    dx = np.zeros(x.shape, x.dtype)
    for target, taps, w in _elements(x.shape, window_shape, **options):
        if len(taps):
            with np.errstate(all="ignore"):
                slope = np.asarray(slopes(x.flat[taps], w))
                # A zero slope stays zero, whatever the cotangent.
                dx.flat[taps] += np.where(slope == 0, 0, slope * g.flat[target])
    return dx


# --- Order: max, min, median ----------------------------------------------------------
# np.argmax and np.argmin take the first of equals, and the first NaN before anything.


def _one_hot(v, i):
    return np.arange(len(v)) == i


def _identity(dtype, of):
    """The value that loses every comparison: -inf for max, or the dtype's limit."""
    if dtype.kind == "b":
        return of == "min"
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if of == "max" else np.iinfo(dtype).max
    return -np.inf if of == "max" else np.inf


def _extreme_pool(x, window_shape, of, empty, return_indices, **options) -> Any:
    pick = {"max": np.argmax, "min": np.argmin}[of]
    x = np.asarray(x)
    x = x if x.dtype.kind in "biu" else _wide(x)
    fill = _identity(x.dtype, of) if options.get("where") is None else empty
    y = _pool(x, window_shape, lambda v, w: v[pick(v)], fill=fill, **options)
    if not return_indices:
        return y
    # Where each element is among the pooled axes, in the order of `axes`.
    axes = canonical_axes(x.ndim, window_shape, options.get("axes"))
    grid = tuple(np.indices(x.shape)[list(axes)])
    place = np.ravel_multi_index(grid, [x.shape[a] for a in axes])
    indices = np.full(y.shape, -1, np.int32)
    for target, taps, _ in _elements(x.shape, window_shape, **options):
        if len(taps):
            indices.flat[target] = place.flat[taps[pick(x.flat[taps])]]
    return y, indices


def max_pool(x, window_shape, *, empty=0.0, return_indices=False, **options):
    """y = max v; the dtype's lowest number for a window wholly in padding."""
    return _extreme_pool(x, window_shape, "max", empty, return_indices, **options)


def min_pool(x, window_shape, *, empty=0.0, return_indices=False, **options):
    """y = min v; the dtype's highest number for a window wholly in padding."""
    return _extreme_pool(x, window_shape, "min", empty, return_indices, **options)


def max_pool_vjp(x, g, window_shape, **options):
    """All of g to the first maximum: the first NaN, the first tap if all are -inf."""
    return _vjp(x, g, window_shape, lambda v, w: _one_hot(v, np.argmax(v)), **options)


def min_pool_vjp(x, g, window_shape, **options):
    """All of g to the first minimum: the first NaN, the first tap if all are inf."""
    return _vjp(x, g, window_shape, lambda v, w: _one_hot(v, np.argmin(v)), **options)


def _median_taps(v, even):
    """The one or two elements that the median is the mean of."""
    if np.isnan(v).any():
        return [int(np.argmax(np.isnan(v)))]
    order = np.argsort(v, kind="stable")
    lower, upper = order[(len(v) - 1) // 2], order[len(v) // 2]
    return {"lower": [lower], "upper": [upper], "mean": [lower, upper]}[even]


def median_pool(x, window_shape, *, even="lower", **options):
    """Median of v; NaN if v has one; keeps integers unless even="mean"."""
    x = np.asarray(x)
    if x.dtype.kind not in "biu" or even == "mean":
        return _float_pool(
            x, window_shape, lambda v, w: v[_median_taps(v, even)].mean(), **options
        )
    empty = options.pop("empty", 0)
    fill = 0 if options.get("where") is None else empty
    return _pool(
        x, window_shape, lambda v, w: v[_median_taps(v, even)[0]], fill=fill, **options
    )


def median_pool_vjp(x, g, window_shape, *, even="lower", **options):
    """g to the median element, halves to the two middle ones for even="mean"."""

    def slopes(v, w):
        taps = _median_taps(v, even)
        return sum(_one_hot(v, t) / len(taps) for t in taps)

    return _vjp(x, g, window_shape, slopes, **options)


# --- Sums and means -------------------------------------------------------------------


def sum_pool(x, window_shape, *, empty=0.0, **options):
    """y = sum of v; integers keep their dtype, bool is counted in int32."""
    x = np.asarray(x)
    if x.dtype.kind not in "biu":
        return _float_pool(
            x, window_shape, lambda v, w: v.sum(), empty=empty, **options
        )
    x = x.astype(np.int32) if x.dtype.kind == "b" else x
    fill = 0 if options.get("where") is None else empty
    return _pool(
        x, window_shape, lambda v, w: v.sum(dtype=x.dtype), fill=fill, **options
    )


def sum_pool_vjp(x, g, window_shape, **options):
    """g to every element."""
    return _vjp(x, g, window_shape, lambda v, w: np.ones(len(v)), **options)


def _divisor(v, w, count_include_pad, divisor_override):
    if divisor_override is not None:
        return divisor_override
    return len(v) + w.padding if count_include_pad else len(v)


def avg_pool(
    x, window_shape, *, count_include_pad=True, divisor_override=None, **options
):
    """y = sum of v / D, where D counts valid elements and, if asked, padding."""
    return _float_pool(
        x,
        window_shape,
        lambda v, w: v.sum() / _divisor(v, w, count_include_pad, divisor_override),
        **options,
    )


def avg_pool_vjp(
    x, g, window_shape, *, count_include_pad=True, divisor_override=None, **options
):
    """g / D to every element."""

    def slopes(v, w):
        return np.ones(len(v)) / _divisor(v, w, count_include_pad, divisor_override)

    return _vjp(x, g, window_shape, slopes, **options)


def _lp(v, p):
    """(sum |v|^p)^(1/p), scaled by the largest |v| so that no power overflows."""
    m = np.abs(v).max()
    if p == np.inf or m == 0 or not np.isfinite(m):
        return m
    return m * (np.abs(v / m) ** p).sum() ** (1 / p)


def lp_pool(x, window_shape, *, p=2.0, mean=False, **options):
    """y = (sum |v|^p)^(1/p), or with the mean; the largest |v| for p = inf."""

    def value(v, w):
        return _lp(v, p) * (len(v) ** (-1 / p) if mean else 1)

    return _float_pool(x, window_shape, value, **options)


def lp_pool_vjp(x, g, window_shape, *, p=2.0, mean=False, **options):
    """g sign(v) (|v|/y)^(p-1), 0 where y = 0; to the first largest |v| for p = inf."""

    def slopes(v, w):
        if p == np.inf:
            return np.sign(v) * _one_hot(v, np.argmax(np.abs(v)))
        y = _lp(v, p)
        slope = np.sign(v) * np.abs(v / y) ** (p - 1) if y else np.zeros(len(v))
        return slope * (len(v) ** (-1 / p) if mean else 1)

    return _vjp(x, g, window_shape, slopes, **options)


def gem_pool(x, window_shape, *, p=3.0, eps=1e-6, **options):
    """y = (mean of max(v, eps)^p)^(1/p)."""

    def value(v, w):
        return (np.maximum(v, eps) ** p).mean() ** (1 / p)

    return _float_pool(x, window_shape, value, **options)


def gem_pool_vjp(x, g, window_shape, *, p=3.0, eps=1e-6, **options):
    """g (v/y)^(p-1) / n, 0 where v < eps."""

    def slopes(v, w):
        y = (np.maximum(v, eps) ** p).mean() ** (1 / p)
        return (v >= eps) * (np.maximum(v, eps) / y) ** (p - 1) / len(v)

    return _vjp(x, g, window_shape, slopes, **options)


# --- Softmax weighting ----------------------------------------------------------------


def _soft_weights(v, temperature):
    """softmax(v / temperature); in the limit, all of it on the first infinity."""
    z = v / temperature
    if np.isinf(z.max()):
        return _one_hot(v, np.argmax(z)).astype(np.float64)
    weights = np.exp(z - z.max())
    return weights / weights.sum()


def _soft(v, weights):
    """sum of weights * v, where a weight of 0 wins over an infinite element."""
    return np.where(weights == 0, 0, v * weights).sum()


def soft_pool(x, window_shape, *, temperature=1.0, **options):
    """y = sum v exp(v/T) / sum exp(v/T)."""
    return _float_pool(
        x, window_shape, lambda v, w: _soft(v, _soft_weights(v, temperature)), **options
    )


def soft_pool_vjp(x, g, window_shape, *, temperature=1.0, **options):
    """g w (1 + (v - y) / T), the exact derivative."""

    def slopes(v, w):
        weights = _soft_weights(v, temperature)
        y = _soft(v, weights)
        # 0 * inf is 0 here as well: an element without weight has no slope.
        v = np.where(weights == 0, 0, v)
        return weights * (1 + (v - y) / temperature) if np.isfinite(y) else weights

    return _vjp(x, g, window_shape, slopes, **options)


def lse_pool(x, window_shape, *, temperature=1.0, **options):
    """y = T log(mean of exp(v/T))."""

    def value(v, w):
        m = v.max()
        return m + temperature * np.log(np.exp((v - m) / temperature).mean())

    return _float_pool(x, window_shape, value, **options)


def lse_pool_vjp(x, g, window_shape, *, temperature=1.0, **options):
    """g softmax(v/T)."""
    return _vjp(
        x, g, window_shape, lambda v, w: _soft_weights(v, temperature), **options
    )
