"""Pools of whole axes: one number per channel, whatever the size of the input.

Letters: `n` the number of elements of the pooled axes (without what a mask leaves out),
`i` runs over them, `x` an input `(*batch, *space, channels)`.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._check import (
    check_array,
    check_bool,
    check_choice,
    check_float,
    check_inexact,
    check_positive,
    check_where,
    pooled_axes,
)
from ._powers import check_exponent
from ._whole import extremum, finish, level_of, log_mean_exp, mean_of, total_of


def global_avg_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    keepdims: bool = False,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Averages whole axes.

    `y = sum_i x[i] / n`; with `where`, `n` counts the elements that take part.

    Args:
      x: `(*batch, *space, channels)`, of any dtype.
      axes: the pooled axes, one at least.
      keepdims: whether y keeps them, with size 1.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value where `where` leaves no element.

    Returns:
      `(*batch, channels)`, with x's dtype; the default float for integers and bool.
      16-bit floats add up in float32.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.global_avg_pool(jnp.arange(8.0).reshape(2, 2, 2))
      Array([3., 4.], dtype=float32)

    References:
      Lin, Chen, Yan, "Network in Network", 2014, https://arxiv.org/abs/1312.4400,
      section 3.2.
    """
    x = check_inexact("x", x)
    axes, valid = _check(x, axes, keepdims, where)
    with jax.named_scope("jaxpool.global_avg_pool"):
        return finish(mean_of(x, axes, valid), x.dtype, axes, keepdims, valid, empty)


def global_sum_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    keepdims: bool = False,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Adds up whole axes.

    `y = sum_i x[i]`; 16-bit floats add up in float32, integers in their own dtype,
    where they wrap as NumPy's do.

    Args:
      x: `(*batch, *space, channels)`, of any dtype but bool; bool counts as int32.
      axes: the pooled axes, one at least.
      keepdims: whether y keeps them, with size 1.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value where `where` leaves no element.

    Returns:
      `(*batch, channels)`, with x's dtype.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.global_sum_pool(jnp.arange(8.0).reshape(2, 2, 2))
      Array([12., 16.], dtype=float32)

    References:
      Babenko, Lempitsky, "Aggregating Deep Convolutional Features for Image Retrieval",
      2015, https://arxiv.org/abs/1510.07493, equation 1 (SPoC).
    """
    x = check_array("x", x, complex_ok=True)
    axes, valid = _check(x, axes, keepdims, where)
    with jax.named_scope("jaxpool.global_sum_pool"):
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.int32)
        return finish(total_of(x, axes, valid), x.dtype, axes, keepdims, valid, empty)


def global_max_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    keepdims: bool = False,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Takes the largest element of whole axes.

    `y = max_i x[i]`. The derivative goes to the first maximum in row-major order, where
    that of `jnp.max` is split among ties. NaN wins, and takes the derivative; `jnp.max`
    may drop it on some platforms.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      axes: the pooled axes, one at least.
      keepdims: whether y keeps them, with size 1.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value where `where` leaves no element.

    Returns:
      `(*batch, channels)`, with x's dtype.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.global_max_pool(jnp.arange(8.0).reshape(2, 2, 2))
      Array([6., 7.], dtype=float32)

    References:
      Oquab, Bottou, Laptev, Sivic, "Is object localization for free?", 2015,
      https://hal.science/hal-01015140; Tolias, Sicre, Jegou, "Particular object
      retrieval with integral max-pooling of CNN activations", 2016,
      https://arxiv.org/abs/1511.05879 (MAC).
    """
    x = check_array("x", x)
    axes, valid = _check(x, axes, keepdims, where)
    with jax.named_scope("jaxpool.global_max_pool"):
        y = extremum(x, axes, valid, lax.max)
        return finish(y, x.dtype, axes, keepdims, valid, empty)


def global_min_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    keepdims: bool = False,
    where: ArrayLike | None = None,
    empty: float = 0.0,
) -> jax.Array:
    """Takes the smallest element of whole axes.

    `y = min_i x[i]`; ties, NaN, masks and the derivative as in `global_max_pool`.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      axes: the pooled axes, one at least.
      keepdims: whether y keeps them, with size 1.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value where `where` leaves no element.

    Returns:
      `(*batch, channels)`, with x's dtype.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> jaxpool.global_min_pool(jnp.arange(8.0).reshape(2, 2, 2))
      Array([0., 1.], dtype=float32)

    References:
      Durand, Thome, Cord, "WELDON: Weakly Supervised Learning of Deep Convolutional
      Neural Networks", 2016, https://doi.org/10.1109/CVPR.2016.513 (minimum regions).
    """
    x = check_array("x", x)
    axes, valid = _check(x, axes, keepdims, where)
    with jax.named_scope("jaxpool.global_min_pool"):
        y = extremum(x, axes, valid, lax.min)
        return finish(y, x.dtype, axes, keepdims, valid, empty)


def global_avg_max_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    keepdims: bool = False,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    mode: Literal["mean", "add", "concat"] = "mean",
) -> jax.Array:
    """Takes the average and the maximum of whole axes, and joins them.

    `y = (avg + max) / 2`, their sum, or both, the average's channels first.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      axes: the pooled axes, one at least; not the last one to `"concat"`.
      keepdims: whether y keeps them, with size 1.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of y where `where` leaves no element.
      mode: `"mean"`, `"add"`, or `"concat"` along the last axis.

    Returns:
      `(*batch, channels)`, or `(*batch, 2 * channels)` for `"concat"`, with x's dtype;
      the default float for integers and bool.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(8.0).reshape(2, 2, 2)
      >>> jaxpool.global_avg_max_pool(x, mode="concat")
      Array([3., 4., 6., 7.], dtype=float32)

    References:
      Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", 2018,
      https://arxiv.org/abs/1807.06521; timm, `SelectAdaptivePool2d` ("avgmax",
      "catavgmax").
    """
    x = check_float("x", x)
    axes, valid = _check(x, axes, keepdims, where)
    check_choice("mode", mode, ("mean", "add", "concat"))
    if mode == "concat" and -1 in axes:
        raise ValueError(
            "`axes` must not name the last axis, along which mode='concat' joins, for "
            f"x with shape {x.shape}, got {axes}"
        )
    with jax.named_scope("jaxpool.global_avg_max_pool"):
        avg = mean_of(x, axes, valid)
        largest = _engine.widen(extremum(x, axes, valid, lax.max))
        if mode == "concat":
            y = jnp.concatenate([avg, largest], -1)
            if valid is not None and valid.shape[-1] != 1:
                valid = jnp.concatenate([valid, valid], -1)
        elif mode == "add":
            y = avg + largest
        else:  # halved first: the sum may overflow
            half = np.asarray(0.5, avg.dtype)
            y = avg * half + largest * half
        return finish(y, x.dtype, axes, keepdims, valid, empty)


def global_lse_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    keepdims: bool = False,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    temperature: float | ArrayLike = 1.0,
) -> jax.Array:
    """Takes the log of the mean exponential of whole axes.

    `y = T log(1/n sum_i exp(x[i] / T))`: the average as the temperature `T` grows, the
    maximum as it falls to 0, to full precision at either end. The derivative is the
    softmax of `x / T`.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      axes: the pooled axes, one at least.
      keepdims: whether y keeps them, with size 1.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value where `where` leaves no element.
      temperature: positive, in units of x: a number, or an array that may be learned,
        a scalar or one per channel. The paper's `r` is `1 / temperature`.

    Returns:
      `(*batch, channels)`, with x's dtype; the default float for integers and bool.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([0.0, 1.0, 2.0, 3.0]).reshape(2, 2, 1)
      >>> jaxpool.global_lse_pool(x).round(4)
      Array([2.0539], dtype=float32)

    References:
      Pinheiro, Collobert, "From Image-level to Pixel-level Labeling with Convolutional
      Networks", 2015, https://arxiv.org/abs/1411.6228, equation 6.
    """
    x = check_float("x", x)
    axes, valid = _check(x, axes, keepdims, where)
    wide = _engine.widen(x)
    scale = check_positive("temperature", temperature, wide, axes, finite=True)
    with jax.named_scope("jaxpool.global_lse_pool"):
        level, finite, some = level_of(wide, axes, valid)
        zero = np.zeros((), wide.dtype)
        above = jnp.where(some, wide, zero) - jnp.where(finite, level, zero)
        y = level + scale * log_mean_exp(above / scale, some, axes, valid, finite)
        y = jnp.where(finite, y, level)
        return finish(y, x.dtype, axes, keepdims, valid, empty)


def global_gem_pool(
    x: ArrayLike,
    *,
    axes: tuple[int, ...] = (-3, -2),
    keepdims: bool = False,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    p: float | ArrayLike = 3.0,
    eps: float = 1e-6,
) -> jax.Array:
    """Takes the generalised mean of whole axes.

    `y = (1/n sum_i max(x[i], eps)^p)^(1/p)`: the average for `p = 1`, the maximum as p
    grows, the geometric mean as it falls to 0. Scaled by the maximum, so that nothing
    overflows or underflows. The derivative is `(x[i] / y)^(p - 1) / n`, and 0 where
    `x[i] < eps`.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      axes: the pooled axes, one at least.
      keepdims: whether y keeps them, with size 1.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value where `where` leaves no element.
      p: the exponent, positive: a number, or an array that may be learned, a scalar or
        one per channel, each finite.
      eps: positive, in units of x: smaller elements count as this.

    Returns:
      `(*batch, channels)`, with x's dtype; the default float for integers and bool.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if an argument is out of range, or a pooled axis has size 0.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 7.0, 1.0, 7.0]).reshape(2, 2, 1)
      >>> jaxpool.global_gem_pool(x, p=2.0)
      Array([5.], dtype=float32)

    References:
      Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human
      Annotation", 2018, https://arxiv.org/abs/1711.02512, equation 3.
    """
    x = check_float("x", x)
    axes, valid = _check(x, axes, keepdims, where)
    wide = _engine.widen(x)
    power, known = check_exponent(p, wide, axes)
    least = check_positive("eps", eps, wide, axes)
    with jax.named_scope("jaxpool.global_gem_pool"):
        wide = jnp.where(wide < least, least, wide)  # NaN stays
        if known == np.inf:
            y = extremum(wide, axes, valid, lax.max)
            return finish(y, x.dtype, axes, keepdims, valid, empty)
        # log y is the log-mean-exponential of log x at temperature 1 / p.
        level, finite, some = level_of(wide, axes, valid)
        one = np.ones((), wide.dtype)
        ratio = jnp.where(some, wide, one) / jnp.where(finite, level, one)
        tiny = np.asarray(jnp.finfo(wide.dtype).tiny, wide.dtype)
        above = power * jnp.log(jnp.maximum(ratio, tiny))
        root = jnp.exp(log_mean_exp(above, some, axes, valid, finite) / power)
        y = jnp.where(finite, level * root, level)
        return finish(y, x.dtype, axes, keepdims, valid, empty)


def _check(x, axes, keepdims, where):
    """`axes` negative and ascending, and `where` with their full size."""
    axes = tuple(sorted(pooled_axes(x.shape, axes)))
    check_bool("keepdims", keepdims)
    return axes, check_where(where, x.shape, axes)
