"""Bilinear resizing, with PyTorch's two conventions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def resize(x: jax.Array, shape: Sequence[int], align_corners: bool) -> jax.Array:
    """Interpolates x linearly to `shape`.

    With `align_corners` the middles of the first and the last elements keep their
    places, otherwise the outer edges do.
    """
    if not align_corners:
        return jax.image.resize(x, shape, "linear", antialias=False)
    # Where there is one element, or one is wanted, it is the first.
    single = [min(n, 1) if m == 1 else n for n, m in zip(x.shape, shape, strict=True)]
    x = x[tuple(slice(n) for n in single)]
    axes = [i for i, n in enumerate(x.shape) if n not in (1, shape[i])]
    grown = [shape[i] if i in axes else n for i, n in enumerate(x.shape)]
    if axes:
        scale = np.array([(shape[i] - 1) / (x.shape[i] - 1) for i in axes], np.float32)
        # Element i of n lies at i + 1/2, and its place is scale i + 1/2.
        shift = (0.5 - 0.5 * scale).astype(np.float32)
        x = jax.image.scale_and_translate(
            x, tuple(grown), axes, scale, shift, "linear", antialias=False
        )
    return jnp.broadcast_to(x, tuple(shape))
