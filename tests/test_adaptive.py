"""Adaptive pools: against loops over their windows, and PyTorch for all small sizes."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import record_torch_adaptive as goldens
from transforms import QUICK, THOROUGH, check_transforms, tie_free

from jaxpool import _lowering, _uneven
from jaxpool._adaptive import (
    adaptive_avg_pool,
    adaptive_max_pool,
    adaptive_min_pool,
    fixed_window,
)
from jaxpool._mean import avg_pool
from jaxpool._order import max_pool

try:
    import torch
except ImportError:
    torch = None

POOLS = {"avg": adaptive_avg_pool, "max": adaptive_max_pool, "min": adaptive_min_pool}
every_pool = pytest.mark.parametrize("name", POOLS)

# --- Loops over the windows -----------------------------------------------------------


def edges(n, o):
    """Start and end of each window, in Python's exact integers."""
    return [(i * n // o, -((-(i + 1) * n) // o)) for i in range(o)]


def oracle(name, x, sizes, axes, g, where=None, empty=0.0):
    """The pool of x, the gradient of sum(y * g), and the indices: NumPy loops."""
    x = np.asarray(x)
    y = np.full(g.shape, empty, np.float64)
    dx, indices = np.zeros(x.shape), np.full(g.shape, -1)
    sizes = [x.shape[a] if o is None else o for a, o in zip(axes, sizes, strict=True)]
    valid = np.broadcast_to(True if where is None else where, x.shape)
    per_axis = [edges(x.shape[a], o) for a, o in zip(axes, sizes, strict=True)]
    row_major = sorted(axes)
    space = [x.shape[a] for a in row_major]
    rest = [range(1) if a in axes else range(n) for a, n in enumerate(x.shape)]
    for out in itertools.product(*map(range, sizes)):
        for base in itertools.product(*rest):
            at = list(base)
            spans = {}
            for a, i, windows in zip(axes, out, per_axis, strict=True):
                at[a], spans[a] = i, range(*windows[i])
            places = []
            for place in itertools.product(*(spans[a] for a in row_major)):
                full = list(base)
                for a, p in zip(row_major, place, strict=True):
                    full[a] = p
                if valid[tuple(full)]:
                    places.append((tuple(full), place))
            if not places:
                continue
            at = tuple(at)
            v = np.array([x[p] for p, _ in places])
            if name == "avg":
                y[at] = v.astype(np.float64).mean()
                for p, _ in places:
                    dx[p] += g[at] / len(v)
            else:  # NumPy takes the first of equals, and the first NaN
                best = np.argmax(v) if name == "max" else np.argmin(v)
                y[at] = v[best]
                dx[places[best][0]] += g[at]
                indices[at] = np.ravel_multi_index(places[best][1], space)
    return y, dx, indices


# x's shape, the output sizes, the axes.
CASES = [
    ((7, 2), (3,), None),
    ((2, 10, 1), (4,), None),
    ((2, 3, 1), (7,), None),
    ((1, 2), (5,), None),
    ((6, 5, 2), (2, 3), None),
    ((2, 5, 7, 2), (3, 4), None),
    ((5, 4, 1), (8, 3), None),
    ((4, 5, 1), (None, 2), None),
    ((2, 5, 4), (3, 3), (-2, -1)),
    ((5, 2, 7), (4, 2), (2, 0)),
    ((4, 5, 3, 2), (3, 2, 2), None),
    ((3, 2, 4, 2, 1), (2, 1, 3, 1), (0, 1, 2, 3)),
    ((70, 1), (2,), None),
    ((3, 1), (100,), None),
]


def axes_of(shape, sizes, axes):
    if axes is None:
        axes = range(-len(sizes) - 1, -1)
    return tuple(a % len(shape) for a in axes)


def compare(name, inputs, rule="cpu"):
    """Values, indices and gradient against the loops, in one compilation.

    With a mask the jvp as well, where garbage must not come through.
    """
    rng, expected, arrays = np.random.default_rng(0), [], []
    for x, sizes, options in inputs:
        axes = axes_of(x.shape, sizes, options.get("axes"))
        shape = list(x.shape)
        for a, o in zip(axes, sizes, strict=True):
            shape[a] = shape[a] if o is None else o
        g = rng.normal(size=shape).astype(x.dtype)
        more = {k: v for k, v in options.items() if k != "axes"}
        y, dx, indices = oracle(name, x, sizes, axes, g, **more)
        t = rng.normal(size=x.shape).astype(x.dtype)
        t = np.where(options.get("where", True), t, np.nan)  # garbage
        want = {"y": y, "dx": dx}
        if "where" in options:
            want["jvp"] = (np.nan_to_num(t) * dx).sum()
        expected.append(want if name == "avg" else want | {"indices": indices})
        arrays.append((x, t, g))

    def one(x, t, g, sizes, options):
        def f(x):
            if name == "avg":
                return adaptive_avg_pool(x, sizes, **options), None
            return POOLS[name](x, sizes, return_indices=True, **options)

        y, pull, indices = jax.vjp(f, x, has_aux=True)
        found = {"y": y, "dx": pull(g)[0], "indices": indices}
        if "where" in options:
            found["jvp"] = (jax.jvp(f, (x,), (t,), has_aux=True)[1] * g).sum()
        return found

    def program(arrays):
        pairs = zip(arrays, inputs, strict=True)
        return [one(*a, sizes, options) for a, (_, sizes, options) in pairs]

    with _lowering.force(rule):
        got = jax.device_get(jax.jit(program, compiler_options=QUICK)(arrays))
    for (x, sizes, options), found, want in zip(inputs, got, expected, strict=True):
        for key in want:
            about = f"{key} of {name}, {x.shape} to {sizes}, {options}"
            np.testing.assert_allclose(found[key], want[key], 1e-5, 1e-5, err_msg=about)


@pytest.mark.parametrize(
    "name, rule", [("avg", "cpu"), ("max", "cpu"), ("min", "cpu"), ("max", "default")]
)
def test_equals_the_oracle(name, rule):
    inputs = [
        (tie_free(shape, i), sizes, {} if axes is None else {"axes": axes})
        for i, (shape, sizes, axes) in enumerate(CASES)
    ]
    compare(name, inputs[:: 1 if name == "max" and rule == "cpu" else 3], rule)


@every_pool
def test_masks_leave_elements_out(name):
    def masked(shape, where, sizes, **options):
        garbage = np.resize(np.float32([np.nan, np.inf, -np.inf]), shape)
        x = np.where(where, tie_free(shape), garbage)
        return x, sizes, {"where": where} | options

    some = tie_free((2, 5, 7, 2), 1) > 0.3
    inputs = [
        masked((2, 5, 7, 2), some, (3, 4)),
        masked((2, 5, 7, 2), some[0, :, :, :1], (7, 2)),
        masked((70, 2), np.arange(70)[:, None] % 41 == 40, (2,), empty=9.0),
        masked((6, 4, 1), np.zeros((1, 1, 1), bool), (2, 3), empty=5.0),
        masked((5, 4, 1), np.arange(4)[:, None] < 1, (3, 3)),
    ]
    compare(name, inputs)


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_go_to_the_first_in_row_major_order(name):
    rng = np.random.default_rng(3)
    shapes = [((7, 7, 2), (3, 4)), ((3, 4, 5, 1), (2, 3, 3)), ((80, 1), (2,))]
    inputs = [
        (rng.integers(0, 3, shape).astype(np.float32), sizes, {})
        for shape, sizes in shapes
    ]
    inputs.append((np.full((5, 7, 1), -np.inf, np.float32), (3, 4), {}))
    inputs.append((np.full((5, 7, 1), np.inf, np.float32), (3, 4), {}))
    compare(name, inputs)


@pytest.mark.parametrize("name", ["max", "min"])
def test_nan_wins(name):
    rng = np.random.default_rng(4)
    inputs = []
    for shape, sizes in [((7, 7, 1), (3, 4)), ((64, 70, 1), (1, 1)), ((70, 1), (2,))]:
        x = rng.normal(size=shape).astype(np.float32)
        x[rng.random(shape) < 0.1] = np.nan
        x[rng.random(shape) < 0.1] = np.inf
        inputs.append((x, sizes, {}))
    compare(name, inputs)


@pytest.mark.parametrize("name", ["max", "min"])
def test_16_bit_floats_are_found_where_float32_finds_them(name):
    # By another comparison, in windows of many elements; float32's is checked above.
    rng = np.random.default_rng(5)
    arrays = []
    for shape, _ in (pairs := [((70, 40, 1), (2, 1)), ((66, 9, 1), (3, 3))]):
        x = rng.integers(-2, 3, shape).astype(np.float32)
        x[rng.random(shape) < 0.01] = np.inf if name == "max" else -np.inf
        x[rng.random(shape) < 0.002] = np.nan
        arrays.append(x)

    def run(arrays, dtype):
        for x, (_, sizes) in zip(arrays, pairs, strict=True):
            pool = functools.partial(POOLS[name], output_shape=sizes)
            y, pull = jax.vjp(pool, x.astype(dtype))
            g = (1 + jnp.arange(y.size).reshape(y.shape)).astype(dtype)
            _, indices = pool(x.astype(dtype), return_indices=True)
            yield [a.astype(np.float32) for a in (y, pull(g)[0])] + [indices]

    def program(arrays):
        return [list(run(arrays, d)) for d in (np.float32, np.float16, jnp.bfloat16)]

    with _lowering.force("cpu"):
        wide, *halves = jax.jit(program, compiler_options=QUICK)(arrays)
    assert np.isnan(wide[0][0]).any() and np.isinf(wide[1][0]).any()
    for half in halves:
        jax.tree.map(np.testing.assert_array_equal, half, wide)


def test_nan_and_infinity_stay_in_their_windows():
    x = np.arange(10, dtype=np.float32)[:, None]
    x[0], x[9] = np.nan, np.inf  # of the windows [0, 3), [2, 5), [5, 8), [7, 10)
    y = adaptive_avg_pool(x, (4,))[:, 0]
    np.testing.assert_array_equal(y, [np.nan, 3, 6, np.inf])


# --- PyTorch, all sizes ---------------------------------------------------------------


def test_windows_of_all_sizes_are_those_of_torch():
    for n, o, indices, avg, total in goldens.cases():
        starts, ends = _uneven.edges(n, o)
        assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == edges(n, o)
        x = goldens.x_of(n)
        windows = _uneven._windows(n, o)
        lines = np.stack(windows.lines)
        if len(lines) == 1:
            lines = lines.reshape(o, -1).T
        np.testing.assert_array_equal(x[lines].max(0), x[indices])
        means = [x[a:b].mean(dtype=np.float64) for a, b in edges(n, o)]
        assert np.isclose(means @ goldens.weights_of(o), total, 1e-6), (n, o)
        if avg is not None:
            np.testing.assert_allclose(means, avg, 1e-6)


# Of each kind of windows some: those that divide the size or that it divides, those
# that are reduced along an axis of their own, and others.
SOME = {(64, 1), (60, 3), (64, 3), (34, 2), (37, 2), (64, 64), (56, 7), (35, 70)}


@pytest.mark.parametrize("part", range(100 if THOROUGH else 1))
def test_values_of_many_sizes_are_those_of_torch(part):
    """With JAXPOOL_THOROUGH in the environment all 4480."""
    every = list(goldens.cases())
    cases = every[part::100]
    if not THOROUGH:
        cases += [case for case in every if case[:2] in SOME]

    def program(inputs):
        return [
            (
                adaptive_max_pool(x, (o,), return_indices=True),
                adaptive_avg_pool(x, (o,)),
            )
            for (_, o, *_), x in zip(cases, inputs, strict=True)
        ]

    inputs = [goldens.x_of(n)[:, None] for n, *_ in cases]
    found = jax.jit(program, compiler_options=QUICK)(inputs)
    for (n, o, indices, avg, total), ((y, at), mean) in zip(cases, found, strict=True):
        assert at.dtype == jnp.int32
        np.testing.assert_array_equal(at[:, 0], indices, f"{n} to {o}")
        np.testing.assert_array_equal(y[:, 0], goldens.x_of(n)[indices])
        assert np.isclose(mean[:, 0] @ goldens.weights_of(o), total, 1e-6), (n, o)
        if avg is not None:
            np.testing.assert_allclose(mean[:, 0], avg, 1e-6, err_msg=f"{n} to {o}")


@pytest.mark.skipif(torch is None, reason="needs torch")
@pytest.mark.parametrize("name", ["avg", "max"])
def test_equals_torch_in_all_ranks(name):
    cases = [
        ((2, 30, 3), (7,)),
        ((2, 9, 14, 3), (4, 5)),
        ((1, 14, 14, 2), (7, 7)),
        ((1, 6, 5, 2), (9, 3)),
        ((1, 4, 7, 5, 2), (3, 2, 4)),
    ]
    rng = np.random.default_rng(0)
    arrays = [
        (tie_free(x, i), rng.normal(size=(x[0], *o, x[-1])).astype(np.float32))
        for i, (x, o) in enumerate(cases)
    ]

    indexed = {"return_indices": True} if name == "max" else {}

    def program(arrays):
        found = []
        for (x, g), (_, o) in zip(arrays, cases, strict=True):
            y, pull = jax.vjp(lambda x, o=o: POOLS[name](x, o), x)
            at = POOLS[name](x, o, **indexed)[1] if indexed else None
            found.append((y, pull(g)[0], at))
        return found

    found = jax.jit(program, compiler_options=QUICK)(arrays)
    for (x, g), (_, o), (y, dx, at) in zip(arrays, cases, found, strict=True):
        rank = len(o)
        pool = getattr(torch.nn.functional, f"adaptive_{name}_pool{rank}d")
        t = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
        want = pool(t, o)
        if indexed:
            there = pool(t, o, **indexed)[1].numpy()
            np.testing.assert_array_equal(at, np.moveaxis(there, 1, -1))
        want.backward(torch.from_numpy(np.moveaxis(g, -1, 1).copy()))
        want = np.moveaxis(want.detach().numpy(), 1, -1)
        np.testing.assert_allclose(y, want, 1e-5, 1e-6)
        np.testing.assert_allclose(dx, np.moveaxis(t.grad.numpy(), 1, -1), 1e-5, 1e-6)


def test_large_sizes_are_those_of_torch():
    for n, o, indices, total in goldens.large_cases():
        starts, ends = _uneven.edges(n, o)
        assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == edges(n, o)
        x = goldens.x_of(n)[:, None]
        y, at = jax.jit(lambda x, o=o: adaptive_max_pool(x, (o,), return_indices=True))(
            x
        )
        np.testing.assert_array_equal(at[:, 0], indices)
        np.testing.assert_array_equal(y, x[indices])
        mean = jax.jit(lambda x, o=o: adaptive_avg_pool(x, (o,)))(x)
        assert np.isclose(np.float64(mean[:, 0]) @ goldens.weights_of(o), total, 1e-6)


@pytest.mark.skipif(torch is None, reason="needs torch")
def test_goldens_are_those_of_torch():
    found = goldens.record()
    with np.load(goldens.FILE) as file:
        for name in set(file) - {"torch_version"}:
            np.testing.assert_allclose(found[name], file[name], 1e-6, err_msg=name)


# --- Identities -----------------------------------------------------------------------


def test_size_1_is_global_and_the_same_size_is_the_identity():
    x = tie_free((2, 6, 7, 3))
    np.testing.assert_allclose(
        adaptive_avg_pool(x, (1, 1))[:, 0, 0], x.mean((1, 2)), 1e-5, 1e-6
    )
    np.testing.assert_array_equal(adaptive_max_pool(x, (1, 1))[:, 0, 0], x.max((1, 2)))
    for pool in POOLS.values():
        np.testing.assert_array_equal(pool(x, (6, 7)), x)
        np.testing.assert_array_equal(pool(x, (None, None)), x)
    _, at = adaptive_max_pool(x, (None, 7), return_indices=True)
    np.testing.assert_array_equal(at[1, ..., 2], np.arange(42).reshape(6, 7))


def test_where_valid_elements_fill_a_box_it_is_the_pool_of_the_box():
    x = tie_free((4, 6, 2))
    where = np.zeros((4, 6, 1), bool)
    where[:, :2] = where[:, 4:] = True
    box = np.concatenate([x[:, :2], x[:, 4:]], 1)  # windows of 2: one has nothing
    for pool in POOLS.values():
        y = pool(x, (2, 3), where=where, empty=7.0)
        np.testing.assert_allclose(y[:, ::2], pool(box, (2, 2)), 1e-6)
        assert (np.asarray(y)[:, 1] == 7).all()


@pytest.mark.parametrize("size, output", [(14, 7), (15, 7), (5, 1), (8, 8), (13, 4)])
def test_fixed_window_gives_the_same_where_it_is_exact(size, output):
    window, stride, exact = fixed_window(size, output)
    assert exact
    x = tie_free((size, 2))
    for adaptive, plain in (
        (adaptive_avg_pool, avg_pool),
        (adaptive_max_pool, max_pool),
    ):
        want = plain(x, (window,), strides=stride)
        np.testing.assert_allclose(adaptive(x, (output,)), want, 1e-5, 1e-6)


def test_fixed_window_is_exact_when_it_says_so():
    for n, o in itertools.product(range(1, 50), range(1, 50)):
        if o <= n:
            window, stride, exact = fixed_window(n, o)
            fixed = [(i * stride, i * stride + window) for i in range(o)]
            assert fixed[-1][1] == n
            assert exact == (fixed == edges(n, o)), (n, o)
    assert fixed_window((224, 128), (7, 14)) == ((32, 11), (32, 9), False)
    assert fixed_window((14, 15), (7, 7)).exact


# --- dtypes ---------------------------------------------------------------------------


def test_dtypes():
    x = np.array([3, 1, 2, 7, 5, 5, 0], np.int8)[:, None]
    for dtype in (np.int8, np.int32, np.uint8, np.float16, jnp.bfloat16):
        given = jnp.asarray(x, dtype)
        y = adaptive_max_pool(given, (3,))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y[:, 0].astype(jnp.float32), [3, 7, 5])
        y = adaptive_min_pool(given, (3,))
        np.testing.assert_array_equal(y[:, 0].astype(jnp.float32), [1, 2, 0])
    y = adaptive_max_pool(x > 2, (3,), where=x < 6)
    assert y.dtype == bool
    np.testing.assert_array_equal(y[:, 0], [True, True, True])
    np.testing.assert_array_equal(adaptive_min_pool(x > 2, (3,))[:, 0], [0, 0, 0])
    lowest = np.full((5, 1), -128, np.int8)
    at = adaptive_max_pool(lowest, (2,), return_indices=True)[1]
    np.testing.assert_array_equal(at[:, 0], [0, 2])


def test_averages_of_integers_and_complex_numbers():
    x = np.array([1, 2, 4, 7], np.int32)[:, None]
    y = adaptive_avg_pool(x, (3,))
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y[:, 0], [1.5, 3, 5.5])
    np.testing.assert_allclose(adaptive_avg_pool(x > 1, (2,))[:, 0], [0.5, 1])
    y = adaptive_avg_pool(x.astype(np.complex64) * np.complex64(1j), (3,))
    np.testing.assert_allclose(y[:, 0], [1.5j, 3j, 5.5j])
    with pytest.raises(TypeError, match="`x` must be real"):
        adaptive_max_pool(x.astype(np.complex64), (2,))


def test_16_bit_floats_add_up_in_float32():
    x = np.ones((2**13, 1), np.float16)
    y = adaptive_avg_pool(x, (1,))
    assert y.dtype == jnp.float16 and y[0, 0] == 1
    g = jnp.full((1000, 1), 1 / 16, jnp.bfloat16)  # in bfloat16, 16 + 1/16 is 16
    x = jnp.zeros((3, 1), jnp.bfloat16)
    f = jax.jit(lambda x, g: jax.vjp(lambda x: adaptive_max_pool(x, (1000,)), x)[1](g))
    (dx,) = f(x, g)
    total = np.array([334, 333, 333]) / 16  # outputs that start at each element
    assert np.abs(dx[:, 0].astype(jnp.float32) - total).max() <= 1 / 16


# --- Cost -----------------------------------------------------------------------------


def lowered(name, n, o):
    def run(x, g):
        y, pull = jax.vjp(lambda x: POOLS[name](x, (o,)), x)
        return y, pull(g)[0]

    specs = (jax.ShapeDtypeStruct((size, 1), jnp.float32) for size in (n, o))
    return jax.jit(run).lower(*specs)


@every_pool
def test_windows_of_equal_size_need_no_gather(name):
    assert "gather" not in lowered(name, 56, 7).as_text()
    assert "gather" in lowered(name, 64, 13).as_text()


@every_pool
def test_cost_grows_with_the_input_and_not_with_the_output_too(name):
    """Operations, forward and gradient, per element of input and output together."""
    for n, o in ((1000, 333), (333, 1000), (4000, 777)):
        assert lowered(name, n, o).cost_analysis()["flops"] < 40 * (n + o), (n, o)


# --- Transformations ------------------------------------------------------------------


@every_pool
def test_transforms(name):
    pool = POOLS[name]
    options = {"dtypes": ("float32",), "eager_grad": False, "order": 1}
    check_transforms(lambda x: pool(x, (3, 2)), tie_free((2, 4, 3, 1)), **options)


@every_pool
def test_transforms_of_masks(name):
    pool, where = POOLS[name], np.arange(4)[:, None] > 0
    options = {"order": 1, "dtypes": (), "sharded": False, "export": False}
    x = tie_free((1, 4, 2))
    check_transforms(lambda x: pool(x, (3,), where=where), x, **options)


def test_transforms_of_large_windows():
    def f(x):
        y = adaptive_avg_pool(x, (2,))
        return jnp.concatenate([adaptive_max_pool(x, (2,)), y], -1)

    options = {"order": 1, "dtypes": (), "sharded": False, "eager_grad": False}
    check_transforms(f, tie_free((1, 71, 1)), **options)


def test_symbolic_size_of_a_kept_axis():
    shape = jax.export.symbolic_shape("b, h, 10, 2")

    def f(x):
        return adaptive_max_pool(x, (None, 4), return_indices=True)

    exported = jax.export.export(jax.jit(f))(jax.ShapeDtypeStruct(shape, jnp.float32))
    x = tie_free((2, 3, 10, 2))
    for got, want in zip(exported.call(x), f(x), strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match="`output_shape` must be None along an axis"):
        jax.export.export(jax.jit(lambda x: adaptive_avg_pool(x, (2, 4))))(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )


def test_zero_size_batch_of_large_windows():
    pool = functools.partial(adaptive_max_pool, output_shape=(3, 3))
    x = jnp.zeros((0, 64, 64, 3))
    _, index = jax.eval_shape(functools.partial(pool, return_indices=True), x)
    dx = jax.eval_shape(jax.grad(lambda x: pool(x).sum()), x)
    assert index.shape == (0, 3, 3, 3) and dx.shape == x.shape


def test_zero_size_batch():
    for pool in POOLS.values():
        f = jax.jit(lambda x, pool=pool: pool(x, (3, 4)))
        assert f(jnp.zeros((0, 5, 7, 2))).shape == (0, 3, 4, 2)


# --- Wrong calls ----------------------------------------------------------------------

X = np.zeros((2, 5, 6, 3), np.float32)


@every_pool
@pytest.mark.parametrize(
    "sizes, options, error, match",
    [
        (3, {}, TypeError, r"got the int 3: write \(3, 3\) to pool two axes"),
        ("33", {}, TypeError, "`output_shape` must be a tuple"),
        ((2.5, 2), {}, TypeError, "`output_shape` must hold ints, got 2.5"),
        ((True, 2), {}, TypeError, "`output_shape` must hold ints, got True"),
        ((), {}, ValueError, "`output_shape` must have at least one entry"),
        ((0, 2), {}, ValueError, "`output_shape` must be at least 1"),
        ((1, 2, 3, 4), {}, ValueError, "`output_shape` must have at most 3 entries"),
        ((1, 2), {"axes": (1,)}, ValueError, "`axes` must name one axis per entry"),
        ((1, 2), {"axes": (1, 1)}, ValueError, "`axes` must not repeat"),
        ((1, 2), {"axes": (1, 7)}, ValueError, "`axes` must lie in"),
        ((1, 2), {"where": X}, TypeError, "`where` must be boolean"),
        ((1, 2), {"where": X[1:, 1:] > 0}, ValueError, "`where` must broadcast"),
    ],
)
def test_wrong_calls(name, sizes, options, error, match):
    with pytest.raises(error, match=match):
        POOLS[name](X, sizes, **options)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="`x` must not be empty along axes"):
        adaptive_avg_pool(X[:, :0], (2, 2))
    with pytest.raises(TypeError, match="`return_indices` must be True or False"):
        adaptive_max_pool(X, (2, 2), return_indices=1)
    with pytest.raises(TypeError, match="`x` must be an array"):
        adaptive_avg_pool("x", (2, 2))


@pytest.mark.parametrize(
    "sizes, error, match",
    [
        ((4, 5), ValueError, "`output_size` must lie between 1 and `input_size` 4"),
        ((4, 0), ValueError, "`output_size` must lie between"),
        (((4, 5), 2), ValueError, "`output_size` must have one int per entry"),
        (((4, 5), (2,)), ValueError, "`output_size` must have one int per entry"),
        ((4.0, 2), TypeError, "`input_size` must hold ints"),
    ],
)
def test_wrong_sizes_of_fixed_window(sizes, error, match):
    with pytest.raises(error, match=match):
        fixed_window(*sizes)
