"""detail_preserving_pool against loops over the formula, its limits and extremes."""

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

from jaxpool import _lowering, detail_preserving_pool

# The shape of x, the window, options, and the shape of a reference or None.
CASES = [
    ((2, 5, 6, 2), (2, 2), {"strides": (2, 1), "padding": ((1, 2), (0, 1))}, None),
    (
        (2, 5, 4, 2),
        (2, 2),
        {"lam": np.array([0.5, 3.0]), "where": tie_free((2, 5, 4, 2), 1) > 0.5},
        (2, 2, 2, 2),
    ),
    (
        (9, 8, 2),
        (5, 2),
        {
            "symmetric": False,
            "alpha": np.array([0.1, 2.0]),
            "padding": 1,
            "strides": (4, 2),
            "where": tie_free((9, 8, 1)) > 1.2,
            "empty": 5.0,
        },
        None,
    ),
    (
        (9, 2),
        (3,),
        {
            "strides": 3,
            "dilation": 2,
            "padding": ((6, 1),),
            "ceil_mode": True,
            "lam": 4.0,
            "alpha": 0,
            "normalize": False,
        },
        None,
    ),
    (
        (2, 3, 5, 4),
        (1, 2),
        {"axes": (-2, -1), "strides": 1, "symmetric": False, "normalize": False},
        (3, 5, 1),
    ),
    ((3, 4, 3, 2), (2, 1, 2), {"padding": (1, 0, 1), "dilation": 2}, None),
]


def pooled(v, reference, alpha, lam, symmetric, normalize):
    """One window: v are its elements."""
    d = v - (v.mean() if reference is None else reference)
    if not symmetric:
        d = np.maximum(d, 0)
    u = d**2 + 1e-3
    if normalize:
        u = u / u.mean()
    w = alpha + u ** (lam / 2)
    return (w * v).sum() / w.sum()


def slope(f, v, i, h=1e-6):
    step = np.zeros(v.shape)
    step.flat[i] = h
    return (f(v + step) - f(v - step)) / (2 * h)


def oracle(
    x,
    reference,
    g,
    window_shape,
    *,
    where=None,
    empty=0.0,
    alpha=1.0,
    lam=1.0,
    symmetric=True,
    normalize=True,
    **geometry,
):
    """The value and, for the cotangent g, derivatives by x and the reference."""
    shape = oracles.output_shape(x.shape, window_shape, **geometry)
    y = np.full(shape, 0.0 if where is None else empty)
    dx, dr = np.zeros(x.shape), np.zeros(shape)
    alpha, lam = (np.broadcast_to(p, shape) for p in (alpha, lam))
    given = None if reference is None else np.broadcast_to(reference, shape)
    for target, taps, _ in oracles._elements(
        x.shape, window_shape, where=where, **geometry
    ):
        if not len(taps):
            continue

        def f(v, r, target=target):
            p = alpha.flat[target], lam.flat[target], symmetric, normalize
            return pooled(v, r, *p)

        v, r = x.flat[taps], None if given is None else given.flat[target]
        y.flat[target] = f(v, r)
        for i, tap in enumerate(taps):
            dx.flat[tap] += g.flat[target] * slope(lambda v, f=f, r=r: f(v, r), v, i)
        if given is not None:
            by_r = slope(lambda r, f=f, v=v: f(v, r), np.array(r), 0)
            dr.flat[target] += g.flat[target] * by_r
    if reference is None:
        return y, dx
    dr = dr.sum(tuple(range(dr.ndim - reference.ndim)))
    same = tuple(i for i, n in enumerate(reference.shape) if n == 1)
    return y, dx, dr.sum(same, keepdims=True)


def cases(some, dtype):
    rng = np.random.default_rng(0)
    for shape, window_shape, options, reference_shape in some:
        x = rng.normal(size=shape).astype(dtype)
        if (where := options.get("where")) is not None:
            x = np.where(where, x, np.array(np.nan, dtype))
        reference = None
        if reference_shape:
            reference = rng.normal(size=reference_shape).astype(dtype)
        yield x, reference, {"window_shape": window_shape, **options}


def check(cases, rtol, rule="cpu"):
    rng, cases, inputs, expected = np.random.default_rng(1), list(cases), [], []
    for x, reference, options in cases:
        names = ("window_shape", "strides", "padding", "dilation", "ceil_mode", "axes")
        geometry = {k: v for k, v in options.items() if k in names}
        g = rng.normal(size=oracles.output_shape(x.shape, **geometry)).astype(x.dtype)
        inputs.append((x, reference, g))
        wide = (a if a is None else np.asarray(a, float) for a in inputs[-1])
        expected.append(oracle(*wide, **options))

    def one(options, x, reference, g):
        def f(*args):
            reference = args[1] if len(args) == 2 else None
            return detail_preserving_pool(args[0], reference=reference, **options)

        args = (x,) if reference is None else (x, reference)
        y, vjp = jax.vjp(f, *args)
        return y, *vjp(g)

    def program(inputs):
        return [one(c[-1], *args) for c, args in zip(cases, inputs, strict=True)]

    with _lowering.force(rule):
        got = jax.device_get(jax.jit(program, compiler_options=QUICK)(inputs))
    for (x, _, options), a, b in zip(cases, got, expected, strict=True):
        names = ("y", "dx", "dreference")[: len(a)]
        for what, one, other in zip(names, a, b, strict=True):
            assert one.dtype == x.dtype
            about = f"{what}, {options}"
            one = np.asarray(one, float)
            # The oracle's derivatives are finite differences, its values are not.
            tol = 1e-12 if rtol < 1e-6 and what == "y" else rtol
            np.testing.assert_allclose(one, other, tol, tol, err_msg=about)


def test_equals_the_oracle():
    check(cases(CASES, "float32"), 1e-4)


@pytest.mark.parametrize("rule, some", [("default", CASES[1:2]), ("tpu", CASES[:1])])
def test_equals_the_oracle_by_other_rules(rule, some):
    check(cases(some, "float32"), 1e-4, rule)


def test_equals_the_oracle_in_other_dtypes():
    check(cases(CASES[3:4], jnp.bfloat16), 4e-3)
    with jax.enable_x64(True):
        check(cases(CASES[1:3], "float64"), 1e-7)


def test_derivatives_by_the_parameters():
    x = np.random.default_rng(0).normal(size=(6, 2))
    g = np.array([[1, 3], [2, 4]])
    parameters = np.array([[0.5, 1.5], [1.2, 3.0]])  # alpha and lam, per channel

    def total(p, normalize):
        return sum(
            g[i, c] * pooled(x[3 * i :][:3, c], None, *p[:, c], True, normalize)
            for i, c in np.ndindex(2, 2)
        )

    def f(p, normalize):
        options = {"alpha": p[0], "lam": p[1], "normalize": normalize}
        y = detail_preserving_pool(x.astype(p.dtype), (3,), **options)
        return (y * g.astype(p.dtype)).sum()

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(p):
        return [jax.value_and_grad(f)(p, normalize) for normalize in (True, False)]

    for normalize, (y, grad) in zip((True, False), program(parameters), strict=True):
        np.testing.assert_allclose(y, total(parameters, normalize), 1e-5)
        of = functools.partial(total, normalize=normalize)
        want = [slope(of, parameters, i) for i in range(4)]
        np.testing.assert_allclose(grad.ravel(), want, 1e-4, 1e-5)


def test_the_curvature():
    """Second derivatives are differences of the first, which equal the oracle's."""
    x, t = (tie_free((4, 1), seed, np.float64) for seed in range(2))
    options = {"strides": 1, "padding": ((1, 0),), "lam": 3.0, "alpha": 0.5}

    def gradient(x):
        pool = functools.partial(detail_preserving_pool, **options)
        return jax.grad(lambda x: pool(x, (2,)).sum())(x)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, t):
        found = jax.jvp(gradient, (x,), (t,))[1]
        up, down = jax.vmap(gradient)(jnp.stack([x + t * 1e-6, x - t * 1e-6]))
        return found, (up - down) / 2e-6

    with jax.enable_x64(True), _lowering.force("cpu"):
        np.testing.assert_allclose(*program(x, t), 1e-5, 1e-6)


def test_limits():
    x = tie_free((7, 6, 2))
    window = {"strides": 2, "padding": 1, "window_shape": (2, 2)}
    deviating = [0.0, 1.0, 2.0, -5.0, 7.0, 8.0, 9.0, 1.0]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, deviating):
        pool = functools.partial(detail_preserving_pool, x, **window)
        steep = functools.partial(pool, alpha=0, lam=1e4, symmetric=False)
        most = functools.partial(
            detail_preserving_pool, deviating, (4,), alpha=0.0, lam=100.0
        )
        return {
            "average": (pool(alpha=1e30, lam=5.0), pool(lam=0)),
            "highest": (steep(), steep(normalize=False)),
            "constant": detail_preserving_pool(x * 0 + 7, lam=50.0, **window),
            "most": (most(), most(symmetric=False)),
        }

    found = program(x, np.array(deviating, np.float32)[:, None])
    for y in found["average"]:
        average = oracles.avg_pool(x, count_include_pad=False, **window)
        np.testing.assert_allclose(y, average, 1e-4, 1e-5)
    for y in found["highest"]:
        np.testing.assert_allclose(y, oracles.max_pool(x, **window), 1e-4, 1e-5)
    np.testing.assert_allclose(found["constant"], np.full((4, 4, 2), 7.0), 1e-5)
    # The elements that deviate most, and only upwards.
    np.testing.assert_allclose(found["most"][0][:, 0], [-5, 1])
    np.testing.assert_allclose(found["most"][1][:, 0], [2, 9], 1e-3)


KINDS = {  # the largest number, and pairs of symmetric and normalize
    "float32": (2.0**120, [(True, True), (False, False)]),
    "float16": (6e4, [(True, False), (False, True)]),
}


@pytest.mark.parametrize("dtype", KINDS)
def test_stays_finite(dtype):
    limit, kinds = KINDS[dtype]
    floats = st.floats(-limit, limit, width=32)
    numbers = floats | st.sampled_from([-limit, 0.0, limit]) | st.floats(-1, 1)

    def total(x, alpha, lam):
        options = {"strides": 2, "padding": 1, "alpha": alpha, "lam": lam}
        pool = functools.partial(detail_preserving_pool, x, (3,), **options)
        ys = [pool(symmetric=s, normalize=n) for s, n in kinds]
        return sum(y.astype(jnp.float32).sum() for y in ys), ys

    program = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True), compiler_options=QUICK)

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(
        hnp.arrays(np.float64, (7, 2), elements=numbers),
        st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]),
        st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1000.0]),
    )
    def check(x, alpha, lam):
        x = x.astype(jnp.dtype(dtype))
        grads, ys = program(x, np.float32(alpha), np.float32(lam))
        found = [np.asarray(a).astype(np.float32) for a in (*ys, *grads)]
        assert all(np.isfinite(a).all() for a in found), found
        low, high = x.astype(np.float32).min(0), x.astype(np.float32).max(0)
        room = 1e-2 * np.maximum(np.abs(low), np.abs(high)) + 1e-30
        for y in found[: len(kinds)]:
            assert (y >= low - room).all() and (y <= high + room).all()

    check()


def test_nothing_special_at_0_and_nan_propagates():
    def total(x, alpha, lam):
        return detail_preserving_pool(x, (2,), alpha=alpha, lam=lam).sum()

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, one):
        reference = detail_preserving_pool(x[2:], (1,), reference=x[:2])
        grads = jax.grad(total, (0, 1, 2))(x * 0, one, one)
        return (detail_preserving_pool(x, (2,)), reference), grads

    x = np.array([1.0, np.nan, 1.0, 1.0], np.float32)[:, None]
    with_nan, _ = program(x, np.float32(1))
    want = [[True, False], [False, True]]
    assert [np.isnan(y[:, 0]).tolist() for y in with_nan] == want
    _, grads = program(np.ones_like(x), np.float32(1))
    np.testing.assert_allclose(grads[0], np.full((4, 1), 0.5))
    assert grads[1:] == (0, 0)


def test_integers_and_mixed_dtypes():
    def pool(x):
        options = {"alpha": np.ones(1, np.float32), "reference": np.ones((2, 1))}
        return detail_preserving_pool(x, (2,), **options)

    assert jax.eval_shape(pool, np.ones((4, 1), jnp.bfloat16)).dtype == jnp.bfloat16
    x = np.array([[0], [0], [0], [4]])
    pool = functools.partial(detail_preserving_pool, window_shape=(4,), lam=2)
    y = jax.jit(pool, compiler_options=QUICK)(x)
    np.testing.assert_allclose(y, [[1.99967]], 1e-5)


def test_transforms():
    def fn(x):
        x, reference = jnp.split(x, 2, axis=-1)
        options = {"lam": 1.5, "symmetric": False, "normalize": False}
        reference = reference[..., :1, :]
        return detail_preserving_pool(x, (2,), reference=reference, **options)

    check_transforms(
        fn, tie_free((2, 2, 2)), order=1, dtypes=("float32",), eager_grad=False
    )


def test_errors():
    x = np.ones((2, 4, 4, 3), np.float32)
    for name in ("alpha", "lam"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got -1"):
            detail_preserving_pool(x, (2, 2), **{name: -1})
        with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got nan"):
            detail_preserving_pool(x, (2, 2), **{name: np.nan})
        with pytest.raises(ValueError, match=f"`{name}` must be a number or broadcast"):
            detail_preserving_pool(x, (2, 2), **{name: np.ones(2, np.float32)})
        with pytest.raises(TypeError, match=f"`{name}` must be a number or an array"):
            detail_preserving_pool(x, (2, 2), **{name: "one"})
    for name in ("symmetric", "normalize"):
        with pytest.raises(TypeError, match=f"`{name}` must be True or False, got 1"):
            detail_preserving_pool(x, (2, 2), **{name: 1})
    with pytest.raises(ValueError, match=r"`reference` must broadcast to the output"):
        detail_preserving_pool(x, (2, 2), reference=x)
    with pytest.raises(TypeError, match="`reference` must be an array, got str"):
        detail_preserving_pool(x, (2, 2), reference="lite")
    with pytest.raises(TypeError, match="`x` must be real"):
        detail_preserving_pool(x.astype(np.complex64), (2, 2))
    with pytest.raises(TypeError, match=r"write \(2, 2\)"):
        detail_preserving_pool(x, 2)
