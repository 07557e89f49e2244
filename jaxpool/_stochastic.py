"""Pools that draw an element of every window: stochastic and random pooling.

Each takes a `key`, a key of `jax.random`; without one it pools as at inference, without
randomness. The same key gives the same draws, under every transformation; inside of
`vmap` or `shard_map`, elements that share a key share their draws: split it for others.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `n` their number, `x` an input
`(*batch, *space, channels)`.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine, _selection
from ._check import check_choice, check_float, check_key, check_where
from ._mean import avg_pool
from ._order import max_pool
from ._tap_sum import tap_sum
from ._window import Padding, PerAxis, make_window


def stochastic_pool(
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
    sampling: Literal["multinomial", "uniform"] = "multinomial",
    value: Literal["sample", "max", "avg"] = "sample",
) -> jax.Array:
    """Draws an element of every window, by default in proportion to its value.

    With a key: `y[o] = x[l]`, `l` drawn from `W(o)` with probabilities
    `p[i] = x[i] / sum x`, each output on its own. Without: the expectation,
    `y[o] = sum p[i] x[i]`. The derivative goes to the element that was drawn, with the
    draw held constant; without a key it is the exact derivative of the expectation.

    The paper pools after a ReLU. Here negative elements have probability 0, and a
    window without positive elements gives 0, with no gradient.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding has probability 0.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False have probability 0.
      empty: value of a window in which `where` leaves no element.
      key: a key of `jax.random`, or None for inference.
      sampling: `"multinomial"`, or `"uniform"` for the same probability `1 / n` for
        each element, negative or not; the expectation then is the average.
      value: `"sample"`, the element at the drawn position, or the `"max"` or `"avg"`
        of all elements in a window of the same shape and dilation around it, clipped to
        x (one of even size reaches one further to its end, as with `"SAME"`): this
        library's reading of the paper's supplement, not defined there as pools.

    Returns:
      The samples, or their expectation, with x's dtype; the default float for integers.
      A window wholly in padding gives 0. A NaN gives NaN if it may be drawn.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 0.0, 2.0])[:, None]
      >>> jaxpool.stochastic_pool(x, (2,))[:, 0]
      Array([2.5, 2. ], dtype=float32)
      >>> jaxpool.stochastic_pool(x, (2,), key=jax.random.key(0))[1, 0]
      Array(2., dtype=float32)

    References:
      Zeiler, Fergus, "Stochastic Pooling for Regularization of Deep Convolutional
      Neural Networks", 2013, https://arxiv.org/abs/1301.3557
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
    check_choice("sampling", sampling, ("multinomial", "uniform"))
    check_choice("value", value, ("sample", "max", "avg"))
    with jax.named_scope("jaxpool.stochastic_pool"):
        y = _stochastic(_engine.widen(x), window, valid, key, sampling, value)
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


def random_pool(
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
) -> jax.Array:
    """Draws an element of every window, each with the same probability.

    With a key: `y[o] = x[l]`, `l` uniform over `W(o)`, each output on its own; the
    derivative goes to the element that was drawn. Without: the expectation, which is
    the average of the elements. It is `stochastic_pool` with `sampling="uniform"`.

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis; None means the window.
      padding: `"VALID"`, `"SAME"`, `"SAME_LOWER"`, an int, one int per axis, or one
        `(low, high)` pair per axis. Padding is never drawn.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether a last, partial window is kept (PyTorch's rule).
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False are never drawn.
      empty: value of a window in which `where` leaves no element.
      key: a key of `jax.random`, or None for inference.

    Returns:
      The samples, or the averages, with x's dtype; the default float for integers. A
      window wholly in padding gives 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 5.0, 5.0])[:, None]
      >>> jaxpool.random_pool(x, (2,))[:, 0]
      Array([2., 5.], dtype=float32)
      >>> jaxpool.random_pool(x, (2,), key=jax.random.key(0))[1, 0]
      Array(5., dtype=float32)

    References:
      Zeiler, Fergus, "Stochastic Pooling for Regularization of Deep Convolutional
      Neural Networks", 2013, https://arxiv.org/abs/1301.3557 (for other probabilities).
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
    with jax.named_scope("jaxpool.random_pool"):
        y = _stochastic(_engine.widen(x), window, valid, key, "uniform", "sample")
        return _engine.fill_empty(y.astype(x.dtype), window, valid, empty)


# --- Draws per window -----------------------------------------------------------------


def _stochastic(x, window, valid, key, sampling, value):
    if valid is not None:
        valid = _engine.spread_mask(valid, window)
        x = _engine.without(x, valid)
    values = _values(x, window, valid, value)
    if value != "sample":  # what is masked has neighbours that are not
        values = _engine.without(values, valid)
    multinomial = sampling == "multinomial"
    if key is None and not multinomial:
        return _average(values, window, valid)
    level = _level(x, window) if multinomial else None
    if key is None:
        return _expectation(x, values, window, level)
    return _sampled(x, values, window, valid, key, level)


def _values(x, window, valid, value):
    """What a draw of each element gives."""
    if value == "sample":
        return x
    options: dict[str, Any] = {"strides": 1, "padding": "SAME", "axes": window.axes}
    options |= {"dilation": window.dilation, "where": valid}
    if value == "max":
        return max_pool(x, window.size, **options)
    return avg_pool(x, window.size, count_include_pad=False, **options)


def _average(x, window, valid):
    total = _engine.reduce(x, window, lax.add)
    return total / _engine.element_count(x, window, valid)


def _level(x, window):
    """A power of two near each window's maximum: nothing that is divided overflows."""
    half = _engine.reduce(x, window, lax.max) * np.asarray(0.5, x.dtype)
    level = lax.reduce_precision(lax.stop_gradient(half), jnp.finfo(x.dtype).nexp, 0)
    return jnp.where(level <= 0, np.ones((), x.dtype), level)


def _expectation(x, values, window, level):
    total = tap_sum(_weight, window, (0,), (x,), (level,))
    y = tap_sum(_weighted, window, (0, 0), (x, values), (level,))
    return level * (y / jnp.where(total == 0, np.ones((), x.dtype), total))


def _weight(x, level):
    """In proportion to positive x; an infinite x has 1 and the others then 0."""
    one, zero = np.ones((), x.dtype), np.zeros((), x.dtype)
    infinite = x == np.inf
    weight = jnp.where((x <= 0) | infinite, zero, x) / level
    return jnp.where(infinite, one, weight)


def _weighted(x, value, level):
    weight, infinite = _weight(x, level), jnp.isinf(value)
    value = jnp.where(infinite, value, value / level)
    return weight * jnp.where(weight == 0, np.zeros((), x.dtype), value)


def _sampled(x, values, window, valid, key, level):
    """The tap of each window that `u sum(weights)` falls into, u uniform on [0, 1)."""
    weights = _tap_weights(lax.stop_gradient(x), window, valid, level)
    totals = []
    for weight in weights:
        totals.append(totals[-1] + weight if totals else weight)
    shape = window.resized(x.shape, window.output)  # also where a mask broadcasts
    u = jax.random.uniform(key, shape, x.dtype)
    threshold = u * totals[-1]
    # The first sum beyond the threshold; a window without weights has none.
    dtype = _selection.code_dtype(window.taps + 1)
    passed = ((total <= threshold).astype(dtype) for total in totals)
    code = _engine.keep(functools.reduce(jnp.add, passed))
    pick = functools.partial(_selection.pick_taps, window=window)
    y = jax.checkpoint(pick, prevent_cse=False)(code, values)
    isnan = jnp.isnan(totals[-1])
    return jnp.where(isnan, np.asarray(np.nan, y.dtype), y)


def _tap_weights(x, window, valid, level):
    if level is not None:
        tapped = _engine.taps(x, window, 0)
        return [_weight(tap, level) for tap in tapped]
    if valid is None:
        valid = jnp.ones_like(x, bool)
    tapped = _engine.taps(valid, window, False)
    return [tap.astype(x.dtype) for tap in tapped]
