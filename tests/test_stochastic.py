"""stochastic_pool, random_pool and s3_pool."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from test_rank import GEOMETRIES, MASKS, check, check_curvature, inputs, tap_windows
from transforms import COLLECTIVE, QUICK, check_transforms, tie_free

from jaxpool import random_mixed_pool, random_pool, s3_pool, stochastic_pool

quick = functools.partial(jax.jit, compiler_options=QUICK)
SOME = [*GEOMETRIES[4:7], GEOMETRIES[1], GEOMETRIES[8], MASKS[3], MASKS[1]]
# Three axes, of each dtype: dilated, padded, partial.
DEEP = (
    (1, 4, 3, 5, 2),
    (2, 2, 2),
    {
        "strides": 2,
        "padding": ((1, 0), (0, 1), (0, 0)),
        "dilation": (2, 1, 3),
        "ceil_mode": True,
    },
)
DTYPES = ["float32", jnp.bfloat16, "float64"]

# --- Without a key --------------------------------------------------------------------


def multinomial_value(v, taps, channel):
    """sum of a^2 / sum of a over positive a, 0 if there is none."""
    a = np.maximum(v, 0)
    return (a * a).sum() / a.sum() if a.sum() > 0 else 0.0


def mean_value(v, taps, channel):
    return v.mean()


@pytest.mark.parametrize("rule", ["cpu", "tpu"])
def test_expectation_equals_the_formula(rule):
    cases = list(inputs(SOME if rule == "cpu" else SOME[-2:]))
    cases += inputs(SOME[:1], jnp.bfloat16)
    check(stochastic_pool, multinomial_value, cases, rule)


def test_uniform_expectation_is_the_average():
    uniform = functools.partial(stochastic_pool, sampling="uniform")
    cases = list(inputs(SOME[:2] + SOME[-3:]))
    pools = [uniform if i % 2 else random_pool for i in range(len(cases))]
    check(pools, mean_value, cases)


def test_expectation_in_float64():
    with jax.enable_x64(True):
        cases = inputs(MASKS[1:2], "float64")
        check(stochastic_pool, multinomial_value, cases)


def test_expectation_of_a_value_around_the_sample():
    """sum p[i] m[i], m the maximum or average around each element, and its gradient."""
    x = tie_free((5, 6, 2))
    where = tie_free((5, 6, 1), 1) > -1
    window = {"dilation": (2, 1), "where": where}  # what lies around is dilated as well
    options = {"strides": 2, "padding": 1, **window}
    around = {"strides": 1, "padding": "SAME", **window}
    mean = {"count_include_pad": False, **around}
    of = {
        "max": (oracles.max_pool, oracles.max_pool_vjp, around),
        "avg": (oracles.avg_pool, oracles.avg_pool_vjp, mean),
    }
    kinds = list(itertools.product(of, ("multinomial", "uniform")))
    flat = x.ravel().astype(np.float64)
    y_shape = oracles.output_shape(
        x.shape, (2, 3), strides=2, padding=1, dilation=(2, 1)
    )
    g = tie_free(y_shape, 2)

    @quick
    def program(x):
        found = []
        for value, sampling in kinds:
            pool = functools.partial(stochastic_pool, value=value, sampling=sampling)
            y, vjp = jax.vjp(lambda x: pool(x, (2, 3), **options), x)  # noqa: B023
            found.append((y, vjp(g)[0]))
        return found

    for (value, sampling), got in zip(kinds, program(x), strict=True):
        pool, pool_vjp, its = of[value]
        m = pool(x, (2, 3), **its).ravel()
        want, dm, dx = np.zeros(y_shape), np.zeros(x.size), np.zeros(x.size)
        for out, places, _ in tap_windows(x.shape, (2, 3), **options):
            a = flat[places]
            p = np.maximum(a, 0) if sampling == "multinomial" else np.ones(len(a))
            if (total := p.sum()) == 0:
                continue
            want[out] = (p * m[places]).sum() / total
            dm[places] += g[out] * p / total
            if sampling == "multinomial":  # the probabilities have a derivative too
                dx[places] += g[out] * (a > 0) * (m[places] - want[out]) / total
        dx = dx.reshape(x.shape) + pool_vjp(x, dm.reshape(x.shape), (2, 3), **its)
        about = f"{value}, {sampling}"
        np.testing.assert_allclose(got[0], want, 1e-5, 1e-6, err_msg=about)
        np.testing.assert_allclose(got[1], dx, 1e-5, 1e-5, err_msg=about)


def test_gradient_of_the_expectation():
    """(2 a - y) / sum of a."""
    a = jnp.asarray([1.0, 2.0, 5.0])
    gradient = jax.grad(lambda a: stochastic_pool(a[:, None], (3,)).sum())
    got = jax.jit(gradient, compiler_options=QUICK)(a)
    np.testing.assert_allclose(got, (2 * a - 30 / 8) / 8, 1e-6)


# --- Samples --------------------------------------------------------------------------


def chi_square(counts, probabilities):
    expected = counts.sum() * probabilities
    return ((counts - expected) ** 2 / expected).sum()


@pytest.mark.parametrize("sampling", ["multinomial", "uniform"])
def test_frequencies(sampling, key):
    """Of 20000 draws, by the chi-square test: 99.9% lie below 20.5 for 5 degrees."""
    a = np.array([0.5, 3.0, 1.0, 0.25, 2.0, 4.0, 0.0, -1.0], np.float32)
    x = jnp.broadcast_to(a[:, None], (20000, 8, 1))
    pool = functools.partial(stochastic_pool, window_shape=(8,), sampling=sampling)
    y, mean = quick(lambda x, key: (pool(x, key=key), pool(x[0])[0, 0]))(x, key)
    values, counts = np.unique(np.asarray(y), return_counts=True)
    p = np.maximum(a, 0) if sampling == "multinomial" else np.ones(8)
    possible = np.sort(a[p > 0])
    np.testing.assert_array_equal(values, possible)
    p = p[np.argsort(a)][-len(possible) :]
    assert chi_square(counts, p / p.sum()) < (20.5 if len(p) == 6 else 24.3)
    # The mean of the draws is near the expectation, by 5 standard errors.
    assert abs(np.mean(y) - mean) < 5 * np.std(y) / np.sqrt(20000)


def test_draws_are_independent(key):
    """Neither outputs, nor channels, nor elements of the batch share a draw."""
    x = jnp.broadcast_to(jnp.asarray([1.0, 2.0])[:, None], (256, 2, 1)).reshape(512, 1)
    x = jnp.tile(x, (1, 256))
    keys = jnp.stack([key, jax.random.key(1)])
    draw = quick(jax.vmap(lambda key: random_pool(x, (2,), key=key)))
    took, other = np.asarray(draw(keys)) == 2
    for pairs in ((took[1:], took[:-1]), (took[:, 1:], took[:, :-1])):
        agree = np.mean(pairs[0] == pairs[1])
        assert abs(agree - 0.5) < 0.5 * 5 / 256
    assert abs(np.mean(took == other) - 0.5) < 0.5 * 5 / 256


def test_draws_are_independent_where_a_mask_broadcasts(key):
    x = jnp.broadcast_to(jnp.arange(4.0)[:, None], (3, 4, 8))
    mask = jnp.array([True, False, True, True])[:, None]
    for options in ({"sampling": "uniform"}, {}):
        pool = functools.partial(stochastic_pool, x, (4,), key=key, **options)
        y = pool(where=mask)
        assert len(np.unique(y, axis=0)) > 1 and len(np.unique(y, axis=2)) > 1
        np.testing.assert_array_equal(y, pool(where=jnp.broadcast_to(mask, x.shape)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_are_elements_and_take_the_gradient(dtype, key):
    """Each value is an element that may be drawn, and all of g goes to it."""
    some = SOME[:1] + SOME[-4:] if dtype == "float32" else [GEOMETRIES[1], MASKS[1]]
    cases = list(inputs([DEEP, *some], dtype))
    uniform = functools.partial(stochastic_pool, sampling="uniform")

    def program(xs, key):
        found = []
        for i, (x, case) in enumerate(zip(xs, cases, strict=True)):
            _, window_shape, options = case
            for pool in (stochastic_pool, uniform if i % 2 else random_pool):
                pool = functools.partial(pool, key=key, **options)
                y, vjp = jax.vjp(lambda x: pool(x, window_shape), x)  # noqa: B023
                g = 1 + jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)
                found.append((y, vjp(g)[0], g))
        return found

    compiled = jax.jit(program, compiler_options=QUICK)
    with jax.enable_x64(dtype == "float64"):
        got = iter(jax.device_get(compiled([x for x, *_ in cases], key)))
    for x, window_shape, options in cases:
        empty = options.get("empty", 0.0)
        geometry = {k: v for k, v in options.items() if k != "empty"}
        for sampling in ("multinomial", "uniform"):
            y, dx, g = next(got)
            assert y.dtype == dx.dtype == x.dtype
            want = np.zeros(x.size)
            for out, places, _ in tap_windows(x.shape, window_shape, **geometry):
                v = x.flat[places]
                if not places:
                    assert y[out] == (empty if "where" in options else 0)
                elif sampling == "multinomial" and (v <= 0).all():
                    assert y[out] == 0
                else:
                    (t,) = np.flatnonzero(v == y[out])  # no two are alike
                    assert sampling == "uniform" or v[t] > 0
                    want[places[t]] += g[out]
            np.testing.assert_array_equal(dx.ravel(), want)  # of small integers


@pytest.mark.parametrize("value, of", [("max", "max_pool"), ("avg", "avg_pool")])
def test_value_around_the_sample(value, of, key):
    """The same draws, but what lies around them, clipped to x; and its gradient."""
    x = jnp.abs(jnp.asarray(tie_free((7, 6, 2))))
    options = {"strides": 2, "padding": ((1, 0), (0, 1)), "dilation": (1, 2)}
    where = tie_free((7, 6, 1), 1) > -1.5  # leaves every window something
    options |= {"where": where, "key": key}
    pool = functools.partial(stochastic_pool, window_shape=(3, 2), **options)

    @quick
    def program(x):
        y, vjp = jax.vjp(lambda x: pool(x, value=value), x)
        g = 1 + jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)
        return pool(x), y, g, vjp(g)[0]

    sample, y, g, dx = jax.device_get(program(x))
    around = {"max": {}, "avg": {"count_include_pad": False}}[value]
    around |= {"strides": 1, "padding": "SAME", "dilation": (1, 2), "where": where}
    m = getattr(oracles, of)(x, (3, 2), **around)
    place = {float(a): i for i, a in enumerate(np.asarray(x).ravel())}
    places = [place[float(a)] for a in sample.ravel()]
    np.testing.assert_allclose(y.ravel(), m.ravel()[places], 1e-6)
    # The draw is constant: all of g goes to what lies around it.
    dm = np.zeros(x.size)
    np.add.at(dm, places, g.ravel())
    vjp = getattr(oracles, f"{of}_vjp")
    want = vjp(x, dm.reshape(x.shape), (3, 2), **around)
    np.testing.assert_allclose(dx, want, 1e-6)


def test_windows_with_one_choice(key):
    """One positive element is always drawn; none gives 0."""
    x = jnp.asarray([[0, 7.0, -1], [0, 0, 0], [-1, -2, -3]])[..., None]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, key):
        sampled, vjp = jax.vjp(lambda x: stochastic_pool(x, (3,), key=key), x)
        ys = sampled, stochastic_pool(x, (3,))
        return [y.ravel() for y in ys], vjp(jnp.ones_like(sampled))[0]

    ys, gradient = program(x, key)
    assert [y.tolist() for y in ys] == [[7, 0, 0]] * 2
    assert gradient.ravel().tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0]


@functools.partial(jax.jit, compiler_options=QUICK)
def with_and_without(x, key):
    """The pool with a key and without, and the gradients."""

    def both(x):
        return [stochastic_pool(x, (2,), key=k) for k in (key, None)]

    ys, vjp = jax.vjp(both, x)
    return ys, vjp([jnp.ones_like(y) for y in ys])[0]


def test_weights_that_would_overflow_or_vanish(key):
    """Infinity wins, NaN spreads."""
    large, tiny, nan = np.finfo(np.float32).max, np.float32(1e-37), np.nan
    x = [[large, large], [tiny, tiny], [tiny, large], [1, np.inf]]
    x += [[1, nan], [nan, -1], [-1, nan]]
    ys, _ = with_and_without(np.asarray(x, np.float32)[..., None], key)
    for y in ys:
        np.testing.assert_allclose(
            y.ravel(), [large, tiny, large, np.inf, nan, nan, nan], 1e-6
        )
    x = np.asarray([[large, large], [tiny, 0], [0, 0]] + [[1, 1]] * 4, np.float32)
    assert np.isfinite(with_and_without(x[..., None], key)[1]).all()


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_extremes_are_finite_and_within_the_window(dtype, size, key):
    numbers = st.sampled_from([-size, -1.0, 0.0, 1.0, size]) | st.floats(
        -size, size, allow_subnormal=False
    )

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(hnp.arrays(np.float64, (4, 2), elements=numbers))
    @example(np.zeros((4, 2)))
    @example(np.full((4, 2), -size))
    def check(x):
        x = x.astype(dtype)
        ys, dx = jax.device_get(with_and_without(x[..., None], key))
        room = 2 * np.finfo(dtype).eps * size
        for y in ys:  # 0 if nothing is positive
            most = np.maximum(x.max(1), 0).astype(float)
            assert (y[:, 0, 0] >= 0).all() and (y[:, 0, 0] <= most + room).all()
        assert np.isfinite(dx).all()

    check()


# --- S3Pool ---------------------------------------------------------------------------


def draws(x, window_shape, keys, **options):
    """s3_pool of many keys."""
    pool = functools.partial(s3_pool, x, window_shape, **options)
    program = jax.jit(jax.vmap(lambda key: pool(key=key)), compiler_options=QUICK)
    return np.asarray(program(keys))


@pytest.mark.parametrize(
    "h, grid, ceil_mode",
    [(12, 4, False), (7, 4, False), (11, 6, True), (9, 2, True)],
)
def test_s3_keeps_positions_of_each_cell(h, grid, ceil_mode, key):
    """In order, without replacement, as many as there should be, each as often."""
    # With a window of 1 the maximum is x, here the position.
    x = jnp.arange(h, dtype=jnp.float32)[:, None]
    options = {"strides": 2, "grid": grid, "ceil_mode": ceil_mode}
    y = draws(x, (1,), jax.random.split(key, 2000), **options)[..., 0]
    inference = quick(lambda x: s3_pool(x, (1,), **options))(x)
    outputs = -(-h // 2) if ceil_mode else h // 2
    assert y.shape == (2000, outputs) and inference.shape == (outputs, 1)
    assert (np.diff(y) > 0).all()
    for start in range(0, h, grid):
        size = min(grid, h - start)
        inside = (y >= start) & (y < start + size)
        keep = -(-size // 2) if ceil_mode else size // 2
        assert (inside.sum(1) == keep).all()
        counts = np.bincount((y[inside] - start).astype(int), minlength=size)
        assert abs(counts / 2000 - keep / size).max() < 0.06
    # Without a key: means of two positions each, of what there is at the end.
    pairs = [x[i : i + 2].mean() for i in range(0, 2 * outputs, 2)]
    np.testing.assert_allclose(inference[:, 0], pairs, 1e-6)


def choices(h, stride, cell):
    """All that may be kept of h positions: some of each cell, in order."""
    cells = [range(i, min(i + cell, h)) for i in range(0, h, cell)]
    kept = [itertools.combinations(c, len(c) // stride) for c in cells]
    return [sum(found, ()) for found in itertools.product(*kept)]


FLAT = ((2, 6, 8, 3), (3, 2), {"strides": (2, 2), "grid": (2, 4)})
CUBE = (  # of the axis of 5, two of the first four positions are kept
    (2, 2, 5, 3, 2),
    (1, 2, 2),
    {"strides": (2, 2, 3), "grid": (2, 4, 3), "dilation": (1, 2, 1)},
)


@pytest.mark.parametrize(
    "case, dtype", [(FLAT, "float32"), *((CUBE, dtype) for dtype in DTYPES)]
)
def test_s3_takes_maxima_of_shared_positions(case, dtype, key):
    """Shared by the batch and the channels; the gradient goes to the maximum."""
    shape, window_shape, options = case
    x = tie_free(shape, 0, dtype)
    pool = functools.partial(s3_pool, window_shape=window_shape, **options)

    def draw(x, key):
        y, vjp = jax.vjp(functools.partial(pool, key=key), x)
        g = 1 + jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)
        return y, vjp(g)[0]

    with jax.enable_x64(dtype == "float64"):
        program = quick(jax.vmap(draw, (None, 0)))
        ys, dxs = jax.device_get(program(x, jax.random.split(key, 20)))
    assert ys.dtype == dxs.dtype == x.dtype
    around = {"padding": "SAME", "dilation": options.get("dilation", 1)}
    z = oracles.max_pool(x, window_shape, strides=1, **around)
    sizes = zip(shape[1:-1], options["strides"], options["grid"], strict=True)
    every = list(itertools.product(*itertools.starmap(choices, sizes)))
    first, last = range(shape[0]), range(shape[-1])
    maxima = [z[np.ix_(first, *kept, last)] for kept in every]
    found = set()
    for y, dx in zip(ys, dxs, strict=True):
        matches = [
            kept for kept, m in zip(every, maxima, strict=True) if np.array_equal(y, m)
        ]
        assert matches
        found |= set(matches)
        # No two elements are alike: the value says where it comes from.
        places = [int(np.flatnonzero(x == a)[0]) for a in y.ravel()]
        want = np.zeros(x.size)
        np.add.at(want, places, 1 + np.arange(y.size))
        np.testing.assert_array_equal(dx.ravel(), want)
    for kept in zip(*found, strict=True):
        assert len(set(kept)) > 1


@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_s3_without_a_key(size):
    """The average of the stride-1 maxima; for a grid of the stride, the expectation."""
    x = jnp.asarray(tie_free((*size, 2)))
    y = quick(lambda x: s3_pool(x, (2, 2)))(x)
    z = oracles.max_pool(x, (2, 2), strides=1, padding="SAME")
    np.testing.assert_allclose(y, oracles.avg_pool(z, (2, 2)), 1e-5, 1e-6)
    drawn = draws(x, (2, 2), jax.random.split(jax.random.key(0), 2000))
    assert drawn.shape[1:] == y.shape
    whole = np.s_[:, : size[0] // 2 * 2 // 2]
    assert abs(drawn.mean(0) - y)[whole[1:]].max() < 0.12


def test_s3_of_masks_and_padding(key):
    x = jnp.asarray([np.nan, np.inf, 1.0, 2.0, np.nan, np.nan])[:, None]
    where = np.array([0, 0, 1, 1, 0, 0])[:, None] > 0
    options = {"where": where, "empty": -1.0}
    # Maxima [-, 1, 2, 2, -, -] of SAME windows (2,), which start at their position.
    y = quick(lambda x: s3_pool(x, (2,), **options))(x)[:, 0]
    assert y.tolist() == [1, 2, -1]
    drawn = draws(x, (2,), jax.random.split(key, 50), **options)[..., 0]
    assert {tuple(d) for d in drawn.tolist()} == {(-1, 2, -1), (1, 2, -1)}
    # Windows wholly in padding give 0.
    x = jnp.asarray([-1.0, -2.0])[:, None]
    options = {"padding": ((2, 2),)}
    y = quick(lambda x: s3_pool(x, (2,), **options))(x)[:, 0]
    assert y.tolist() == [-1, -1.5]
    drawn = draws(x, (2,), jax.random.split(key, 50), **options)[..., 0]
    assert {tuple(d) for d in drawn.tolist()} == {(0, -1), (-1, -1), (0, -2), (-1, -2)}


def test_s3_grid_follows_axes(key):
    x = jnp.asarray(tie_free((8, 12, 2)))
    options = {"axes": (1, 0), "strides": (3, 2), "grid": (6, 4)}

    @quick
    def program(x, key):
        same = s3_pool(x, (2, 1), strides=(2, 3), grid=(4, 6), key=key)
        return s3_pool(x, (1, 2), key=key, **options), same

    y, same = program(x, key)
    np.testing.assert_array_equal(y, same)


# --- Keys -----------------------------------------------------------------------------


POOLS = {
    "stochastic": stochastic_pool,
    "random": random_pool,
    "s3": functools.partial(s3_pool, grid=4),
    "mixed": functools.partial(random_mixed_pool, per="region"),
}
every_pool = pytest.mark.parametrize("name", POOLS)


@every_pool
def test_same_key_same_bits(name, key):
    """Eager, jit, vmap over keys, sharded over the batch; keys typed and legacy."""
    x = jnp.asarray(tie_free((4, 5, 4, 2)))

    def pool(x, key):
        return POOLS[name](x, (2, 2), key=key)

    want = np.asarray(pool(x, key))
    raw, jitted = jax.random.PRNGKey(0), quick(pool)
    got = {"jit": jitted(x, key), "legacy": jitted(x, raw)}
    got["raw"] = quick(lambda x: pool(x, np.asarray(raw)))(x)
    keys = jnp.stack([jax.random.key(1), key])
    other, got["vmap"] = quick(jax.vmap(pool, (None, 0)))(x, keys)
    assert (other != want).any()
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    compiled = jax.jit(pool).lower(split, key).compile(QUICK)
    assert not COLLECTIVE.search(compiled.as_text() or "")
    got["sharded"] = compiled(split, key)
    for what, y in got.items():
        np.testing.assert_array_equal(y, want, err_msg=what)


@every_pool
def test_wrong_keys(name, key):
    pool = functools.partial(POOLS[name], jnp.ones((4, 4, 1)), (2, 2))
    with pytest.raises(TypeError, match=r"`key` must be a key of jax\.random.* got 0"):
        pool(key=0)
    with pytest.raises(TypeError, match=r"got an array of float32 with shape \(2,\)"):
        pool(key=jnp.ones(2))
    with pytest.raises(ValueError, match=r"an array of keys with shape \(3,\)"):
        pool(key=jax.random.split(key, 3))


# --- Transformations ------------------------------------------------------------------

# Each element of a batch has its own draws: vmap, with one key, is another function.


PLAIN = {"order": 1, "dtypes": ("float32",), "eager_grad": False}


def test_sampled_pool_transforms(key):
    check_transforms(
        lambda x: stochastic_pool(x, (3,), strides=1, key=key),
        tie_free((4, 1)),
        vmap_axes=(),
        tie_free=False,  # a finite difference moves the probabilities
        **PLAIN,
    )


def test_random_pool_transforms(key):
    pool = functools.partial(random_pool, window_shape=(3,), strides=1, key=key)
    check_transforms(pool, tie_free((4, 1)), vmap_axes=(), **PLAIN)


def test_expectation_transforms():
    pool = functools.partial(stochastic_pool, window_shape=(2,))
    less = {"platforms": (), "export": False}  # as of the sampled one
    check_transforms(pool, tie_free((2, 2, 1)), **PLAIN, **less)


def test_curvature_of_the_expectation():
    def loss(x):
        return stochastic_pool(x, (3,), strides=1).sum()

    check_curvature(loss, tie_free((6, 1), 0, np.float64))


def test_s3_pool_transforms(key):
    """The draws are the same for the whole batch: vmap gives the same."""
    # Of single elements: max_pool's derivatives have tests of their own.
    pool = functools.partial(s3_pool, window_shape=(1,), strides=2, grid=4, key=key)
    check_transforms(pool, tie_free((2, 4, 1)), **PLAIN)


# --- Wrong calls ----------------------------------------------------------------------


def test_wrong_calls():
    x = jnp.ones((4, 4, 3))
    with pytest.raises(ValueError, match="`sampling` must be one of multinomial, unif"):
        stochastic_pool(x, (2, 2), sampling="softmax")
    with pytest.raises(ValueError, match="`value` must be one of sample, max, avg"):
        stochastic_pool(x, (2, 2), value="mean")
    with pytest.raises(
        ValueError, match="`grid` must be a positive multiple of the st"
    ):
        s3_pool(x, (2, 2), grid=3)
    with pytest.raises(
        ValueError, match=r"`grid` must .* one int per pooled axis \(2\)"
    ):
        s3_pool(x, (2, 2), grid=(2, 2, 2))
    with pytest.raises(TypeError, match="`grid` must hold ints"):
        s3_pool(x, (2, 2), grid=2.0)
    with pytest.raises(ValueError, match="`strides` must be at most the number of pos"):
        s3_pool(x, (2, 2), strides=5)
    with pytest.raises(ValueError, match="`strides` must be at least 1"):
        s3_pool(x, (2, 2), strides=0)
    with pytest.raises(TypeError, match="`x` must be real"):
        random_pool(x.astype(jnp.complex64), (2, 2))


def test_integers_become_floats(key):
    x = jnp.arange(6)[:, None]

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, key):
        pools = (random_pool, stochastic_pool, s3_pool)
        return [pool(x, (2,), key=k) for k in (None, key) for pool in pools]

    ys = program(x, key)
    assert all(y.dtype == jnp.float32 for y in ys)
    np.testing.assert_array_equal(ys[0], oracles.avg_pool(x, (2,)))
