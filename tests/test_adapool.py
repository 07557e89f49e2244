"""edscw_pool, idw_pool, ada_pool and ada_unpool against loops over the formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_rank import check_curvature
from transforms import QUICK, check_transforms, tie_free

from jaxpool import _lowering, ada_pool, ada_unpool, edscw_pool, idw_pool

# The shape of x, the window, options, and the shape of beta.
CASES = [
    ((2, 5, 6, 2), (2, 2), {"strides": (2, 1), "padding": ((1, 2), (0, 1))}, (4, 6, 1)),
    ((2, 5, 4, 2), (2, 2), {"where": tie_free((2, 5, 4, 2), 1) > 0.5}, (2,)),
    (
        (9, 2),
        (3,),
        {"strides": 3, "dilation": 2, "padding": ((6, 1),), "ceil_mode": True},
        (),
    ),
    (
        (9, 8, 1),
        (5, 2),
        {
            "padding": 1,
            "strides": (4, 2),
            "where": tie_free((9, 8, 1)) > 1.2,
            "empty": 5.0,
        },
        (2, 5, 1),
    ),
    ((2, 3, 5, 4), (1, 2), {"axes": (-2, -1), "strides": 1}, (2, 1, 1, 1)),
    ((3, 4, 3, 2), (2, 1, 2), {"padding": (1, 0, 1), "dilation": 2}, (2,)),
]

# --- Oracles: the weights of one window's elements v ----------------------------------


def similarity_weights(v):
    m = v.mean()
    size = v**2 + m**2
    s = np.where(size == 0, 0, 2 * np.abs(v * m) / np.where(size == 0, 1, size))
    return np.exp(s) / np.exp(s).sum()


def distance_weights(v):
    w = 1 / (np.abs(v - v.mean()) + 1e-6 * max(1, np.abs(v).max()))
    return w / w.sum()


def soft_weights(v):
    w = np.exp(v - v.max())
    return w / w.sum()


def mixed_weights(v, beta):
    return beta * similarity_weights(v) + (1 - beta) * soft_weights(v)


def slope(f, v, h=1e-6):
    """The derivative of the number f(v) by each element of v."""
    return np.array([(f(v + e) - f(v - e)) / (2 * h) for e in h * np.eye(len(v))])


def geometry_of(options):
    return {k: v for k, v in options.items() if k not in ("where", "empty")}


def each_window(x, window_shape, options):
    found = oracles._elements(
        x.shape, window_shape, **{k: v for k, v in options.items() if k != "empty"}
    )
    return ((target, taps) for target, taps, _ in found if len(taps))


def oracle(weights, paper, x, beta, g, window_shape, **options):
    """The value, and the derivatives by x and beta for the cotangent g."""
    fill = 0.0 if options.get("where") is None else options.get("empty", 0.0)
    y = np.full(g.shape, fill)
    dx, db, spread = (
        np.zeros(x.shape),
        np.zeros(g.shape),
        np.broadcast_to(beta, y.shape),
    )
    for target, taps in each_window(x, window_shape, options):
        v, b = x.flat[taps], spread.flat[target]
        w = weights(v, b)
        y.flat[target] = w @ v
        by_v = w if paper else slope(lambda v, b=b: weights(v, b) @ v, v)
        dx.flat[taps] += g.flat[target] * by_v
        by_b = (weights(v, 1.0) - weights(v, 0.0)) @ v
        db.flat[target] += g.flat[target] * by_b
    db = db.sum(tuple(range(db.ndim - beta.ndim)))
    same = tuple(i for i, n in enumerate(beta.shape) if n == 1)
    return y, dx, db.sum(same, keepdims=True)


def unpool_oracle(mode, y, x, beta, window_shape, **options):
    out, spread = np.zeros(x.shape), np.broadcast_to(beta, y.shape)
    windows = np.zeros(x.shape)
    for target, taps in each_window(x, window_shape, options):
        w = mixed_weights(x.flat[taps], spread.flat[target])
        n = len(taps) if mode == "replicate" else 1
        out.flat[taps] += n * w * y.flat[target]
        windows.flat[taps] += 1
    return out / np.maximum(windows, 1) if mode == "replicate" else out


# --- Pools against oracles ------------------------------------------------------------

POOLS = {
    "edscw": (
        lambda x, beta, *args, **options: edscw_pool(x, *args, **options),
        lambda v, beta: similarity_weights(v),
    ),
    "idw": (
        lambda x, beta, *args, **options: idw_pool(x, *args, **options),
        lambda v, beta: distance_weights(v),
    ),
    "ada": (ada_pool, mixed_weights),
}


def inputs_of(case, dtype, seed):
    shape, window_shape, options, beta_shape = case
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(dtype)
    if (where := options.get("where")) is not None:
        x = np.where(where, x, np.array(np.nan, dtype))
    beta = rng.uniform(size=beta_shape).astype(dtype)
    y_shape = oracles.output_shape(shape, window_shape, **geometry_of(options))
    return x, beta, rng.normal(size=y_shape).astype(dtype)


def check(name, some, rule="cpu", dtype="float32", paper=()):
    """`some` by their exact derivatives, others by those of the paper."""
    pool, weights = POOLS[name]
    cases = [(*case, "exact") for case in some] + [(*case, "paper") for case in paper]
    inputs = [inputs_of(case[:4], dtype, seed) for seed, case in enumerate(cases)]
    # A distance has a kink, which finite differences smooth.
    rtol = {2: 4e-3, 4: 1e-3 if name == "idw" else 1e-4, 8: 1e-7}
    rtol = rtol[jnp.dtype(dtype).itemsize]

    def one(case, x, beta, g):
        _, window_shape, options, _, gradient = case

        def f(x, beta):
            return pool(x, beta, window_shape, gradient=gradient, **options)

        y, vjp = jax.vjp(f, x, beta)
        return y, *vjp(g)

    def program(inputs):
        return [one(case, *args) for case, args in zip(cases, inputs, strict=True)]

    with _lowering.force(rule):
        got = jax.device_get(jax.jit(program, compiler_options=QUICK)(inputs))
    for case, args, found in zip(cases, inputs, got, strict=True):
        _, window_shape, options, _, gradient = case
        wide = (np.asarray(a, float) for a in args)
        expected = oracle(weights, gradient == "paper", *wide, window_shape, **options)
        for what, a, b in zip(("y", "dx", "dbeta"), found, expected, strict=True):
            assert a.dtype == args[0].dtype
            if name == "ada" or what != "dbeta":
                about = f"{what} of {name}, {gradient}, {options}"
                a = np.asarray(a, float)
                # Of dx alone the oracle is a finite difference.
                tol = 1e-12 if rtol < 1e-6 and what != "dx" else rtol
                np.testing.assert_allclose(a, b, tol, tol, err_msg=about)


@pytest.mark.parametrize(
    "name, some",
    [
        ("edscw", CASES[1:3] + CASES[5:]),
        ("idw", CASES[2:4] + CASES[5:]),
        ("ada", CASES[::2] + CASES[5:]),
    ],
)
def test_equals_the_oracle(name, some):
    check(name, some, paper=CASES[1:2])


@pytest.mark.parametrize("name, rule", [("idw", "default"), ("ada", "tpu")])
def test_equals_the_oracle_by_other_rules(name, rule):
    check(name, CASES[1:2], rule)


@pytest.mark.parametrize("name", POOLS)
def test_equals_the_oracle_in_other_dtypes(name):
    check(name, CASES[2:3], dtype=jnp.bfloat16)
    with jax.enable_x64(True):
        check(name, CASES[1:2], dtype="float64")


def check_unpool(some):
    """Each of `some` is a case, a dtype and a mode."""
    cases, inputs = [], []
    for seed, (case, dtype, mode) in enumerate(some):
        options = {k: v for k, v in case[2].items() if k != "empty"}
        cases.append((mode, case[1], options))
        inputs.append(inputs_of(case, dtype, seed))

    def program(inputs):
        return [
            ada_unpool(y, x, beta, case[1], mode=case[0], **case[2])
            for case, (x, beta, y) in zip(cases, inputs, strict=True)
        ]

    got = jax.device_get(jax.jit(program, compiler_options=QUICK)(inputs))
    for case, (x, beta, y), a in zip(cases, inputs, got, strict=True):
        wide = (np.asarray(a, float) for a in (y, x, beta))
        expected = unpool_oracle(case[0], *wide, case[1], **case[2])
        tol = {2: 1e-2, 4: 1e-5, 8: 1e-12}[y.itemsize]
        assert a.dtype == y.dtype
        a = np.asarray(a, float)
        np.testing.assert_allclose(a, expected, tol, tol, err_msg=f"{y.dtype}, {case}")


def test_unpool_equals_the_oracle():
    modes = "adjoint", "replicate"
    some = [(case, "float32", mode) for case in CASES[1:4] for mode in modes]
    some += [(CASES[5], "float32", "replicate"), (CASES[2], jnp.bfloat16, "adjoint")]
    check_unpool(some)
    with jax.enable_x64(True):
        check_unpool([(CASES[1], "float64", "replicate")])


def test_unpool_keeps_the_dtype_of_y():
    for dtype in (jnp.bfloat16, np.float16, np.float32):
        y, x = np.ones((2, 1), dtype), np.ones((4, 1), np.float32)
        spec = jax.eval_shape(lambda y, x: ada_unpool(y, x, 0.5, (2,)), y, x)
        assert spec.dtype == dtype and spec.shape == x.shape


# --- Limits and special windows -------------------------------------------------------


def test_limits():
    x = tie_free((7, 6, 2))
    options = {"window_shape": (2, 2), "strides": 2, "padding": 1}
    average = oracles.avg_pool(x, count_include_pad=False, **options)
    soft = oracles.soft_pool(x, **options)

    def program(x):
        adas = [ada_pool(x, beta, **options) for beta in (0.0, 1.0)]
        similar = edscw_pool(x, **options)
        wide = idw_pool(x, eps=1e6, **options)
        constant = x * 0 - 7
        constants = [
            ada_pool(constant, 0.3, **options),
            idw_pool(constant, **options),
            edscw_pool(constant, **options),
        ]
        spread = [
            ada_unpool(average.astype("f4"), constant, 0.3, mode=mode, **options)
            for mode in ("adjoint", "replicate")
        ]
        return adas, similar, wide, constants, spread

    program = jax.jit(program, compiler_options=QUICK)
    adas, similar, wide, constants, spread = program(x)
    for got, expected in ((adas[0], soft), (adas[1], similar), (wide, average)):
        np.testing.assert_allclose(got, expected, 1e-5, 1e-5)
    for got in constants:
        np.testing.assert_allclose(got, -7, 1e-6)
    x, y = np.full(x.shape, -7.0), np.asarray(average, float)
    for mode, got in zip(("adjoint", "replicate"), spread, strict=True):
        expected = unpool_oracle(mode, y, x, np.array(0.3), **options)
        np.testing.assert_allclose(got, expected, 1e-5, 1e-6)


def test_unpool_keeps_the_sum_or_the_mean():
    x, y = tie_free((4, 6, 2)), tie_free((2, 3, 2), 1)

    def program(x, y):
        total = ada_unpool(y, x, 0.4, (2, 2))
        mean = ada_unpool(y, x, 0.4, (2, 2), mode="replicate")
        return total, mean

    total, mean = jax.jit(program, compiler_options=QUICK)(x, y)
    np.testing.assert_allclose(oracles.sum_pool(total, (2, 2)), y, 1e-5, 1e-6)
    np.testing.assert_allclose(oracles.avg_pool(mean, (2, 2)), y, 1e-5, 1e-6)


def test_special_windows():
    special = np.array(
        [
            [-1, 0, 1, 0],  # mean 0 and a zero: uniform weights
            [0, 0, 0, 0],
            [-2, -2, -2, -2],
            [0, 0, 0, 4],
            [1e-30, -1e-30, 3e-30, 1e-30],
            [1e4, -1e4, 1e-37, 0],
        ],
        np.float32,
    )

    def both(x):
        found = {}
        for name, pool in (("edscw", edscw_pool), ("idw", idw_pool)):
            x = x.reshape(-1, 1)
            y, vjp = jax.vjp(lambda x, pool=pool: pool(x, (4,)), x)
            found[name] = y[:, 0], vjp(jnp.ones_like(y))[0].reshape(-1, 4)
        return found

    scaled = special.copy()
    scaled[4] *= np.float32(1e30)
    both = jax.jit(both, compiler_options=QUICK)
    found, scaled = jax.device_get((both(special), both(scaled)))
    y, dx = found["edscw"]
    expected = [(similarity_weights(v) * v).sum() for v in special.astype(float)]
    np.testing.assert_allclose(y, expected, 1e-5, 1e-30)
    np.testing.assert_allclose(dx[1:3], 0.25, 1e-6)
    np.testing.assert_allclose(dx[:, :1], dx[:, :1].clip(0.1, 1))
    # At any scale: the pool is homogeneous.
    np.testing.assert_allclose(y[4] * np.float32(1e30), scaled["edscw"][0][4], 1e-5)
    y, dx = found["idw"]
    expected = [distance_weights(v) @ v for v in special.astype(float)]
    np.testing.assert_allclose(y, expected, 1e-5, 1e-8)
    np.testing.assert_allclose(dx[1:3], 0.25, 1e-6)


def test_nan_propagates():
    x = np.array([1.0, np.nan, 1.0, 1.0], np.float32)[:, None]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        return [pool(x, 0.5, (2,)) for pool, _ in POOLS.values()]

    for y in program(x):
        assert np.isnan(y[:, 0]).tolist() == [True, False]


# --- Extremes -------------------------------------------------------------------------

LARGE = {"float32": 1e4, "float16": 6e4}


@functools.partial(jax.jit, compiler_options=QUICK)
def everything(x, beta):
    options = {"window_shape": (3,), "strides": 2, "padding": 1}
    half = x.dtype == jnp.float16  # the same in float32, but for larger numbers

    def total(x, beta):
        ys = [
            pool(x, beta, gradient=gradient, **options)
            for pool, _ in POOLS.values()
            for gradient in (("exact",) if half else ("exact", "paper"))
        ]
        # The values of an unpool lie in no simple range.
        back = ada_unpool(jnp.ones_like(ys[0]), x, beta, **options)
        return sum(y.astype(jnp.float32).sum() for y in (*ys, back)), ys

    grads, ys = jax.grad(total, (0, 1), has_aux=True)(x, beta)
    return ys, grads


@pytest.mark.parametrize("dtype", LARGE)
def test_stays_finite(dtype):
    limit = LARGE[dtype]
    floats = st.floats(-limit, limit, width=32)
    special = [-limit, -1.0, -1e-37, 0.0, 1e-30, 1e-37, 1.0, limit]
    numbers = floats | st.sampled_from(special)
    arrays = hnp.arrays(np.float64, (7, 2), elements=numbers)

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(arrays, st.sampled_from([0.0, 0.3, 1.0]))
    def check(x, beta):
        x = x.astype(jnp.dtype(dtype))
        ys, grads = jax.device_get(everything(x, np.float32(beta)))
        found = [a.astype(np.float32) for a in (*ys, *grads)]
        assert all(np.isfinite(a).all() for a in found), found
        low, high = x.astype(np.float32).min(0), x.astype(np.float32).max(0)
        room = 1e-2 * np.maximum(np.abs(low), np.abs(high)) + 1e-30
        for y in found[: len(ys)]:
            assert (y >= low - room).all() and (y <= high + room).all()

    check()


# --- Transformations ------------------------------------------------------------------

PLAIN = {"order": 1, "dtypes": ("float32",), "eager_grad": False}
# What the check of ada_pool has tested, the others leave out.
SHORT = {"platforms": (), "export": False, "sharded": False}


def uneven(shape, dtype=np.float32):
    """No element is the mean of two others, where the distance has a kink."""
    x = tie_free(shape, dtype=np.float64)
    return (x + 0.07 * x**3).astype(dtype)


def test_transforms_of_edscw_pool():
    pool = functools.partial(edscw_pool, window_shape=(2,))
    check_transforms(pool, uneven((2, 2, 1)), **PLAIN)


def test_transforms_of_idw_pool():
    pool = functools.partial(idw_pool, window_shape=(3,), eps=0.3)
    check_transforms(pool, uneven((2, 3, 1)), **PLAIN, **SHORT)


def test_transforms_of_ada_pool():
    def fn(x):
        x, beta = jnp.split(x, 2, axis=-1)
        return ada_pool(x, jax.nn.sigmoid(beta[:1]), (2,))

    check_transforms(fn, uneven((2, 2)), vmap_axes=(), **PLAIN, **SHORT)


def test_transforms_of_ada_unpool():
    def fn(x):
        y = x[..., ::2, :]
        return ada_unpool(y, x, 0.3, (2,))

    check_transforms(fn, uneven((2, 4, 1)), **PLAIN, **SHORT)


def test_derivatives_of_ada_unpool():
    """By y, x and beta, with vmap: the finite differences of the oracle."""
    x, y, beta = uneven((2, 7, 1), np.float64), tie_free((2, 3, 1), 1, np.float64), 0.3
    # Windows that overlap, in padding and beyond the end as well.
    options = {"strides": 2, "dilation": 2, "padding": ((1, 0),), "ceil_mode": True}
    options["where"] = np.arange(7)[:, None] != 1
    x[:, 1] = np.nan
    rng = np.random.default_rng(0)
    moves = [rng.normal(size=np.shape(a)) for a in (y, x, beta)]
    g = rng.normal(size=x.shape)

    def pool(y, x, beta):
        return ada_unpool(y, x, beta, (3,), **options)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(y, x, beta, moves, g):
        each = jax.vmap(pool, (0, 0, None))
        tangent = jax.jvp(each, (y, x, beta), tuple(moves))[1]
        return tangent, jax.vjp(pool, y, x, beta)[1](g)

    with jax.enable_x64(True), _lowering.force("cpu"):
        found = program(y, x, jnp.asarray(beta), moves, g)
        tangent, slopes = jax.device_get(found)
    up, down = (
        unpool_oracle(
            "adjoint",
            *(a + step * t for a, t in zip((y, x, beta), moves, strict=True)),
            (3,),
            **options,
        )
        for step in (1e-6, -1e-6)
    )
    np.testing.assert_allclose(tangent, (up - down) / 2e-6, 1e-6, 1e-7)
    total = sum((s * t).sum() for s, t in zip(slopes, moves, strict=True))
    np.testing.assert_allclose(total, (tangent * g).sum(), 1e-9)


def test_curvatures():
    def loss(x, beta):
        y = ada_pool(x, jax.nn.sigmoid(beta), (2,), strides=1)
        return (y + idw_pool(x, (2,), strides=1, eps=0.3)).sum()

    check_curvature(loss, uneven((3, 1), np.float64), np.array([[0.3]]))


def test_paper_gradient_in_both_modes():
    x = tie_free((5, 2))

    def f(x):
        return ada_pool(x, 0.3, (3,), strides=2, padding=1, gradient="paper")

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        return jax.jacfwd(f)(x), jax.jacrev(f)(x)

    np.testing.assert_allclose(*program(x), 1e-6, 1e-7)


# --- Wrong calls ----------------------------------------------------------------------


@pytest.mark.parametrize("pool", [edscw_pool, idw_pool])
def test_errors(pool):
    x = np.ones((2, 4, 4, 3), np.float32)
    with pytest.raises(ValueError, match="`gradient` must be one of exact, paper, got"):
        pool(x, (2, 2), gradient="weights")
    with pytest.raises(TypeError, match="`x` must be real"):
        pool(x.astype(np.complex64), (2, 2))
    with pytest.raises(TypeError, match=r"write \(2, 2\)"):
        pool(x, 2)
    if pool is idw_pool:
        with pytest.raises(ValueError, match="`eps` must be positive, got 0"):
            pool(x, (2, 2), eps=0)
        with pytest.raises(TypeError, match="`eps` must be a number, got 'tiny'"):
            pool(x, (2, 2), eps="tiny")


def test_errors_of_ada_pool():
    x = np.ones((2, 4, 6, 3), np.float32)
    with pytest.raises(ValueError, match=r"`beta` must lie in \[0, 1\], got 1.5"):
        ada_pool(x, 1.5, (2, 2))
    with pytest.raises(ValueError, match=r"`beta` must be a number or broadcast to"):
        ada_pool(x, np.ones((2, 2), np.float32), (2, 2))
    with pytest.raises(TypeError, match="`beta` must be a number or an array, got"):
        ada_pool(x, "half", (2, 2))
    with pytest.raises(ValueError, match="`gradient` must be one of exact, paper, got"):
        ada_pool(x, 0.5, (2, 2), gradient="weights")
    with pytest.raises(TypeError, match=r"write \(2, 2\)"):
        ada_pool(x, 0.5, 2)
    with pytest.raises(ValueError, match=r"`y` must have the shape \(2, 2, 3, 3\)"):
        ada_unpool(x, x, 0.5, (2, 2))
    with pytest.raises(ValueError, match="`mode` must be one of adjoint, replicate"):
        ada_unpool(x[:, :2, :3], x, 0.5, (2, 2), mode="mean")
    with pytest.raises(TypeError, match="`y` must be real"):
        ada_unpool(x.astype(np.complex64), x, 0.5, (2, 2))
