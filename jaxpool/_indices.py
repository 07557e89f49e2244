"""Positions in the pooled axes: TensorFlow's convention, and arrays with flat planes.

A position of `max_pool(return_indices=True)` counts the elements of one channel of one
image, row-major over the unpadded pooled axes; -1 means nowhere.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.typing import ArrayLike

from ._check import canonical_axes, check_bool, check_integers, check_sizes


def indices_to_tensorflow(
    indices: ArrayLike,
    input_shape: tuple[int, ...],
    *,
    include_batch: bool = False,
    axes: tuple[int, ...] = (-3, -2),
) -> jax.Array:
    """Converts positions of maxima to those of `tf.nn.max_pool_with_argmax`.

    TensorFlow's position of `x[b, y, x, c]` is `(y * W + x) * C + c`, and with
    `include_batch` (its `include_batch_in_index`) `((b * H + y) * W + x) * C + c`;
    ours is `y * W + x`. Under padding TensorFlow documents other positions, clipped
    into the image, as a bug of its own.

    Args:
      indices: integer `(*batch, *space, channels)`, of `max_pool(return_indices=True)`.
      input_shape: the whole shape of the pool's input, `(*batch, *space, channels)`.
      include_batch: whether the position counts the batch axes too.
      axes: the pooled axes, one or more in a row that end right before the channels.

    Returns:
      int32 positions with the shape of `indices`; -1 stays -1.

    Raises:
      TypeError: if `indices` are not integers.
      ValueError: if shapes do not fit, or positions exceed int32.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(32.0).reshape(1, 4, 4, 2)
      >>> _, indices = jaxpool.max_pool(x, (2, 2), return_indices=True)
      >>> jaxpool.indices_to_tensorflow(indices, x.shape).ravel()
      Array([10, 11, 14, 15, 26, 27, 30, 31], dtype=int32)

    References:
      TensorFlow, `tf.nn.max_pool_with_argmax`,
      https://www.tensorflow.org/api_docs/python/tf/nn/max_pool_with_argmax
    """
    indices = check_integers("indices", indices)
    offset = _offset("indices", indices.shape, input_shape, include_batch, axes)
    with jax.named_scope("jaxpool.indices_to_tensorflow"):
        found = indices * np.int32(input_shape[-1]) + offset
        return jnp.where(indices < 0, np.int32(-1), found)


def indices_from_tensorflow(
    argmax: ArrayLike,
    input_shape: tuple[int, ...],
    *,
    include_batch: bool = False,
    axes: tuple[int, ...] = (-3, -2),
) -> jax.Array:
    """Converts positions of `tf.nn.max_pool_with_argmax` to those of `max_pool`.

    The inverse of `indices_to_tensorflow`: `(y * W + x) * C + c` becomes `y * W + x`.

    Args:
      argmax: integer `(*batch, *space, channels)`, TensorFlow's second result.
      input_shape: the whole shape of the pool's input, `(*batch, *space, channels)`.
      include_batch: TensorFlow's `include_batch_in_index`.
      axes: the pooled axes, one or more in a row that end right before the channels.

    Returns:
      int32 positions with the shape of `argmax`, for `max_unpool`; -1 stays -1.

    Raises:
      TypeError: if `argmax` is not of integers.
      ValueError: if shapes do not fit, or positions exceed int32.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> argmax = jnp.array([10, 11, 14, 15]).reshape(1, 1, 2, 2)
      >>> jaxpool.indices_from_tensorflow(argmax, (1, 4, 4, 2)).ravel()
      Array([5, 5, 7, 7], dtype=int32)

    References:
      TensorFlow, `tf.nn.max_pool_with_argmax`,
      https://www.tensorflow.org/api_docs/python/tf/nn/max_pool_with_argmax
    """
    argmax = check_integers("argmax", argmax)
    offset = _offset("argmax", argmax.shape, input_shape, include_batch, axes)
    with jax.named_scope("jaxpool.indices_from_tensorflow"):
        found = (argmax - offset) // np.int32(input_shape[-1])
        return jnp.where(argmax < 0, np.int32(-1), found)


def _offset(name, shape, input_shape, include_batch, axes):
    """What TensorFlow's position adds to `C` times ours, broadcastable to `shape`."""
    check_bool("include_batch", include_batch)
    known = input_shape
    if isinstance(input_shape, tuple) and not include_batch:
        known = tuple(n for n in input_shape if not export.is_symbolic_dim(n))
    check_sizes("input_shape", known, least=0)
    whole = tuple(input_shape)
    pooled = canonical_axes(whole, axes, None)
    count = len(pooled)
    if sorted(pooled) != list(range(-count - 1, -1)):
        raise ValueError(
            "`axes` must be in a row and end right before the channels, got "
            f"{tuple(axes)} for `input_shape` {whole}"
        )
    batch, image = whole[: -count - 1], whole[-count - 1 :]
    ends = (*batch, *shape[len(batch) : len(batch) + count], whole[-1])
    if tuple(shape) != ends:
        raise ValueError(
            f"`input_shape` must equal the shape of `{name}`, {tuple(shape)}, outside "
            f"of the pooled axes, got {whole}"
        )
    if math.prod(whole if include_batch else image) > np.iinfo(np.int32).max:
        raise ValueError(
            f"`input_shape` must have fewer than 2^31 positions, got {whole}"
        )
    offset = np.arange(whole[-1], dtype=np.int32).reshape(
        (1,) * (len(whole) - 1) + (-1,)
    )
    if include_batch:
        number = np.arange(math.prod(batch), dtype=np.int32) * np.int32(
            math.prod(image)
        )
        offset = offset + number.reshape(batch + (1,) * (count + 1))
    return offset


# --- For the other families that deal in positions ------------------------------------


def sized_axes(
    name: str, shape: Sequence[int], output_shape: Any, axes: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of array `name` that `output_shape` sizes, ascending, and the sizes."""
    sizes = check_sizes("output_shape", output_shape)
    if axes is None:
        if len(sizes) >= len(shape):
            raise ValueError(
                f"`output_shape` must have at most {len(shape) - 1} ints (the axes of "
                f"{name} with shape {tuple(shape)} before its channels), got {sizes}"
            )
        axes = tuple(range(-len(sizes) - 1, -1))
    axes = canonical_axes(shape, axes, len(sizes), "output_shape")
    pairs = sorted(zip(axes, sizes, strict=True))
    return tuple(a for a, _ in pairs), tuple(n for _, n in pairs)


def flatten(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """`x` with its pooled axes, ascending, last and flat: `(*rest, positions)`."""
    count = len(axes)
    x = jnp.moveaxis(x, axes, range(-count, 0))
    return x.reshape((*x.shape[:-count], math.prod(x.shape[-count:])))


def unflatten(x: jax.Array, axes: Sequence[int], sizes: Sequence[int]) -> jax.Array:
    """The inverse of `flatten`."""
    x = x.reshape((*x.shape[:-1], *sizes))
    return jnp.moveaxis(x, range(-len(axes), 0), axes)


def rows(fn: Any, *arrays: jax.Array) -> jax.Array:
    """`fn` on the last axis of every array.

    By vmap, so that the other axes stay batch axes of a gather or scatter, and may be
    sharded.
    """
    for _ in range(arrays[0].ndim - 1):
        fn = jax.vmap(fn)
    return fn(*arrays)
