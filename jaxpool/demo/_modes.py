"""The modes of the demo: the registered pools, and the others fitted to a window.

Each is a function of an image and a window, whose size is the stride, too.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jaxpool

Window = tuple[int, int]
Mode = Callable[[jax.Array, Window], jax.Array]


def _rank(x, window_shape):
    """Adds up every window, the larger the more."""
    weights = np.arange(math.prod(window_shape), 0, -1)
    weights = jnp.asarray(weights / weights.sum(), x.dtype)
    return jaxpool.rank_pool(x, window_shape, weights=weights)


def _topk_avg(x, window_shape):
    """Averages the larger half of every window."""
    return jaxpool.topk_avg_pool(x, window_shape, k=-(-math.prod(window_shape) // 2))


def _local_importance(x, window_shape):
    """Averages every window with weights of the softmax of its squares."""
    return jaxpool.local_importance_pool(x, x * x / 4, window_shape)


def _ada(x, window_shape):
    """Mixes edscw and soft by halves."""
    return jaxpool.ada_pool(x, 0.5, window_shape)


def _gated(x, window_shape):
    """Mixes maximum and average by a gate that opens for large windows."""
    taps = math.prod(window_shape)
    return jaxpool.gated_pool(x, jnp.full(taps, 1 / taps, x.dtype), window_shape)


def _tree(x, window_shape):
    """Mixes the first and the last half of every window by a gate."""
    taps = math.prod(window_shape)
    first = np.arange(taps) < taps // 2
    leaves = np.stack([first / first.sum(), ~first / (~first).sum()])
    gates = jnp.full((1, taps), 1 / taps, x.dtype)
    return jaxpool.tree_pool(x, jnp.asarray(leaves, x.dtype), gates, window_shape)


def _fractional(x, window_shape):
    """Takes maxima at uneven steps."""
    ratio = tuple(1 / k for k in window_shape)
    return jaxpool.fractional_max_pool(x, window_shape, output_ratio=ratio)


def _s3(x, window_shape):
    """Takes maxima at random rows and columns."""
    return jaxpool.s3_pool(x, window_shape, key=jax.random.key(0))


def _subsample(x, window_shape):
    """Takes one element of every window."""
    return jaxpool.subsample(x, window_shape)


def _blur(x, window_shape):
    """Blurs, then takes one element of every window."""
    return jaxpool.blur_pool(x, strides=window_shape)


def _max_blur(x, window_shape):
    """Takes maxima at stride 1, blurs, then takes one of every window."""
    return jaxpool.max_blur_pool(x, window_shape, strides=window_shape)


def _polyphase(x, window_shape):
    """Takes one element of every window, at the offset with the largest norm."""
    return jaxpool.polyphase_pool(x, strides=window_shape)


def _spectral(x, window_shape):
    """Keeps the low frequencies."""
    sizes = zip(x.shape[-3:-1], window_shape, strict=True)
    return jaxpool.spectral_pool(x, tuple(n // k for n, k in sizes))


def _wavelet(x, window_shape):
    """Keeps the approximation of a wavelet decomposition, at half the resolution."""
    del window_shape
    return jaxpool.wavelet_pool(x, scale="mean")


def _strip(x, window_shape):
    """Adds the average of each row and column, at one element of every window."""
    rows, columns = jaxpool.strip_pool(x)
    return jaxpool.subsample(rows + columns, window_shape)


_OTHERS = (
    _rank,
    _topk_avg,
    _local_importance,
    _ada,
    _gated,
    _tree,
    _fractional,
    _s3,
    _subsample,
    _blur,
    _max_blur,
    _polyphase,
    _spectral,
    _wavelet,
    _strip,
)
MODES: dict[str, Mode] = {
    **jaxpool.POOLS,
    **{mode.__name__.removeprefix("_"): mode for mode in _OTHERS},
}
