"""The pools without parameters, as layers of `flax.nnx`."""

from flax import nnx

from .. import _layers


class AdaUnpool(_layers.AdaUnpool, nnx.Module):
    __doc__ = _layers.AdaUnpool.__doc__


class AdaptiveAvgPool(_layers.AdaptiveAvgPool, nnx.Module):
    __doc__ = _layers.AdaptiveAvgPool.__doc__


class AdaptiveMaxPool(_layers.AdaptiveMaxPool, nnx.Module):
    __doc__ = _layers.AdaptiveMaxPool.__doc__


class AdaptiveMinPool(_layers.AdaptiveMinPool, nnx.Module):
    __doc__ = _layers.AdaptiveMinPool.__doc__


class AvgPool(_layers.AvgPool, nnx.Module):
    __doc__ = _layers.AvgPool.__doc__


class AvgUnpool(_layers.AvgUnpool, nnx.Module):
    __doc__ = _layers.AvgUnpool.__doc__


class BilinearPool(_layers.BilinearPool, nnx.Module):
    __doc__ = _layers.BilinearPool.__doc__


class BlurPool(_layers.BlurPool, nnx.Module):
    __doc__ = _layers.BlurPool.__doc__


class CombinedPool(_layers.CombinedPool, nnx.Module):
    __doc__ = _layers.CombinedPool.__doc__


class CompactBilinearPool(_layers.CompactBilinearPool, nnx.Module):
    __doc__ = _layers.CompactBilinearPool.__doc__


class CovariancePool(_layers.CovariancePool, nnx.Module):
    __doc__ = _layers.CovariancePool.__doc__


class DetailPreservingPool(_layers.DetailPreservingPool, nnx.Module):
    __doc__ = _layers.DetailPreservingPool.__doc__


class EDSCWPool(_layers.EDSCWPool, nnx.Module):
    __doc__ = _layers.EDSCWPool.__doc__


class GlobalAvgMaxPool(_layers.GlobalAvgMaxPool, nnx.Module):
    __doc__ = _layers.GlobalAvgMaxPool.__doc__


class GlobalAvgPool(_layers.GlobalAvgPool, nnx.Module):
    __doc__ = _layers.GlobalAvgPool.__doc__


class GlobalMaxPool(_layers.GlobalMaxPool, nnx.Module):
    __doc__ = _layers.GlobalMaxPool.__doc__


class GlobalMinPool(_layers.GlobalMinPool, nnx.Module):
    __doc__ = _layers.GlobalMinPool.__doc__


class GlobalSumPool(_layers.GlobalSumPool, nnx.Module):
    __doc__ = _layers.GlobalSumPool.__doc__


class IDWPool(_layers.IDWPool, nnx.Module):
    __doc__ = _layers.IDWPool.__doc__


class LocalImportancePool(_layers.LocalImportancePool, nnx.Module):
    __doc__ = _layers.LocalImportancePool.__doc__


class LpPool(_layers.LpPool, nnx.Module):
    __doc__ = _layers.LpPool.__doc__


class MaxBlurPool(_layers.MaxBlurPool, nnx.Module):
    __doc__ = _layers.MaxBlurPool.__doc__


class MaxPool(_layers.MaxPool, nnx.Module):
    __doc__ = _layers.MaxPool.__doc__


class MaxPoolPyramid(_layers.MaxPoolPyramid, nnx.Module):
    __doc__ = _layers.MaxPoolPyramid.__doc__


class MaxUnpool(_layers.MaxUnpool, nnx.Module):
    __doc__ = _layers.MaxUnpool.__doc__


class MedianPool(_layers.MedianPool, nnx.Module):
    __doc__ = _layers.MedianPool.__doc__


class MinPool(_layers.MinPool, nnx.Module):
    __doc__ = _layers.MinPool.__doc__


class PSRoIAlign(_layers.PSRoIAlign, nnx.Module):
    __doc__ = _layers.PSRoIAlign.__doc__


class PSRoIPool(_layers.PSRoIPool, nnx.Module):
    __doc__ = _layers.PSRoIPool.__doc__


class PolyphasePool(_layers.PolyphasePool, nnx.Module):
    __doc__ = _layers.PolyphasePool.__doc__


class PreciseRoIPool(_layers.PreciseRoIPool, nnx.Module):
    __doc__ = _layers.PreciseRoIPool.__doc__


class RoIAlign(_layers.RoIAlign, nnx.Module):
    __doc__ = _layers.RoIAlign.__doc__


class RoIPool(_layers.RoIPool, nnx.Module):
    __doc__ = _layers.RoIPool.__doc__


class SegmentAvgPool(_layers.SegmentAvgPool, nnx.Module):
    __doc__ = _layers.SegmentAvgPool.__doc__


class SegmentMaxPool(_layers.SegmentMaxPool, nnx.Module):
    __doc__ = _layers.SegmentMaxPool.__doc__


class SegmentSoftmaxPool(_layers.SegmentSoftmaxPool, nnx.Module):
    __doc__ = _layers.SegmentSoftmaxPool.__doc__


class SegmentSumPool(_layers.SegmentSumPool, nnx.Module):
    __doc__ = _layers.SegmentSumPool.__doc__


class SoftPool(_layers.SoftPool, nnx.Module):
    __doc__ = _layers.SoftPool.__doc__


class SpatialPyramidPool(_layers.SpatialPyramidPool, nnx.Module):
    __doc__ = _layers.SpatialPyramidPool.__doc__


class SpectralPool(_layers.SpectralPool, nnx.Module):
    __doc__ = _layers.SpectralPool.__doc__


class StripPool(_layers.StripPool, nnx.Module):
    __doc__ = _layers.StripPool.__doc__


class Subsample(_layers.Subsample, nnx.Module):
    __doc__ = _layers.Subsample.__doc__


class SumPool(_layers.SumPool, nnx.Module):
    __doc__ = _layers.SumPool.__doc__


class TopKAvgPool(_layers.TopKAvgPool, nnx.Module):
    __doc__ = _layers.TopKAvgPool.__doc__


class WaveletPool(_layers.WaveletPool, nnx.Module):
    __doc__ = _layers.WaveletPool.__doc__
