"""The un-pooling that goes with `ada_pool`."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from . import _engine
from ._adapool import check_beta, mix, similar_mean
from ._check import check_choice, check_float, check_where
from ._softmax import softmax_average
from ._window import Padding, PerAxis, make_window


def ada_unpool(
    y: ArrayLike,
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
    mode: Literal["adjoint", "replicate"] = "adjoint",
) -> jax.Array:
    """Spreads values over windows by the weights that `ada_pool` has there.

    With `w[o, i]` the weight of `x[i]` in window `o`, `beta` times that of `edscw_pool`
    plus `1 - beta` times that of `soft_pool`:

    * `mode="adjoint"`: `sum of w[o, i] y[o]` over the windows `o` with `i`. It keeps
      the sum, so that it scales down by the window's size, as the authors' code does.
    * `mode="replicate"`: the average of `n[o] w[o, i] y[o]` over the windows `o` with
      `i`. It keeps the mean of windows that do not overlap.

    Constant windows of x have equal weights: then it is `avg_unpool`. All derivatives
    are exact, those through the weights included.

    Args:
      y: `(*batch, *output, channels)`, shaped like `ada_pool(x, ...)`, real.
      x: `(*batch, *space, channels)`: what was pooled.
      beta: in [0, 1], as in `ada_pool`.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis, as the pool had it.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window was kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False get 0.
      mode: which of the two definitions.

    Returns:
      An array with x's shape and y's dtype; the default float for integers. Elements in
      no window get 0.

    Raises:
      TypeError: if an array is complex, or an argument is of the wrong kind.
      ValueError: if the window or y do not fit x, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 2.0, 2.0])[:, None]
      >>> y = jaxpool.ada_pool(x, 0.5, (2,))
      >>> up = jaxpool.ada_unpool(y, x, 0.5, (2,), mode="replicate")
      >>> [round(v, 3) for v in up[:, 0].tolist()]
      [1.419, 3.404, 2.0, 2.0]

    References:
      Stergiou, Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
      Downsampling", 2023, https://arxiv.org/abs/2111.00772
    """
    y, x = check_float("y", y), check_float("x", x)
    window = make_window(
        x.shape,
        window_shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        axes=axes,
    )
    shape = window.resized(x.shape, window.output)
    if y.shape != shape:
        raise ValueError(
            f"`y` must have the shape {shape} of the pooled x with shape {x.shape}, "
            f"got {y.shape}"
        )
    valid = check_where(where, x.shape)
    check_choice("mode", mode, ("adjoint", "replicate"))
    wide = _engine.widen(y)
    beta = check_beta(beta, shape, wide.dtype)
    with jax.named_scope("jaxpool.ada_unpool"):
        fixed = x.astype(wide.dtype)

        def weigh(value):  # linear
            similar = similar_mean(value, fixed, window, valid)
            return mix(beta, similar, softmax_average(value, fixed, window, valid))

        wide = _engine.fill_empty(wide, window, valid, 0)  # where it goes nowhere
        if mode == "replicate":
            wide *= _engine.element_count(wide, window, valid)
        _, transpose = jax.vjp(weigh, jnp.zeros_like(fixed))
        (spread,) = transpose(wide)
        if mode == "replicate":
            windows = np.maximum(window.windows_per_element(spread.ndim), 1)
            spread /= windows.astype(spread.dtype)
        return spread.astype(y.dtype)
