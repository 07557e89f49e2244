"""Position-sensitive regions of interest: every bin reads channels of its own.

Letters: `N` images `(N, H, W, C)`, `K` boxes, an output of `P x Q` bins per box,
`C = D P Q` channels.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from . import _boxes
from ._boxes import Regions, check_regions
from ._check import check_bool, check_float


def ps_roi_pool(
    x: ArrayLike,
    boxes: ArrayLike,
    output_shape: tuple[int, int],
    *,
    batch_index: ArrayLike | None = None,
    spatial_scale: float = 1.0,
    torchvision_compat: bool = False,
    where: ArrayLike | None = None,
    axes: tuple[int, int] = (-3, -2),
) -> jax.Array:
    """Averages every bin of every box, each bin over channels of its own.

    `y[k, p, q, c] = mean_{i in B(k, p, q)} x[i, (c P + p) Q + q]`: position-sensitive
    score maps, one for each bin, in the order of channels that torchvision has. The
    corners are rounded to pixels (halves away from 0), a box is at least 1 wide and
    high, and bin p of P covers the rows from `floor(p s)` to `ceil((p + 1) s)`,
    `s = rows / P`. A bin without pixels gives 0. Boxes have no gradient.

    Computed as two matrix products, in which a NaN or an infinity of a channel reaches
    all bins that read it.

    Args:
      x: `(N, H, W, C)`, images, or `(H, W, C)`, one image, with `C = D P Q`; of any
        real dtype.
      boxes: `(K, 4)`, the corners `(x1, y1, x2, y2)` of each box, x along W and y along
        H, in units of `1 / spatial_scale` pixels. One that is not finite gives 0.
      output_shape: `(P, Q)`, the number of bins along H and W.
      batch_index: `(K,)` ints, the image that each box lies on; may be left out for one
        image. Out of range it is an error where it is known, else the result is 0.
      spatial_scale: what the boxes are multiplied with: the size of x over that of the
        image the boxes are given for.
      torchvision_compat: whether bins end at the last row and column but one, which
        torchvision's forward leaves out (its backward does not).
      where: boolean `(K,)`; a box with False gives 0 and no gradient, whatever it is.
      axes: the axes H and W of x.

    Returns:
      `(K, P, Q, D)`, with x's dtype (the default float for integers); with `axes` the
      bins take the place of the pooled axes, K that of N.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.broadcast_to(jnp.arange(4.0), (4, 4, 4))
      >>> jaxpool.ps_roi_pool(x, jnp.array([[0, 0, 4, 4]]), (2, 2))[0, ..., 0]
      Array([[0., 1.],
             [2., 3.]], dtype=float32)

    References:
      Dai, Li, He, Sun, "R-FCN", 2016, https://arxiv.org/abs/1605.06409, equation 1;
      torchvision, `torchvision.ops.ps_roi_pool`.
    """
    x = check_float("x", x)
    regions, axes = check_regions(
        x, boxes, output_shape, batch_index, spatial_scale, where, axes
    )
    check_bool("torchvision_compat", torchvision_compat)
    _check_sensitive(regions)
    with jax.named_scope("jaxpool.ps_roi_pool"):
        weights = []
        for low, high, bins, size in regions.axes:
            last = size - 1 if torchvision_compat else size
            start, end = _boxes.rounded_bins(low, high, bins, last, inclusive=False)
            pixel = lax.iota(jnp.int32, size)[None, None]
            inside = (pixel >= start[..., None]) & (pixel < end[..., None])
            count = jnp.maximum(end - start, 1)[..., None].astype(low.dtype)
            weights.append(inside.astype(count.dtype) / count)
        y = _boxes.position_sensitive_sums(regions, *weights)
        return _boxes.restore(y, regions, axes, x)


def ps_roi_align(
    x: ArrayLike,
    boxes: ArrayLike,
    output_shape: tuple[int, int],
    *,
    batch_index: ArrayLike | None = None,
    spatial_scale: float = 1.0,
    sampling_ratio: int | None = 2,
    max_sampling_ratio: int | None = None,
    where: ArrayLike | None = None,
    axes: tuple[int, int] = (-3, -2),
) -> jax.Array:
    """Averages bilinear samples of every bin of every box, over channels of its own.

    `roi_align` with `aligned=True`, where bin `(p, q)` of output channel `c` reads
    channel `(c P + p) Q + q`, in the order that torchvision has. A box without points
    (the adaptive ratio of an empty one) gives 0, in torchvision NaN.

    Computed as two matrix products, in which a NaN or an infinity of a channel reaches
    all bins that read it.

    Args:
      x: `(N, H, W, C)`, images, or `(H, W, C)`, one image, with `C = D P Q`; of any
        real dtype.
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
      where: boolean `(K,)`; a box with False gives 0 and no gradient, whatever it is.
      axes: the axes H and W of x.

    Returns:
      `(K, P, Q, D)`, with x's dtype (the default float for integers); with `axes` the
      bins take the place of the pooled axes, K that of N.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.broadcast_to(jnp.arange(4.0), (4, 4, 4))
      >>> jaxpool.ps_roi_align(x, jnp.array([[0, 0, 4, 4]]), (2, 2))[0, ..., 0]
      Array([[0., 1.],
             [2., 3.]], dtype=float32)

    References:
      Li, Peng, Yu, Zhang, Deng, Sun, "Light-Head R-CNN", 2017,
      https://arxiv.org/abs/1711.07264; torchvision, `torchvision.ops.ps_roi_align`.
    """
    x = check_float("x", x)
    regions, axes = check_regions(
        x, boxes, output_shape, batch_index, spatial_scale, where, axes
    )
    ratio = _boxes.check_ratio(sampling_ratio, max_sampling_ratio)
    _check_sensitive(regions)
    with jax.named_scope("jaxpool.ps_roi_align"):
        samples = _boxes.aligned_samples(regions, *ratio, True)
        weights = [
            _boxes.dense(_boxes.taps(along, size), size)
            for along, (*_, size) in zip(samples, regions.axes, strict=True)
        ]
        y = _boxes.position_sensitive_sums(regions, *weights)
        return _boxes.restore(y, regions, axes, x)


# --- Helpers --------------------------------------------------------------------------


def _check_sensitive(regions: Regions) -> None:
    channels, (p, q) = regions.images.shape[-1], regions.bins
    if channels % (p * q):
        raise ValueError(
            f"`x` must have a multiple of {p} x {q} channels for `output_shape` "
            f"{regions.bins}, got {channels}"
        )
