"""The windowed pools by name: for sweeps, combinations, the demo and notebooks."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax

from ._mean import avg_pool, sum_pool
from ._norm import gem_pool, lp_pool, lse_pool
from ._order import max_pool, median_pool, min_pool
from ._weighted import soft_pool

# Every entry takes `(x, window_shape, *, strides, padding, dilation, ceil_mode, axes)`.
POOLS: Mapping[str, Callable[..., jax.Array]] = MappingProxyType(
    {
        "max": max_pool,
        "min": min_pool,
        "avg": avg_pool,
        "sum": sum_pool,
        "median": median_pool,
        "soft": soft_pool,
        "lp": lp_pool,
        "gem": gem_pool,
        "lse": lse_pool,
    }
)
