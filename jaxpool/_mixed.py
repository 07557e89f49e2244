"""Mixtures of pools: mixed, gated and tree pooling.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `max` and `avg` their largest and their average, `K`
the window's number of taps, `sigma` the logistic function, `x` an input
`(*batch, *space, channels)`.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _blocks as blocks
from . import _engine, _selection
from ._check import check_array, check_choice, check_float, check_key, check_where
from ._rank import check_weights, times
from ._window import Padding, PerAxis, make_window


def mixed_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    alpha: float | ArrayLike = 0.5,
) -> jax.Array:
    """Mixes the maximum and the average of every window.

    `y[o] = alpha max + (1 - alpha) avg`, the average over elements only (padding is not
    counted). `alpha` may be learned, with `d alpha = sum g (max - avg)`. As in the
    paper it is not squashed: outside of [0, 1] the mixture is no longer between its
    parts.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      alpha: the part of the maximum: a number, or an array that may be learned, a
        scalar or one per channel.

    Returns:
      The mixtures, with x's dtype; the default float for integers. A window wholly in
      padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 0.0, 2.0])[:, None]
      >>> jaxpool.mixed_pool(x, (2,), alpha=0.5)[:, 0]
      Array([2.5, 1.5], dtype=float32)

    References:
      Lee, Gallagher, Tu, "Generalizing Pooling Functions in Convolutional Neural
      Networks: Mixed, Gated, and Tree", 2016, https://arxiv.org/abs/1509.08985
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
    part = check_weights("alpha", alpha, wide, window)
    with jax.named_scope("jaxpool.mixed_pool"):
        y = _mix(part, *_max_and_mean(wide, window, valid))
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def random_mixed_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    key: jax.Array | None = None,
    per: Literal["layer", "channel", "region"] = "channel",
    alpha: float | ArrayLike = 0.5,
) -> jax.Array:
    """Takes the maximum or the average of every window, at random.

    With a key: `y[o] = lambda max + (1 - lambda) avg`, `lambda` drawn from {0, 1} with
    probability `alpha` of 1. Without: the expectation, `alpha max + (1 - alpha) avg`.
    The average is over elements only. The derivative is that of what was taken.

    The paper draws with probability 1/2, and at test time takes, for each layer or
    channel, what was taken more often in training: it needs counters, which a function
    does not have, and the layer `RandomMixedPool(inference="frequency")` does.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      key: a key of `jax.random`, or None for inference.
      per: what has a draw of its own: the `"layer"` (one for all), each `"channel"`
        (the last axis that is not pooled; the same for the whole batch), or each
        `"region"`, which is every output.
      alpha: the probability of the maximum: a number or an array, a scalar or one per
        channel. It has a derivative without a key only.

    Returns:
      The maxima and averages, with x's dtype; the default float for integers. A window
      wholly in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 2.0, 2.0])[:, None]
      >>> jaxpool.random_mixed_pool(x, (2,))[:, 0]
      Array([2.5, 2. ], dtype=float32)
      >>> jaxpool.random_mixed_pool(x, (2,), key=jax.random.key(0))[1, 0]
      Array(2., dtype=float32)

    References:
      Yu, Wang, Chen, Wei, "Mixed Pooling for Convolutional Neural Networks", 2014,
      https://doi.org/10.1007/978-3-319-11740-9_34
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
    key = check_key(key)
    check_choice("per", per, ("layer", "channel", "region"))
    wide = _engine.widen(x)
    part = check_weights("alpha", alpha, wide, window)
    with jax.named_scope("jaxpool.random_mixed_pool"):
        largest, mean = _max_and_mean(wide, window, valid)
        if key is None:
            y = _mix(part, largest, mean)
        else:
            drawn = _draw(key, per, part, mean.shape, window)
            # With the sharding of what it selects, which an explicit mesh asks for.
            drawn = jnp.zeros_like(mean, jnp.bool_) | drawn
            y = jnp.where(drawn, largest, mean)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def gated_pool(
    x: ArrayLike,
    gate: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Mixes the maximum and the average of every window by a gate that looks at it.

    `y[o] = s max + (1 - s) avg` with `s = sigma(sum_t gate[t] x[t])` over the taps of
    `W(o)`; the average is over elements only. A gate of zeros gives the middle of both.
    Of several equal maxima the first one gets the derivative; the authors' code gives
    it to each, in full.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      gate: `(taps,)`, one mask for all channels, or `(taps, channels)`, with the taps
        of the window in row-major order (the axes as they lie in x); may be learned.
        With `axes`, the part after `taps` broadcasts to x with its pooled axes of size
        1.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding is 0 in the gate. The authors' code has
        none.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule); the authors'
        code, Caffe's, keeps it.
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.

    Returns:
      The mixtures, with x's dtype; the default float for integers. A window wholly in
      padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 0.0, 2.0])[:, None]
      >>> jaxpool.gated_pool(x, jnp.array([-2.0, 1.0]), (2,))[:, 0].round(2)
      Array([2.73, 1.88], dtype=float32)

    References:
      Lee, Gallagher, Tu, "Generalizing Pooling Functions in Convolutional Neural
      Networks: Mixed, Gated, and Tree", 2016, https://arxiv.org/abs/1509.08985
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
    mask = check_weights("gate", gate, wide, window, (window.taps,))
    with jax.named_scope("jaxpool.gated_pool"):
        largest, mean = _max_and_mean(wide, window, valid)
        part = jax.nn.sigmoid(_dot(mask, _engine.without(wide, valid), window))
        y = _mix(part, largest, mean)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def tree_pool(
    x: ArrayLike,
    leaves: ArrayLike,
    gates: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Mixes learned filters of every window in a tree of gates.

    Each leaf `m` is a filter, `f_m = sum_t leaves[m, t] x[t]` over the taps of `W(o)`;
    each gate mixes what is below it, `f = s f_left + (1 - s) f_right` with
    `s = sigma(sum_t gates[m, t] x[t])`; `y[o]` is `f` at the root. Two leaves and one
    gate are the paper's tree of 2 levels, four and three its tree of 3. Nothing is
    normalised: leaves of `1 / K` give the average of full windows whatever the gates.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      leaves: `(L, taps)`, the same for all channels, or `(L, taps, channels)`, with L
        a power of two of at least 2 and the taps in row-major order (the axes as they
        lie in x); may be learned. With `axes`, the part after `taps` broadcasts to x
        with its pooled axes of size 1.
      gates: `(L - 1, taps)` or `(L - 1, taps, channels)`, level by level from the root,
        each from left to right; may be learned.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding is 0 in all filters.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule); the authors'
        code, Caffe's, keeps it.
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.

    Returns:
      The pooled array, with x's dtype; the default float for integers. A window wholly
      in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 0.0, 2.0])[:, None]
      >>> leaves = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> jaxpool.tree_pool(x, leaves, jnp.zeros((1, 2)), (2,))[:, 0]
      Array([2., 1.], dtype=float32)

    References:
      Lee, Gallagher, Tu, "Generalizing Pooling Functions in Convolutional Neural
      Networks: Mixed, Gated, and Tree", 2016, https://arxiv.org/abs/1509.08985
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
    leaves = check_array("leaves", leaves)
    count = leaves.shape[0] if leaves.ndim else 0
    if count < 2 or count & (count - 1):
        raise ValueError(
            "`leaves` must have shape (L, taps) or (L, taps, channels) with L a power "
            f"of two, at least 2, got shape {leaves.shape}"
        )
    wide = _engine.widen(x)
    taps = window.taps
    leaves = check_weights("leaves", leaves, wide, window, (count, taps))
    gates = check_weights("gates", gates, wide, window, (count - 1, taps))
    with jax.named_scope("jaxpool.tree_pool"):
        wide = _engine.without(wide, valid)
        parts = [jax.nn.sigmoid(_dot(gate, wide, window)) for gate in gates]
        level = [_dot(leaf, wide, window) for leaf in leaves]
        while len(level) > 1:
            first = len(level) // 2 - 1  # gates before those of this level
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [_mix(parts[first + i], *pair) for i, pair in enumerate(pairs)]
        (y,) = level
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


# --- Parts ----------------------------------------------------------------------------


def _max_and_mean(x, window, valid):
    """The maximum and the average of the elements, 0 where there are none."""
    largest = x
    if valid is not None:
        valid = _engine.spread_mask(valid, window)
        largest = jnp.where(valid, x, _engine.identity(lax.max, x.dtype))
    largest = _selection.select(largest, valid, window, lax.max)
    total = _engine.reduce(_engine.without(x, valid), window, lax.add)
    mean = total / _engine.element_count(x, window, valid)
    return _engine.fill_empty(largest, window, valid, 0), mean


def _mix(part, first, second):
    one = np.ones((), first.dtype)
    return times(part, first) + times(one - part, second)


def _draw(key, per, alpha, shape, window):
    """True with probability alpha, once per layer, channel or region."""
    size = [1] * len(shape)
    if per == "channel":
        channel = channel_axis(window.axes, len(shape))
        size[channel] = shape[channel]
    elif per == "region":
        size = shape
    return jnp.broadcast_to(takes_maximum(key, tuple(size), alpha), shape)


def takes_maximum(key: jax.Array, shape: tuple[int, ...], alpha: jax.Array):
    """True with probability alpha."""
    return jax.random.uniform(key, shape, alpha.dtype) < alpha


def channel_axis(axes: tuple[int, ...], ndim: int) -> int:
    """The last axis that is not pooled, negative like `axes`."""
    for axis in range(-1, -ndim - 1, -1):
        if axis not in axes:
            return axis
    raise ValueError(
        f"`axes` must leave an axis for the channels, got {axes}, all of x's"
    )


def _dot(weights, x, window):
    """`sum_t weights[t] x[t]` over the taps of every window: linear in both.

    By blocks, so that the transpose for x is fast: the window is cut like x.
    """
    shape = [
        n for i, n in enumerate(weights.shape[1:], -x.ndim) if i not in window.axes
    ]
    kernel = weights.reshape(*window.size, *shape)
    order = [axis for axis in range(-x.ndim, 0) if axis not in window.axes]
    kernel = jnp.moveaxis(kernel, range(kernel.ndim), (*window.axes, *order))
    kernel = blocks.cut_taps(kernel, window)
    cut, zero = blocks.to_blocks(x, window), np.zeros((), x.dtype)

    def part(shift, real):
        at = kernel
        for axis, i, b in zip(window.axes, range(len(shift)), shift, strict=True):
            # An axis of blocks, each followed by one inside of a block.
            at = lax.slice_in_dim(at, b, b + 1, axis=x.ndim + axis + i)
        product = at * cut
        return product if real.all() else jnp.where(real, product, zero)

    shifts = blocks.shifts(window, x.ndim)
    parts = ((shift, part(shift, real)) for shift, _, real in shifts)
    return blocks.window_sums(parts, window, x.ndim)
