"""Sums and averages of every window.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `x` an input `(*batch, *space, channels)`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._check import check_array, check_bool, check_divisor, check_inexact, check_where
from ._window import Padding, PerAxis, make_window


def sum_pool(
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
) -> jax.Array:
    """Adds up the elements of every window.

    `y[o] = sum_{i in W(o)} x[i]`; 16-bit floats add up in float32, integers in their
    own dtype, where they wrap as NumPy's do.

    Args:
      x: `(*batch, *space, channels)`, of any dtype but bool; bool counts as int32.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of a window in which `where` leaves no element.

    Returns:
      The sums, with x's dtype. A window wholly in padding gives 0.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.sum_pool(jnp.arange(16.0).reshape(4, 4, 1), (2, 2))[..., 0]
      Array([[10., 18.],
             [42., 50.]], dtype=float32)

    References:
      LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998,
      https://doi.org/10.1109/5.726791 (sub-sampling layers).
    """
    x = check_array("x", x, complex_ok=True)
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
    with jax.named_scope("jaxpool.sum_pool"):
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.int32)
        y = _sum(x, window, valid).astype(x.dtype)
        return _engine.fill_empty(y, window, valid, empty)


def avg_pool(
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
    count_include_pad: bool = True,
    divisor_override: float | None = None,
) -> jax.Array:
    """Averages the elements of every window.

    `y[o] = sum_{i in W(o)} x[i] / D[o]`, with `D` the number of positions of the window
    in the padded input (`count_include_pad=True`, the default of PyTorch and Flax), the
    number of its elements (False), or `divisor_override`. A ceil-mode overhang is never
    counted. The sum is accumulated in float32 at least.

    **Strides default to the window**, as in PyTorch and Keras; in Flax they default
    to 1. TensorFlow and Keras average over elements only: `count_include_pad=False`.

    Args:
      x: `(*batch, *space, channels)`, of any dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part and are
        never counted.
      empty: value of a window in which `where` leaves no element.
      count_include_pad: whether padding counts as elements (of value 0).
      divisor_override: a number to divide by instead.

    Returns:
      The averages, with x's dtype; the default float for integers and bool. A window
      wholly in padding gives 0.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(49.0).reshape(7, 7, 1)
      >>> jaxpool.avg_pool(x, (2, 2), strides=3, ceil_mode=True)[..., 0]
      Array([[ 4. ,  7. ,  9.5],
             [25. , 28. , 30.5],
             [42.5, 45.5, 48. ]], dtype=float32)

    References:
      LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998,
      https://doi.org/10.1109/5.726791; PyTorch, `torch.nn.AvgPool2d` (divisors).
    """
    x = check_inexact("x", x)
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
    check_bool("count_include_pad", count_include_pad)
    if divisor_override is not None:
        check_divisor("divisor_override", divisor_override)
    with jax.named_scope("jaxpool.avg_pool"):
        total = _sum(x, window, valid)
        real = jnp.finfo(total.dtype).dtype
        if divisor_override is not None:
            divisor = np.asarray(divisor_override, real)
        else:
            counts = np.maximum(window.counts(x.ndim, count_include_pad), 1)
            divisor = counts.astype(real)
            if counts.min() == counts.max():
                divisor = divisor.flat[0]
            if valid is not None:
                left_out = _engine.window_count(~valid, window)
                divisor = jnp.maximum(divisor - left_out.astype(real), 1)
        y = (total / divisor.astype(total.dtype)).astype(x.dtype)
        return _engine.fill_empty(y, window, valid, empty)


def _sum(x, window, valid):
    """Sums of windows, in float32 for 16-bit floats."""
    return _engine.reduce(_engine.without(x, valid), window, lax.add)
