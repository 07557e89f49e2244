"""Weighted means of every window by similarity to its mean: the AdaPool family.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `n` the number of them, `m = mean(x)` over `W(o)`, `x`
an input `(*batch, *space, channels)`.
"""

import functools
import numbers
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine, _selection
from ._check import check_choice, check_float, check_parameter, check_where
from ._softmax import softmax_average
from ._tap_sum import tap_sum
from ._weighted import soft_pool
from ._window import Padding, PerAxis, make_window

Gradient = Literal["exact", "paper"]


def edscw_pool(
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
    gradient: Gradient = "exact",
) -> jax.Array:
    """Averages every window with weights by the Dice-Sorensen similarity to its mean.

    `y[o] = sum_{i in W(o)} w[i] x[i]`, `w = softmax(s)` over `W(o)`, with
    `s[i] = 2 |x[i] m| / (x[i]^2 + m^2)` in [0, 1], and 0 for 0 / 0: an element of the
    mean's size has at most e times the weight of another. The authors' code gives NaN,
    and then 0, for a window with a zero element and mean 0.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding has weight 0 and is not in the mean.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      gradient: the `"exact"` derivative, 0 for `|x|` and `|m|` at 0; or that of the
        `"paper"`'s code, `w[i]`, which takes the weights as constants.

    Returns:
      The weighted means, with x's dtype; the default float for integers. A window
      wholly in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, -1.0, 0.0, 1.0, 5.0])[:, None]
      >>> y = jaxpool.edscw_pool(x, (2,))
      >>> [round(v, 3) for v in y[:, 0].tolist()]
      [2.061, -0.69, 3.28]

    References:
      Stergiou, Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
      Downsampling", 2023, https://arxiv.org/abs/2111.00772, where the similarity is one
      of vectors over the channels; as here, of each element, in their code.
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
    check_choice("gradient", gradient, ("exact", "paper"))
    with jax.named_scope("jaxpool.edscw_pool"):
        wide = _engine.widen(x)
        fixed = _weighing(wide, gradient)
        y = similar_mean(wide, fixed, window, valid).astype(x.dtype)
        return _engine.fill_empty(y, window, valid, empty)


def idw_pool(
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
    eps: float = 1e-6,
    gradient: Gradient = "exact",
) -> jax.Array:
    """Averages every window with weights by the inverse distance to its mean.

    `y[o] = sum_{i in W(o)} w[i] x[i] / sum_{i in W(o)} w[i]` with
    `w[i] = 1 / (|x[i] - m| + e)`, `e = eps max(1, max |x|)` over `W(o)`. A constant
    window gives the constant; the authors' code, without `e`, divides by 0 there.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding has weight 0 and is not in the mean.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      eps: a positive number, the distance below which elements weigh the same, relative
        to the largest magnitude of the window or to 1. Large, it gives the average.
      gradient: the `"exact"` derivative, 0 for a distance at 0; or that of the
        `"paper"`'s code, `w[i] / sum w`, which takes the weights as constants.

    Returns:
      The weighted means, with x's dtype; the default float for integers. A window
      wholly in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 1.0, 5.0, 7.0, 7.0, 7.0])[:, None]
      >>> y = jaxpool.idw_pool(x, (3,))
      >>> [round(v, 3) for v in y[:, 0].tolist()]
      [1.455, 7.0]

    References:
      Stergiou, Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
      Downsampling", 2023, https://arxiv.org/abs/2111.00772
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
    check_choice("gradient", gradient, ("exact", "paper"))
    if isinstance(eps, bool) or not isinstance(eps, numbers.Real):
        raise TypeError(f"`eps` must be a number, got {eps!r}")
    if not 0 < eps < np.inf:
        raise ValueError(f"`eps` must be positive, got {eps!r}")
    with jax.named_scope("jaxpool.idw_pool"):
        wide = _engine.widen(x)
        fixed = _weighing(wide, gradient)
        y = _near_mean(wide, fixed, window, valid, eps).astype(x.dtype)
        return _engine.fill_empty(y, window, valid, empty)


def ada_pool(
    x: ArrayLike,
    beta: float | ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    gradient: Gradient = "exact",
) -> jax.Array:
    """Mixes the similarity-weighted and the softmax-weighted average of every window.

    `y = beta edscw_pool(x) + (1 - beta) soft_pool(x)`.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      beta: in [0, 1], a number, or an array that may be learned, broadcastable to the
        output: one per channel `(channels,)`, or one per position `(*output, 1)`, which
        is the paper's.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding has weight 0 and is not in the mean.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      gradient: the `"exact"` derivative, or that of the `"paper"`'s code, which takes
        the weights of both averages as constants. The one by beta is exact.

    Returns:
      The weighted means, with x's dtype; the default float for integers. A window
      wholly in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, -1.0, 0.0, 1.0, 5.0])[:, None]
      >>> y = jaxpool.ada_pool(x, 0.5, (2,))
      >>> [round(v, 3) for v in y[:, 0].tolist()]
      [2.412, -0.479, 4.104]

    References:
      Stergiou, Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
      Downsampling", 2023, https://arxiv.org/abs/2111.00772
    """
    x = check_float("x", x)
    options = {
        "strides": strides,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
        "axes": axes,
    }
    window = make_window(x.shape, window_shape, **options)
    valid = check_where(where, x.shape)
    check_choice("gradient", gradient, ("exact", "paper"))
    wide = _engine.widen(x)
    beta = check_beta(beta, window.resized(x.shape, window.output), wide.dtype)
    with jax.named_scope("jaxpool.ada_pool"):
        fixed = _weighing(wide, gradient)
        similar = similar_mean(wide, fixed, window, valid)
        if gradient == "exact":
            soft = soft_pool(wide, window_shape, where=where, **options)
        else:
            soft = softmax_average(wide, fixed, window, valid)
        y = mix(beta, similar, soft).astype(x.dtype)
        return _engine.fill_empty(y, window, valid, empty)


# `x` is averaged with weights that are made of `fixed`: the same array, or one that
# counts as constant. In padding and under a mask both are 0.


def _weighing(x, gradient):
    return x if gradient == "exact" else lax.stop_gradient(x)


def mix(beta, similar, soft):
    return beta * similar + (np.ones((), beta.dtype) - beta) * soft


def similar_mean(x, fixed, window, valid):
    """`sum exp(s) x / sum exp(s)`.

    As `sum x + sum (exp(s) - 1) x`: an element of 0 adds nothing, and what adds up is
    of the size of the mean, so that the derivative of s, of that of 1 / mean, does not
    magnify a rounding error.
    """
    x, fixed = _engine.without(x, valid), _engine.without(fixed, valid)
    count = _engine.element_count(x, window, valid)
    m = _engine.reduce(fixed, window, lax.add) / count
    z = count + tap_sum(_excess, window, (0,), (fixed,), (m,))
    # Another m: sharing the exponentials would store them for every tap.
    n = tap_sum(_excess, window, (0, 0), (fixed, x), (_engine.keep(m),))
    return (_engine.reduce(x, window, lax.add) + n) / z


def _excess(fixed, *rest):
    """`exp(s) - 1`, times the given value, if any."""
    *values, m = rest
    excess = jnp.expm1(_similarity(fixed, m))
    return excess * values[0] if values else excess


def _similarity(x, m):
    """`2 |x m| / (x^2 + m^2)`, at any scale: with `r` the smaller by the larger."""
    x, m = x * jnp.sign(x), m * jnp.sign(m)  # |x| with derivative 0 at 0
    inner = x <= m
    small, large = jnp.where(inner, x, m), jnp.where(inner, m, x)
    one = np.ones((), x.dtype)
    r = _ratio(small, jnp.where(large > 0, large, one))
    return (r + r) / (one + r * r)


@jax.custom_jvp
def _ratio(a, b):
    """`a / b`, whose derivative has no square of b, which could underflow."""
    return a / b


@_ratio.defjvp
def _ratio_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    r = _ratio(a, b)
    return r, (da - r * db) / b


def _near_mean(x, fixed, window, valid, eps):
    """`m + sum w (x - m) / sum w`, with `w = e / (|x - m| + e)`."""
    elements = _engine.everything(x.ndim, window)
    if valid is not None:
        elements = _engine.spread_mask(valid, window)
    x, fixed = _engine.without(x, valid), _engine.without(fixed, valid)
    m = _engine.reduce(fixed, window, lax.add) / _engine.element_count(x, window, valid)
    magnitude = fixed * jnp.sign(fixed)
    largest = _selection.select(magnitude, None, window, lax.max)
    one, eps = np.ones((), x.dtype), np.asarray(max(eps, 1e-30), x.dtype)
    scale = _ratio(one, jnp.where(largest > one, largest, one) * eps)
    sums = functools.partial(tap_sum, window=window)
    z = sums(_near, fills=(0, False), inputs=(fixed, elements), outputs=(m, scale))
    # Another m: sharing the weights would store them for every tap.
    inputs, outputs = (fixed, elements, x), (_engine.keep(m), scale)
    n = sums(_near_times, fills=(0, False, 0), inputs=inputs, outputs=outputs)
    return m + _ratio(n, jnp.where(z > 0, z, one))


def _near(fixed, elements, m, scale):
    """`1 / (1 + scale |x - m|)`, 0 for what is no element."""
    d, one = fixed - m, np.ones((), fixed.dtype)
    weight = _ratio(one, one + scale * (d * jnp.sign(d)))
    return jnp.where(elements, weight, np.zeros((), fixed.dtype))


def _near_times(fixed, elements, x, m, scale):
    return _near(fixed, elements, m, scale) * (x - m)


def check_beta(beta, shape, dtype):
    """Mixing factors with as many axes as the output of `shape`."""
    return check_parameter(
        "beta", beta, shape, dtype, "lie in [0, 1]", lambda b: (b >= 0) & (b <= 1)
    )
