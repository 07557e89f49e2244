"""fractional_max_pool."""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_unpool import goldens, quick, scatter_adds
from transforms import check_transforms, tie_free

from jaxpool import _fractional, _lowering
from jaxpool._fractional import fractional_max_pool

RULES = ["cpu", "default"]  # this function asks a rule for one thing

# --- Oracles --------------------------------------------------------------------------


def fixed_windows(n, k, o, u):
    """PyTorch's windows along an axis, as (start, end) pairs."""
    starts = [n - k] * o
    for j in range(o - 1):
        alpha = type(u)(n - k) / type(u)(o - 1)  # in the precision of the sample
        starts[j] = int((type(u)(j) + u) * alpha) - int(u * alpha)
    return [(a, a + k) for a in starts]


def disjoint_windows(n, k, o, u):
    """Graham's regions, with TensorFlow's range of shifts, in exact fractions."""
    alpha, floor = n / o, n // o
    v = u * min((floor + 2) / alpha - 1, (n + 1 - floor) / alpha - (o - 1))
    edges = [0, *(math.ceil(alpha * (j + v)) - 1 for j in range(1, o)), n]
    return list(itertools.pairwise(edges))


def loop(x, windows, where=None, empty=0.0):
    """(maxima, indices) of `windows(row, axis)`, of x as (rows, *space)."""
    space = x.shape[1:]
    grid = [len(windows(0, a)) for a in range(len(space))]
    y = np.full((len(x), *grid), empty, x.dtype)
    indices = np.full(y.shape, -1, np.int32)
    for r in range(len(x)):
        per_axis = [windows(r, a) for a in range(len(space))]
        for o in np.ndindex(*grid):
            spans = [range(*per_axis[a][i]) for a, i in enumerate(o)]
            for at in itertools.product(*spans):
                if where is not None and not where[(r, *at)]:
                    continue
                value, best = x[(r, *at)], y[(r, *o)]
                first = indices[(r, *o)] < 0
                if first or value > best or (value != value and best == best):
                    y[(r, *o)] = value
                    indices[(r, *o)] = np.ravel_multi_index(at, space)
    return y, indices


def gradient(indices, g, size):
    """The cotangents of (rows, *space) added up where their maxima were, flat."""
    dx = np.zeros((len(g), size), np.float64)
    for r in range(len(g)):
        flat = indices[r].ravel()
        np.add.at(dx[r], flat[flat >= 0], g[r].ravel()[flat >= 0])
    return dx


def as_rows(x, count=1):
    """(N, *space, C) as (N * C, *space)."""
    return np.moveaxis(x, -1, 1).reshape((-1, *x.shape[1:-1]))


# The input's shape (N, *space, C), the window, the output's size, overlapping or not.
CASES = [
    ((1, 12, 1), (3,), (3,), True),  # gaps
    ((1, 9, 1), (3,), (4,), True),  # steps of 2
    ((1, 8, 7, 2), (3, 2), (6, 3), True),
    ((2, 6, 5, 2), (2, 5), (5, 1), True),  # steps of 1, and a single window
    ((1, 5, 4, 6, 2), (2, 2, 3), (3, 2, 3), True),
    ((2, 9, 2), (2,), (6,), False),
    ((2, 6, 7, 2), (2, 4), (3, 2), False),  # steps all alike on an axis
    ((1, 5, 4, 6, 1), (2, 4, 2), (3, 1, 4), False),
]


def windows_of(case, samples):
    """The windows of a row and axis of a case, for samples (N, C, axes)."""
    shape, window, output, overlapping = case
    samples = samples.reshape(-1, len(window))
    of = fixed_windows if overlapping else disjoint_windows

    def windows(row, a):
        return of(shape[1 + a], window[a], output[a], samples[row, a])

    return windows


def check(rule, inputs, **more):
    """Values, indices, gradient and tangent of all cases, in one program.

    `inputs(case, rng)` gives x, the samples and a mask or None.
    """
    rng = np.random.default_rng(0)
    given = [inputs(case, rng) for case in CASES]
    outs = [(shape[0], *output, shape[-1]) for shape, _, output, _ in CASES]
    gs = [rng.normal(size=out).astype(np.float32) for out in outs]
    ts = [rng.normal(size=x.shape).astype(np.float32) for x, *_ in given]
    # A tangent under a mask is garbage.
    ts = [
        t if w is None else np.where(w, t, np.nan)
        for t, (*_, w) in zip(ts, given, strict=True)
    ]

    def program(given, gs, ts):
        found = []
        for (x, u, where), g, t, case in zip(given, gs, ts, CASES, strict=True):

            def pool(x, u=u, where=where, case=case):
                _, window, output, overlapping = case
                options = {"output_shape": output, "overlapping": overlapping}
                options |= {"samples": u, "where": where, "return_indices": True}
                return fractional_max_pool(x, window, **options, **more)

            y, vjp, indices = jax.vjp(pool, x, has_aux=True)
            dy = jax.jvp(lambda x, pool=pool: pool(x)[0], (x,), (t,))[1]
            found.append((y, indices, vjp(g)[0], dy))
        return found

    with _lowering.force(rule):
        found = quick(program, given, gs, ts)
    for case, (x, u, where), g, t, result in zip(
        CASES, given, gs, ts, found, strict=True
    ):
        y, indices, dx, dy = result
        rows, mask = as_rows(x), None if where is None else as_rows(where)
        want, places = loop(rows, windows_of(case, u), mask, **more)
        name = str(case)
        np.testing.assert_array_equal(as_rows(y), want, name)
        np.testing.assert_array_equal(as_rows(indices), places, name)
        flat = as_rows(dx).reshape(len(rows), -1)
        size = flat.shape[1]
        np.testing.assert_allclose(
            flat, gradient(places, as_rows(g), size), rtol=1e-5, atol=1e-6, err_msg=name
        )
        t, at = as_rows(t).reshape(len(rows), -1), places.reshape(len(rows), -1)
        picked = np.where(at < 0, 0, np.take_along_axis(t, np.maximum(at, 0), 1))
        np.testing.assert_array_equal(as_rows(dy).reshape(picked.shape), picked, name)


def draw(shape, rng):
    return rng.random((shape[0], shape[-1], len(shape) - 2)).astype(np.float32)


# --- Against the loops ----------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_as_in_a_loop(rule):
    def inputs(case, rng):
        shape, *_ = case
        return tie_free(shape), draw(shape, rng), None

    check(rule, inputs)


@pytest.mark.parametrize("rule", RULES)
def test_ties_nan_and_masks(rule):
    def inputs(case, rng):
        shape, *_ = case
        x = rng.choice(np.array([1, 2, np.nan, -np.inf], np.float32), shape)
        # The whole first half of the first row is masked, for windows without elements.
        where = rng.random(shape) < 0.6
        where[0, : shape[1] // 2] = False
        return (
            np.where(where, x, rng.choice([np.inf, np.nan], shape)).astype(np.float32),
            draw(shape, rng),
            where,
        )

    check(rule, inputs, empty=-7.0)


def test_all_minus_infinity():
    x = np.full((6, 5, 1), -np.inf, np.float32)
    where = np.ones((6, 5, 1), bool)
    where[0, 0] = False

    def pool(x, where, overlapping):
        return fractional_max_pool(
            x,
            (2, 2),
            output_shape=(4, 3),
            overlapping=overlapping,
            where=where,
            return_indices=True,
        )

    for overlapping in (True, False):
        y, indices = quick(functools.partial(pool, overlapping=overlapping), x, where)
        assert (y == -np.inf).all()
        assert (indices >= 1).all()  # a valid element, not the masked first one


def test_golden_and_live_torch():
    cases = goldens("fractional")
    assert {case["x"].ndim for case in cases} == {4, 5}
    check_torch(cases)
    pytest.importorskip("torch")
    from goldens import record_torch_unpool as record

    rng = np.random.RandomState(1)
    more = [((2, 31, 17, 1), (3, 2), (21, 16), np.float32)]
    check_torch([record.fractional(rng, *a) for a in more + record.FRACTIONAL[4:5]])


def check_torch(cases):
    def pool(x, case):
        return fractional_max_pool(
            x,
            tuple(case["window_shape"].tolist()),
            output_shape=case["y"].shape[1:-1],
            samples=case["samples"],
            return_indices=True,
        )

    for dtype in (np.float32, np.float64):
        some = [case for case in cases if case["x"].dtype == dtype]
        if not some:
            continue

        def program(xs, gs, some=some):
            found = []
            for x, g, case in zip(xs, gs, some, strict=True):
                fn = functools.partial(pool, case=case)
                y, vjp, indices = jax.vjp(fn, x, has_aux=True)
                found.append((y, indices, vjp(g)[0]))
            return found

        with jax.enable_x64(dtype == np.float64):
            found = quick(program, [c["x"] for c in some], [c["g"] for c in some])
        for case, (y, indices, dx) in zip(some, found, strict=True):
            np.testing.assert_array_equal(y, case["y"])
            np.testing.assert_array_equal(indices, case["indices"])
            np.testing.assert_array_equal(dx, case["dx"])
            assert y.dtype == dtype


# --- Where windows start --------------------------------------------------------------


def starts(n, k, o, samples, overlapping):
    """First and last element of each window, (samples, o): of a ramp up and down."""

    def program(samples):
        def ends(u):
            ramp = jnp.arange(n, dtype=np.float32)[:, None]
            pool = functools.partial(
                fractional_max_pool,
                window_shape=(k,),
                output_shape=(o,),
                samples=u,
                overlapping=overlapping,
            )
            return -pool(-ramp)[:, 0], pool(ramp)[:, 0]

        return jax.vmap(ends)(samples)

    first, last = quick(program, samples[:, None])
    return first.astype(int), last.astype(int)


# With the last two, float32 rounding makes a step too short: the last one where alpha
# is 1, and one in the middle of 14998 to 3000.
BENT = float.fromhex("0x1.53aca2p-1")
EXTREMES = [0, 2**-30, 0.3, 0.5, 1 - 2**-12, 1 - 2**-24, BENT]
EXTREMES = np.array(EXTREMES, np.float32)


@pytest.mark.parametrize(
    "n, k, o", [(25, 2, 18), (7, 2, 6), (40, 3, 5), (14998, 2, 3000)]
)
def test_fixed_windows_stay_apart_and_inside(n, k, o):
    """The derivative relies on steps of `floor(alpha)`, whatever rounding does."""
    wild = np.array([np.nan, np.inf, -np.inf, -3, 1e30, -1e30], np.float32)
    first, last = starts(n, k, o, np.concatenate([EXTREMES, wild]), True)
    np.testing.assert_array_equal(last - first, k - 1)
    assert first.min() >= 0 and last.max() <= n - 1
    assert (first[:, -1] == n - k).all()
    assert np.diff(first).min() >= (n - k) // (o - 1)


@pytest.mark.parametrize("n, o", [(25, 18), (7, 5), (12, 4), (9, 8), (41, 7), (6, 6)])
def test_regions_cover_the_input(n, o):
    wild = np.array([np.nan, np.inf, -3, 1e30], np.float32)
    samples = np.concatenate([np.linspace(0, 1, 60)[:-1], EXTREMES, wild])
    first, last = starts(n, -(-n // o), o, samples.astype(np.float32), False)
    assert (first[:, 0] == 0).all() and (last[:, -1] == n - 1).all()
    np.testing.assert_array_equal(first[:, 1:], last[:, :-1] + 1)
    assert set((last - first + 1).ravel()) <= {n // o, -(-n // o)}


def test_published_example():
    """25 to 18, k = 2, u = 0.5: the starts that PyTorch gives."""
    first, _ = starts(25, 2, 18, np.array([0.5], np.float32), True)
    want = [0, 2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 20, 22, 23]
    np.testing.assert_array_equal(first[0], want)


def test_windows_far_out_are_in_integers():
    """Disjoint regions of a signal whose `n * o` is beyond int32."""
    n, o = 60_000, 50_000
    first, last = starts(n, 2, o, np.array([0.7], np.float32), False)
    assert set((last - first + 1).ravel()) == {1, 2}
    assert last[0, -1] == n - 1


# --- Samples and keys -----------------------------------------------------------------


def test_a_key_is_two_samples_for_all(key):
    x = tie_free((3, 9, 8, 2))

    def pool(x, **options):
        return fractional_max_pool(x, (2, 2), output_shape=(6, 5), **options)

    def program(x, key):
        drawn = jax.random.uniform(key, (2,), np.float32)
        return {
            "batch": pool(x, key=key),
            "samples": pool(x, samples=drawn),
            "vmap": jax.vmap(lambda x: pool(x, key=key))(x),
            "channels": jax.vmap(
                lambda x: pool(x[..., None], key=key)[..., 0], in_axes=-1, out_axes=-1
            )(x),
            "legacy": pool(x, key=jax.random.key_data(key)),
            "none": pool(x),
            "half": pool(x, samples=(0.5, 0.5)),
            "other": pool(x, key=jax.random.fold_in(key, 1)),
        }

    found = quick(program, x, key)
    eager = pool(x, key=key)
    with jax.enable_x64(True):
        wide = quick(lambda x, key: pool(x, key=key), x, key)
    for name in ("samples", "vmap", "channels", "legacy"):
        np.testing.assert_array_equal(found[name], found["batch"], name)
    np.testing.assert_array_equal(eager, found["batch"])
    np.testing.assert_array_equal(wide, found["batch"])
    np.testing.assert_array_equal(found["none"], found["half"])
    assert (found["other"] != found["batch"]).any()


def test_samples_are_shared_where_they_have_size_1(rng):
    x = tie_free((2, 9, 8, 3))
    per_image = rng.random((2, 1, 2)).astype(np.float32)
    per_channel = rng.random((3, 2)).astype(np.float32)

    def program(x, *samples):
        def pool(x, samples, **options):
            return fractional_max_pool(
                x, (2, 3), output_shape=(6, 5), samples=samples, **options
            )

        full = [jnp.broadcast_to(u, (2, 3, 2)) for u in samples]
        # The same axes in another order, and channels first.
        other = fractional_max_pool(
            jnp.moveaxis(x, -1, 1),
            (3, 2),
            output_shape=(5, 6),
            samples=full[0][..., ::-1],
            axes=(3, 2),
        )
        shared = [pool(x, u) for u in samples]
        return shared, [pool(x, u) for u in full], jnp.moveaxis(other, 1, -1)

    shared, full, other = quick(program, x, per_image, per_channel)
    for a, b in zip(shared, full, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(other, full[0])


def test_output_ratio_is_truncated():
    x = jax.ShapeDtypeStruct((100, 9, 1), np.float32)

    def shape(**options):
        pool = functools.partial(fractional_max_pool, window_shape=(2, 2), **options)
        return jax.eval_shape(pool, x).shape

    assert shape(output_ratio=0.29) == (28, 2, 1)  # 28.999... as in PyTorch
    assert shape(output_ratio=(0.5, 0.7), axes=(1, 0)) == (70, 4, 1)


# --- dtypes, transformations ----------------------------------------------------------


def test_dtypes():
    dtypes = ["int8", "uint16", "bool", "bfloat16", "float16", "float32"]
    x = {d: (np.arange(12) % 5 % 3).astype(jnp.dtype(d))[:, None] for d in dtypes}

    def program(x):
        return {
            (d, overlapping): fractional_max_pool(
                x[d], (2,), output_shape=(7,), overlapping=overlapping
            )
            for d in dtypes
            for overlapping in (True, False)
        }

    found = {}
    jax.jit(lambda x: found.update(program(x)) or 0).trace(x)
    names = list(found)
    for (dtype, overlapping), y in zip(
        names, quick(lambda x: list(program(x).values()), x), strict=True
    ):
        assert y.dtype == dtype
        windows = (fixed_windows, disjoint_windows)[not overlapping]
        spans = windows(12, 2, 7, np.float32(0.5))
        want = [x[dtype][a:b].max() for a, b in spans]
        np.testing.assert_array_equal(y[:, 0], np.array(want, jnp.dtype(dtype)))


@pytest.mark.parametrize("rule", RULES)
def test_gradients_of_sixteen_bits_add_up_in_float32(rule):
    x = np.array([0, 0, 0, 1, 0, 0, 0], jnp.bfloat16)[:, None]
    g = np.array([0, 256, 1, 1, 1, 0], jnp.bfloat16)[: 7 - 4 + 1, None]

    def program(x, g):
        pool = functools.partial(fractional_max_pool, window_shape=(4,))
        return jax.vjp(lambda x: pool(x, output_shape=(4,)), x)[1](g)[0]

    with _lowering.force(rule):
        dx = quick(program, x, g)
    assert float(dx[3, 0]) == 258  # 256 + 1 is 256 in bfloat16


def test_a_batch_of_none():
    x = np.ones((0, 6, 5, 2), np.float32)
    assert fractional_max_pool(x, (2, 2), output_shape=(4, 3)).shape == (0, 4, 3, 2)


def test_transforms(key):
    def pool(x):
        return fractional_max_pool(x, (2, 2), output_shape=(4, 2), key=key)

    check_transforms(pool, tie_free((2, 5, 3, 2)), no_scatter=False)


def test_transforms_of_disjoint_regions():
    samples = np.array([[0.2], [0.9]], np.float32)  # per channel

    def pool(x):
        return fractional_max_pool(
            x, (2,), output_shape=(4,), samples=samples, overlapping=False
        )

    some = {"export": False, "sharded": False, "eager_grad": False, "dtypes": ()}
    check_transforms(pool, tie_free((2, 7, 2)), no_scatter=False, **some)


def test_vmap_over_keys(key):
    """Keys alone are mapped, x is not: its gradient is the sum over the keys."""
    x, keys = tie_free((6, 5, 1)), jax.random.split(key, 3)

    def loss(x, key):
        return (fractional_max_pool(x, (2, 2), output_shape=(4, 3), key=key) ** 3).sum()

    def mapped(x, keys):
        return jax.grad(lambda x: jax.vmap(loss, (None, 0))(x, keys).sum())(x)

    for rule in ("cpu", "default"):
        with _lowering.force(rule):
            got = quick(lambda x, k: mapped(x, k), x, keys)
            each = quick(
                lambda x, k: [jax.grad(loss)(x, k[i]) for i in range(3)], x, keys
            )
        np.testing.assert_allclose(got, sum(each), rtol=1e-5)
    assert scatter_adds(mapped, x, keys) == 1


@pytest.mark.parametrize("case", CASES)
def test_windows_of_a_copy_share_no_element(case, monkeypatch, rng):
    """What the gradient on a GPU promises to the compiler, and CPUs do not look at."""
    shape, window, output, overlapping = case
    seen = []

    def pick(kind, copies, rule, tangent, index):
        seen.append((kind, copies))
        return jnp.zeros(index.shape, tangent.dtype)

    def pool(x, u):
        return fractional_max_pool(
            x, window, output_shape=output, samples=u, overlapping=overlapping
        )

    monkeypatch.setattr(_fractional, "_pick", pick)
    samples = draw(shape, rng)
    x = jax.ShapeDtypeStruct(shape, np.float32)
    jax.eval_shape(lambda x: jax.jvp(lambda x: pool(x, samples), (x,), (x,)), x)
    kind, copies = seen[0]
    windows = windows_of(case, samples)
    assert 0 <= kind.min() and kind.max() < copies
    for r in range(shape[0] * shape[-1]):
        spans = itertools.product(*(windows(r, a) for a in range(len(window))))
        count = np.zeros((copies, *shape[1:-1]), int)
        for number, span in zip(kind, spans, strict=True):
            count[(number, *(slice(*ends) for ends in span))] += 1
        assert count.max() == 1


def test_nothing_is_added_twice_to_a_place():
    x = jax.ShapeDtypeStruct((2, 9, 8, 3), np.float32)
    u = jax.ShapeDtypeStruct((2, 3, 2), np.float32)

    def pool(x, u, **options):
        return fractional_max_pool(x, (3, 2), output_shape=(6, 5), samples=u, **options)

    def loss(x, u, **options):
        return (pool(x, u, **options) ** 3).sum()

    def forward(x, u):
        return jax.jvp(lambda x: pool(x, u), (x,), (x,))[1]

    assert scatter_adds(pool, x, u) == scatter_adds(forward, x, u) == 0
    assert scatter_adds(jax.grad(loss), x, u) == 1
    assert scatter_adds(jax.vmap(jax.grad(loss)), x, u) == 1
    masked = functools.partial(loss, where=np.ones((9, 8, 1), bool))
    assert scatter_adds(jax.grad(masked), x, u) == 1


def test_only_the_indices_are_kept():
    x = jnp.asarray(tie_free((2, 9, 8, 3)))
    y, vjp = jax.vjp(lambda x: fractional_max_pool(x, (2, 2), output_shape=(6, 5)), x)
    kept = [leaf for leaf in jax.tree.leaves(vjp) if hasattr(leaf, "nbytes")]
    # The rest are constants, which have the size of one channel of one image.
    (index,) = (leaf for leaf in kept if leaf.size > 6 * 5)
    assert index.nbytes == 4 * y.size


# --- Wrong calls ----------------------------------------------------------------------

X = np.ones((2, 7, 6, 3), np.float32)


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({}, ValueError, "one of `output_shape` and `output_ratio`.*None and None"),
        (
            {"output_shape": (4, 4), "output_ratio": 0.5},
            ValueError,
            "one of `output_shape` and `output_ratio`",
        ),
        ({"output_shape": 4}, TypeError, "`output_shape` must be a tuple"),
        ({"output_shape": (4,)}, ValueError, "`output_shape` must have one int per"),
        ({"output_shape": (4, 0)}, ValueError, "`output_shape`.*at least 1"),
        (
            {"output_shape": (4, 6)},
            ValueError,
            r"`output_shape` \(4, 6\) must give 1 to 5 outputs along axis -2",
        ),
        ({"output_ratio": 0.1}, ValueError, "`output_ratio` 0.1 must give.*got 0"),
        ({"output_ratio": 1.0}, ValueError, r"`output_ratio` must lie in \(0, 1\)"),
        ({"output_ratio": (0.5,)}, ValueError, r"`output_ratio` must lie.*\(2\)"),
        ({"output_ratio": 2}, TypeError, "`output_ratio` must be a float"),
        ({"output_ratio": "half"}, TypeError, "`output_ratio` must be a float"),
        (
            {"output_shape": (3, 3), "overlapping": False},
            ValueError,
            "`window_shape` must be at least 3 along axis -3",
        ),
        ({"output_shape": (4, 4), "overlapping": 1}, TypeError, "`overlapping`"),
        ({"output_shape": (4, 4), "key": 0}, TypeError, "`key` must be a key"),
        (
            {"output_shape": (4, 4), "key": jax.random.split(jax.random.key(0))},
            ValueError,
            "`key` must be one key, got an array of keys",
        ),
        (
            {"output_shape": (4, 4), "key": jax.random.key(0), "samples": (0.1, 0.2)},
            ValueError,
            "one of `key` and `samples`",
        ),
        (
            {"output_shape": (4, 4), "samples": (0.1, 1.0)},
            ValueError,
            r"`samples` must lie in \[0, 1\)",
        ),
        (
            {"output_shape": (4, 4), "samples": np.full((2, 4, 2), 0.5)},
            ValueError,
            r"`samples` must have shape \(2,\) or broadcast to \(2, 3, 2\)",
        ),
        ({"output_shape": (4, 4), "samples": 0.5}, ValueError, "`samples` must have"),
        ({"output_shape": (4, 4), "where": X}, TypeError, "`where` must be boolean"),
    ],
)
def test_wrong_calls(options, error, match):
    with pytest.raises(error, match=match):
        fractional_max_pool(X, (2, 2), **options)


def test_wrong_inputs():
    with pytest.raises(TypeError, match="`window_shape` must be a tuple"):
        fractional_max_pool(X, 2, output_shape=(4, 4))
    with pytest.raises(TypeError, match="`x` must be real"):
        fractional_max_pool(X + 1j, (2, 2), output_shape=(4, 4))
    with pytest.raises(ValueError, match=re.escape("`window_shape` (8, 2)")):
        fractional_max_pool(X, (8, 2), output_shape=(1, 4))
