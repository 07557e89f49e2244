"""Several pools at once, by name.

Letters: `x` an input `(*batch, *space, channels)`.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._check import check_choice, check_float, check_where
from ._mixed import channel_axis
from ._window import Padding, PerAxis, make_window


def combined_pool(
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
    pools: Sequence[str] = ("max", "avg"),
    mode: Literal["concat", "add", "mean"] = "concat",
) -> jax.Array:
    """Pools in several ways and joins the results.

    `"concat"` puts them side by side along the channels, in the order of `pools`,
    `"add"` adds them up, `"mean"` averages them. Each pool has its defaults: `"avg"`
    counts padding, as `avg_pool` does.

    Libraries differ in the order of the two: `("avg", "max")` in timm, `("max", "avg")`
    in fastai; timm's `avgmax` is `mode="mean"`.

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
      empty: value of each pool for a window in which `where` leaves no element, and of
        their sum or mean.
      pools: names in `jaxpool.POOLS`.
      mode: how to join: `"concat"`, `"add"` or `"mean"`.

    Returns:
      `len(pools)` times as many channels for `"concat"` (the last axis that is not
      pooled), otherwise the shape of one pool. It has x's dtype; the default float for
      integers. A window wholly in padding gives each pool's own value for `"concat"`,
      otherwise 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 0.0, 2.0])[:, None]
      >>> jaxpool.combined_pool(x, (2,), pools=("max", "min", "avg"))
      Array([[3., 1., 2.],
             [2., 0., 1.]], dtype=float32)

    References:
      Lee, Gallagher, Tu, "Generalizing Pooling Functions in Convolutional Neural
      Networks: Mixed, Gated, and Tree", 2016, https://arxiv.org/abs/1509.08985 (on
      joining maxima and averages).
    """
    from ._registry import POOLS  # it may hold this file's pools, too

    x = check_float("x", x)
    options: dict[str, Any] = {"strides": strides, "padding": padding, "axes": axes}
    options |= {"dilation": dilation, "ceil_mode": ceil_mode}
    window = make_window(x.shape, window_shape, **options)
    valid = check_where(where, x.shape)
    check_choice("mode", mode, ("concat", "add", "mean"))
    if isinstance(pools, str) or not isinstance(pools, Sequence):
        raise TypeError(f"`pools` must be a tuple of names, got {pools!r}")
    if not pools:
        raise ValueError("`pools` must have at least one name, got none")
    for name in pools:
        check_choice("pools", name, tuple(POOLS))
    if "combined" in pools and mode != "concat":
        raise ValueError(
            f'`pools` must not hold "combined" with mode "{mode}": it has more channels'
        )
    with jax.named_scope("jaxpool.combined_pool"):
        options |= {"where": valid, "empty": empty}
        wide = x if mode == "concat" else _engine.widen(x)
        parts = [POOLS[name](wide, window_shape, **options) for name in pools]
        if mode == "concat":
            return lax.concatenate(parts, x.ndim + channel_axis(window.axes, x.ndim))
        # Nothing infinite is added up where all is padding.
        parts = [_engine.fill_empty(part, window, valid, 0) for part in parts]
        y = functools.reduce(jnp.add, parts)
        if mode == "mean":
            y = y / np.asarray(len(parts), y.dtype)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)
