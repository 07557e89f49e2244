"""Regions of interest: boxes of any size, pooled to the same number of bins.

Letters: `N` images `(N, H, W, C)`, `K` boxes, an output of `P x Q` bins per box.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _boxes
from ._boxes import Regions, Samples, check_regions
from ._check import check_array, check_bool, check_float
from ._engine import identity, without
from ._lowering import Rule, per_platform


def roi_pool(
    x: ArrayLike,
    boxes: ArrayLike,
    output_shape: tuple[int, int],
    *,
    batch_index: ArrayLike | None = None,
    spatial_scale: float = 1.0,
    where: ArrayLike | None = None,
    axes: tuple[int, int] = (-3, -2),
) -> jax.Array:
    """Takes the largest element of every bin of every box.

    `y[k, p, q] = max_{i in B(k, p, q)} x[i]`, with torchvision's bins: the corners are
    rounded to pixels (halves away from 0), both ends count, and bin p of P covers the
    rows from `floor(p s)` to `ceil((p + 1) s)` of the box, `s = rows / P`. A bin
    without pixels gives 0. Ties go to the first pixel in row-major order and NaN wins,
    in values and derivatives. Boxes have no gradient: they are rounded.

    Args:
      x: `(N, H, W, C)`, images, or `(H, W, C)`, one image; of any real dtype.
      boxes: `(K, 4)`, the corners `(x1, y1, x2, y2)` of each box, x along W and y along
        H, in units of `1 / spatial_scale` pixels. One that is not finite gives 0.
      output_shape: `(P, Q)`, the number of bins along H and W.
      batch_index: `(K,)` ints, the image that each box lies on; may be left out for one
        image. Out of range it is an error where it is known, else the result is 0.
      spatial_scale: what the boxes are multiplied with: the size of x over that of the
        image the boxes are given for.
      where: boolean `(K,)`; a box with False gives 0 and no gradient, whatever it is.
      axes: the axes H and W of x.

    Returns:
      `(K, P, Q, C)`, with x's dtype; with `axes` the
      bins take the place of the pooled axes, K that of N.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(16.0).reshape(4, 4, 1)
      >>> jaxpool.roi_pool(x, jnp.array([[0, 0, 3, 3]]), (2, 2))[0, ..., 0]
      Array([[ 5.,  7.],
             [13., 15.]], dtype=float32)

    References:
      Girshick, "Fast R-CNN", 2015, https://arxiv.org/abs/1504.08083, section 2.1;
      torchvision, `torchvision.ops.roi_pool`.
    """
    x = check_array("x", x)
    regions, axes = check_regions(
        x, boxes, output_shape, batch_index, spatial_scale, where, axes
    )
    with jax.named_scope("jaxpool.roi_pool"):
        bins = [_boxes.rounded_bins(*axis, inclusive=True) for axis in regions.axes]
        pixel, some = _first_largest(regions, *bins)
        y = without(_element(regions.images, pixel), some)
        return _boxes.restore(y, regions, axes, x)


def roi_align(
    x: ArrayLike,
    boxes: ArrayLike,
    output_shape: tuple[int, int],
    *,
    batch_index: ArrayLike | None = None,
    spatial_scale: float = 1.0,
    sampling_ratio: int | None = 2,
    max_sampling_ratio: int | None = None,
    aligned: bool = True,
    where: ArrayLike | None = None,
    axes: tuple[int, int] = (-3, -2),
) -> jax.Array:
    """Averages bilinear samples of every bin of every box.

    `y[k, p, q] = 1 / (S T) sum_st f(u_s, v_t)` over `S x T` points spread evenly over
    the bin, `f` the bilinear interpolation of the image. With `aligned` pixel `(i, j)`
    has its centre at `(i + 1/2, j + 1/2)`; without, at `(i, j)`, and a box is at least
    1 wide and high. torchvision's rules at the border: a point up to one pixel outside
    takes the border's value, one further out is 0. An inverted box mirrors if
    `aligned`.

    The defaults are those of Detectron2 and mmcv; torchvision has `aligned=False` and
    the adaptive ratio. The derivative to x is exact; that to the boxes, which
    torchvision lacks, is the exact one of the interpolation (the number of points of
    the adaptive ratio is held constant).

    On CPU and GPU each bin gathers the pixels it needs, and the gradient scatters them:
    on a GPU in no fixed order, unless XLA's flag `xla_gpu_deterministic_ops` is set. On
    TPU, and with more than 3 points per bin and axis, both are two matrix products,
    `(K P, N H) x (N H, W C)` the larger, which hold `K P W C` numbers; there a NaN or
    an infinity of a channel reaches all bins.

    Args:
      x: `(N, H, W, C)`, images, or `(H, W, C)`, one image; of any real dtype.
      boxes: `(K, 4)`, the corners `(x1, y1, x2, y2)` of each box, x along W and y along
        H, in units of `1 / spatial_scale` pixels. One that is not finite gives 0.
      output_shape: `(P, Q)`, the number of bins along H and W.
      batch_index: `(K,)` ints, the image that each box lies on; may be left out for one
        image. Out of range it is an error where it is known, else the result is 0.
      spatial_scale: what the boxes are multiplied with: the size of x over that of the
        image the boxes are given for.
      sampling_ratio: points per bin along each axis. None takes
        `ceil(box size / bins)` for each box and axis, at most `max_sampling_ratio`.
      max_sampling_ratio: that bound; to be given if and only if `sampling_ratio` is
        None. All points up to it are computed.
      aligned: whether coordinates are shifted by half a pixel.
      where: boolean `(K,)`; a box with False gives 0 and no gradient, whatever it is.
      axes: the axes H and W of x.

    Returns:
      `(K, P, Q, C)`, with x's dtype (the default float for integers); with `axes` the
      bins take the place of the pooled axes, K that of N.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
      >>> jaxpool.roi_align(x, jnp.array([[0.0, 0.0, 1.0, 1.0]]), (2, 2))[0, ..., 0]
      Array([[1.  , 1.25],
             [1.5 , 1.75]], dtype=float32)

    References:
      He, Gkioxari, Dollár, Girshick, "Mask R-CNN", 2017,
      https://arxiv.org/abs/1703.06870, section 3; torchvision,
      `torchvision.ops.roi_align`.
    """
    x = check_float("x", x)
    regions, axes = check_regions(
        x, boxes, output_shape, batch_index, spatial_scale, where, axes
    )
    ratio = _boxes.check_ratio(sampling_ratio, max_sampling_ratio)
    check_bool("aligned", aligned)
    with jax.named_scope("jaxpool.roi_align"):
        rows, columns = _boxes.aligned_samples(regions, *ratio, aligned)
        y = per_platform(_sum_of_samples, regions.images, regions.image, rows, columns)
        return _boxes.restore(y, regions, axes, x)


def precise_roi_pool(
    x: ArrayLike,
    boxes: ArrayLike,
    output_shape: tuple[int, int],
    *,
    batch_index: ArrayLike | None = None,
    spatial_scale: float = 1.0,
    where: ArrayLike | None = None,
    axes: tuple[int, int] = (-3, -2),
) -> jax.Array:
    """Integrates the bilinear interpolation of every bin of every box.

    `y[k, p, q] = 1 / |B| integral_B f(u, v) du dv` over the bin `B(k, p, q)`, `f` the
    bilinear interpolation of the image with zeros around it. Nothing is rounded or
    sampled: the derivatives to x and to the boxes are exact and continuous. Pixel
    `(i, j)` has its centre at `(i, j)`. A box of no width or height gives 0.

    In closed form: `y = R x C^T`, `R[p, i] = (h(end_p - i) - h(start_p - i)) / |B_p|`
    with the integral h of the hat function, and C alike for columns: two matrix
    products, which hold `K P W C` numbers, and in which a NaN or an infinity of a
    channel reaches all bins.

    Args:
      x: `(N, H, W, C)`, images, or `(H, W, C)`, one image; of any real dtype.
      boxes: `(K, 4)`, the corners `(x1, y1, x2, y2)` of each box, x along W and y along
        H, in units of `1 / spatial_scale` pixels. One that is not finite gives 0.
      output_shape: `(P, Q)`, the number of bins along H and W.
      batch_index: `(K,)` ints, the image that each box lies on; may be left out for one
        image. Out of range it is an error where it is known, else the result is 0.
      spatial_scale: what the boxes are multiplied with: the size of x over that of the
        image the boxes are given for.
      where: boolean `(K,)`; a box with False gives 0 and no gradient, whatever it is.
      axes: the axes H and W of x.

    Returns:
      `(K, P, Q, C)`, with x's dtype (the default float for integers); with `axes` the
      bins take the place of the pooled axes, K that of N.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
      >>> box = jnp.array([[0.0, 0.0, 1.0, 1.0]])
      >>> jaxpool.precise_roi_pool(x, box, (2, 2))[0, ..., 0]
      Array([[1.75, 2.25],
             [2.75, 3.25]], dtype=float32)

    References:
      Jiang, Luo, Mao, Xiao, Jiang, "Acquisition of Localization Confidence for Accurate
      Object Detection", 2018, https://arxiv.org/abs/1807.11590, equations 4 to 6.
    """
    x = check_float("x", x)
    regions, axes = check_regions(
        x, boxes, output_shape, batch_index, spatial_scale, where, axes
    )
    with jax.named_scope("jaxpool.precise_roi_pool"):
        weights = [_integrals(*axis) for axis in regions.axes]
        y = _boxes.matmul_sums(regions.images, regions.image, *weights)
        return _boxes.restore(y, regions, axes, x)


# --- Helpers --------------------------------------------------------------------------


# Samples per bin and axis; more of them take long to compile, tap by tap.
_MOST_GATHERED = 3


def _sum_of_samples(rule: Rule, images, image, rows: Samples, columns: Samples):
    _, height, width, _ = images.shape
    taps = _boxes.taps(rows, height), _boxes.taps(columns, width)
    if rule.native or rows.position.shape[-1] > _MOST_GATHERED:
        weights = _boxes.dense(taps[0], height), _boxes.dense(taps[1], width)
        return _boxes.matmul_sums(images, image, *weights)
    return _boxes.gathered_sums(images, image, *taps)


def _element(images, pixel):
    """What each channel has at a pixel of its own, `(K, P, Q, C)`, numbered flat."""
    *pixels, channels = images.shape
    flat = images.reshape(math.prod(pixels), channels)
    channel = lax.broadcasted_iota(jnp.int32, pixel.shape, pixel.ndim - 1)
    return flat.at[pixel, channel].get(mode="promise_in_bounds")


def _first_largest(regions: Regions, rows, columns):
    """The pixel that holds the largest element of each bin, and whether there is one.

    The bins are scanned together, element by element: as many steps as the largest has
    elements.
    """
    images = lax.stop_gradient(regions.images)
    _, height, width, channels = images.shape
    top, bottom = (edge[:, :, None, None] for edge in rows)
    left, right = (edge[:, None, :, None] for edge in columns)
    image = regions.image[:, None, None, None] * _boxes.as_int32(height)
    tall = jnp.max(bottom - top, initial=0)
    wide = jnp.max(right - left, initial=0)
    shape = (*regions.image.shape, *regions.bins, channels)

    def step(t, state):
        best, pixel, some = state
        i, j = top + t // wide, left + t % wide
        inside = (i < bottom) & (j < right)
        row = image + jnp.minimum(i, height - 1)
        here = row * _boxes.as_int32(width) + jnp.minimum(j, width - 1)
        here = jnp.broadcast_to(here, shape)
        value = _element(images, here)
        better = (value > best) | ~some | ((value != value) & (best == best))
        better &= inside
        return (
            jnp.where(better, value, best),
            jnp.where(better, here, pixel),
            some | inside,
        )

    # Not constants: under shard_map the state must vary across devices as its steps do.
    pixel = jnp.broadcast_to((image + top + left) * np.int32(0), shape)
    value = _element(images, pixel)
    pixel = jnp.where(value == value, pixel, pixel)
    some = pixel < 0
    best = jnp.where(some, value, identity(lax.max, images.dtype))
    _, pixel, some = lax.fori_loop(0, tall * wide, step, (best, pixel, some))
    return pixel, some


def _integrals(start, end, bins, size):
    """The share of each element in the integral over a bin, `(K, bins, size)`."""
    length = jnp.maximum(end - start, 0)[:, None]
    step = length / np.asarray(bins, length.dtype)
    number = np.arange(bins + 1, dtype=length.dtype)[None]
    edges = (start[:, None] + number * step)[..., None]
    element = lax.iota(length.dtype, size)[None, None]
    below = _integral_of_hat(edges - element)
    some = (step > 0)[..., None]
    share = jnp.diff(below, axis=1) / jnp.where(some, step[..., None], 1)
    return without(share, some)


def _integral_of_hat(t):
    """The integral up to t of `max(0, 1 - |t|)`."""
    t = jnp.clip(t, -1, 1)
    half = np.asarray(0.5, t.dtype)
    return half + t - jnp.sign(t) * t * t * half
