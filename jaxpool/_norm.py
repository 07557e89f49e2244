"""Norms and generalised means of every window: Lp, GeM, log-sum-exp.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `x` an input `(*batch, *space, channels)`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine, _selection
from ._check import check_bool, check_float, check_positive, check_where
from ._powers import at_least_0, check_exponent, magnitude, norm
from ._softmax import softmax_mean
from ._window import Padding, PerAxis, make_window


def lp_pool(
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
    p: float | ArrayLike = 2.0,
    mean: bool = False,
) -> jax.Array:
    """Takes the Lp norm of every window.

    `y[o] = (sum_{i in W(o)} |x[i]|^p)^(1/p)`, scaled by each window's maximum so that
    nothing overflows or underflows; `p = inf` gives `max |x[i]|`. The derivative is
    `sign(x[i]) (|x[i]| / y)^(p - 1)`, and 0 where `x[i] = 0` or `y = 0`.

    With `mean` the sum is divided by the number of elements in `W(o)`: the power
    average, which is the average for `p = 1`.

    Differs from `torch.nn.LPPool2d`, which takes `x^p` without the absolute value (NaN
    or cancellation for negative x), and rescales partial windows in ceil mode.

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
      p: the exponent, positive: a number, or an array that may be learned, a scalar or
        one per channel, each finite.
      mean: whether to average the powers rather than to sum them.

    Returns:
      The norms, with x's dtype; the default float for integers. A window wholly in
      padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.lp_pool(jnp.array([3.0, -4.0, 0.0, 2.0])[:, None], (2,))[:, 0]
      Array([5., 2.], dtype=float32)

    References:
      Bruna, Szlam, LeCun, "Signal Recovery from Pooling Representations", 2014,
      https://arxiv.org/abs/1311.4025; Gulcehre, Cho, Pascanu, Bengio, "Learned-Norm
      Pooling for Deep Feedforward and Recurrent Neural Networks", 2014,
      https://arxiv.org/abs/1311.1780
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
    exponent, known = check_exponent(p, wide, window.axes)
    check_bool("mean", mean)
    with jax.named_scope("jaxpool.lp_pool"):
        wide = _engine.without(wide, valid)
        count = _engine.element_count(wide, window, valid) if mean else 1
        y = _norm(wide, window, exponent, known, count)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def gem_pool(
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
    p: float | ArrayLike = 3.0,
    eps: float = 1e-6,
) -> jax.Array:
    """Takes the generalised mean of every window, the power average.

    `y[o] = (1/n sum_{i in W(o)} max(x[i], eps)^p)^(1/p)` with the `n` elements of
    `W(o)`, scaled by each window's maximum so that nothing overflows or underflows: the
    average for `p = 1`, the maximum as p grows. The derivative is
    `(x[i] / y)^(p - 1) / n`, and 0 where `x[i] < eps`.

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
      p: the exponent, positive: a number, or an array that may be learned, a scalar or
        one per channel, each finite.
      eps: positive, in units of x: smaller elements count as this.

    Returns:
      The means, with x's dtype; the default float for integers. A window wholly in
      padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.gem_pool(jnp.array([1.0, 7.0, 2.0, 2.0])[:, None], (2,), p=2.0)[:, 0]
      Array([5., 2.], dtype=float32)

    References:
      Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human
      Annotation", 2018, https://arxiv.org/abs/1711.02512, equation 3.
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
    exponent, known = check_exponent(p, wide, window.axes)
    least = check_positive("eps", eps, wide, window.axes)
    with jax.named_scope("jaxpool.gem_pool"):
        wide = jnp.where(wide < least, least, wide)  # NaN stays
        wide = _engine.without(wide, valid)
        count = _engine.element_count(wide, window, valid)
        y = _norm(wide, window, exponent, known, count)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def lse_pool(
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
    """Takes the log of the mean exponential of every window.

    `y[o] = T log(1/n sum_{i in W(o)} exp(x[i] / T))` with the `n` elements of `W(o)`:
    the average as the temperature `T` grows, the maximum as it falls to 0. The
    derivative is the softmax of `x / T` over the window. Each window is shifted by its
    own maximum, so that nothing overflows or vanishes while x / T is finite. The
    logarithm is rounded before T multiplies it: values are precise to 1e-7 T.

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
      temperature: positive and finite, in units of x: a number, or an array that may
        be learned, a scalar or one per channel. The paper's `r` is `1 / temperature`.

    Returns:
      The values, with x's dtype; the default float for integers. A window wholly in
      padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 1.0, 2.0, 2.0])[:, None]
      >>> jaxpool.lse_pool(x, (2,))[:, 0].round(4)
      Array([0.6201, 2.    ], dtype=float32)

    References:
      Pinheiro, Collobert, "From Image-level to Pixel-level Labeling with Convolutional
      Networks", 2015, https://arxiv.org/abs/1411.6228, equation 6.
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
    with jax.named_scope("jaxpool.lse_pool"):
        wide = _engine.without(wide, valid)  # a NaN there would reach the temperature
        # lse_pool(x; T) = T lse_pool(x / T; 1)
        y = scale * _log_mean_exp(wide / scale, window, valid)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def _norm(x, window, exponent, known, count):
    if known == np.inf:
        return at_least_0(_selection.select(magnitude(x), None, window, lax.max))
    return norm(x, window, exponent, count, square=known == 2)


def _log_mean_exp(x, window, valid):
    count = _engine.element_count(x, window, valid)
    if valid is not None:
        x = jnp.where(valid, x, np.asarray(-np.inf, x.dtype))
    level, z, _ = softmax_mean(x, None, window)
    return level + jnp.log(z / count)
