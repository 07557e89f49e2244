"""spectral_pool and wavelet_pool."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_antialias import check_linear, check_linear_in_both_widths, compiled
from transforms import check_transforms, tie_free

from jaxpool import _transform, spectral_pool, wavelet_pool

# --- Oracles --------------------------------------------------------------------------


def spectral_oracle(x, output_shape, axes=None, scale="mean"):
    """The crop of the centred spectrum, by NumPy's transform."""
    if axes is None:
        axes = tuple(range(-len(output_shape) - 1, -1))
    spectrum = np.fft.fftshift(np.fft.fftn(x, axes=axes), axes)
    for axis, h in zip(axes, output_shape, strict=True):
        start = x.shape[axis] // 2 - h // 2
        spectrum = np.take(spectrum, range(start, start + h), axis)
    y = np.fft.ifftn(np.fft.ifftshift(spectrum, axes), axes=axes).real
    ratio = np.prod([y.shape[a] / x.shape[a] for a in axes])
    return y * (ratio if scale == "mean" else np.sqrt(ratio))


# Daubechies' coefficients: closed forms, and her table with the digits of PyWavelets.
R3, R10 = np.sqrt(3.0), np.sqrt(10.0)
Q = np.sqrt(5 + 2 * R10)
LOW = {
    "haar": np.array([1.0, 1.0]) / np.sqrt(2),
    "db2": np.array([1 + R3, 3 + R3, 3 - R3, 1 - R3]) / (4 * np.sqrt(2)),
    "db3": np.array(
        [
            1 + R10 + Q,
            5 + R10 + 3 * Q,
            10 - 2 * R10 + 2 * Q,
            10 - 2 * R10 - 2 * Q,
            5 + R10 - 3 * Q,
            1 + R10 - Q,
        ]
    )
    / (16 * np.sqrt(2)),
    "db4": np.array(
        [
            0.2303778133088965,
            0.7148465705529157,
            0.6308807679298589,
            -0.027983769416859854,
            -0.18703481171909309,
            0.030841381835560764,
            0.0328830116668852,
            -0.010597401785069032,
        ]
    ),
}


def band_oracle(x, axis, wavelet, letter):
    """`y[o] = sum_t f[t] x[(2 o + t - L / 2 + 1) mod n]`."""
    x = np.moveaxis(np.asarray(x, np.float64), axis, 0)
    if len(x) % 2:
        x = np.concatenate([x, x[-1:]])
    n, low = len(x), LOW[wavelet]
    size = len(low)
    y = np.zeros((n // 2, *x.shape[1:]))
    for o, t in itertools.product(range(n // 2), range(size)):
        f = low[t] if letter == "l" else (-1) ** t * low[size - 1 - t]
        y[o] += f * x[(2 * o + t - size // 2 + 1) % n]
    return np.moveaxis(y, 0, axis)


def wavelet_oracle(x, wavelet="haar", axes=(-3, -2), scale="orthonormal", band=None):
    for axis, letter in zip(axes, band or "l" * len(axes), strict=True):
        x = band_oracle(x, axis, wavelet, letter)
    return x if scale == "orthonormal" else x / np.sqrt(2) ** len(axes)


def inverse_oracle(bands, wavelet, axes):
    """The x with these bands, by solving for it axis by axis."""
    for i in reversed(range(len(axes))):
        joined = {}
        for name in {name[:i] for name in bands}:
            low, high = bands[name + "l"], bands[name + "h"]
            both = np.concatenate([low, high], axes[i])
            n = both.shape[axes[i]]
            rows = [band_oracle(np.eye(n), 0, wavelet, letter) for letter in "lh"]
            inverse = np.linalg.inv(np.concatenate(rows))
            moved = np.tensordot(inverse, both, (1, axes[i]))
            joined[name] = np.moveaxis(moved, 0, axes[i])
        bands = joined
    return bands[""]


# --- spectral_pool --------------------------------------------------------------------

SPECTRAL = [
    ((2, 7, 6, 1), {"output_shape": (4, 4)}),  # even, below an odd and an even size
    ((6, 6, 1), {"output_shape": (3, 4)}),
    ((6, 5, 2), {"output_shape": (6, 2)}),  # one axis left alone
    ((7, 2), {"output_shape": (5,), "scale": "ortho"}),
    ((2, 4, 6), {"output_shape": (2, 3), "axes": (-2, -1), "scale": "ortho"}),
    ((6, 5, 2), {"output_shape": (2, 4), "axes": (1, 0)}),
    ((4, 5, 6, 1), {"output_shape": (2, 4, 2)}),
    ((2, 6, 4, 4, 1), {"output_shape": (4, 2, 2), "axes": (1, 2, 3)}),
    ((3, 2, 1), {"output_shape": (1, 1)}),
]


def test_spectral_pool_equals_the_oracle():
    check_linear_in_both_widths(spectral_pool, spectral_oracle, SPECTRAL)


def test_spectral_pool_by_fast_transform_equals_the_oracle(monkeypatch):
    monkeypatch.setattr(_transform, "_LARGEST_MATRIX", 0)
    check_linear(spectral_pool, spectral_oracle, SPECTRAL[:1] + SPECTRAL[3:6])


def test_spectral_pool_of_large_arrays(rng):
    cases = [((1, 96, 70, 2), (48, 33)), ((700, 2), (256,))]  # matrix, fast transform
    inputs = [rng.normal(size=shape).astype(np.float32) for shape, _ in cases]
    outs = [out for _, out in cases]
    got = compiled(
        lambda xs: [spectral_pool(x, o) for x, o in zip(xs, outs, strict=True)], inputs
    )
    for x, y, out in zip(inputs, got, outs, strict=True):
        np.testing.assert_allclose(y, spectral_oracle(x, out), 1e-4, 1e-5)


def test_spectral_pool_at_full_size_is_the_identity():
    x = tie_free((2, 5, 6, 3))
    np.testing.assert_array_equal(spectral_pool(x, (5, 6)), x)
    np.testing.assert_array_equal(spectral_pool(x, (5, 6), scale="ortho"), x)


def test_spectral_pool_keeps_means_and_low_frequencies():
    t = np.arange(12)
    wave = 3 + np.cos(2 * np.pi * t / 12) - np.sin(2 * np.pi * 2 * t / 12)
    high = np.cos(2 * np.pi * 5 * t / 12)
    x = np.stack([wave, high], -1).astype(np.float32)
    for h in (5, 6, 7, 8, 9):
        y = np.asarray(spectral_pool(x, (h,)))
        s = np.arange(h) * 12 / h
        np.testing.assert_allclose(
            y[:, 0],
            3 + np.cos(2 * np.pi * s / 12) - np.sin(2 * np.pi * 2 * s / 12),
            rtol=1e-5,
        )
        np.testing.assert_allclose(y.mean(0), x.mean(0), atol=1e-6)
        # A frequency above those that are kept leaves nothing; the average would not.
        np.testing.assert_allclose(y[:, 1], 0, atol=1e-6)
    # The unitary transform keeps the sum of squares of what it keeps.
    unitary = np.asarray(spectral_pool(x[:, :1], (5,), scale="ortho"))
    np.testing.assert_allclose((unitary**2).sum(), (x[:, 0] ** 2).sum(), rtol=1e-5)


def check_dtypes(pool, oracle, rng, **options):
    """Integers become floats, complex numbers are pooled part by part."""
    integers = np.arange(30).reshape(6, 5, 1)
    real, imaginary = rng.normal(size=(2, 6, 4, 1))
    complex_ = (real + 1j * imaginary).astype("c8")
    empty = np.zeros((0, 5, 4, 2), np.float32)
    ys = compiled(
        lambda *xs: [pool(x, **options) for x in xs], integers, complex_, empty
    )
    want = oracle(integers, **options)
    assert ys[0].dtype == np.float32
    np.testing.assert_allclose(ys[0], want, 1e-5, 1e-5)
    want = oracle(real, **options) + 1j * oracle(imaginary, **options)
    assert ys[1].dtype == np.complex64
    np.testing.assert_allclose(ys[1], want, 1e-5, 1e-5)
    assert ys[2].shape == oracle(empty[:0], **options).shape


def test_spectral_pool_dtypes(rng):
    check_dtypes(spectral_pool, spectral_oracle, rng, output_shape=(4, 2))


def test_spectral_transforms():
    pool = functools.partial(spectral_pool, output_shape=(2, 2))
    check_transforms(pool, tie_free((2, 4, 3, 1)), order=1, eager_grad=False)


def test_spectral_transforms_by_fast_transform(monkeypatch):
    monkeypatch.setattr(_transform, "_LARGEST_MATRIX", 0)
    check_transforms(
        lambda x: spectral_pool(x, (3,)),
        tie_free((2, 5, 1)),
        order=1,
        dtypes=("float32",),
        eager_grad=False,
        platforms=("cpu", "cuda"),
        sharded=None,
    )


# --- wavelet_pool ---------------------------------------------------------------------

WAVELETS = [
    ((2, 6, 4, 1), {}),
    ((5, 7, 2), {"scale": "mean"}),
    ((8, 6, 1), {"wavelet": "db2"}),
    ((5, 6, 1), {"wavelet": "db3", "scale": "mean"}),
    ((2, 10), {"wavelet": "db4", "axes": (-1,)}),
    ((2, 4, 3), {"wavelet": "db4", "axes": (-2, -1)}),  # shorter than the filter
    ((2, 3, 4, 2), {"axes": (0, 1, 2)}),
    ((1, 1, 1), {}),
]


def test_wavelet_pool_equals_the_oracle():
    check_linear_in_both_widths(wavelet_pool, wavelet_oracle, WAVELETS)


def test_wavelet_subbands_equal_the_oracle():
    cases = [
        (shape, options | {"band": band})
        for shape, options in [
            ((6, 4, 2), {}),
            ((8, 5, 1), {"wavelet": "db2", "scale": "mean"}),
        ]
        for band in ("ll", "lh", "hl", "hh")
    ]

    def pool(x, band, **options):
        return wavelet_pool(x, subbands=True, **options)[band]

    check_linear(pool, wavelet_oracle, cases)


@pytest.mark.parametrize("wavelet", list(LOW))
def test_wavelet_subbands_reconstruct_x(wavelet, rng):
    x = rng.normal(size=(8, 6, 2)).astype(np.float32)
    bands = jax.jit(lambda x: wavelet_pool(x, wavelet=wavelet, subbands=True))(x)
    assert sorted(bands) == ["hh", "hl", "lh", "ll"]
    bands = {name: np.asarray(band, np.float64) for name, band in bands.items()}
    back = inverse_oracle(bands, wavelet, (0, 1))
    np.testing.assert_allclose(back, x, 1e-5, 1e-5)
    energy = sum((band**2).sum() for band in bands.values())
    np.testing.assert_allclose(energy, (x.astype(np.float64) ** 2).sum(), 1e-5)


@pytest.mark.parametrize("wavelet", _transform._WAVELETS)
def test_wavelet_filters(wavelet):
    h = np.array(_transform._scaling_filter(wavelet))
    if wavelet in LOW:
        np.testing.assert_allclose(h, LOW[wavelet], rtol=0, atol=1e-13)
    moments = len(h) // 2
    t = np.arange(len(h))
    np.testing.assert_allclose(h.sum(), np.sqrt(2))
    for shift in range(moments):
        product = (h[2 * shift :] * h[: len(h) - 2 * shift]).sum()
        np.testing.assert_allclose(product, shift == 0, atol=1e-13)
    for power in range(moments):  # the high-pass filter does not see polynomials
        scaled = (t / len(h)) ** power
        np.testing.assert_allclose(((-1.0) ** t * h[::-1] * scaled).sum(), 0, atol=1e-9)


def test_haar_is_twice_the_mean_of_blocks_and_the_paper_s_reconstruction(rng):
    x = rng.normal(size=(8, 8, 2)).astype(np.float32)

    def program(x):
        levels = []
        for wavelet in ("haar", "db2"):
            y = wavelet_pool(x, wavelet=wavelet)
            levels.append((y, wavelet_pool(y, wavelet=wavelet, subbands=True)))
        return levels, wavelet_pool(x, scale="mean")

    levels, mean = compiled(program, x)
    means = x.reshape(4, 2, 4, 2, 2).mean((1, 3))
    np.testing.assert_allclose(levels[0][0], 2 * means, 1e-5, 1e-6)
    np.testing.assert_allclose(mean, means, 1e-5, 1e-6)
    # The paper decomposes twice and reconstructs from the second level.
    for wavelet, (y, second) in zip(("haar", "db2"), levels, strict=True):
        np.testing.assert_allclose(inverse_oracle(second, wavelet, (0, 1)), y, 1e-4)


@pytest.mark.parametrize("wavelet, scale", [("haar", "orthonormal"), ("db2", "mean")])
def test_wavelet_gradient_of_the_paper(wavelet, scale, rng):
    x = rng.normal(size=(2, 8, 12, 2)).astype(np.float32)
    options = {"wavelet": wavelet, "scale": scale}
    g = rng.normal(size=(2, 4, 6, 2)).astype(np.float32)
    flat = np.ones_like(g)

    def program(x, g, flat):
        y, paper = jax.vjp(lambda x: wavelet_pool(x, gradient="paper", **options), x)
        _, exact = jax.vjp(lambda x: wavelet_pool(x, **options), x)
        return y, paper(g)[0], exact(g)[0], paper(flat)[0], exact(flat)[0]

    y, paper, exact, paper_of_flat, exact_of_flat = compiled(program, x, g, flat)
    np.testing.assert_allclose(y, wavelet_oracle(x, **options), 1e-5, 1e-5)
    # The cotangent as level 2 makes the cotangent itself the approximation of level 1;
    # its details, repeated, are those of level 1.
    scaled = g if scale == "orthonormal" else g / 2
    bands = {
        "".join(band): wavelet_oracle(scaled, wavelet, band=band)
        for band in itertools.product("lh", repeat=2)
    }
    bands = {k: b.repeat(2, axis=1).repeat(2, axis=2) for k, b in bands.items()}
    bands["ll"] = scaled
    want = inverse_oracle(bands, wavelet, (1, 2))
    np.testing.assert_allclose(paper, want, 1e-4, 1e-5)
    assert np.abs(exact - want).max() > 0.1
    # The two agree for a cotangent without details.
    np.testing.assert_allclose(paper_of_flat, exact_of_flat, 1e-4, 1e-5)


def test_wavelet_gradient_of_the_paper_for_odd_sizes():
    def loss(x):
        return (wavelet_pool(x, gradient="paper") ** 2).sum()

    # 7 x 5 becomes 8 x 6, whose bands of 4 x 3 are decomposed into 2 x 2.
    xs = [jnp.ones((7, 5, 1), dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    found = compiled(lambda xs: [jax.grad(loss)(each) for each in xs], xs)
    for x, dx in zip(xs, found, strict=True):
        assert dx.shape == (7, 5, 1) and dx.dtype == x.dtype
        # Twice the last element, which stands for two: y = 2, dy = 4, dx = 2.
        want = np.outer([2] * 6 + [4], [2] * 4 + [4])[..., None] / 2
        np.testing.assert_allclose(dx.astype(np.float32), want, 1e-2)


def test_wavelet_dtypes(rng):
    check_dtypes(wavelet_pool, wavelet_oracle, rng, wavelet="db2")
    x = jax.ShapeDtypeStruct((5, 4, 2), jnp.bfloat16)
    bands = jax.eval_shape(lambda x: wavelet_pool(x, subbands=True), x)
    assert all(b.shape == (3, 2, 2) and b.dtype == jnp.bfloat16 for b in bands.values())


def test_wavelet_transforms():
    pool = functools.partial(wavelet_pool, wavelet="db2")
    check_transforms(pool, tie_free((2, 3, 2, 1)), order=1, eager_grad=False)


# --- Errors ---------------------------------------------------------------------------

X = np.zeros((2, 6, 6, 3), np.float32)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: spectral_pool(X, 3), TypeError, "`output_shape` must be a tuple"),
        (lambda: spectral_pool(X, (3.0, 2)), TypeError, "`output_shape` must hold"),
        (lambda: spectral_pool(X, ()), ValueError, "`output_shape` must hold ints"),
        (
            lambda: spectral_pool(X, (2,) * 4),
            ValueError,
            r"`output_shape` must have at most 3 ints",
        ),
        (
            lambda: spectral_pool(X, (7, 2)),
            ValueError,
            r"`output_shape` must be at most the size of x with shape "
            r"\(2, 6, 6, 3\) along axes \(-3, -2\), got \(7, 2\)",
        ),
        (
            lambda: spectral_pool(X, (0, 2)),
            ValueError,
            "must hold ints of at least 1, got",
        ),
        (lambda: spectral_pool(X, (2, 2), axes=(1,)), ValueError, "`axes` must name"),
        (
            lambda: spectral_pool(X, (2, 2), scale="sum"),
            ValueError,
            "`scale` must be one of mean, ortho, got 'sum'",
        ),
        (lambda: spectral_pool(None, (2, 2)), TypeError, "`x` must be an array"),
        (
            lambda: wavelet_pool(X, wavelet="db1"),
            ValueError,
            "`wavelet` must be one of haar, db2, .*, got 'db1'",
        ),
        (lambda: wavelet_pool(X, scale="ortho"), ValueError, "`scale` must be one of"),
        (lambda: wavelet_pool(X, gradient="no"), ValueError, "`gradient` must be one"),
        (
            lambda: wavelet_pool(X, gradient="paper", subbands=True),
            ValueError,
            '`gradient` must be "exact" with `subbands`',
        ),
        (lambda: wavelet_pool(X, subbands=1), TypeError, "`subbands` must be True or"),
        (lambda: wavelet_pool(X, axes=()), ValueError, "`axes` must name at least one"),
        (lambda: wavelet_pool(X[0, 0]), ValueError, "`axes` must lie in"),
        (lambda: wavelet_pool(X[:, :0]), ValueError, "`x` must not be empty"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, error, match):
    with pytest.raises(error, match=match):
        call()
