"""Pools that weigh elements by their rank in the window: ordinal pooling, top-k means.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `n` their number, `x_(1) >= ... >= x_(n)` the elements
in descending order, `K` the window's number of taps, `x` an input
`(*batch, *space, channels)`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine, _selection
from ._check import as_int, broadcasts, check_array, check_float, check_where
from ._order import _ascending
from ._window import Padding, PerAxis, Window, make_window


def rank_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    weights: ArrayLike,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Adds up every window's elements, weighted by their rank (ordinal pooling).

    `y[o] = sum_{j=1}^{K} w[j] x_(j)`, the first weight for the largest element. Weights
    `(1, 0, ..., 0)` give the maximum, `(0, ..., 0, 1)` the minimum, a one in the middle
    the median, `1 / K` the average. The derivatives are `dx[i] = g w[rank of i]` and
    `dw[j] = sum g x_(j)`; of equal elements the first in row-major order ranks first.

    In a window with only `n < K` elements the weights are stretched over these: with
    `w` as a density on `[0, 1]`, constant on each of its `K` bins, rank `j` of `n` has
    the weight of the interval `[(j - 1) / n, j / n]`. The sum of the weights stays the
    same, and the four cases above stay what they are. The authors pad with zeros
    instead, which then are ranked: pad x with `jnp.pad` for their numbers.

    The weights are used as they are. The authors keep them on the simplex: negative
    ones are set to 0, then all are divided by their sum.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      weights: `(taps,)`, or `(taps, channels)` for weights per channel, in descending
        order of the elements; may be learned. With `axes`, the part after `taps`
        broadcasts to x with its pooled axes of size 1.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding has no rank.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.

    Returns:
      The weighted sums, with x's dtype; the default float for integers. A window wholly
      in padding gives 0, one with a NaN gives NaN.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([3.0, 9.0, 1.0, 4.0, 4.0, 0.0])[:, None]
      >>> jaxpool.rank_pool(x, (3,), weights=jnp.array([0.5, 0.5, 0.0]))[:, 0]
      Array([6., 4.], dtype=float32)

    References:
      Deliège, Istasse, Kumar, De Vleeschouwer, Van Droogenbroeck, "Ordinal Pooling",
      2021, https://arxiv.org/abs/2109.01561
    """
    x = check_float("x", x)
    window = make_window(
        x.shape,
        window_shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        axes=axes,
    )
    valid = check_where(where, x.shape)
    wide = _engine.widen(x)
    by_rank = check_weights("weights", weights, wide, window, (window.taps,))
    with jax.named_scope("jaxpool.rank_pool"):
        wide, elements, count = _elements(wide, valid, window)
        y = _rank_sum(wide, elements, _stretched(by_rank, count, window), window)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def topk_avg_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    k: int,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Averages the k largest elements of every window.

    `y[o] = (x_(1) + ... + x_(m)) / m` with `m = min(k, n)`: a window with fewer than
    `k` elements averages those that it has. `k = 1` gives the maximum, `k = K` the
    average without padding. The derivative is `1 / m` for each element that is taken;
    of equal elements the first in row-major order are taken first.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      k: how many elements to average, from 1 to the window's number of taps.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding is never taken.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.

    Returns:
      The averages, with x's dtype; the default float for integers. A window wholly in
      padding gives 0, one with a NaN gives NaN.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([3.0, 9.0, 1.0, 4.0, 4.0, 0.0])[:, None]
      >>> jaxpool.topk_avg_pool(x, (3,), k=2)[:, 0]
      Array([6., 4.], dtype=float32)

    References:
      Shi, Ye, Wu, "Rank-based pooling for deep convolutional neural networks", 2016,
      https://doi.org/10.1016/j.neunet.2016.07.003 (average of the top ranks).
    """
    x = check_float("x", x)
    window = make_window(
        x.shape,
        window_shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        axes=axes,
    )
    valid = check_where(where, x.shape)
    k = as_int("k", k)
    if not 1 <= k <= window.taps:
        raise ValueError(
            f"`k` must be from 1 to the number of the window's elements, "
            f"{window.taps} for `window_shape` {tuple(window_shape)}, got {k}"
        )
    with jax.named_scope("jaxpool.topk_avg_pool"):
        wide = _engine.widen(x)
        wide, elements, count = _elements(wide, valid, window)
        weights = _top(k, count, wide)
        y = _rank_sum(wide, elements, weights, window)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


# --- Weights --------------------------------------------------------------------------


def check_weights(
    name: str, value: Any, x: jax.Array, window: Window, head: tuple[int, ...] = ()
) -> jax.Array:
    """Weights of shape `head`, or one such per channel of x, in x's dtype.

    After `head`, the result broadcasts to x's output.
    """
    value = check_array(name, value)
    rest = value.shape[len(head) :]
    shape = window.resized(x.shape, [1] * len(window.axes))
    if value.shape[: len(head)] != head or not broadcasts(rest, shape):
        raise ValueError(
            f"`{name}` must have shape {head}, or {(*head, x.shape[-1])} for one per "
            f"channel of x with shape {x.shape}, got shape {value.shape}"
        )
    return value.astype(x.dtype).reshape((*head, *(1,) * (x.ndim - len(rest)), *rest))


def times(weight: jax.Array, value: jax.Array) -> jax.Array:
    """`weight * value`, and 0 for a weight of 0 whatever infinity it weighs."""
    nothing = (weight == 0) & jnp.isinf(value)
    return weight * jnp.where(nothing, np.zeros((), value.dtype), value)


def _stretched(weights, count, window):
    """The weight of every rank where a window has `count` elements, all if None."""
    if count is None:
        return weights
    known = isinstance(count, np.ndarray)
    sizes = np.unique(np.maximum(count, 1)) if known else np.arange(window.taps) + 1
    # Rank j of n covers the bins from edges[j] to edges[j + 1].
    edges = np.arange(window.taps + 1) * window.taps / sizes[:, None]
    below = np.clip(edges[..., None] - np.arange(window.taps), 0, 1)
    share = np.diff(below, axis=1).astype(weights.dtype)
    table = jnp.tensordot(share, weights, 1, precision=lax.Precision.HIGHEST)
    found = table[0]
    for size, by_rank in zip(sizes[1:].tolist(), table[1:], strict=True):
        found = jnp.where(count[None] == size, by_rank, found)
    return found


def _top(k, count, x):
    """The weights of the k first ranks: one over their number."""
    ranks = np.arange(k).reshape(-1, *(1,) * x.ndim)
    if count is None:
        return np.full(ranks.shape, 1 / k, x.dtype)
    taken = jnp.clip(count, 1, k)[None]
    return jnp.where(
        ranks < taken,
        np.ones((), x.dtype) / taken.astype(x.dtype),
        np.zeros((), x.dtype),
    )


# --- Elements by rank -----------------------------------------------------------------


def _elements(x, valid, window):
    """x without what is masked, which elements take part, and how many in a window.

    The number is static if it can be; both are None where every element takes part.
    """
    if valid is not None:
        valid = _engine.spread_mask(valid, window)
        return _engine.without(x, valid), valid, _engine.window_count(valid, window)
    if window.padded:
        return x, jnp.ones_like(x, bool), window.counts(x.ndim, False)
    return x, None, None


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _rank_sum(x, valid, weights, window):
    """`sum_j weights[j] x_(j)` of every window, for as many ranks as there are weights.

    Ranks beyond the number of a window's elements must have weight 0.
    """
    tapped, _ = _tapped(x, valid, window)
    ranked = reversed(_ascending(tapped))
    terms = (times(w, v) for w, v in zip(weights, ranked, strict=False))
    return functools.reduce(jnp.add, terms)


@functools.partial(_rank_sum.defjvp, symbolic_zeros=True)
def _rank_sum_jvp(window, primals, tangents):
    x, valid, weights = primals
    y = _rank_sum(x, valid, weights, window)
    # Only x is kept for the backward, not the rank of every tap.
    checkpoint = functools.partial(jax.checkpoint, prevent_cse=False)
    tangent = jnp.zeros_like(y)
    if not _engine.is_zero(tangents[0]):
        by_x = checkpoint(functools.partial(_tangent_by_x, window))
        tangent += by_x(x, valid, weights, tangents[0])
    if not _engine.is_zero(tangents[2]):
        by_weights = checkpoint(functools.partial(_tangent_by_weights, window))
        tangent += by_weights(x, valid, tangents[2])
    return y, tangent


def _tangent_by_x(window, x, valid, weights, dx):
    """Every tap of dx with the weight of its rank, all taps at once."""
    ranks, zero = _ranks(x, valid, window), np.zeros((), x.dtype)
    weighted = (
        jnp.where(ranks == np.asarray(j, ranks.dtype), weight[None], zero)
        for j, weight in enumerate(weights)
    )
    return _weigh(functools.reduce(jnp.add, weighted), dx, window)


def _tangent_by_weights(window, x, valid, dweights):
    """The same of x, with a loop over the ranks.

    Its transpose has a sum per rank, each of which takes long to compile: 5x5 takes 7
    times as long without the loop.
    """
    ranks, zero = _ranks(x, valid, window), np.zeros((), x.dtype)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def step(found, rank):
        number, weight = rank
        return found + jnp.where(ranks == number, weight[None], zero), None

    numbers = np.arange(len(dweights), dtype=ranks.dtype)
    start = jnp.zeros_like(ranks, x.dtype)
    return _weigh(lax.scan(step, start, (numbers, dweights))[0], x, window)


def _weigh(weights, x, window):
    pairs = zip(_engine.keep(weights), _taps_of(x, window), strict=True)
    return functools.reduce(jnp.add, (weight * tap for weight, tap in pairs))


def _taps_of(x, window):
    return list(_engine.taps(x, window, 0))


def _tapped(x, valid, window):
    """The taps of x, `-inf` for what takes no part, and whether each takes part."""
    lowest = np.asarray(-np.inf, x.dtype)
    tapped = list(_engine.taps(x, window, lowest))
    if valid is None:
        return tapped, None
    valids = list(_engine.taps(valid, window, False))
    pairs = zip(tapped, valids, strict=True)
    return [jnp.where(v, t, lowest) for t, v in pairs], valids


def _ranks(x, valid, window):
    """The rank of every tap, from 0 for the largest, on a new leading axis.

    The first of equals comes first. What takes no part has a rank beyond all, so that
    no derivative goes there. Each tap is compared with all at once: with an expression
    for each pair, 5x5 takes some 5 times as long to compile.
    """
    tapped, valids = _tapped(lax.stop_gradient(x), valid, window)
    x, dtype = _engine.keep(jnp.stack(tapped)), _selection.code_dtype(2 * len(tapped))
    numbers = np.arange(len(tapped)).reshape(-1, *(1,) * (x.ndim - 1))
    ranks = jnp.zeros(x.shape, dtype)
    if valids is not None:
        ranks += (~jnp.stack(valids)).astype(dtype) * np.asarray(len(tapped), dtype)
    for number in range(len(tapped)):
        one = x[number : number + 1]
        ahead = (one > x) | ((one == x) & (number < numbers))
        if valids is not None:
            ahead &= valids[number][None]
        ranks += ahead.astype(dtype)
    return _engine.keep(ranks)
