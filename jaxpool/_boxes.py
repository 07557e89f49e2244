"""Boxes on images: where their bins lie, and weighted sums over bins.

Letters: `N` images `(N, H, W, C)`, `K` boxes, an output of `P x Q` bins per box.
Weights are per axis: `rows` `(K, P, H)` and `columns` `(K, Q, W)` say what a bin takes
of every row and column of its image.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax

from ._check import (
    as_int,
    canonical_axes,
    check_array,
    check_integers,
    check_parameter,
    check_sizes,
    check_where,
)
from ._engine import widen, without
from ._vectors import einsum

_FAR = 1e9


class Regions(NamedTuple):
    """Images, channels last, and the boxes on them."""

    images: jax.Array  # (N, H, W, C)
    corners: jax.Array  # (K, 4): x1, y1, x2, y2, in pixels
    image: jax.Array  # (K,), that of each box
    valid: jax.Array  # (K,), False where the result is 0: left out, or not finite
    bins: tuple[int, int]

    @property
    def axes(self) -> tuple[tuple[jax.Array, jax.Array, int, int], ...]:
        """Of rows and of columns: where boxes start and end, `(K,)`, the number of
        bins, and the size of the image.
        """
        x1, y1, x2, y2 = jnp.moveaxis(self.corners, -1, 0)
        (p, q), (_, height, width, _) = self.bins, self.images.shape
        return (y1, y2, p, height), (x1, x2, q, width)


def check_regions(
    x: jax.Array,
    boxes: Any,
    output_shape: Any,
    batch_index: Any,
    spatial_scale: Any,
    where: Any,
    axes: Any,
) -> tuple[Regions, tuple[int, int]]:
    """The arguments of a pool of regions, and the pooled axes as negative ints."""
    axes = canonical_axes(x.shape, axes, 2, "output_shape")
    if x.ndim not in (3, 4):
        raise ValueError(
            "`x` must have two pooled axes, channels and at most one axis of images, "
            f"got shape {x.shape}"
        )
    images = jnp.moveaxis(x, axes, (-3, -2))
    images = images[None] if x.ndim == 3 else images
    if 0 in images.shape[1:3]:
        raise ValueError(f"`x` must not be empty along {axes}, got shape {x.shape}")
    bins = check_sizes("output_shape", output_shape)
    if len(bins) != 2:
        raise ValueError(f"`output_shape` must have two ints, got {bins}")
    boxes = check_array("boxes", boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`boxes` must have shape (K, 4), got {boxes.shape}")
    wide = jnp.float64 in (x.dtype, boxes.dtype)
    boxes = boxes.astype(jnp.float64 if wide else jnp.float32)
    valid = check_where(where, boxes.shape[:1])
    if valid is None:
        valid = jnp.ones((1,), bool)
    valid = jnp.broadcast_to(valid, boxes.shape[:1])
    scale = check_parameter(
        "spatial_scale", spatial_scale, (), boxes.dtype, "be positive", lambda v: v > 0
    )
    corners = boxes * scale.reshape(1, 1)
    # So far out that nothing is there, and near enough for no size to overflow.
    corners = jnp.clip(corners, -_FAR, _FAR)
    valid &= jnp.isfinite(boxes).all(-1)
    corners = without(corners, valid[:, None])
    image = _check_index(batch_index, valid, images.shape[0], x)
    inside = (image >= 0) & (image < images.shape[0])
    image = jnp.clip(image, 0, images.shape[0] - 1)
    return Regions(images, corners, image, valid & inside, bins), axes


def _check_index(batch_index, valid, count, x):
    """The image of each box; those of boxes that are left out may be any."""
    (boxes,) = valid.shape
    if batch_index is None:
        if count != 1:
            raise ValueError(
                f"`batch_index` must be given for x with shape {x.shape}: it says "
                "which image each box lies on"
            )
        return jnp.zeros(boxes, jnp.int32)
    index = check_integers("batch_index", batch_index)
    if index.shape != (boxes,):
        raise ValueError(
            f"`batch_index` must have one int per box, shape ({boxes},), got shape "
            f"{index.shape}"
        )
    if export.is_symbolic_dim(count):
        return index  # not known yet
    try:
        outside = np.asarray(valid & ((index < 0) | (index >= count))).any()
    except jax.errors.TracerArrayConversionError:
        return index  # not known yet
    if outside:
        raise ValueError(
            f"`batch_index` must lie in [0, {count}) for x with shape {x.shape}, got "
            f"{np.asarray(index)}"
        )
    return index


def check_ratio(ratio: Any, most: Any) -> tuple[int | None, int]:
    """Points per bin, None if they are adaptive, and how many there are at most."""
    name, given, other = "sampling_ratio", ratio, most
    if ratio is None:
        name, given, other = "max_sampling_ratio", most, None
    if given is None or other is not None:
        raise ValueError(
            "one of `sampling_ratio` and `max_sampling_ratio` must be None, got "
            f"{ratio} and {most}"
        )
    if as_int(name, given) < 1:
        raise ValueError(f"`{name}` must be at least 1, got {given}")
    return ratio, given


def restore(y: jax.Array, regions: Regions, axes: tuple[int, int], x: Any) -> jax.Array:
    """The bins `(K, P, Q, C)` of valid boxes, laid out like x and with its dtype."""
    y = without(y, regions.valid[:, None, None, None])
    return jnp.moveaxis(y, (-3, -2), axes).astype(x.dtype)


# --- Bins of whole pixels -------------------------------------------------------------


def rounded_bins(
    start: jax.Array, end: jax.Array, bins: int, size: int, *, inclusive: bool
) -> tuple[jax.Array, jax.Array]:
    """Where the bins of boxes in whole pixels start and end, `(K, bins)` each."""
    start, end = lax.stop_gradient((start, end))
    nearest = lax.RoundingMethod.AWAY_FROM_ZERO  # halves
    first, last = lax.round(start, nearest), lax.round(end, nearest)
    length = jnp.maximum(last - first + (1 if inclusive else 0), 1)
    # In integers: XLA divides by multiplication, and 3 pixels in 7 bins would end at 4.
    length, first = length.astype(jnp.int32)[:, None], first.astype(jnp.int32)[:, None]
    whole, rest = length // np.int32(bins), length % np.int32(bins)
    number = np.arange(bins, dtype=np.int32)[None]
    low = number * whole + number * rest // np.int32(bins)
    high = (number + 1) * whole - (-(number + 1) * rest) // np.int32(bins)
    return jnp.clip(low + first, 0, size), jnp.clip(high + first, 0, size)


# --- Samples of bilinear interpolation ------------------------------------------------


class Samples(NamedTuple):
    """What a bin takes along one axis: `(K, P, S)` positions, and which of them are."""

    position: jax.Array
    real: jax.Array


def aligned_samples(
    regions: Regions, ratio: int | None, most: int, aligned: bool
) -> list[Samples]:
    """The points of every bin, along rows and columns; `ratio` None is adaptive."""
    found = []
    for start, end, bins, _ in regions.axes:
        size = end - start
        if not aligned:
            size = jnp.maximum(size, 1)
        if ratio is None:
            count = np.asarray(bins, size.dtype)
            each = jnp.ceil(size / count)  # perhaps 1 off, for XLA multiplies
            each += (each * count < size).astype(size.dtype)
            each -= ((each - 1) * count >= size).astype(size.dtype)
            each = jnp.where(size > 0, jnp.clip(each, 0, most), 0)
            each = lax.stop_gradient(each).astype(jnp.int32)
        else:
            each = jnp.full(size.shape, ratio, jnp.int32)
        shift = np.asarray(0.5 if aligned else 0.0, start.dtype)
        found.append(_samples(start - shift, size, bins, each, most))
    return found


def _samples(start, size, bins, ratio, most) -> Samples:
    """`ratio` samples per bin, `(K,)` and at most `most`, evenly within each bin."""
    bin_size = (size / np.asarray(bins, size.dtype))[:, None, None]
    number = np.arange(bins, dtype=size.dtype)[None, :, None]
    first = start[:, None, None] + number * bin_size
    each = np.arange(most, dtype=np.int32)[None, None]
    ratio = ratio[:, None, None]
    real = jnp.broadcast_to(each < ratio, (*size.shape, bins, most))
    step = bin_size / jnp.maximum(ratio, 1).astype(size.dtype)
    position = first + (each + 0.5).astype(size.dtype) * step
    return Samples(position, real)


class Taps(NamedTuple):
    """The elements that a bin takes along one axis, `(K, P, T)` each."""

    place: jax.Array
    weight: jax.Array


def taps(samples: Samples, size: int) -> Taps:
    """The two neighbours of every sample; beyond the border by a pixel it counts."""
    position = samples.position
    inside = samples.real & (position >= -1) & (position <= size)
    position = jnp.clip(without(position, inside), 0, size - 1)
    low = jnp.floor(lax.stop_gradient(position))
    above = position - low
    count = jnp.maximum(samples.real.sum(-1, keepdims=True), 1).astype(position.dtype)
    share = without(1 / count, inside)
    low = low.astype(jnp.int32)
    high = jnp.minimum(low + 1, size - 1)
    return Taps(
        jnp.concatenate([low, high], -1),
        jnp.concatenate([(1 - above) * share, above * share], -1),
    )


def dense(taps: Taps, size: int) -> jax.Array:
    """Taps as weights of all elements, `(K, P, size)`."""
    hot = taps.place[..., None] == lax.iota(jnp.int32, size)[None, None, None]
    return without(taps.weight[..., None], hot).sum(-2)


def as_int32(size: int) -> jax.Array:
    """A size, which may be symbolic, as a number to compute with."""
    return jnp.asarray(size, jnp.int32)


# --- Weighted sums --------------------------------------------------------------------


def gathered_sums(
    images: jax.Array, image: jax.Array, rows: Taps, columns: Taps
) -> jax.Array:
    """`y[k, p, q] = sum_ij rows[k, p, i] columns[k, q, j] x[i, j]`, tap by tap.

    XLA makes of it one pass that reads each pixel where it is needed.
    """
    _, height, width, channels = images.shape
    flat = images.reshape(images.shape[0] * height * width, channels)
    first = (image[:, None, None] * as_int32(height) + rows.place) * as_int32(width)

    def pixels(i, j):
        place = first[:, :, None, i] + columns.place[:, None, :, j]
        return widen(flat.at[place].get(mode="promise_in_bounds"))

    def column(j):
        parts = (
            pixels(i, j) * rows.weight[:, :, None, None, i].astype(dtype)
            for i in range(rows.place.shape[-1])
        )
        return functools.reduce(jnp.add, parts)

    dtype = widen(images).dtype
    parts = (
        column(j) * columns.weight[:, None, :, None, j].astype(dtype)
        for j in range(columns.place.shape[-1])
    )
    return functools.reduce(jnp.add, parts)


def matmul_sums(
    images: jax.Array, image: jax.Array, rows: jax.Array, columns: jax.Array
) -> jax.Array:
    """The same sums as two matrix products, with weights of all rows and columns."""
    return _products(images, image, rows, columns, "kpnh,nhwc->kpwc", "kqw,kpwc->kpqc")


def position_sensitive_sums(
    regions: Regions, rows: jax.Array, columns: jax.Array
) -> jax.Array:
    """The same, where bin `(p, q)` of channel c reads channel `(c P + p) Q + q`."""
    x = regions.images
    channels = x.shape[-1] // math.prod(regions.bins)
    x = x.reshape(*x.shape[:3], channels, *regions.bins)
    inner, outer = "kpnh,nhwcpq->kwcpq", "kqw,kwcpq->kpqc"
    return _products(x, regions.image, rows, columns, inner, outer)


def _products(x, image, rows, columns, inner, outer):
    x = widen(x)
    rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
    # Weights of the rows of all images: 0 for those that a box is not on.
    number = jnp.arange(x.shape[0], dtype=jnp.int32)[None, None, :, None]
    on = image[:, None, None, None] == number
    rows = without(rows[:, :, None, :], on)
    return einsum(outer, columns, einsum(inner, rows, x))
