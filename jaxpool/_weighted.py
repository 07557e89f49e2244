"""Weighted means of every window, with weights that depend on its elements: SoftPool.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `x` an input `(*batch, *space, channels)`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from . import _engine
from ._powers import exponential_sums, finite_part
from ._window import (
    Padding,
    PerAxis,
    check_float,
    check_positive,
    check_where,
    make_window,
)


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
) -> jax.Array:
    """Averages every window with softmax weights of its own elements.

    `y[o] = sum_{i in W(o)} w[i] x[i]`, `w = softmax(x / temperature)` over `W(o)`: the
    average as the temperature grows, the maximum as it falls to 0. The derivative is
    the exact one, `w[i] (1 + (x[i] - y) / temperature)`; the authors' code leaves out
    the second factor. Each window is shifted by its own maximum, so that nothing
    overflows or vanishes for finite x.

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
      temperature: positive, in units of x: a number, or an array that may be learned,
        a scalar or one per channel.

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
    scale = check_positive("temperature", temperature, wide, window)
    with jax.named_scope("jaxpool.soft_pool"):
        if valid is not None:  # also a NaN there would reach the temperature
            wide = jnp.where(valid, wide, np.zeros((), wide.dtype))
        # soft_pool(x; T) = T soft_pool(x / T; 1)
        y = (scale * _soft_pool(wide / scale, window, valid)).astype(x.dtype)
        return _engine.fill_empty(y, window, valid, empty)


def _soft_pool(x, window, valid):
    """`m + n / z`, see `exponential_sums`."""
    if valid is not None:
        x = jnp.where(valid, x, np.asarray(-np.inf, x.dtype))
    level, z, n = exponential_sums(x, window)
    finite, m = finite_part(level)
    return jnp.where(finite, m + n / jnp.where(finite, z, np.ones((), x.dtype)), level)
