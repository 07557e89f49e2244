"""Pooling for JAX and Flax."""

from importlib.metadata import version as _version

from ._ada_unpool import ada_unpool as ada_unpool
from ._adapool import ada_pool as ada_pool
from ._adapool import edscw_pool as edscw_pool
from ._adapool import idw_pool as idw_pool
from ._adaptive import adaptive_avg_pool as adaptive_avg_pool
from ._adaptive import adaptive_max_pool as adaptive_max_pool
from ._adaptive import adaptive_min_pool as adaptive_min_pool
from ._adaptive import fixed_window as fixed_window
from ._antialias import blur_pool as blur_pool
from ._antialias import max_blur_pool as max_blur_pool
from ._antialias import polyphase_pool as polyphase_pool
from ._antialias import subsample as subsample
from ._combined import combined_pool as combined_pool
from ._detail import detail_preserving_pool as detail_preserving_pool
from ._fractional import fractional_max_pool as fractional_max_pool
from ._global import global_avg_max_pool as global_avg_max_pool
from ._global import global_avg_pool as global_avg_pool
from ._global import global_gem_pool as global_gem_pool
from ._global import global_lse_pool as global_lse_pool
from ._global import global_max_pool as global_max_pool
from ._global import global_min_pool as global_min_pool
from ._global import global_sum_pool as global_sum_pool
from ._indices import indices_from_tensorflow as indices_from_tensorflow
from ._indices import indices_to_tensorflow as indices_to_tensorflow
from ._mean import avg_pool as avg_pool
from ._mean import sum_pool as sum_pool
from ._mixed import gated_pool as gated_pool
from ._mixed import mixed_pool as mixed_pool
from ._mixed import random_mixed_pool as random_mixed_pool
from ._mixed import tree_pool as tree_pool
from ._norm import gem_pool as gem_pool
from ._norm import lp_pool as lp_pool
from ._norm import lse_pool as lse_pool
from ._order import max_pool as max_pool
from ._order import median_pool as median_pool
from ._order import min_pool as min_pool
from ._pyramid import max_pool_pyramid as max_pool_pyramid
from ._pyramid import spatial_pyramid_pool as spatial_pyramid_pool
from ._rank import rank_pool as rank_pool
from ._rank import topk_avg_pool as topk_avg_pool
from ._registry import POOLS as POOLS
from ._s3 import s3_pool as s3_pool
from ._stochastic import random_pool as random_pool
from ._stochastic import stochastic_pool as stochastic_pool
from ._strip import strip_pool as strip_pool
from ._transform import spectral_pool as spectral_pool
from ._transform import wavelet_pool as wavelet_pool
from ._unpool import avg_unpool as avg_unpool
from ._unpool import max_unpool as max_unpool
from ._weighted import local_importance_pool as local_importance_pool
from ._weighted import soft_pool as soft_pool
from ._window import pool_output_shape as pool_output_shape

__version__ = _version("jaxpool")
