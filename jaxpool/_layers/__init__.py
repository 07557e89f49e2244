"""Bodies of the layers, shared by `nnx/` and `linen/`.

A body is a dataclass with the options of its function as fields; input arrays go to the
call. To add a layer, write its body here, its class in `nnx/` and `linen/`, and its
options in `tests/test_modules.py`, which fails until all agree with the function. What
a layer learns is made by its two classes, from what its body says.
"""

from ._adaptive import AdaptiveAvgPool as AdaptiveAvgPool
from ._adaptive import AdaptiveMaxPool as AdaptiveMaxPool
from ._adaptive import AdaptiveMinPool as AdaptiveMinPool
from ._antialias import BlurPool as BlurPool
from ._antialias import MaxBlurPool as MaxBlurPool
from ._antialias import PolyphasePool as PolyphasePool
from ._antialias import Subsample as Subsample
from ._base import Layer as Layer
from ._context import ASPP as ASPP
from ._context import PPM as PPM
from ._convolutional import Block as Block
from ._convolutional import ConvNormAct as ConvNormAct
from ._convolutional import TorchNames as TorchNames
from ._convolutional import Unit as Unit
from ._convolutional import bessel as bessel
from ._detail import DPP as DPP
from ._global import GlobalAvgMaxPool as GlobalAvgMaxPool
from ._global import GlobalAvgPool as GlobalAvgPool
from ._global import GlobalMaxPool as GlobalMaxPool
from ._global import GlobalMinPool as GlobalMinPool
from ._global import GlobalSumPool as GlobalSumPool
from ._global import StripPool as StripPool
from ._importance import LIP as LIP
from ._importance import SimplifiedLIP as SimplifiedLIP
from ._learned import LSE as LSE
from ._learned import AdaPool as AdaPool
from ._learned import GatedPool as GatedPool
from ._learned import GeM as GeM
from ._learned import GeMPool as GeMPool
from ._learned import GlobalGeMPool as GlobalGeMPool
from ._learned import GlobalLSEPool as GlobalLSEPool
from ._learned import LSEPool as LSEPool
from ._learned import MixedPool as MixedPool
from ._learned import PowerAvgPool as PowerAvgPool
from ._learned import RankPool as RankPool
from ._learned import TreePool as TreePool
from ._mixed import CombinedPool as CombinedPool
from ._porting import from_torch as from_torch
from ._porting import kernel_shape as kernel_shape
from ._pyramid import CSPSPPF as CSPSPPF
from ._pyramid import SPP as SPP
from ._pyramid import SPPCSPC as SPPCSPC
from ._pyramid import SPPF as SPPF
from ._pyramid import SPPFCSPC as SPPFCSPC
from ._pyramid import MaxPoolPyramid as MaxPoolPyramid
from ._pyramid import SimSPPF as SimSPPF
from ._pyramid import SpatialPyramidPool as SpatialPyramidPool
from ._random import FractionalMaxPool as FractionalMaxPool
from ._random import Random as Random
from ._random import RandomMixedPool as RandomMixedPool
from ._random import RandomPool as RandomPool
from ._random import S3Pool as S3Pool
from ._random import StochasticPool as StochasticPool
from ._region import PreciseRoIPool as PreciseRoIPool
from ._region import PSRoIAlign as PSRoIAlign
from ._region import PSRoIPool as PSRoIPool
from ._region import RoIAlign as RoIAlign
from ._region import RoIPool as RoIPool
from ._strip import SPBlock as SPBlock
from ._strip import StripPooling as StripPooling
from ._transform import SpectralPool as SpectralPool
from ._transform import WaveletPool as WaveletPool
from ._unpool import AdaUnpool as AdaUnpool
from ._unpool import AvgUnpool as AvgUnpool
from ._unpool import MaxUnpool as MaxUnpool
from ._weighted import DetailPreservingPool as DetailPreservingPool
from ._weighted import EDSCWPool as EDSCWPool
from ._weighted import IDWPool as IDWPool
from ._weighted import LocalImportancePool as LocalImportancePool
from ._windowed import AvgPool as AvgPool
from ._windowed import LpPool as LpPool
from ._windowed import MaxPool as MaxPool
from ._windowed import MedianPool as MedianPool
from ._windowed import MinPool as MinPool
from ._windowed import SoftPool as SoftPool
from ._windowed import SumPool as SumPool
from ._windowed import TopKAvgPool as TopKAvgPool
