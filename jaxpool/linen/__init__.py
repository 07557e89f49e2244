"""The pools as layers of `flax.linen`.

linen wraps only the methods that a class defines itself, and records (`tabulate`,
`capture_intermediates`) and intercepts only wrapped calls: hence every `__call__`. It
writes a docstring of its own unless the class has one: hence every `__doc__`.
"""

from ._convolutional import LIP as LIP
from ._convolutional import SimplifiedLIP as SimplifiedLIP
from ._convolutional import SPBlock as SPBlock
from ._convolutional import StripPooling as StripPooling
from ._learned import DPP as DPP
from ._learned import AdaPool as AdaPool
from ._learned import GatedPool as GatedPool
from ._learned import GeMPool as GeMPool
from ._learned import GlobalGeMPool as GlobalGeMPool
from ._learned import GlobalLSEPool as GlobalLSEPool
from ._learned import LSEPool as LSEPool
from ._learned import MixedPool as MixedPool
from ._learned import PowerAvgPool as PowerAvgPool
from ._learned import RankPool as RankPool
from ._learned import TreePool as TreePool
from ._plain import AdaptiveAvgPool as AdaptiveAvgPool
from ._plain import AdaptiveMaxPool as AdaptiveMaxPool
from ._plain import AdaptiveMinPool as AdaptiveMinPool
from ._plain import AdaUnpool as AdaUnpool
from ._plain import AvgPool as AvgPool
from ._plain import AvgUnpool as AvgUnpool
from ._plain import BlurPool as BlurPool
from ._plain import CombinedPool as CombinedPool
from ._plain import DetailPreservingPool as DetailPreservingPool
from ._plain import EDSCWPool as EDSCWPool
from ._plain import GlobalAvgMaxPool as GlobalAvgMaxPool
from ._plain import GlobalAvgPool as GlobalAvgPool
from ._plain import GlobalMaxPool as GlobalMaxPool
from ._plain import GlobalMinPool as GlobalMinPool
from ._plain import GlobalSumPool as GlobalSumPool
from ._plain import IDWPool as IDWPool
from ._plain import LocalImportancePool as LocalImportancePool
from ._plain import LpPool as LpPool
from ._plain import MaxBlurPool as MaxBlurPool
from ._plain import MaxPool as MaxPool
from ._plain import MaxUnpool as MaxUnpool
from ._plain import MedianPool as MedianPool
from ._plain import MinPool as MinPool
from ._plain import PolyphasePool as PolyphasePool
from ._plain import SoftPool as SoftPool
from ._plain import SpectralPool as SpectralPool
from ._plain import StripPool as StripPool
from ._plain import Subsample as Subsample
from ._plain import SumPool as SumPool
from ._plain import TopKAvgPool as TopKAvgPool
from ._plain import WaveletPool as WaveletPool
from ._random import FractionalMaxPool as FractionalMaxPool
from ._random import RandomMixedPool as RandomMixedPool
from ._random import RandomPool as RandomPool
from ._random import S3Pool as S3Pool
from ._random import StochasticPool as StochasticPool
