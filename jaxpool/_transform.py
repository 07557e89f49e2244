"""Pools that leave out high frequencies: spectral pooling and wavelet pooling.

Letters: `n` the size of a pooled axis, `h` the size of the output along it, `x` an
input `(*batch, *space, channels)`.

References: Rippel, Snoek, Adams, "Spectral Representations for Convolutional Neural
Networks", 2015; Williams, Li, "Wavelet Pooling for Convolutional Neural Networks",
2018.
"""

import functools
import math
from typing import Literal, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from . import _engine
from ._check import check_bool, check_choice, check_inexact, check_static, pooled_axes
from ._filter import elements, filter_axis
from ._indices import sized_axes
from ._window import Window, make_window


def spectral_pool(
    x: ArrayLike,
    output_shape: tuple[int, ...],
    *,
    axes: tuple[int, ...] | None = None,
    scale: Literal["mean", "ortho"] = "mean",
) -> jax.Array:
    """Keeps the lowest frequencies of the discrete Fourier transform.

    `y = Re(IDFT(crop(DFT(x))))`, where the crop keeps the `h` frequencies
    `-floor(h / 2) ... ceil(h / 2) - 1` of each pooled axis: any output size, and the
    best approximation of x by so few frequencies. An even `h` below `n` keeps a highest
    frequency without its conjugate; the real part averages the two, so that y is real.
    x counts as periodic.

    Args:
      x: `(*batch, *space, channels)`, of any dtype.
      output_shape: tuple with the output size of each pooled axis, at most that of x.
        At x's own size y is x.
      axes: the pooled axes; by default those right before the last.
      scale: `"mean"` keeps the mean of x (a constant stays itself); `"ortho"` is the
        paper's unitary transform, which keeps the sum of squares of the frequencies it
        keeps, and multiplies that by `sqrt(n / h)` for each axis.

    Returns:
      `(*batch, *output_shape, channels)`, with x's dtype; the default float for
      integers and bool. 16-bit floats are computed in float32. A complex x is pooled as
      its real and its imaginary part.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.array([1.0, 2.0, 4.0, 1.0])[:, None]
      >>> jaxpool.spectral_pool(x, (2,))[:, 0].round(4)
      Array([1.25, 2.75], dtype=float32)

    References:
      Rippel, Snoek, Adams, "Spectral Representations for Convolutional Neural
      Networks", 2015, https://arxiv.org/abs/1506.03767
    """
    x = check_inexact("x", x)
    axes, sizes = sized_axes("x", x.shape, output_shape, axes)
    check_static(x.shape, axes)
    if any(h > x.shape[axis] for axis, h in zip(axes, sizes, strict=True)):
        raise ValueError(
            f"`output_shape` must be at most the size of x with shape {x.shape} along "
            f"axes {axes}, got {sizes}"
        )
    check_choice("scale", scale, ("mean", "ortho"))
    with jax.named_scope("jaxpool.spectral_pool"):
        y = _engine.widen(x)
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            y = lax.complex(
                _lowest(jnp.real(y), axes, sizes), _lowest(jnp.imag(y), axes, sizes)
            )
        else:
            y = _lowest(y, axes, sizes)
        if scale == "ortho":
            ratio = math.prod(x.shape[a] / h for a, h in zip(axes, sizes, strict=True))
            y = y * np.asarray(math.sqrt(ratio), y.dtype)
        return y.astype(x.dtype)


Wavelet = Literal["haar", "db2", "db3", "db4", "db5", "db6", "db7", "db8"]
_WAVELETS = ("haar", "db2", "db3", "db4", "db5", "db6", "db7", "db8")


class _WaveletOptions(TypedDict, total=False):
    wavelet: Wavelet
    axes: tuple[int, ...]
    scale: Literal["orthonormal", "mean"]
    gradient: Literal["exact", "paper"]


@overload
def wavelet_pool(
    x: ArrayLike,
    *,
    subbands: Literal[False] = False,
    **options: Unpack[_WaveletOptions],
) -> jax.Array: ...


@overload
def wavelet_pool(
    x: ArrayLike, *, subbands: Literal[True], **options: Unpack[_WaveletOptions]
) -> dict[str, jax.Array]: ...


@overload
def wavelet_pool(
    x: ArrayLike, *, subbands: bool, **options: Unpack[_WaveletOptions]
) -> jax.Array | dict[str, jax.Array]: ...
def wavelet_pool(
    x: ArrayLike,
    *,
    wavelet: Wavelet = "haar",
    axes: tuple[int, ...] = (-3, -2),
    scale: Literal["orthonormal", "mean"] = "orthonormal",
    subbands: bool = False,
    gradient: Literal["exact", "paper"] = "exact",
) -> jax.Array | dict[str, jax.Array]:
    """Keeps the approximation of a wavelet decomposition, at half the resolution.

    The paper decomposes x twice, drops the details of level 1 and reconstructs from
    level 2. As the reconstruction is perfect, that is the low-pass band of level 1,
    `y[o] = sum_t h[t] x[2 o + t - (L / 2 - 1)]` along each pooled axis, with the `L`
    coefficients `h` of the wavelet and x continued periodically. For Haar with two
    axes, y is **twice** the mean of each 2x2 block.

    Args:
      x: `(*batch, *space, channels)`, of any dtype. An odd size is made even by
        repeating the last element.
      wavelet: `"haar"`, or one of Daubechies' with `N` vanishing moments and `L = 2 N`
        coefficients, `"db2"` to `"db8"`.
      axes: the pooled axes.
      scale: `"orthonormal"` as in the paper: the bands together have x's sum of
        squares. `"mean"` divides by `sqrt(2)` for each axis: a constant stays itself.
      subbands: whether to return all bands of level 1, which determine x.
      gradient: `"exact"`, or `"paper"`: the paper's own rule, which is not the
        derivative of this function. It decomposes the cotangent, repeats its details to
        twice their size, and reconstructs from the cotangent and these. It has no
        forward mode.

    Returns:
      `ceil(n / 2)` elements per pooled axis, with x's dtype; the default float for
      integers and bool. With `subbands` a dictionary of such arrays, from `"ll"` to
      `"hh"` for two axes: a letter per axis, in the order of `axes`, `l` for the
      low-pass and `h` for the high-pass filter.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxpool
      >>> x = jnp.arange(16.0).reshape(4, 4, 1)
      >>> jaxpool.wavelet_pool(x)[..., 0].round(4)
      Array([[ 5.,  9.],
             [21., 25.]], dtype=float32)
      >>> sorted(jaxpool.wavelet_pool(x, subbands=True))
      ['hh', 'hl', 'lh', 'll']

    References:
      Williams, Li, "Wavelet Pooling for Convolutional Neural Networks", 2018,
      https://openreview.net/forum?id=rkhlb8lCZ; Daubechies, "Orthonormal Bases of
      Compactly Supported Wavelets", 1988, https://doi.org/10.1002/cpa.3160410705
    """
    x = check_inexact("x", x)
    axes = pooled_axes(x.shape, axes)
    check_static(x.shape, axes)
    check_choice("wavelet", wavelet, _WAVELETS)
    check_choice("scale", scale, ("orthonormal", "mean"))
    check_choice("gradient", gradient, ("exact", "paper"))
    check_bool("subbands", subbands)
    if subbands and gradient == "paper":
        raise ValueError('`gradient` must be "exact" with `subbands`, got "paper"')
    with jax.named_scope("jaxpool.wavelet_pool"):
        wide = _made_even(_engine.widen(x), axes)
        mean = 2 ** (-len(axes) / 2) if scale == "mean" else 1.0
        factor = np.asarray(mean, wide.dtype)
        if subbands:
            bands = _decompose(wide, wavelet, axes)
            return {k: (band * factor).astype(x.dtype) for k, band in bands.items()}
        exact = gradient == "exact"
        pool = _approximation if exact else _approximation_of_the_paper
        return (pool(wide, wavelet, axes) * factor).astype(x.dtype)


# --- Fourier --------------------------------------------------------------------------

# Up to this many coefficients per axis a matrix product, beyond a fast transform. From
# 32 to 16 up to 224 to 112 squared, the product takes 0.3 to 0.75 of its time on CPU
# (2 cores, jax 0.10.2, float32), and its gradient 0.2 to 0.55.
_LARGEST_MATRIX = 2**16


def _lowest(x, axes, sizes):
    """`Re(IDFT(crop(DFT(x))))` of a real x, scaled to keep the mean."""
    pairs = [
        (axis, x.shape[axis], h)
        for axis, h in zip(axes, sizes, strict=True)
        if h != x.shape[axis]
    ]
    if any(n * h > _LARGEST_MATRIX for _, n, h in pairs):
        for axis, n, h in pairs:
            z = jnp.fft.fft(x, axis=axis)
            z = elements(z, axis, np.r_[: h - h // 2, n - h // 2 : n])
            x = jnp.fft.ifft(z, axis=axis) * np.asarray(h / n, z.dtype)
        return jnp.real(x) if pairs else x
    imaginary = None
    for i, (axis, n, h) in enumerate(pairs):
        # (real + i u v^T) applied to x + i imaginary; u v^T is 0 for odd h.
        matrix, u, v = _lowest_matrix(n, h)
        y = _matmul(matrix, x, axis)
        last = i == len(pairs) - 1
        if imaginary is not None:
            y -= _outer(u, v, imaginary, axis)
            imaginary = None if last else _matmul(matrix, imaginary, axis)
        if not last and u.any():
            part = _outer(u, v, x, axis)
            imaginary = part if imaginary is None else imaginary + part
        x = y
    return x


@functools.cache
def _lowest_matrix(n: int, h: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`IDFT crop DFT` of one axis as `R + i u v^T`, with the scale that keeps means."""
    frequency = np.arange(h) - h // 2
    turns = np.outer(np.arange(h), frequency) % h / h  # whole turns left out: exact
    inverse = np.exp(2j * np.pi * turns)
    turns = np.outer(frequency, np.arange(n)) % n / n
    matrix = np.real(inverse @ np.exp(-2j * np.pi * turns)) / n
    even = h % 2 == 0
    u = even * (-1.0) ** np.arange(h)
    v = even * np.sin(np.pi * (h * np.arange(n) % (2 * n)) / n) / n
    return matrix, u, v


def _matmul(matrix, x, axis):
    """A matrix applied along an axis, at full precision."""
    matrix = np.asarray(matrix, x.dtype)
    y = jnp.tensordot(x, matrix, ((axis,), (1,)), precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(y, -1, axis)


def _outer(u, v, x, axis):
    """`u v^T` applied along an axis."""
    shape = [1] * x.ndim
    shape[axis] = -1
    u, v = (np.asarray(w, x.dtype).reshape(shape) for w in (u, v))
    return u * (v * x).sum(axis, keepdims=True)


# --- Wavelets -------------------------------------------------------------------------


@functools.cache
def _scaling_filter(wavelet: str) -> tuple[float, ...]:
    """Daubechies' coefficients `h` by spectral factorisation; their sum is sqrt(2).

    `|h|^2` is `cos^2N P(sin^2)` with `P(y) = sum_k C(N - 1 + k, k) y^k`; of the two
    roots z of each factor of P, the one inside of the unit circle is h's.
    """
    count = 1 if wavelet == "haar" else int(wavelet[2:])
    roots = [-1.0] * count
    coefficients = [math.comb(count - 1 + k, k) for k in reversed(range(count))]
    for y in np.roots(coefficients):
        pair = np.roots([1, 4 * y - 2, 1])
        roots.append(pair[np.argmin(np.abs(pair))])
    h = np.real(np.poly(roots))
    return tuple(float(c) for c in h * math.sqrt(2) / h.sum())


def _made_even(x, axes):
    for axis in axes:
        n = x.shape[axis]
        x = elements(x, axis, np.minimum(np.arange(n + n % 2), n - 1))
    return x


def _band(x, wavelet, axis, high):
    """One band of one axis: the low-pass or the high-pass filter at stride 2."""
    weights = _scaling_filter(wavelet)
    if high:
        weights = tuple((-1) ** t * h for t, h in enumerate(reversed(weights)))
    lo = len(weights) // 2 - 1
    window: Window = make_window(
        x.shape, (len(weights),), strides=2, padding=((lo, lo),), axes=(axis,)
    )
    return filter_axis(x, window, weights, "circular")


def _approximation(x, wavelet, axes):
    for axis in axes:
        x = _band(x, wavelet, axis, False)
    return x


def _decompose(x, wavelet, axes) -> dict[str, jax.Array]:
    bands = {"": x}
    for axis in axes:
        bands = {
            name + letter: _band(band, wavelet, axis, letter == "h")
            for name, band in bands.items()
            for letter in "lh"
        }
    return bands


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _approximation_of_the_paper(x, wavelet, axes):
    return _approximation(x, wavelet, axes)


def _paper_forward(x, wavelet, axes):
    return _approximation(x, wavelet, axes), None


def _paper_backward(wavelet, axes, _, g):
    """Reconstructs from g and from its own details, each repeated to g's size."""
    bands = _decompose(_made_even(g, axes), wavelet, axes)
    bands = {name: _twice(band, axes, g.shape) for name, band in bands.items()}
    bands["l" * len(axes)] = g
    # The transpose of an orthonormal decomposition is the reconstruction.
    shape = list(g.shape)
    for axis in axes:
        shape[axis] *= 2
    start = jnp.zeros(shape, g.dtype)
    _, reconstruct = jax.vjp(lambda x: _decompose(x, wavelet, axes), start)
    return reconstruct(bands)


def _twice(x, axes, shape):
    """Each element repeated along the axes, up to the sizes in `shape`."""
    for axis in axes:
        x = jnp.repeat(x, 2, axis=axis, total_repeat_length=2 * x.shape[axis])
        x = lax.slice_in_dim(x, 0, shape[axis], axis=axis)
    return x


_approximation_of_the_paper.defvjp(_paper_forward, _paper_backward)
