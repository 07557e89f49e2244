"""The pools without parameters, as layers of `flax.linen`."""

from flax import linen

from .. import _layers


class AdaUnpool(_layers.AdaUnpool, linen.Module):
    __doc__ = _layers.AdaUnpool.__doc__
    __call__ = _layers.AdaUnpool.__call__


class AdaptiveAvgPool(_layers.AdaptiveAvgPool, linen.Module):
    __doc__ = _layers.AdaptiveAvgPool.__doc__
    __call__ = _layers.AdaptiveAvgPool.__call__


class AdaptiveMaxPool(_layers.AdaptiveMaxPool, linen.Module):
    __doc__ = _layers.AdaptiveMaxPool.__doc__
    __call__ = _layers.AdaptiveMaxPool.__call__


class AdaptiveMinPool(_layers.AdaptiveMinPool, linen.Module):
    __doc__ = _layers.AdaptiveMinPool.__doc__
    __call__ = _layers.AdaptiveMinPool.__call__


class AvgPool(_layers.AvgPool, linen.Module):
    __doc__ = _layers.AvgPool.__doc__
    __call__ = _layers.AvgPool.__call__


class AvgUnpool(_layers.AvgUnpool, linen.Module):
    __doc__ = _layers.AvgUnpool.__doc__
    __call__ = _layers.AvgUnpool.__call__


class BilinearPool(_layers.BilinearPool, linen.Module):
    __doc__ = _layers.BilinearPool.__doc__
    __call__ = _layers.BilinearPool.__call__


class BlurPool(_layers.BlurPool, linen.Module):
    __doc__ = _layers.BlurPool.__doc__
    __call__ = _layers.BlurPool.__call__


class CombinedPool(_layers.CombinedPool, linen.Module):
    __doc__ = _layers.CombinedPool.__doc__
    __call__ = _layers.CombinedPool.__call__


class CompactBilinearPool(_layers.CompactBilinearPool, linen.Module):
    __doc__ = _layers.CompactBilinearPool.__doc__
    __call__ = _layers.CompactBilinearPool.__call__


class CovariancePool(_layers.CovariancePool, linen.Module):
    __doc__ = _layers.CovariancePool.__doc__
    __call__ = _layers.CovariancePool.__call__


class DetailPreservingPool(_layers.DetailPreservingPool, linen.Module):
    __doc__ = _layers.DetailPreservingPool.__doc__
    __call__ = _layers.DetailPreservingPool.__call__


class EDSCWPool(_layers.EDSCWPool, linen.Module):
    __doc__ = _layers.EDSCWPool.__doc__
    __call__ = _layers.EDSCWPool.__call__


class GlobalAvgMaxPool(_layers.GlobalAvgMaxPool, linen.Module):
    __doc__ = _layers.GlobalAvgMaxPool.__doc__
    __call__ = _layers.GlobalAvgMaxPool.__call__


class GlobalAvgPool(_layers.GlobalAvgPool, linen.Module):
    __doc__ = _layers.GlobalAvgPool.__doc__
    __call__ = _layers.GlobalAvgPool.__call__


class GlobalMaxPool(_layers.GlobalMaxPool, linen.Module):
    __doc__ = _layers.GlobalMaxPool.__doc__
    __call__ = _layers.GlobalMaxPool.__call__


class GlobalMinPool(_layers.GlobalMinPool, linen.Module):
    __doc__ = _layers.GlobalMinPool.__doc__
    __call__ = _layers.GlobalMinPool.__call__


class GlobalSumPool(_layers.GlobalSumPool, linen.Module):
    __doc__ = _layers.GlobalSumPool.__doc__
    __call__ = _layers.GlobalSumPool.__call__


class IDWPool(_layers.IDWPool, linen.Module):
    __doc__ = _layers.IDWPool.__doc__
    __call__ = _layers.IDWPool.__call__


class LocalImportancePool(_layers.LocalImportancePool, linen.Module):
    __doc__ = _layers.LocalImportancePool.__doc__
    __call__ = _layers.LocalImportancePool.__call__


class LpPool(_layers.LpPool, linen.Module):
    __doc__ = _layers.LpPool.__doc__
    __call__ = _layers.LpPool.__call__


class MaxBlurPool(_layers.MaxBlurPool, linen.Module):
    __doc__ = _layers.MaxBlurPool.__doc__
    __call__ = _layers.MaxBlurPool.__call__


class MaxPool(_layers.MaxPool, linen.Module):
    __doc__ = _layers.MaxPool.__doc__
    __call__ = _layers.MaxPool.__call__


class MaxPoolPyramid(_layers.MaxPoolPyramid, linen.Module):
    __doc__ = _layers.MaxPoolPyramid.__doc__
    __call__ = _layers.MaxPoolPyramid.__call__


class MaxUnpool(_layers.MaxUnpool, linen.Module):
    __doc__ = _layers.MaxUnpool.__doc__
    __call__ = _layers.MaxUnpool.__call__


class MedianPool(_layers.MedianPool, linen.Module):
    __doc__ = _layers.MedianPool.__doc__
    __call__ = _layers.MedianPool.__call__


class MinPool(_layers.MinPool, linen.Module):
    __doc__ = _layers.MinPool.__doc__
    __call__ = _layers.MinPool.__call__


class PSRoIAlign(_layers.PSRoIAlign, linen.Module):
    __doc__ = _layers.PSRoIAlign.__doc__
    __call__ = _layers.PSRoIAlign.__call__


class PSRoIPool(_layers.PSRoIPool, linen.Module):
    __doc__ = _layers.PSRoIPool.__doc__
    __call__ = _layers.PSRoIPool.__call__


class PolyphasePool(_layers.PolyphasePool, linen.Module):
    __doc__ = _layers.PolyphasePool.__doc__
    __call__ = _layers.PolyphasePool.__call__


class PreciseRoIPool(_layers.PreciseRoIPool, linen.Module):
    __doc__ = _layers.PreciseRoIPool.__doc__
    __call__ = _layers.PreciseRoIPool.__call__


class RoIAlign(_layers.RoIAlign, linen.Module):
    __doc__ = _layers.RoIAlign.__doc__
    __call__ = _layers.RoIAlign.__call__


class RoIPool(_layers.RoIPool, linen.Module):
    __doc__ = _layers.RoIPool.__doc__
    __call__ = _layers.RoIPool.__call__


class SegmentAvgPool(_layers.SegmentAvgPool, linen.Module):
    __doc__ = _layers.SegmentAvgPool.__doc__
    __call__ = _layers.SegmentAvgPool.__call__


class SegmentMaxPool(_layers.SegmentMaxPool, linen.Module):
    __doc__ = _layers.SegmentMaxPool.__doc__
    __call__ = _layers.SegmentMaxPool.__call__


class SegmentSoftmaxPool(_layers.SegmentSoftmaxPool, linen.Module):
    __doc__ = _layers.SegmentSoftmaxPool.__doc__
    __call__ = _layers.SegmentSoftmaxPool.__call__


class SegmentSumPool(_layers.SegmentSumPool, linen.Module):
    __doc__ = _layers.SegmentSumPool.__doc__
    __call__ = _layers.SegmentSumPool.__call__


class SoftPool(_layers.SoftPool, linen.Module):
    __doc__ = _layers.SoftPool.__doc__
    __call__ = _layers.SoftPool.__call__


class SpatialPyramidPool(_layers.SpatialPyramidPool, linen.Module):
    __doc__ = _layers.SpatialPyramidPool.__doc__
    __call__ = _layers.SpatialPyramidPool.__call__


class SpectralPool(_layers.SpectralPool, linen.Module):
    __doc__ = _layers.SpectralPool.__doc__
    __call__ = _layers.SpectralPool.__call__


class StripPool(_layers.StripPool, linen.Module):
    __doc__ = _layers.StripPool.__doc__
    __call__ = _layers.StripPool.__call__


class Subsample(_layers.Subsample, linen.Module):
    __doc__ = _layers.Subsample.__doc__
    __call__ = _layers.Subsample.__call__


class SumPool(_layers.SumPool, linen.Module):
    __doc__ = _layers.SumPool.__doc__
    __call__ = _layers.SumPool.__call__


class TopKAvgPool(_layers.TopKAvgPool, linen.Module):
    __doc__ = _layers.TopKAvgPool.__doc__
    __call__ = _layers.TopKAvgPool.__call__


class WaveletPool(_layers.WaveletPool, linen.Module):
    __doc__ = _layers.WaveletPool.__doc__
    __call__ = _layers.WaveletPool.__call__
