"""The pools as layers of `flax.nnx`."""
# ruff: noqa: D101 (each docstring is its body's)

from flax import nnx

from . import _layers


class AvgPool(_layers.AvgPool, nnx.Module):
    __doc__ = _layers.AvgPool.__doc__


class LpPool(_layers.LpPool, nnx.Module):
    __doc__ = _layers.LpPool.__doc__


class MaxPool(_layers.MaxPool, nnx.Module):
    __doc__ = _layers.MaxPool.__doc__


class MedianPool(_layers.MedianPool, nnx.Module):
    __doc__ = _layers.MedianPool.__doc__


class MinPool(_layers.MinPool, nnx.Module):
    __doc__ = _layers.MinPool.__doc__


class SoftPool(_layers.SoftPool, nnx.Module):
    __doc__ = _layers.SoftPool.__doc__


class SumPool(_layers.SumPool, nnx.Module):
    __doc__ = _layers.SumPool.__doc__
