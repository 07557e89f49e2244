"""Weighted means of every window that favour what deviates: detail-preserving pooling.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `n` the number of them, `x` an input
`(*batch, *space, channels)`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._check import broadcasts, check_bool, check_float, check_parameter, check_where
from ._tap_sum import tap_sum
from ._window import Padding, PerAxis, make_window

_EPSILON = 1e-3**0.5  # the authors' value of its square is 1e-3


def detail_preserving_pool(
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
    alpha: float | ArrayLike = 1.0,
    lam: float | ArrayLike = 1.0,
    symmetric: bool = True,
    reference: ArrayLike | None = None,
    normalize: bool = True,
) -> jax.Array:
    """Averages every window with larger weights where it differs from a reference.

    `y[o] = sum_{i in W(o)} w[i] x[i] / sum_{i in W(o)} w[i]` with
    `w[i] = alpha + (v[i] / mean(v))^(lam / 2)`, `v[i] = d[i]^2 + 0.001`,
    `d[i] = x[i] - reference[o]`, and the mean over `W(o)`. With `symmetric=False`
    `d[i] = max(0, x[i] - reference[o])`, which favours the large ones. It is the
    average for a large `alpha` or `lam = 0`; as `lam` grows and `alpha` falls to 0 it
    is the element that differs most, or the maximum with `symmetric=False`.

    The division by `mean(v)` is in the authors' code, not in the paper's formula, which
    `normalize=False` gives: `w[i] = alpha + v[i]^(lam / 2)`. Their fused kernel divides
    by the sum instead: `alpha` is there `(number of elements)^(-lam / 2)` of this one.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding has weight 0 and is in no mean.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      alpha: the weight that every element has, at least 0: a number, or an array that
        may be learned, a scalar or one per channel.
      lam: how much details count, at least 0: a number, or an array that may be
        learned, a scalar or one per channel.
      symmetric: whether small elements count as details too.
      reference: what the elements are compared with, broadcastable to the output: a
        linear downscale of x, such as a convolution with the same strides (the full
        form). None takes the average of each window (the lite form).
      normalize: whether deviations are relative to those of the window.

    Returns:
      The weighted means, with x's dtype; the default float for integers. A window
      wholly in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 0.0, 0.0, 4.0])[:, None]
      >>> y = jaxpool.detail_preserving_pool(x, (4,))
      >>> [round(v, 3) for v in y[:, 0].tolist()]
      [1.464]

    References:
      Saeedan, Weber, Goesele, Roth, "Detail-Preserving Pooling in Deep Networks", 2018,
      https://arxiv.org/abs/1804.04076, and their code, visinf/dpp.
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
    channels = window.resized(x.shape, [1] * len(window.axes))
    check = functools.partial(check_parameter, shape=channels, dtype=wide.dtype)
    at_least_0 = {"expected": "be at least 0", "holds": lambda value: value >= 0}
    alpha = check("alpha", alpha, **at_least_0)
    lam = check("lam", lam, **at_least_0)
    check_bool("symmetric", symmetric)
    check_bool("normalize", normalize)
    if reference is not None:
        reference = _check_reference(reference, wide, window)
    with jax.named_scope("jaxpool.detail_preserving_pool"):
        apart = functools.partial(_difference, bool(symmetric))
        y = _detail(wide, window, valid, apart, alpha, lam, reference, normalize)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def _detail(x, window, valid, apart, alpha, lam, reference, normalize):
    """`c + sum w (x - c) / sum w`, the weights divided by `exp(level)`: none above 2.

    Differences are taken relative to the largest of each window: no square overflows.
    That one, `level` and `c` count as constants: the result does not depend on them.
    With `c`, weights that round differently in the two sums do no harm.
    """
    if valid is None:
        valid = _engine.everything(x.ndim, window)
        count = window.counts(x.ndim, False).astype(x.dtype)
    else:
        valid = _engine.spread_mask(valid, window)
        count = _engine.window_count(valid, window).astype(x.dtype)
        x = _engine.without(x, valid)
    at_least_1 = jnp.maximum(count, np.ones((), x.dtype))
    total = _engine.reduce(x, window, lax.add)
    mean = _engine.keep(total / at_least_1)
    reference = mean if reference is None else reference
    sum_taps = functools.partial(tap_sum, window=window, fills=(0, False))

    largest = _largest(x, window, valid, apart, reference)
    inverse = 1 / largest
    if normalize:
        square = functools.partial(_square, apart)
        outputs = (reference, inverse)
        squares = sum_taps(square, inputs=(x, valid), outputs=outputs)
        floor = np.asarray(_EPSILON, x.dtype) * inverse
        excess = -0.5 * jnp.log(squares / at_least_1 + floor * floor)
    else:
        excess = jnp.log(largest)
    excess *= lam
    level = lax.stop_gradient(jnp.maximum(excess, jnp.log(alpha)))
    # At most exp(50): for alpha = 0 an infinite factor would give NaN.
    base = alpha * jnp.exp(-jnp.maximum(level, np.asarray(-50, x.dtype)))
    weight = functools.partial(_weight, apart)
    outputs = (reference, inverse, excess - level, lam)
    z = sum_taps(weight, inputs=(x, valid), outputs=outputs) + count * base
    # Another reference: sharing the weights would store them for every tap.
    c = lax.stop_gradient(mean)
    outputs = (_engine.keep(reference), *outputs[1:], c)
    weighted = functools.partial(_weighted, apart)
    n = sum_taps(weighted, inputs=(x, valid), outputs=outputs)
    n += base * (total - count * c)
    return c + n / jnp.where(count > 0, z, np.ones((), x.dtype))


def _difference(symmetric, x, valid, reference):
    """`d`, 0 for what is no element."""
    d = x - reference
    counts = valid if symmetric else valid & (d > 0)
    return jnp.where(counts, d, np.zeros((), x.dtype))


def _square(apart, x, valid, reference, inverse):
    d = apart(x, valid, reference) * inverse
    return d * d


def _weight(apart, x, valid, reference, inverse, gap, lam):
    """`exp(gap) ((d^2 + eps^2) inverse^2)^(lam / 2)`, 0 for what is no element."""
    floor = np.asarray(_EPSILON, x.dtype) * inverse
    v = _square(apart, x, valid, reference, inverse) + floor * floor
    v = jnp.maximum(v, np.asarray(jnp.finfo(x.dtype).tiny, x.dtype))  # none underflows
    half = np.asarray(0.5, x.dtype)
    weight = jnp.exp(half * lam * jnp.log(v) + gap)
    return jnp.where(valid, weight, np.zeros((), x.dtype))


def _weighted(apart, x, *rest):
    *rest, c = rest
    return _weight(apart, x, *rest) * (x - c)


def _largest(x, window, valid, apart, reference):
    """Largest `sqrt(d^2 + eps^2)` of every window."""
    x, reference = lax.stop_gradient((x, reference))
    infinity = np.asarray(np.inf, x.dtype)
    best = np.zeros((), x.dtype)
    for reducer in (lax.max, lax.min):
        fill = _engine.identity(reducer, x.dtype)
        extreme = _engine.reduce(jnp.where(valid, x, fill), window, reducer)
        some = jnp.abs(extreme) < infinity  # none is in a window without elements
        best = jnp.maximum(best, jnp.abs(apart(extreme, some, reference)))
    return jnp.hypot(best, np.asarray(_EPSILON, x.dtype))


def _check_reference(reference, x, window):
    """A reference with as many axes as x, in the dtype of x."""
    reference = check_float("reference", reference)
    shape = window.resized(x.shape, window.output)
    if not broadcasts(reference.shape, shape):
        raise ValueError(
            f"`reference` must broadcast to the output with shape {shape}, got shape "
            f"{reference.shape}"
        )
    shape = (1,) * (x.ndim - reference.ndim) + reference.shape
    return reference.astype(x.dtype).reshape(shape)
