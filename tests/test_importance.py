"""local_importance_pool against loops over the formula, its limits and its extremes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transforms import QUICK, check_transforms, tie_free

import jaxpool
from jaxpool import _lowering, local_importance_pool

# The shape of x, that of the logits, the window, and options.
CASES = [
    ((2, 5, 6, 2), (5, 6, 2), (3, 2), {"strides": (2, 1), "padding": ((1, 2), (0, 1))}),
    (
        (2, 3, 5, 4),
        (2, 3, 5, 4),
        (2, 2),
        {"axes": (-2, -1), "where": tie_free((2, 3, 5, 4), 1) > 0.5},
    ),
    (  # axis by axis, as 10 taps are
        (9, 8, 2),
        (9, 8, 1),
        (5, 2),
        {"padding": 1, "strides": 2, "where": tie_free((9, 8, 1)) > 1.2, "empty": 5.0},
    ),
    (
        (9, 2),
        (9, 1),
        (3,),
        {"strides": 3, "dilation": 2, "padding": ((6, 1),), "ceil_mode": True},
    ),
    ((3, 4, 3, 2), (4, 1, 1), (2, 1, 2), {"padding": (1, 0, 1), "dilation": 2}),
    ((2, 2, 1), (2, 2, 1), (2, 2), {"where": np.zeros((1, 1), bool), "empty": 5.0}),
]


def oracle(x, logits, g, window_shape, *, where=None, empty=0.0, **geometry):
    """The value and, for the cotangent g, the derivatives by x and the logits."""
    x, spread = np.asarray(x, float), np.broadcast_to(logits, x.shape).astype(float)
    shape = oracles.output_shape(x.shape, window_shape, **geometry)
    y = np.full(shape, 0.0 if where is None else empty)
    dx, dl = np.zeros(x.shape), np.zeros(x.shape)
    for target, taps, _ in oracles._elements(
        x.shape, window_shape, where=where, **geometry
    ):
        if len(taps):
            v, weights = x.flat[taps], spread.flat[taps]
            w = np.exp(weights - weights.max())
            w /= w.sum()
            y.flat[target] = w @ v
            dx.flat[taps] += g.flat[target] * w
            dl.flat[taps] += g.flat[target] * w * (v - w @ v)
    # Back to the shape of the logits.
    dl = dl.reshape(x.shape)
    lead = dl.ndim - np.ndim(logits)
    dl = dl.sum(tuple(range(lead)))
    same = tuple(i for i, n in enumerate(np.shape(logits)) if n == 1)
    return y, dx, dl.sum(same, keepdims=True)


def cases(some, dtype):
    rng = np.random.default_rng(0)
    for seed, (shape, logits_shape, window_shape, options) in enumerate(some):
        x = tie_free(shape, seed, dtype)
        logits = (rng.normal(size=logits_shape) * 3).astype(dtype)
        if (where := options.get("where")) is not None:
            x = np.where(where, x, np.array(np.nan, dtype))
            if logits_shape == shape:
                logits = np.where(where, logits, np.array(np.inf, dtype))
        yield x, logits, {"window_shape": window_shape, **options}


def check(cases, rule="cpu"):
    cases, inputs, expected = list(cases), [], []
    for x, logits, options in cases:
        geometry = {k: v for k, v in options.items() if k not in ("where", "empty")}
        shape = oracles.output_shape(x.shape, **geometry)
        g = np.random.default_rng(1).normal(size=shape).astype(x.dtype)
        inputs.append((x, logits, g))
        expected.append(oracle(x, logits, np.asarray(g, float), **options))

    def program(inputs):
        got = []
        for (*_, options), (x, logits, g) in zip(cases, inputs, strict=True):
            pool = functools.partial(local_importance_pool, **options)
            y, vjp = jax.vjp(pool, x, logits)
            got.append((y, *vjp(g)))
        return got

    with _lowering.force(rule):
        got = jax.device_get(jax.jit(program, compiler_options=QUICK)(inputs))
    for (x, _, options), a, b in zip(cases, got, expected, strict=True):
        rtol = {2: 3e-2, 4: 2e-5, 8: 1e-12}[x.itemsize]
        for what, one, other in zip(("y", "dx", "dlogits"), a, b, strict=True):
            assert one.dtype == x.dtype
            about = f"{what}, {x.dtype}, {options}"
            one = np.asarray(one, float)
            np.testing.assert_allclose(one, other, rtol, rtol, err_msg=about)


def test_equals_the_oracle():
    check([*cases(CASES, "float32"), *cases(CASES[3:4], jnp.bfloat16)])


@pytest.mark.parametrize("rule, some", [("default", CASES[2:3]), ("tpu", CASES[:1])])
def test_equals_the_oracle_by_other_rules(rule, some):
    check(cases(some, "float32"), rule)


def test_equals_the_oracle_in_float64():
    with jax.enable_x64(True):
        check(cases(CASES[2:3], "float64"))


def test_the_curvature_of_a_large_window():
    """Second derivatives are finite differences of the oracle's first ones."""
    x, logits, t, u = (tie_free((5, 4, 1), i, np.float64) for i in range(4))
    options = {"window_shape": (4, 3), "strides": 1, "padding": ((1, 0), (0, 1))}
    g = np.ones(oracles.output_shape(x.shape, **options))

    def gradient(x, logits):
        return jax.grad(lambda *a: local_importance_pool(*a, **options).sum(), (0, 1))(
            x, logits
        )

    with jax.enable_x64(True), _lowering.force("cpu"):
        program = jax.jit(
            lambda *args: jax.jvp(gradient, args, (t, u))[1], compiler_options=QUICK
        )
        found = program(x, logits)
    up, down = (
        oracle(x + h * t, logits + h * u, g, **options)[1:] for h in (1e-6, -1e-6)
    )
    for got, a, b in zip(found, up, down, strict=True):
        np.testing.assert_allclose(got, (a - b) / 2e-6, 1e-5, 1e-6)


def test_limits():
    x = tie_free((2, 7, 6, 3))
    options = {"strides": 2, "padding": 1, "window_shape": (3, 3)}

    def program(x):
        constant = local_importance_pool(x, jnp.full((1,), 7.0), **options)
        average = jaxpool.avg_pool(x, count_include_pad=False, **options)
        soft = local_importance_pool(x, x, **options), jaxpool.soft_pool(x, **options)
        steep = local_importance_pool(x, x * np.float32(1e4), **options)
        # Whole windows far below the others: no shift by a global maximum.
        rows = 1e4 * jnp.arange(7.0)[None, :, None, None]
        far = local_importance_pool(x, x + rows, (1, 3)), jaxpool.soft_pool(x, (1, 3))
        largest = jaxpool.max_pool(x, **options)
        return (constant, average), soft, (steep, largest), far

    pairs = jax.jit(program, compiler_options=QUICK)(x)
    for (got, expected), atol in zip(pairs, (1e-6, 1e-6, 1e-6, 1e-2), strict=True):
        np.testing.assert_allclose(got, expected, 1e-6, atol)


def test_logits_of_minus_infinity_leave_out():
    x = np.array([1.0, np.nan, 3.0, 2.0, 1.0, 2.0], np.float32)[:, None]
    logits = np.array([0.0, -np.inf, 0.0, -np.inf, -np.inf, -np.inf], np.float32)

    def total(x, logits):
        y = local_importance_pool(x, logits[:, None], (3,), empty=9.0)
        return y.sum(), y

    x = np.nan_to_num(x)
    program = jax.jit(jax.grad(total, (0, 1), has_aux=True), compiler_options=QUICK)
    grads, y = program(x, logits)
    np.testing.assert_allclose(y[:, 0], [2.0, 9.0])
    np.testing.assert_allclose(grads[0][:, 0], [0.5, 0, 0.5, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(grads[1], [-0.5, 0, 0.5, 0, 0, 0], atol=1e-6)


def test_nan_propagates():
    ones = np.ones((4, 1), np.float32)
    nan = np.array([1.0, np.nan, 1.0, 1.0], np.float32)[:, None]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(*args):
        return [local_importance_pool(*a, (2,)) for a in (args, args[::-1])]

    y = jax.device_get(program(nan, ones))
    assert [np.isnan(a[:, 0]).tolist() for a in y] == [[True, False]] * 2


def test_integers_and_mixed_dtypes():
    def shape_of(x_dtype, logits_dtype):
        x, logits = np.ones((4, 1), x_dtype), np.ones((4, 1), logits_dtype)
        spec = jax.eval_shape(
            lambda *args: local_importance_pool(*args, (2,)), x, logits
        )
        return spec.dtype

    assert shape_of(np.int32, np.float32) == jnp.float32
    assert shape_of(jnp.bfloat16, np.float32) == jnp.bfloat16
    assert shape_of(np.float32, jnp.bfloat16) == jnp.float32


LARGE = {"float32": 1e4, "float16": 6e4}


@functools.partial(jax.jit, compiler_options=QUICK)
def _both(x, logits):
    def total(x, logits):
        y = local_importance_pool(x, logits, (3,), strides=2, padding=1)
        return y.astype(jnp.float32).sum(), y

    grads, y = jax.grad(total, (0, 1), has_aux=True)(x, logits)
    return y, grads


@pytest.mark.parametrize("dtype", LARGE)
def test_stays_finite(dtype):
    limit = LARGE[dtype]
    numbers = st.floats(-limit, limit, width=32) | st.sampled_from([-limit, 0.0, limit])
    arrays = hnp.arrays(np.float32, (7, 2), elements=numbers)

    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(arrays, arrays)
    def check(x, logits):
        x, logits = x.astype(jnp.dtype(dtype)), logits.astype(jnp.dtype(dtype))
        y, grads = jax.device_get(_both(x, logits))
        assert all(np.isfinite(a.astype(np.float32)).all() for a in (y, *grads))
        low, high = x.astype(np.float32).min(0), x.astype(np.float32).max(0)
        room = 1e-2 * np.maximum(np.abs(low), np.abs(high)) + 1e-30
        assert (y >= low - room).all() and (y <= high + room).all()

    check()


def test_transforms():
    def fn(x):
        x, logits = jnp.split(x, 2, axis=-1)
        return local_importance_pool(x, logits, (2,))

    check_transforms(
        fn, tie_free((2, 4, 2)), order=1, dtypes=("float32",), eager_grad=False
    )


def test_errors():
    x = np.ones((2, 4, 4, 3), np.float32)
    with pytest.raises(ValueError, match=r"`logits` must broadcast to x with shape"):
        local_importance_pool(x, np.ones((2, 4, 4, 2), np.float32), (2, 2))
    with pytest.raises(ValueError, match=r"got shape \(1, 2, 4, 4, 3\)"):
        local_importance_pool(x, x[None], (2, 2))
    with pytest.raises(TypeError, match="`logits` must be real"):
        local_importance_pool(x, x.astype(np.complex64), (2, 2))
    with pytest.raises(TypeError, match="`logits` must be an array, got str"):
        local_importance_pool(x, "average", (2, 2))
    with pytest.raises(TypeError, match="`x` must be real"):
        local_importance_pool(x.astype(np.complex64), x, (2, 2))
    with pytest.raises(TypeError, match=r"write \(2, 2\)"):
        local_importance_pool(x, x, 2)
    with pytest.raises(ValueError, match="`where` must broadcast"):
        local_importance_pool(x, x, (2, 2), where=np.ones(4, bool))
