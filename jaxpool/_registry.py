"""The windowed pools by name: for sweeps, combinations, the demo and notebooks."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax

from ._adapool import edscw_pool, idw_pool
from ._combined import combined_pool
from ._detail import detail_preserving_pool
from ._mean import avg_pool, sum_pool
from ._mixed import mixed_pool, random_mixed_pool
from ._norm import gem_pool, lp_pool, lse_pool
from ._order import max_pool, median_pool, min_pool
from ._stochastic import random_pool, stochastic_pool
from ._weighted import soft_pool

# Every entry takes `(x, window_shape, *, strides, padding, dilation, ceil_mode, axes)`
# and keeps the number of channels, except for `combined_pool`. Those with a `key` have
# None here: their inference.
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
        "detail_preserving": detail_preserving_pool,
        "edscw": edscw_pool,
        "idw": idw_pool,
        "mixed": mixed_pool,
        "combined": combined_pool,
        "random_mixed": random_mixed_pool,
        "stochastic": stochastic_pool,
        "random": random_pool,
    }
)
