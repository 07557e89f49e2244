"""Weighted means of every window: SoftPool and local importance pooling.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `x` an input `(*batch, *space, channels)`.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._check import broadcasts, check_choice, check_float, check_positive, check_where
from ._softmax import softmax_average, softmax_mean
from ._window import Padding, PerAxis, make_window


def soft_pool(
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
    temperature: float | ArrayLike = 1.0,
    gradient: Literal["exact", "paper"] = "exact",
) -> jax.Array:
    """Averages every window with softmax weights of its own elements.

    `y[o] = sum_{i in W(o)} w[i] x[i]`, `w = softmax(x / temperature)` over `W(o)`: the
    average as the temperature grows, the maximum as it falls to 0. The derivative is
    `w[i] (1 + (x[i] - y) / temperature)`. Each window is shifted by its own maximum, so
    that nothing overflows or vanishes while x / temperature is finite.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding has weight 0.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.
      temperature: positive and finite, in units of x: a number, or an array that may
        be learned, a scalar or one per channel.
      gradient: `"exact"`, or `"paper"`: as in the authors' code the weights count as
        constants, so that the derivative is `w[i]`, in both modes of differentiation,
        and 0 for the temperature.

    Returns:
      The weighted means, with x's dtype; the default float for integers. A window
      wholly in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 1.0, 2.0, 2.0])[:, None]
      >>> jaxpool.soft_pool(x, (2,))[:, 0].round(4)
      Array([0.7311, 2.    ], dtype=float32)

    References:
      Stergiou, Poppe, Kalliatakis, "Refining activation downsampling with SoftPool",
      2021, https://arxiv.org/abs/2101.00440, equation 2.
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
    scale = check_positive("temperature", temperature, wide, window.axes, finite=True)
    check_choice("gradient", gradient, ("exact", "paper"))
    with jax.named_scope("jaxpool.soft_pool"):
        wide = _engine.without(wide, valid)  # a NaN there would reach the temperature
        logits = wide / scale
        if gradient == "paper":
            logits = lax.stop_gradient(logits)
            y = softmax_average(wide, logits, window, valid)
        else:
            # soft_pool(x; T) = T soft_pool(x / T; 1)
            y = scale * _soft_pool(logits, window, valid)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def local_importance_pool(
    x: ArrayLike,
    logits: ArrayLike,
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
    """Averages every window with softmax weights of given logits (LIP).

    `y[o] = sum_{i in W(o)} w[i] x[i]`, `w = softmax(logits)` over `W(o)`: the average
    for constant logits, SoftPool for `logits = x`. The derivatives are the exact ones,
    `w[i]` by `x[i]` and `w[i] (x[i] - y)` by `logits[i]`. Each window is shifted by its
    own largest logit, so that nothing overflows or vanishes for finite logits; the
    authors' code takes `exp(logits)` as it is, which float16 cannot hold beyond 11.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      logits: real, broadcastable to x: as x, or with 1 channel. One of -inf leaves its
        element out.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding has weight 0.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where`, or logits of -inf, leave no element.

    Returns:
      The weighted means, with x's dtype; the default float for integers. A window
      wholly in padding gives 0.

    Raises:
      TypeError: if x or logits are complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or logits do not broadcast to x.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 1.0, 2.0, 4.0])[:, None]
      >>> logits = jnp.array([0.0, jnp.log(3.0), 500.0, 500.0])[:, None]
      >>> jaxpool.local_importance_pool(x, logits, (2,))[:, 0]
      Array([0.75, 3.  ], dtype=float32)

    References:
      Gao, Wang, Wu, "LIP: Local Importance-based Pooling", 2019,
      https://arxiv.org/abs/1908.04156
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
    logits = _check_logits(logits, x.shape)
    with jax.named_scope("jaxpool.local_importance_pool"):
        wide = _engine.widen(x)
        y = softmax_average(wide, logits.astype(wide.dtype), window, valid, empty)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


# --- Helpers --------------------------------------------------------------------------


def _soft_pool(x, window, valid):
    if valid is not None:
        x = jnp.where(valid, x, np.asarray(-np.inf, x.dtype))
    level, _, mean = softmax_mean(x, None, window)
    return level + mean


def _check_logits(logits, shape):
    """Real logits with as many axes as x of `shape`."""
    logits = check_float("logits", logits)
    if not broadcasts(logits.shape, shape):
        raise ValueError(
            f"`logits` must broadcast to x with shape {shape}, got shape {logits.shape}"
        )
    return logits.reshape((1,) * (len(shape) - logits.ndim) + logits.shape)
