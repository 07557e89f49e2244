"""Pools that draw: stochastic pooling, a random element, S3Pool.

Each takes a `key`, a key of `jax.random`; without one it pools as at inference, without
randomness. The same key gives the same draws, under every transformation; inside of
`vmap` or `shard_map`, elements that share a key share their draws: split it for others.

Letters: `W(o)` the window of output position `o` (its elements, without padding and
without what a mask leaves out), `n` their number, `x` an input
`(*batch, *space, channels)`.
"""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._mean import avg_pool
from ._order import max_pool
from ._tap_sum import tap_sum
from ._window import (
    Padding,
    PerAxis,
    Window,
    check_choice,
    check_float,
    check_where,
    make_window,
    per_axis,
)


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
        of all elements in a window of the same shape around it, clipped to x (for an
        even size it starts one earlier, as `"SAME"` has it). These two are this
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


def s3_pool(
    x: ArrayLike,
    window_shape: tuple[int, ...],
    *,
    strides: PerAxis | None = None,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    axes: tuple[int, ...] | None = None,
    where: ArrayLike | None = None,
    empty: float = 0.0,
    grid: PerAxis | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """Max pooling with stride 1, then a random choice of its rows and columns (S3Pool).

    `z` is the maximum of the window at every position. With a key, every pooled axis of
    `z` is cut into cells of `grid` positions, of which `grid / stride` are drawn
    without replacement and kept in order: the same for the whole batch and all
    channels. Without, `y` is the average of `z` over disjoint windows of `strides`,
    which is the expectation where `grid` is the stride. The derivative goes to the
    positions that were kept, and from there to the first maximum.

    Differs from the authors' code, which pools without padding, so that the last cell
    has fewer positions, and shifts the windows of its average by one; its shapes with
    and without a key differ for odd sizes. Here an axis of `h` positions always gives
    `floor(h / stride)` (`ceil` with `ceil_mode`): of a last, partial cell of `r`
    positions `floor(r / stride)` are kept (`ceil`).

    Args:
      x: `(*batch, *space, channels)`, of any real dtype.
      window_shape: tuple with one int per pooled axis.
      strides: int or one per pooled axis: the factor of downsampling; None means the
        window.
      padding: of the maximum with stride 1; as for `max_pool`. **The default is
        `"SAME"`**, with which `h` is the size of the axis.
      dilation: int or one per pooled axis: the spacing of the window's elements.
      ceil_mode: whether positions that do not fill a stride give one more output.
      axes: the pooled axes; by default those right before the last.
      where: boolean, broadcastable to x; elements with False take no part.
      empty: value of an output for which `where` leaves no element.
      grid: int or one per pooled axis: the positions of a cell, a multiple of the
        stride; None means the stride.
      key: a key of `jax.random`, or None for inference.

    Returns:
      The pooled array, with x's dtype; the default float for integers. Where the window
      is wholly in padding it is 0.

    Raises:
      TypeError: if x is complex, or an argument is of the wrong kind.
      ValueError: if the window does not fit, or an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 3.0, 5.0, 5.0])[:, None]
      >>> jaxpool.s3_pool(x, (2,))[:, 0]
      Array([4., 5.], dtype=float32)
      >>> jaxpool.s3_pool(x, (2,), key=jax.random.key(0)).shape
      (2, 1)

    References:
      Zhai, Wu, Kumar, Cheng, Lu, Zhang, Feris, "S3Pool: Pooling with Stochastic Spatial
      Sampling", 2017, https://arxiv.org/abs/1611.05138
    """
    x = check_float("x", x)
    options: dict[str, Any] = {"padding": padding, "dilation": dilation, "axes": axes}
    # The strides are checked here, those of the maximum are 1.
    checked = make_window(x.shape, window_shape, strides=strides, **options)
    window = make_window(
        x.shape, window_shape, strides=1, ceil_mode=ceil_mode, **options
    )
    valid = check_where(where, x.shape)
    key = check_key(key)
    cells = _check_grid(grid, checked, window, axes, x)
    kept = [h / s for h, s in zip(window.output, checked.strides, strict=True)]
    outputs = [math.ceil(o) if ceil_mode else math.floor(o) for o in kept]
    if not all(outputs):
        raise ValueError(
            f"`strides` must be at most the number of positions {window.output} of the "
            f"window in x with shape {x.shape}, got {checked.strides}"
        )
    with jax.named_scope("jaxpool.s3_pool"):
        fill = 0.0 if where is None else empty
        z = max_pool(x, window_shape, strides=1, where=valid, **options)
        valid = _has_elements(z, window, valid)
        if key is None:
            options = {"axes": window.axes, "ceil_mode": ceil_mode, "where": valid}
            options |= {"empty": fill, "count_include_pad": False}
            return avg_pool(z, checked.strides, **options)
        if valid is not None:
            z = jnp.where(valid, z, np.asarray(fill, z.dtype))
        for subkey, *of_axis in zip(
            jax.random.split(key, len(cells)),
            window.axes,
            checked.strides,
            cells,
            outputs,
            strict=True,
        ):
            z = _keep_some(subkey, z, *of_axis)
        return z


def check_key(key: Any) -> jax.Array | None:
    """One key of `jax.random`, typed or legacy, as a typed one; or None."""
    if key is None:
        return None
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype is None or shape is None:
        raise TypeError(
            "`key` must be a key of jax.random, such as jax.random.key(0), or None, "
            f"got {key!r}"
        )
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if shape:
            raise ValueError(
                f"`key` must be one key, got an array of keys with shape {shape}"
            )
        return key
    if dtype != np.uint32 or len(shape) != 1:
        raise TypeError(
            "`key` must be a key of jax.random, such as jax.random.key(0), or None, "
            f"got an array of {dtype} with shape {shape}"
        )
    return jax.random.wrap_key_data(jnp.asarray(key))


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
    u = jax.random.uniform(key, totals[-1].shape, x.dtype)
    threshold = u * totals[-1]
    # The first sum beyond the threshold; a window without weights has none.
    dtype = _engine.code_dtype(window.taps + 1)
    passed = ((total <= threshold).astype(dtype) for total in totals)
    code = _engine.keep(functools.reduce(jnp.add, passed))
    pick = functools.partial(_engine._pick_taps, window=window)
    y = jax.checkpoint(pick, prevent_cse=False)(code, values)
    isnan = jnp.isnan(totals[-1])
    return jnp.where(isnan, np.asarray(np.nan, y.dtype), y)


def _tap_weights(x, window, valid, level):
    if level is not None:
        tapped = _engine.taps(_engine.pad(x, window, 0), window)
        return [_weight(tap, level) for tap in tapped]
    if valid is None:
        valid = jnp.ones_like(x, bool)
    tapped = _engine.taps(_engine.pad(valid, window, False), window)
    return [tap.astype(x.dtype) for tap in tapped]


# --- Draws of rows and columns --------------------------------------------------------


def _check_grid(grid, checked, window, axes, x):
    """Positions per cell of each axis, in the order of the window's axes."""
    count = len(window.axes)
    if grid is None:
        return checked.strides
    given = per_axis("grid", grid, count, 1)
    if axes is not None:  # the window's axes are in ascending order
        negative = [a if a < 0 else a - x.ndim for a in axes]
        given = tuple(given[negative.index(a)] for a in window.axes)
    for cell, s in zip(given, checked.strides, strict=True):
        if cell % s:
            raise ValueError(
                f"`grid` must be a positive multiple of the stride {s}, got {grid!r}"
            )
    return given


def _has_elements(z, window, valid):
    """Where the maxima have an element, None for everywhere."""
    if valid is not None:
        return _engine.window_any(_engine.spread_mask(valid, window), window)
    counts = window.counts(z.ndim, False)
    return None if counts.all() else jnp.asarray(counts > 0)


def _keep_some(key, z, axis, s, cell, outputs):
    """Draws positions of an axis, as many as outputs, and takes these."""
    kept = _draw_kept(key, z.shape[axis], s, cell, outputs)
    # Position j of the ones kept in a cell is one of j ... j + cell - cell / s: so the
    # outputs take taps of a window of stride s, and their derivative is that of a pool.
    per_cell = cell // s
    low, high = (per_cell - 1) * (s - 1), cell - per_cell
    window = Window(
        axes=(axis,),
        size=(low + high + 1,),
        strides=(s,),
        dilation=(1,),
        padding=((low, high),),
        input=(z.shape[axis],),
        output=(outputs,),
    )
    code = kept - (np.arange(outputs, dtype=np.int32) * s - low)
    code = code.astype(_engine.code_dtype(window.taps))
    code = code.reshape(window.along(z.ndim, (outputs,), 1))
    return _engine._pick_taps(code, z, window)


def _draw_kept(key, h, s, cell, outputs):
    """The positions that are kept, ascending: the same number in every cell."""
    full, rest = divmod(h, cell)
    found = []
    # The last cell may be smaller, and keeps what is left of the outputs.
    for sub, start, cells, size in zip(
        jax.random.split(key), (0, full * cell), (full, 1), (cell, rest), strict=True
    ):
        keep = cell // s if size == cell else outputs - full * (cell // s)
        if not cells or not keep:
            continue
        order = jnp.argsort(jax.random.uniform(sub, (cells, size), np.float32), axis=1)
        first = start + np.arange(cells, dtype=np.int32)[:, None] * cell
        kept = jnp.sort(order[:, :keep], axis=1).astype(jnp.int32) + first
        found.append(kept.reshape(-1))
    return jnp.concatenate(found)
