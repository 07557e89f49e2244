"""mixed_pool, random_mixed_pool, gated_pool, tree_pool and combined_pool."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_rank import GEOMETRIES, MASKS, check, check_curvature, inputs
from test_stochastic import DEEP, DTYPES
from transforms import QUICK, check_transforms, tie_free

import jaxpool
from jaxpool import (
    combined_pool,
    gated_pool,
    mixed_pool,
    random_mixed_pool,
    tree_pool,
)

SOME = [*GEOMETRIES[4:7], GEOMETRIES[1], GEOMETRIES[8], MASKS[3], MASKS[1]]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def per_channel(parameter, ndim, channel):
    """A parameter of `ndim` axes without its channel axis, if it has one."""
    return parameter[..., channel] if parameter.ndim > ndim else parameter


def parameters(cases, rng, *head):
    """Random ones, per channel for every other case; -1 stands for the taps."""
    for i, (x, window_shape, options) in enumerate(cases):
        channels = (x.shape[-1],) if i % 2 and "axes" not in options else ()
        shape = [int(np.prod(window_shape)) if n == -1 else n for n in head]
        yield rng.normal(size=(*shape, *channels)).astype(x.dtype)


# --- Mixed ----------------------------------------------------------------------------


def mixed_value(alpha):
    def value(v, taps, channel):
        a = per_channel(alpha, 0, channel)
        return a * v.max() + (1 - a) * v.mean()

    return value


@pytest.mark.parametrize("rule", ["cpu", "tpu"])
def test_mixed_pool_equals_the_formula(rule, rng):
    cases = list(inputs(SOME if rule == "cpu" else SOME[-2:]))
    cases += inputs(SOME[:1], jnp.bfloat16)
    alphas = list(parameters(cases, rng))
    pools = [functools.partial(mixed_pool, alpha=jnp.asarray(a)) for a in alphas]
    check(pools, [mixed_value(a) for a in alphas], cases, rule)


def test_float64(rng):
    with jax.enable_x64(True):
        cases = list(inputs(MASKS[1:2], "float64")) * 3
        (alpha,) = parameters(cases[:1], rng)
        (gate,) = parameters(cases[:1], rng, -1)
        leaves, gates = next(parameters(cases, rng, 2, -1)), gate[None]
        values = [mixed_value(alpha), gated_value(gate), tree_value(leaves, gates)]
        pools = [
            functools.partial(mixed_pool, alpha=alpha),
            functools.partial(call_gated, gate),
            functools.partial(call_tree, leaves, gates),
        ]
        check(pools, values, cases)


def test_mixed_pool_between_maximum_and_average():
    cases = list(inputs(SOME[1:2] + SOME[4:5] + SOME[-1:]))

    def program(xs):
        found = []
        for x, (_, window, options) in zip(xs, cases, strict=True):
            largest = jaxpool.max_pool(x, window, **options)
            largest = jnp.where(jnp.isinf(largest), 0, largest)  # all padding
            mean = jaxpool.avg_pool(x, window, **options, count_include_pad=False)
            for pool in (mixed_pool, random_mixed_pool):
                found += [
                    (pool(x, window, **options, alpha=1.0), largest),
                    (pool(x, window, **options, alpha=0.0), mean),
                ]
        return found

    compiled = jax.jit(program, compiler_options=QUICK)
    for got, want in compiled([x for x, *_ in cases]):
        np.testing.assert_allclose(got, want, 1e-6, 1e-6)


def test_mixed_pool_of_infinities():
    """A part of 0 does not make a NaN of an infinity."""
    x = jnp.asarray([[1.0, -np.inf], [np.inf, 2.0], [np.nan, 1.0]])[..., None]
    largest, mean = jax.jit(
        lambda x: [mixed_pool(x, (2,), alpha=a)[:, 0, 0] for a in (1.0, 0.0)],
        compiler_options=QUICK,
    )(x)
    np.testing.assert_array_equal(largest, [1, np.inf, np.nan])
    np.testing.assert_array_equal(mean, [-np.inf, np.inf, np.nan])


def test_gradient_of_alpha(rng):
    """d alpha = sum of g (max - avg), and no NaN from windows wholly in padding."""
    x = tie_free((5, 2))
    options = {"window_shape": (2,), "strides": 1, "padding": 3}
    mean = oracles.avg_pool(x, count_include_pad=False, **options)
    largest = oracles.max_pool(x, **options)
    g = rng.normal(size=mean.shape).astype(np.float32)

    def loss(alpha):
        return (mixed_pool(x, alpha=alpha, **options) * g).sum()

    difference = np.where(np.isinf(largest), 0, largest) - mean
    want = (difference * g).sum(0)
    each, one = jax.jit(
        lambda *alphas: [jax.grad(loss)(a) for a in alphas], compiler_options=QUICK
    )(jnp.asarray([0.25, 0.5]), jnp.asarray(0.25))
    np.testing.assert_allclose(each, want, 1e-5)
    np.testing.assert_allclose(one, want.sum(), 1e-5)


# --- Mixed at random ------------------------------------------------------------------


@pytest.mark.parametrize("per", ["layer", "channel", "region"])
def test_random_mixed_pool_takes_one_of_both(per, key):
    """The maximum or the average, and all that share a draw the same."""
    x = jnp.asarray(tie_free((3, 8, 8, 6)))
    pool = functools.partial(random_mixed_pool, x, (2, 2), per=per, alpha=0.25)
    keys = jax.random.split(key, 128)
    y = np.asarray(jax.jit(jax.vmap(lambda key: pool(key=key)))(keys))
    largest, mean = oracles.max_pool(x, (2, 2)), oracles.avg_pool(x, (2, 2))
    took = y == largest
    np.testing.assert_allclose(y, np.where(took, largest, mean), 1e-6, 1e-6)
    draws = {
        "layer": took[:, :1, :1, :1, :1],
        "channel": took[:, :1, :1, :1],
        "region": took,
    }[per]
    np.testing.assert_array_equal(took, np.broadcast_to(draws, took.shape))
    spread = 4 * np.sqrt(0.25 * 0.75 / draws.size)
    assert abs(np.mean(draws) - 0.25) < spread
    # Some draws differ between any two that do not share one.
    assert all(0 < np.mean(d) < 1 for d in np.asarray(draws).reshape(128, -1).T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_mixed_pool_takes_the_gradient_of_either(dtype, key):
    """Dilated and partial windows of three axes of each dtype, and masked ones."""
    some = [DEEP, MASKS[1]] if dtype == "float32" else [DEEP]
    cases = list(inputs(some, dtype))
    pers = ("layer", "channel", "region")

    def program(xs, key):
        found = []
        for x, (_, window_shape, options) in zip(xs, cases, strict=True):
            for per in pers:
                pool = functools.partial(random_mixed_pool, per=per, key=key, **options)
                y, vjp = jax.vjp(lambda x: pool(x, window_shape), x)  # noqa: B023
                g = 1 + jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)
                found.append((y, g, vjp(g)[0]))
        return found

    with jax.enable_x64(dtype == "float64"):
        compiled = jax.jit(jax.vmap(program, (None, 0)), compiler_options=QUICK)
        got = compiled([x for x, *_ in cases], jax.random.split(key, 4))
        got = iter(jax.device_get(got))
    for x, window_shape, options in cases:
        largest = oracles.max_pool(x, window_shape, **options)
        mean = oracles.avg_pool(x, window_shape, **options, count_include_pad=False)
        options = {k: v for k, v in options.items() if k != "empty"}
        tol = {2: 1e-2, 4: 1e-6, 8: 1e-12}[x.itemsize]
        alone = largest == mean  # windows of one element or none
        for per in pers:
            drawn = set()
            for y, g, dx in zip(*next(got), strict=True):
                assert y.dtype == dx.dtype == x.dtype
                took = y == largest
                want = np.where(took, largest, mean)
                np.testing.assert_allclose(y.astype(float), want, tol, tol)
                want = oracles.max_pool_vjp(x, g * took, window_shape, **options)
                want += oracles.avg_pool_vjp(
                    x, g * ~took, window_shape, **options, count_include_pad=False
                )
                np.testing.assert_allclose(dx.astype(float), want, tol, tol)
                parts = {
                    "layer": [...],
                    "channel": [np.s_[..., c] for c in range(x.shape[-1])],
                    "region": [],
                }[per]
                for part in parts:  # one draw each
                    assert len(set(took[part][~alone[part]])) == 1
                drawn |= set(took[~alone])
            assert len(drawn) == 2


def test_random_mixed_pool_of_few_numbers(key):
    """Without a key; with the channels first; with an alpha per channel."""
    x = tie_free((2, 4, 4, 8))
    alphas = np.array([0.0, 1.0] * 4, np.float32)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x, alphas, key):
        pool = functools.partial(random_mixed_pool, window_shape=(2, 2))
        mean = [pool(x, alpha=0.75), mixed_pool(x, (2, 2), alpha=0.75)]
        mean += [pool(x), mixed_pool(x, (2, 2), alpha=0.5)]
        first = pool(jnp.moveaxis(x, -1, 1), axes=(-2, -1), key=key)
        last = pool(x, key=key)
        return mean, (jnp.moveaxis(first, 1, -1), last), pool(x, alpha=alphas, key=key)

    mean, layouts, y = program(x, alphas, key)
    np.testing.assert_array_equal(mean[0], mean[1])
    np.testing.assert_array_equal(mean[2], mean[3])
    np.testing.assert_allclose(*layouts, 1e-6)
    for part, of in ((np.s_[::2], oracles.avg_pool), (np.s_[1::2], oracles.max_pool)):
        np.testing.assert_allclose(y[..., part], of(x[..., part], (2, 2)), 1e-6)


# --- Gated and tree -------------------------------------------------------------------


def gated_value(gate):
    def value(v, taps, channel):
        s = sigmoid(per_channel(gate, 1, channel)[taps] @ v)
        return s * v.max() + (1 - s) * v.mean()

    return value


def call_gated(gate, x, window_shape, **options):
    return gated_pool(x, jnp.asarray(gate), window_shape, **options)


@pytest.mark.parametrize("rule", ["cpu", "tpu"])
def test_gated_pool_equals_the_formula(rule, rng):
    cases = list(inputs(SOME if rule == "cpu" else SOME[-2:]))
    cases += inputs(SOME[:1], jnp.bfloat16)
    gates = list(parameters(cases, rng, -1))
    pools = [functools.partial(call_gated, g) for g in gates]
    check(pools, [gated_value(g) for g in gates], cases, rule)


def tree_value(leaves, gates):
    def value(v, taps, channel):
        filters = per_channel(leaves, 2, channel)[:, taps] @ v
        parts = sigmoid(per_channel(gates, 2, channel)[:, taps] @ v)

        def node(i):
            if i >= len(parts):
                return filters[i - len(parts)]
            return parts[i] * node(2 * i + 1) + (1 - parts[i]) * node(2 * i + 2)

        return node(0)

    return value


def call_tree(leaves, gates, x, window_shape, **options):
    return tree_pool(
        x, jnp.asarray(leaves), jnp.asarray(gates), window_shape, **options
    )


@pytest.mark.parametrize("leaves", [2, 4, 8])
def test_tree_pool_equals_the_formula(leaves, rng):
    cases = list(inputs(SOME[2:] if leaves == 4 else SOME[:2]))
    cases += inputs(SOME[:1], jnp.bfloat16) if leaves == 2 else []
    pairs = list(
        zip(
            parameters(cases, rng, leaves, -1),
            parameters(cases, rng, leaves - 1, -1),
            strict=True,
        )
    )
    pools = [functools.partial(call_tree, *pair) for pair in pairs]
    check(pools, [tree_value(*pair) for pair in pairs], cases)


def test_tree_of_averages():
    x = jnp.asarray(tie_free((6, 6, 2)))
    leaves, gates = jnp.full((4, 9), 1 / 9), jnp.asarray(tie_free((3, 9)))
    pool = functools.partial(tree_pool, window_shape=(3, 3))
    y = jax.jit(pool, compiler_options=QUICK)(x, leaves, gates)
    np.testing.assert_allclose(y, oracles.avg_pool(x, (3, 3)), 1e-5, 1e-6)


def test_parameters_per_channel_with_channels_first():
    """After the taps they broadcast to x with its pooled axes of size 1."""
    x, gate = jnp.asarray(tie_free((2, 3, 4, 6))), jnp.asarray(tie_free((6, 3)))
    leaves = jnp.asarray(tie_free((2, 6, 3)))

    def both(x, axes, gate, leaves):
        options = {"axes": axes, "strides": 1, "padding": 1}
        gated = gated_pool(x, gate, (2, 3), **options)
        return gated + tree_pool(x, leaves, gate[None], (2, 3), **options)

    y, same = jax.jit(
        lambda x, gate, leaves: (
            both(x, (-2, -1), gate[..., None, None], leaves[..., None, None]),
            both(jnp.moveaxis(x, 1, -1), None, gate, leaves),
        ),
        compiler_options=QUICK,
    )(x, gate, leaves)
    np.testing.assert_allclose(y, jnp.moveaxis(same, -1, 1), 1e-5, 1e-6)


def test_large_numbers_give_no_nan():
    x = jnp.asarray([[3e37, -3e37], [1e30, 1e30], [-1e38, 0]])[..., None]
    gate = jnp.asarray([1.0, -1.0])

    def both(x, gate):
        leaves = jnp.stack([gate, -gate]) * np.float32(0.5)
        y = gated_pool(x, gate, (2,)) + tree_pool(x, leaves, gate[None], (2,))
        return (y * np.float32(1e-30)).sum()

    program = jax.jit(jax.value_and_grad(both, (0, 1)), compiler_options=QUICK)
    value, gradients = program(x, gate)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradients)


@functools.partial(jax.jit, compiler_options=QUICK)
def within(x, gate):
    """Pools whose values lie within the window, and the sum of their gradients."""

    def pools(x, gate):
        window = {"window_shape": (3,), "strides": 1}
        names = ("max", "min", "avg", "soft")
        return (
            mixed_pool(x, alpha=0.25, **window),
            gated_pool(x, gate, **window),
            combined_pool(x, pools=names, mode="mean", **window),
        )

    ys, vjp = jax.vjp(pools, x, gate)
    return ys, vjp(jax.tree.map(jnp.ones_like, ys))


@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 6e4)])
def test_extremes_are_finite_and_within_the_window(dtype, size):
    numbers = st.sampled_from([-size, -1.0, 0.0, 1.0, size]) | st.floats(
        -size, size, allow_subnormal=False
    )
    gate = np.array([0.5, -1, 2]).astype(dtype)

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(hnp.arrays(np.float64, (6, 1), elements=numbers))
    @example(np.zeros((6, 1)))
    @example(np.full((6, 1), -size))
    def check(x):
        x = x.astype(dtype)
        ys, (dx, _) = jax.device_get(within(x, gate))
        room = 4 * np.finfo(dtype).eps * np.abs(x.astype(float)).max()
        low, high = (
            f(x, (3,), strides=1) for f in (oracles.min_pool, oracles.max_pool)
        )
        for y in ys:
            assert (y >= low - room).all() and (y <= high + room).all()
        assert np.isfinite(dx).all()

    check()


def test_infinity_between_taps():
    """An infinite element that no tap of a window meets does not touch it."""
    x = jnp.asarray([1.0, np.inf, 2.0, 3.0, 4.0])[:, None]
    y = gated_pool(x, jnp.asarray([0.0, 0.0]), (2,), dilation=2, strides=2)
    np.testing.assert_array_equal(y[:, 0], [1.75, 3.5])


# --- Combined -------------------------------------------------------------------------


def test_combined_pool_joins_the_pools(rng):
    x = jnp.asarray(rng.normal(size=(2, 5, 6, 3)), jnp.float32)
    where = np.arange(6)[:, None] > 1
    options = {"padding": 1, "ceil_mode": True, "where": where, "empty": -1.0}
    names = ("max", "soft", "min", "avg")

    def total(x, pools):
        y = combined_pool(x, (2, 2), pools=pools, mode="add", **options)
        return (y * jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)).sum()

    def program(x):
        found = [combined_pool(x, (2, 2), pools=names, **options)]
        for mode in ("add", "mean"):
            y = combined_pool(x, (2, 2), pools=names, mode=mode, **options)
            found.append(y)
        parts = [jaxpool.POOLS[n](x, (2, 2), **options) for n in names]
        each = [jax.grad(total)(x, [name]) for name in names]
        return found, parts, jax.grad(total)(x, names), each

    compiled = jax.jit(program, compiler_options=QUICK)
    (concat, add, mean), parts, dx, each = jax.device_get(compiled(x))
    np.testing.assert_array_equal(concat, np.concatenate(parts, -1))
    empty = parts[0] == -1
    assert empty.any() and not empty.all()
    sums = np.where(empty, -1, sum(parts))
    np.testing.assert_allclose(add, sums, 1e-5, 1e-6)
    np.testing.assert_allclose(mean, np.where(empty, -1, sums / 4), 1e-5, 1e-6)
    np.testing.assert_allclose(dx, sum(each), 1e-5, 1e-4)


def test_combined_pool_defaults_and_order():
    @functools.partial(jax.jit, compiler_options=QUICK)
    def program(x):
        return (
            combined_pool(x, (2,)),
            combined_pool(x, (2,), pools=["avg", "max"]),
            combined_pool(x.T, (2,), axes=(-1,)),  # channels first
        )

    y, z, first = program(jnp.asarray([1, 3, 0, 2])[:, None])
    assert y.dtype == jnp.float32 and y.tolist() == [[3, 2], [2, 1]]
    assert z.tolist() == [[2, 3], [1, 2]] and first.tolist() == [[3, 2], [2, 1]]


def test_combined_pool_of_padding_alone():
    x = jnp.asarray([1.0, 2.0])[:, None]
    options = {"strides": 1, "padding": 2}

    def total(x):
        return combined_pool(x, (2,), pools=("max", "min"), mode="add", **options).sum()

    program = jax.jit(jax.value_and_grad(total), compiler_options=QUICK)
    value, gradient = program(x)
    assert value == 2 + 3 + 4 and gradient[:, 0].tolist() == [3, 3]


# --- Transformations ------------------------------------------------------------------


PLAIN = {"order": 1, "dtypes": ("float32",), "eager_grad": False}


def test_random_mixed_transforms(key):
    """The draws are the same for the whole batch: vmap gives the same."""
    pool = functools.partial(random_mixed_pool, window_shape=(2,), key=key)
    check_transforms(pool, tie_free((2, 4, 1)), **PLAIN)


def test_mixed_transforms():
    pool = functools.partial(mixed_pool, window_shape=(2,), alpha=0.25)
    less = {"platforms": (), "export": False, "sharded": False}
    check_transforms(pool, tie_free((2, 4, 1)), **PLAIN, **less)


def test_combined_transforms():
    pool = functools.partial(combined_pool, window_shape=(2,), pools=("min", "avg"))
    check_transforms(pool, tie_free((2, 4, 1)), **PLAIN)


def test_gated_and_tree_transforms():
    gate, leaves = tie_free((2,)), tie_free((2, 2))

    def pool(x):
        tree = tree_pool(x, leaves, gate[None], (2,))
        return gated_pool(x, gate, (2,)) + tree

    check_transforms(pool, tie_free((2, 2, 1)), **PLAIN)


def test_second_derivatives_with_learned_parameters():
    """By x and all parameters, in both orders."""

    def loss(x, alpha, gate, leaves):
        options = {"strides": 2, "padding": ((1, 0),)}
        y = mixed_pool(x, (3,), alpha=alpha, **options)
        y = jnp.sin(y) + combined_pool(x, (3,), mode="mean", **options) ** 2
        y += gated_pool(x, gate, (3,), **options)
        return (y + tree_pool(x, leaves, gate[None], (3,), **options)).sum()

    shapes = [(5, 2), (), (3,), (2, 3)]
    args = [tie_free(shape, i, np.float64) for i, shape in enumerate(shapes)]
    check_curvature(loss, *args)


# --- Wrong calls ----------------------------------------------------------------------


def test_wrong_calls(key):
    x = jnp.ones((4, 4, 3))
    mixed = functools.partial(mixed_pool, x, (2, 2))
    with pytest.raises(ValueError, match=r"`alpha` must have shape \(\), or \(3,\)"):
        mixed(alpha=jnp.ones(2))
    with pytest.raises(TypeError, match="`alpha` must be an array, got str"):
        mixed(alpha="max")
    drawn = functools.partial(random_mixed_pool, x, (2, 2))
    with pytest.raises(ValueError, match="`per` must be one of layer, channel, region"):
        drawn(per="sample")
    with pytest.raises(TypeError, match=r"`key` must be a key of jax.random.* got 0"):
        drawn(key=0)
    with pytest.raises(ValueError, match="`axes` must leave an axis"):
        random_mixed_pool(x, (2, 2, 1), axes=(0, 1, 2), key=key)
    with pytest.raises(ValueError, match=r"`gate` must have shape \(4,\), or \(4, 3\)"):
        gated_pool(x, jnp.ones((2, 2)), (2, 2))
    with pytest.raises(ValueError, match=r"`leaves` must .* a power of two"):
        tree_pool(x, jnp.ones((3, 4)), jnp.ones((2, 4)), (2, 2))
    with pytest.raises(ValueError, match=r"`leaves` must have shape \(2, 4\)"):
        tree_pool(x, jnp.ones((2, 3)), jnp.ones((1, 4)), (2, 2))
    with pytest.raises(ValueError, match=r"`gates` must have shape \(1, 4\)"):
        tree_pool(x, jnp.ones((2, 4)), jnp.ones((2, 4)), (2, 2))
    combined = functools.partial(combined_pool, x, (2, 2))
    with pytest.raises(ValueError, match=r"`pools` must be one of max, min, .* 'mx'"):
        combined(pools=("max", "mx"))
    with pytest.raises(TypeError, match="`pools` must be a tuple of names, got 'max'"):
        combined(pools="max")
    with pytest.raises(ValueError, match="`pools` must have at least one name"):
        combined(pools=())
    with pytest.raises(ValueError, match="`mode` must be one of concat, add, mean"):
        combined(mode="sum")
    with pytest.raises(ValueError, match='`pools` must not hold "combined" with mode'):
        combined(pools=("combined", "max"), mode="add")
    with pytest.raises(TypeError, match="`x` must be real"):
        mixed_pool(x.astype(jnp.complex64), (2, 2))
