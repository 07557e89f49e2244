"""Pooling for JAX and Flax."""

from importlib.metadata import version as _version

from ._mean import avg_pool as avg_pool
from ._mean import sum_pool as sum_pool
from ._norm import gem_pool as gem_pool
from ._norm import lp_pool as lp_pool
from ._norm import lse_pool as lse_pool
from ._order import max_pool as max_pool
from ._order import median_pool as median_pool
from ._order import min_pool as min_pool
from ._registry import POOLS as POOLS
from ._weighted import soft_pool as soft_pool
from ._window import pool_output_shape as pool_output_shape

__version__ = _version("jaxpool")
