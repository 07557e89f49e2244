"""subsample, blur_pool, max_blur_pool and polyphase_pool.

The helpers on top serve test_transform.py and test_strip.py too.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from transforms import QUICK, check_transforms, tie_free

from jaxpool import blur_pool, max_blur_pool, polyphase_pool, subsample

FIRST_ORDER = {"order": 1, "dtypes": ("float32", "bfloat16"), "eager_grad": False}
MODES = ["reflect", "edge", "zero", "circular"]


def compiled(program, *args):
    """The result of a program that runs once, as NumPy arrays."""
    return jax.device_get(jax.jit(program, compiler_options=QUICK)(*args))


def transposed(linear, shape, g):
    """The transpose of a linear NumPy function of arrays of `shape`, element by one."""
    dx = np.zeros(shape)
    for i in np.ndindex(*shape):
        unit = np.zeros(shape)
        unit[i] = 1
        dx[i] = (linear(unit) * g).sum()
    return dx


def check_linear(pool, oracle, cases, dtype="float32", rtol=1e-5, atol=1e-6):
    """Values and gradients of a linear pool are the oracle's, in one compilation."""
    rng = np.random.default_rng(0)
    cases, inputs, expected = list(cases), [], []
    for shape, options in cases:
        x = rng.normal(size=shape).astype(dtype)
        y = oracle(x.astype(float), **options)
        g = rng.normal(size=y.shape).astype(dtype)
        of = functools.partial(oracle, **options)
        expected.append((y, transposed(of, shape, g.astype(float))))
        inputs.append((x, g))

    def program(inputs):
        results = []
        for (_, options), (x, g) in zip(cases, inputs, strict=True):
            y, vjp = jax.vjp(functools.partial(pool, **options), x)
            results.append((y, vjp(g)[0]))
        return results

    found = compiled(program, inputs)
    for case, got, wanted in zip(cases, found, expected, strict=True):
        for what, a, b in zip(("y", "vjp"), got, wanted, strict=True):
            assert a.dtype == dtype
            a = a.astype(np.result_type(b))
            np.testing.assert_allclose(a, b, rtol, atol, err_msg=f"{what} {case}")


def check_linear_in_both_widths(pool, oracle, cases):
    """All cases in float32, every third in float64 as well."""
    check_linear(pool, oracle, cases)
    with jax.enable_x64(True):
        check_linear(pool, oracle, cases[::3], "float64", 1e-12, 1e-13)


# --- Oracles --------------------------------------------------------------------------


def subsample_oracle(x, strides, offset=0, axes=(-3, -2)):
    for axis, s, start in zip(
        axes,
        np.broadcast_to(strides, len(axes)),
        np.broadcast_to(offset, len(axes)),
        strict=True,
    ):
        x = np.take(x, range(start, x.shape[axis], s), axis)
    return x


def beyond(i, n, mode):
    """The element that stands at position i of an axis of n; None for zero."""
    if 0 <= i < n:
        return i
    if mode == "zero":
        return None
    if mode == "edge" or n == 1:
        return 0 if i < 0 else n - 1
    if mode == "circular":
        return i % n
    i = i % (2 * n - 2)  # there and back, the two ends once
    return i if i < n else 2 * n - 2 - i


def blur_oracle(x, strides=2, filter_size=3, padding_mode="reflect", axes=(-3, -2)):
    k = filter_size
    for axis, s in zip(axes, np.broadcast_to(strides, len(axes)), strict=True):
        x = np.moveaxis(np.asarray(x, np.float64), axis, 0)
        n = len(x)
        y = np.zeros((-(-n // s), *x.shape[1:]))
        for o, t in itertools.product(range(len(y)), range(k)):
            i = beyond(o * s + t - (k - 1) // 2, n, padding_mode)
            if i is not None:
                y[o] += math.comb(k - 1, t) / 2 ** (k - 1) * x[i]
        x = np.moveaxis(y, 0, axis)
    return x


def component(x, s, start):
    return x[tuple(slice(r, None, step) for r, step in zip(start, s, strict=True))]


def polyphase_oracle(x, s, norm=2):
    """The component and its phase for one example, (*space, channels)."""
    for axis, step in enumerate(s):
        whole = -(-x.shape[axis] // step) * step
        x = np.take(x, range(whole), axis, mode="wrap")
    parts = [component(x, s, start) for start in np.ndindex(*s)]
    norms = [np.linalg.norm(part.ravel(), norm) for part in parts]
    return parts[np.argmax(norms)], np.argmax(norms)


# --- subsample ------------------------------------------------------------------------

SUBSAMPLES = [
    ((5, 4, 2), {"strides": 2}),
    ((2, 7, 3, 1), {"strides": (3, 2), "offset": (2, 1)}),
    ((2, 7, 3, 1), {"strides": (3, 2), "offset": 1}),
    ((1, 2, 3, 4), {"strides": 3, "offset": 2, "axes": (-2, -1)}),
    ((3, 5, 4), {"strides": (2, 3), "axes": (0, 1)}),
    ((6, 3), {"strides": 4, "axes": (-2,)}),
    ((2, 3, 4, 5, 1), {"strides": 2, "axes": (-4, -3, -2)}),
    ((1, 1, 1), {"strides": 2}),
]


def test_subsample_equals_the_oracle():
    check_linear(subsample, subsample_oracle, SUBSAMPLES, rtol=0, atol=1e-6)


def test_subsample_takes_an_axis_per_stride_and_keeps_every_dtype():
    x = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(subsample(x, (2,)), x[:, ::2])
    np.testing.assert_array_equal(subsample(x, (2, 3), offset=(1, 2)), x[1::2, 2::3])
    for dtype in (bool, np.int8, np.uint16, np.complex64, jnp.bfloat16):
        x = jax.ShapeDtypeStruct((4, 4, 1), dtype)
        assert jax.eval_shape(lambda x: subsample(x, 2), x).dtype == dtype


def test_subsample_of_an_empty_batch():
    assert subsample(np.zeros((0, 5, 4, 2), np.float32), 2).shape == (0, 3, 2, 2)


def test_subsample_transforms():
    pool = functools.partial(subsample, strides=2, offset=1)
    check_transforms(pool, tie_free((2, 4, 3, 1)), **FIRST_ORDER)


# --- blur_pool ------------------------------------------------------------------------

BLURS = [
    ((6, 5, 2), {}),
    ((2, 7, 4, 1), {"strides": (1, 3), "filter_size": 4}),
    ((1, 2, 5, 6), {"axes": (-2, -1), "filter_size": 5, "padding_mode": "edge"}),
    ((8, 2), {"axes": (-2,), "filter_size": 7, "padding_mode": "circular"}),
    ((5, 6, 1), {"filter_size": 2, "padding_mode": "zero"}),
    ((4, 9, 1), {"strides": (3, 4), "filter_size": 6, "padding_mode": "zero"}),
    ((2, 3, 4, 3, 1), {"axes": (-4, -3, -2), "strides": (2, 1, 2)}),
    ((5, 4, 2), {"axes": (1, 0), "strides": (1, 2), "padding_mode": "circular"}),
    ((9, 7, 1), {"strides": 5, "filter_size": 2}),
    ((7, 4, 1), {"strides": 2, "filter_size": 1, "padding_mode": "zero"}),
    # Shorter than the filter: reflected again and again.
    *[((2, 3, 1), {"filter_size": 7, "padding_mode": mode}) for mode in MODES],
]


def test_blur_pool_equals_the_oracle():
    check_linear_in_both_widths(blur_pool, blur_oracle, BLURS)
    # In one, two and three dimensions, rounded once.
    some = [BLURS[3], BLURS[1], BLURS[6]]
    check_linear(blur_pool, blur_oracle, some, jnp.bfloat16, 4e-3)


def test_blur_pool_of_a_large_array(rng):
    x = rng.normal(size=(2, 67, 64, 3)).astype(np.float32)
    options = [{"filter_size": 4}, {"padding_mode": "circular", "strides": 1}]
    got = compiled(lambda x: [blur_pool(x, **o) for o in options], x)
    for y, o in zip(got, options, strict=True):
        np.testing.assert_allclose(y, blur_oracle(x, **o), 1e-5, 1e-6)


def test_blur_of_a_constant_is_the_constant():
    cases = list(itertools.product((1, 2, 3, 6), (1, 2, 5), MODES))
    got = compiled(
        lambda: [
            blur_pool(
                jnp.full((n, 3), 7.0),
                axes=(-2,),
                strides=2,
                filter_size=k,
                padding_mode=mode,
            )
            for k, n, mode in cases
        ]
    )
    for (k, n, mode), y in zip(cases, got, strict=True):
        assert y.shape == (-(-n // 2), 3)
        if mode != "zero":
            np.testing.assert_array_equal(y, 7.0)
        else:
            # Darker where the filter, of reach (k - 1) / 2 on either side, sees beyond.
            assert (y <= 7).all() and ((y[0] < 7).all() or k <= 2)


def test_blur_of_filter_size_1_is_subsample():
    x = tie_free((2, 7, 4, 3))
    y = blur_pool(x, strides=(2, 3), filter_size=1)
    np.testing.assert_array_equal(y, subsample(x, (2, 3)))


def test_blur_leaves_nothing_of_the_highest_frequency():
    x = np.resize([1.0, -1.0], (8, 1)).astype(np.float32)
    options = {"axes": (-2,), "padding_mode": "circular"}
    ys = compiled(
        lambda x: [blur_pool(x, filter_size=k, **options) for k in (2, 4, 7)], x
    )
    for y in ys:
        np.testing.assert_array_equal(y, np.zeros((4, 1)))
    assert (subsample(x, (2,)) == 1).all()  # the alias: a constant


def test_blur_of_filter_size_2_is_a_mean_inside(rng):
    x = rng.normal(size=(6, 6, 2)).astype(np.float32)
    y = blur_pool(x, filter_size=2, padding_mode="zero")
    want = x.reshape(3, 2, 3, 2, 2).mean((1, 3))
    np.testing.assert_allclose(y, want, 1e-5, 1e-6)


def test_blur_of_nan_and_infinity_stays_where_the_filter_sees_it():
    nan, infinity = np.ones((2, 12, 1), np.float32)
    nan[6], infinity[6] = np.nan, np.inf

    def program(nan, infinity):
        zero = {"filter_size": 4, "padding_mode": "zero"}
        return blur_pool(nan, axes=(-2,)), blur_pool(infinity, axes=(-2,), **zero)

    y, z = compiled(program, nan, infinity)
    np.testing.assert_array_equal(np.isnan(y[:, 0]), np.arange(6) == 3)
    np.testing.assert_array_equal(np.isinf(z[:, 0]), np.isin(np.arange(6), (2, 3)))


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_blur_extremes(dtype, size):
    """A mean of huge numbers is one of them, or between them."""
    x = np.where(tie_free((5, 6, 2)) > 0, size, -size).astype(dtype)
    x[..., 1] = size
    y, z = compiled(lambda x: [blur_pool(x), max_blur_pool(x, (2, 2))], x)
    assert (np.abs(y.astype(float)) <= size).all() and (y[..., 1] == x[0, 0, 1]).all()
    assert (np.abs(z.astype(float)) <= size).all() and (z[..., 1] == x[0, 0, 1]).all()


def test_blur_dtypes(rng):
    integers = [np.arange(8).reshape(8, 1).astype(d) for d in (bool, np.int8, np.int32)]
    real, imaginary = rng.normal(size=(2, 6, 4, 1))
    complex_ = (real + 1j * imaginary).astype("c8")
    empty = np.zeros((0, 5, 4, 2), np.float32)
    found, y, z = compiled(
        lambda xs, x, empty: (
            [blur_pool(x, axes=(-2,)) for x in xs],
            blur_pool(x),
            blur_pool(empty),
        ),
        integers,
        complex_,
        empty,
    )
    for x, got in zip(integers, found, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, blur_oracle(x, axes=(-2,)), 1e-6)
    assert y.dtype == np.complex64 and z.shape == (0, 3, 2, 2)
    want = blur_oracle(real) + 1j * blur_oracle(imaginary)
    np.testing.assert_allclose(y, want, 1e-5, 1e-6)


def test_blur_transforms():
    pool = functools.partial(blur_pool, filter_size=3, strides=(1, 2))
    check_transforms(pool, tie_free((2, 3, 3, 1)), **FIRST_ORDER)


def test_blur_curvature():
    """A filter is linear: the Hessian is that of what comes after it."""
    check_transforms(
        lambda x: blur_pool(x, axes=(-2,), padding_mode="circular"),
        tie_free((4, 1)),
        dtypes=(),
        vmap_axes=(),
        platforms=(),
        export=False,
        eager_grad=False,
    )


# --- max_blur_pool --------------------------------------------------------------------


# The shape of x, the window, options of the maximum, and of the blur.
MAX_BLURS = [
    ((2, 6, 5, 2), (2, 2), {}, {}),
    ((7, 5, 1), (3, 2), {}, {"filter_size": 4, "strides": (1, 2)}),
    ((7, 6, 2), (2, 3), {"padding": "VALID"}, {"padding_mode": "circular"}),
    ((2, 3, 5), (3,), {"axes": (-1,)}, {"padding_mode": "edge"}),
    ((9, 2), (3,), {"padding": ((2, 1),)}, {"strides": 3}),
    ((5, 4, 3, 1), (2, 1, 3), {}, {"strides": (2, 3, 1), "padding_mode": "zero"}),
]


def check_max_blur(some):
    """Each of `some` is a case and a dtype."""
    rng, inputs, expected = np.random.default_rng(0), [], []
    for seed, ((shape, size, of_max, of_blur), dtype) in enumerate(some):
        x = tie_free(shape, seed, jnp.dtype(dtype))
        of_max = {"strides": 1, "padding": "SAME"} | of_max
        dense = oracles.max_pool(x, size, **of_max)
        axes = of_max.get("axes", tuple(range(-len(size) - 1, -1)))
        blur = functools.partial(blur_oracle, axes=axes, **of_blur)
        y = blur(dense)
        g = rng.normal(size=y.shape).astype(x.dtype)
        back = transposed(blur, dense.shape, g.astype(float))
        expected.append((y, oracles.max_pool_vjp(x, back, size, **of_max)))
        inputs.append((x, g))

    def one(x, g, size, of_max, of_blur):
        y, vjp = jax.vjp(lambda x: max_blur_pool(x, size, **of_max, **of_blur), x)
        return y, vjp(g)[0]

    def program(inputs):
        return [
            one(*args, *case[1:]) for args, (case, _) in zip(inputs, some, strict=True)
        ]

    found = compiled(program, inputs)
    for (case, dtype), got, wanted in zip(some, found, expected, strict=True):
        # The gradient of the blur is rounded, and then the sum over the windows.
        tol = {2: 2e-2, 4: 1e-5, 8: 1e-12}[jnp.dtype(dtype).itemsize]
        for what, a, b in zip(("y", "vjp"), got, wanted, strict=True):
            assert a.dtype == dtype
            about = f"{what} {case} {dtype}"
            np.testing.assert_allclose(a.astype(float), b, tol, tol, err_msg=about)


def test_max_blur_pool_equals_the_oracle():
    some = [(case, "float32") for case in MAX_BLURS]
    check_max_blur([*some, (MAX_BLURS[1], jnp.bfloat16)])
    with jax.enable_x64(True):
        check_max_blur([(case, "float64") for case in MAX_BLURS[4:]])


def test_max_blur_pool_of_integers_is_a_float():
    y = max_blur_pool(np.arange(8).reshape(8, 1), (2,))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y[:, 0], [1.5, 3, 5, 6.75])


def test_max_blur_transforms():
    pool = functools.partial(max_blur_pool, window_shape=(2,), filter_size=2)
    check_transforms(pool, tie_free((2, 4, 1)), **FIRST_ORDER)


# --- polyphase_pool -------------------------------------------------------------------


POLYPHASES = [  # the shape of an example, and strides
    ((6, 8, 3), (2, 2)),
    ((5, 7, 2), (2, 2)),
    ((7, 4, 1), (3, 1)),
    ((1, 3, 1), (4, 2)),  # shorter than the stride: extended twice
    ((7, 2), (3,)),
    ((3, 4, 5, 1), (2, 1, 3)),
]


def check_polyphase(cases, norm, dtype, sample):
    """Values, phases and derivatives of examples that `sample(size=)` draws."""
    rng, tol = np.random.default_rng(0), {2: 1e-2, 4: 1e-6, 8: 1e-14}
    tol = tol[jnp.dtype(dtype).itemsize]
    inputs = [sample(size=(3, *s)).astype(dtype) for s, _ in cases]
    cotangents = [
        rng.normal(size=(3, *(-(-n // k) for n, k in zip(s, strides)), s[-1]))  # noqa: B905
        for s, strides in cases
    ]
    cotangents = [g.astype(dtype) for g in cotangents]

    def program(inputs, cotangents):
        results = []
        for x, g, (_, strides) in zip(inputs, cotangents, cases, strict=True):
            axes = tuple(range(-1 - len(strides), -1))
            pool = functools.partial(
                polyphase_pool, strides=strides, axes=axes, norm=norm, return_phase=True
            )

            y, back, phase = jax.vjp(pool, x, has_aux=True)
            results.append((y, phase, back(g)[0], jax.jvp(pool, (x,), (x,))[1][0]))
        return results

    found = compiled(program, inputs, cotangents)
    for x, g, (shape, s), got in zip(inputs, cotangents, cases, found, strict=True):
        for i in range(3):
            y, phase = polyphase_oracle(x[i].astype(float), s, norm)
            np.testing.assert_array_equal(got[0][i].astype(float), y)
            assert got[0].dtype == got[2].dtype == dtype
            assert got[1].dtype == np.int32 and got[1][i] == phase
            # Linear, the phase fixed.
            np.testing.assert_array_equal(got[3][i].astype(float), y)
            place = polyphase_oracle_places(shape, s, phase)
            dx = np.zeros(x[i].size)
            np.add.at(dx, place.ravel(), g[i].ravel().astype(float))
            dx_found = got[2][i].ravel().astype(float)
            np.testing.assert_allclose(dx_found, dx, 10 * tol, tol)


def polyphase_oracle_places(shape, s, phase):
    """Where in x, flat, each element of a component comes from."""
    places = np.arange(math.prod(shape)).reshape(shape)
    for axis, step in enumerate(s):
        whole = -(-shape[axis] // step) * step
        places = np.take(places, range(whole), axis, mode="wrap")
    return component(places, s, np.unravel_index(phase, s))


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_polyphase_pool_equals_the_oracle(norm, rng):
    check_polyphase(POLYPHASES, norm, "float32", rng.normal)


def test_polyphase_pool_equals_the_oracle_in_other_dtypes(rng):
    check_polyphase(POLYPHASES[3:], 2, jnp.bfloat16, rng.normal)
    with jax.enable_x64(True):  # norms that are alike in float32
        sample = functools.partial(rng.normal, 1, 1e-10)
        check_polyphase(POLYPHASES[3:], 2, "float64", sample)


@pytest.mark.parametrize("strides", [(2, 2), (3, 2)])
def test_polyphase_pool_only_shifts_when_x_does(strides, rng):
    x = rng.normal(size=(6, 4, 2)).astype(np.float32)
    shifts = list(np.ndindex(6, 4))
    shifted = np.stack([np.roll(x, shift, (0, 1)) for shift in shifts])
    y = jax.jit(lambda x: polyphase_pool(x, strides=strides))(shifted)
    for shift, of_shifted in zip(shifts, np.asarray(y), strict=True):
        rolls = [np.roll(y[0], roll, (0, 1)) for roll in np.ndindex(*y.shape[1:3])]
        assert any(np.array_equal(roll, of_shifted) for roll in rolls), shift


def test_polyphase_phase_for_a_second_branch(rng):
    x = rng.normal(size=(4, 6, 6, 2)).astype(np.float32)

    def program(x):
        y, phase = polyphase_pool(x, return_phase=True)
        again = polyphase_pool(x, phase=phase), polyphase_pool(-2 * x, phase=phase)
        others = [
            polyphase_pool(x, phase=np.full(4, number), return_phase=True)
            for number in range(4)
        ]
        return y, phase, again, others

    y, phase, (same, scaled), others = compiled(program, x)
    assert phase.shape == (4,) and len(set(phase.tolist())) > 1
    np.testing.assert_array_equal(same, y)
    # Sampling is linear once the phase is known, and every phase is a subsample.
    np.testing.assert_array_equal(scaled, -2 * y)
    for number, (offset, other) in enumerate(
        zip(np.ndindex(2, 2), others, strict=True)
    ):
        want = subsample_oracle(x, 2, offset)
        np.testing.assert_array_equal(other[0], want)
        np.testing.assert_array_equal(other[1], np.full(4, number))


def test_polyphase_ties_go_to_the_first():
    x = np.zeros((4, 4, 1), np.float32)
    x[0, 1] = x[1, 0] = -3  # phases 1 and 2
    _, phase = compiled(
        lambda x: polyphase_pool(x, return_phase=True), np.stack([x, np.ones_like(x)])
    )
    assert phase.tolist() == [1, 0]


def test_polyphase_axes_and_channels(rng):
    x = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)

    def program(x):
        first = {"axes": (-2, -1), "channel_axis": -3}
        y, phases = polyphase_pool(x, channel_axis=None, return_phase=True)
        return {
            "last": polyphase_pool(x, return_phase=True),
            "first": polyphase_pool(jnp.moveaxis(x, -1, 1), return_phase=True, **first),
            "each": (y, phases),
            "given": polyphase_pool(x, channel_axis=None, phase=phases),
            "alone": [polyphase_pool(x[..., c : c + 1]) for c in range(3)],
            "in order": polyphase_pool(x, strides=(2, 3), return_phase=True),
            "reversed": polyphase_pool(
                x, axes=(-2, -3), strides=(3, 2), return_phase=True
            ),
        }

    found = compiled(program, x)
    (want, phase), (y, same) = found["last"], found["first"]
    np.testing.assert_array_equal(np.moveaxis(y, 1, -1), want)
    np.testing.assert_array_equal(same, phase)
    # A phase per channel is that of each channel alone.
    y, phases = found["each"]
    assert phases.shape == (2, 3)
    np.testing.assert_array_equal(y, np.concatenate(found["alone"], -1))
    np.testing.assert_array_equal(y, found["given"])
    # The axes in another order, with their strides, are the same pool.
    for a, b in zip(found["in order"], found["reversed"], strict=True):
        np.testing.assert_array_equal(a, b)


def test_polyphase_dtypes():
    x = np.array([[1], [-5], [2], [0]])
    dtypes = (np.int8, np.int32, np.complex64, jnp.bfloat16, jnp.float16)
    least = np.array([[0], [-128]], np.int8)  # whose absolute value is no int8
    empty = np.zeros((0, 5, 4, 2), np.float32)

    def program(xs, least, empty):
        found = [polyphase_pool(x, axes=(-2,)) for x in xs]
        return found, polyphase_pool(least, axes=(-2,), norm=1), polyphase_pool(empty)

    found, y, z = compiled(program, [x.astype(d) for d in dtypes], least, empty)
    for dtype, got in zip(dtypes, found, strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, np.asarray([[-5], [0]], dtype))
    assert y[0, 0] == -128 and z.shape == (0, 3, 2, 2)


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_polyphase_norms_do_not_overflow(dtype, size):
    x = np.full((4, 1), size, dtype)
    x[::2] /= 2  # the second component is the larger one

    def program(x):
        return [
            polyphase_pool(x, axes=(-2,), norm=n, return_phase=True)[1]
            for n in (1, 2, np.inf)
        ]

    assert compiled(program, x) == [1, 1, 1]


def test_polyphase_transforms():
    check_transforms(polyphase_pool, tie_free((2, 2, 3, 1)), **FIRST_ORDER)


# --- Errors ---------------------------------------------------------------------------

X = np.zeros((2, 6, 6, 3), np.float32)
COMPLEX = np.zeros((6, 6, 3), np.complex64)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: subsample(X, 0), ValueError, "`strides` must be at least 1, got 0"),
        (lambda: subsample(X, 2.0), TypeError, "`strides` must hold ints, got 2.0"),
        (lambda: subsample(X, ()), ValueError, "`axes` must name at least one axis"),
        (
            lambda: subsample(X, (2, 2), axes=(-2,)),
            ValueError,
            r"`strides` must be an int or have one int per pooled axis \(1\)",
        ),
        (lambda: subsample(X, 2, offset=2), ValueError, "`offset` must be below"),
        (lambda: subsample(X, 9, offset=7), ValueError, "`offset` must lie inside"),
        (lambda: subsample(X, 2, offset=-1), ValueError, "`offset` must be at least 0"),
        (lambda: subsample(X[0, 0], 2), ValueError, "`axes` must lie in"),
        (lambda: subsample("x", 2), TypeError, "`x` must be an array"),
        (lambda: blur_pool(X, strides=0), ValueError, "`strides` must be at least 1"),
        (lambda: blur_pool(X, filter_size=0), ValueError, "`filter_size` must be at"),
        (lambda: blur_pool(X, filter_size=3.0), TypeError, "`filter_size` must hold"),
        (
            lambda: blur_pool(X, padding_mode="same"),
            ValueError,
            "`padding_mode` must be one of reflect, edge, zero, circular, got 'same'",
        ),
        (lambda: blur_pool(X, axes=(1, 1)), ValueError, "`axes` must not repeat"),
        (lambda: blur_pool(X, axes=()), ValueError, "`axes` must name at least one"),
        (lambda: blur_pool(X[:, :0]), ValueError, "`x` must not be empty along axes"),
        (lambda: max_blur_pool(COMPLEX, (2, 2)), TypeError, "`x` must be real"),
        (lambda: max_blur_pool(X, 2), TypeError, "`window_shape` must be a tuple"),
        (
            lambda: max_blur_pool(X, (9, 9), padding="VALID"),
            ValueError,
            "`window_shape` .* must fit into x",
        ),
        (
            lambda: max_blur_pool(X, (2, 2), padding_mode=0),
            ValueError,
            "`padding_mode`",
        ),
        (lambda: polyphase_pool(X, norm=3), ValueError, "`norm` must be 1, 2 or inf"),
        (
            lambda: polyphase_pool(X, norm=True),
            ValueError,
            "`norm` must be 1, 2 or inf",
        ),
        (
            lambda: polyphase_pool(X, norm=np.array([1, 2])),
            ValueError,
            "`norm` must be 1, 2 or inf",
        ),
        (
            lambda: polyphase_pool(X, return_phase="no"),
            TypeError,
            "`return_phase` must be True or False, got 'no'",
        ),
        (lambda: polyphase_pool(X, phase="0"), TypeError, "`phase` must be an array"),
        (lambda: polyphase_pool(X[:, :0]), ValueError, "`x` must not be empty along"),
        (lambda: polyphase_pool(X, axes=()), ValueError, "`axes` must name at least"),
        (
            lambda: polyphase_pool(X, axes=(-2, -1)),
            ValueError,
            r"`channel_axis` must not be one of `axes` \(-2, -1\), got -1",
        ),
        (
            lambda: polyphase_pool(X, phase=np.zeros(2, np.float32)),
            TypeError,
            "`phase` must hold ints",
        ),
        (
            lambda: polyphase_pool(X, phase=np.zeros(3, int)),
            ValueError,
            r"`phase` must have the shape \(2,\)",
        ),
        (
            lambda: polyphase_pool(X, phase=np.array([0, 4])),
            ValueError,
            r"`phase` must lie in \[0, 4\)",
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_polyphase_phase_out_of_range_counts_as_0_under_jit():
    x = tie_free((2, 4, 4, 1))
    y = jax.jit(lambda x, phase: polyphase_pool(x, phase=phase))(x, np.array([9, -1]))
    np.testing.assert_array_equal(y, subsample(x, 2))
