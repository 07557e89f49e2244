"""Maxima at random rows and columns: S3Pool.

Letters: `h` the positions of the window along a pooled axis, `x` an input
`(*batch, *space, channels)`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from . import _engine, _selection
from ._check import check_float, check_key, check_where, per_axis
from ._mean import avg_pool
from ._order import max_pool
from ._window import Padding, PerAxis, Window, make_window


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


# --- Draws --------------------------------------------------------------------------


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
    code = code.astype(_selection.code_dtype(window.taps))
    code = code.reshape(window.along(z.ndim, (outputs,), 1))
    return _selection.pick_taps(code, z, window)


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
