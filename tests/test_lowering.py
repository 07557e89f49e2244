"""What each platform gets: looked up in the lowered programs, without a device."""

import functools
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import transforms
from jax import lax
from transforms import QUICK, tie_free

import jaxpool
from jaxpool import _lowering

X = jax.ShapeDtypeStruct((2, 9, 8, 16), jnp.float32)
OVERLAPPING = {"window_shape": (3, 3), "strides": 2, "padding": "SAME"}
DILATED = {"window_shape": (2, 2), "strides": 1, "dilation": 2}
LARGE = {"window_shape": (7, 6), "strides": 1}


def lowered(fn, x, platform):
    """The StableHLO of a function for a platform."""
    return jax.jit(fn).trace(x).lower(lowering_platforms=(platform,)).as_text()


def gradient(pool, options):
    """The gradient of a pool whose cotangent is no constant."""
    return jax.grad(lambda x: (pool(x, **options) ** 2).sum())


def ops(text, name):
    """How often an operation occurs."""
    return len(re.findall(rf"stablehlo\.{name}\b", text))


@pytest.mark.parametrize("name", jaxpool.POOLS)
def test_gradients_do_not_scatter(name):
    # A large window of the others is a long program, of the same parts.
    large = [LARGE] if name in ("max", "min", "avg", "sum", "soft", "lp") else []
    for options in (OVERLAPPING, DILATED, *large):
        traced = jax.jit(gradient(jaxpool.POOLS[name], options)).trace(X)
        for platform in ("cpu", "cuda", "rocm"):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            for slow in ("scatter", "select_and_scatter", "sort", "while"):
                assert ops(text, slow) == 0, slow


@pytest.mark.parametrize("name", ["max", "min"])
def test_extrema_are_the_stock_operations_on_tpu(name):
    pool = functools.partial(jaxpool.POOLS[name], **OVERLAPPING)
    assert ops(lowered(pool, X, "tpu"), "reduce_window") == 1
    text = lowered(gradient(jaxpool.POOLS[name], OVERLAPPING), X, "tpu")
    assert ops(text, "select_and_scatter") == 1
    assert ops(text, "reduce_window") == 1


@pytest.mark.parametrize("name", ["max", "avg"])
def test_large_windows_go_by_axis_on_tpu(name):
    """Its compiler takes minutes for one stock operation of many elements."""
    x = jax.ShapeDtypeStruct((2, 20, 20, 16), jnp.float32)
    pool = functools.partial(jaxpool.POOLS[name], window_shape=(17, 17), strides=1)
    assert ops(lowered(pool, x, "tpu"), "reduce_window") == 2
    text = lowered(gradient(jaxpool.POOLS[name], pool.keywords), x, "tpu")
    assert ops(text, "select_and_scatter") == 0


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_large_windows_by_the_rule_of_a_tpu(name):
    x, options = tie_free((18, 16, 1)), {"strides": 2, "padding": 3}
    g = tie_free((4, 3, 1), 1)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(x):
        pool = getattr(jaxpool, name)
        y, vjp = jax.vjp(lambda x: pool(x, (17, 17), **options), x)
        return y, vjp(g)[0]

    with _lowering.force("tpu"):
        y, dx = run(x)
    expected = getattr(oracles, name)(x, (17, 17), **options)
    np.testing.assert_allclose(y, expected, 1e-5, 1e-6)
    expected = getattr(oracles, f"{name}_vjp")(x, g, (17, 17), **options)
    np.testing.assert_allclose(dx, expected, 1e-5, 1e-6)


@pytest.mark.parametrize("name", ["avg", "sum"])
def test_means_are_the_stock_operation_on_tpu(name):
    pool = functools.partial(jaxpool.POOLS[name], **OVERLAPPING)
    assert ops(lowered(pool, X, "tpu"), "reduce_window") == 1
    text = lowered(gradient(jaxpool.POOLS[name], OVERLAPPING), X, "tpu")
    assert ops(text, "reduce_window") == 2


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_dilated_maxima_have_a_gradient(platform):
    text = lowered(gradient(jaxpool.max_pool, DILATED), X, platform)
    assert ops(text, "select_and_scatter") == 0


def test_one_program_for_several_platforms():
    exported = jax.export.export(
        jax.jit(gradient(jaxpool.max_pool, OVERLAPPING)),
        platforms=("cpu", "cuda", "tpu"),
    )(X)
    x = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    expected = gradient(jaxpool.max_pool, OVERLAPPING)(x)
    np.testing.assert_allclose(exported.call(x), expected, rtol=1e-6)


def test_a_maximum_keeps_one_byte_per_output():
    x = jnp.asarray(np.random.default_rng(0).normal(size=X.shape), jnp.float32)
    y, pullback = jax.vjp(lambda x: jaxpool.max_pool(x, (3, 3), strides=2), x)
    constants = 64  # numbers of taps
    kept = [leaf for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "nbytes")]
    assert y.size <= sum(leaf.nbytes for leaf in kept) <= y.size + constants
    with _lowering.force("tpu"):
        _, pullback = jax.vjp(lambda x: jaxpool.max_pool(x, (3, 3), strides=2), x)
    kept = [leaf for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "nbytes")]
    assert sum(leaf.nbytes for leaf in kept) <= y.size + x.nbytes + constants


def test_a_remat_policy_can_save_the_index_alone():
    policy = jax.checkpoint_policies.save_only_these_names("pool_index")

    @functools.partial(jax.checkpoint, policy=policy)
    def block(x):
        return jnp.sin(jaxpool.max_pool(jnp.sin(x), (3, 3), strides=2))

    text = str(jax.make_jaxpr(lambda x: jax.vjp(block, x)[1])(jnp.ones(X.shape)))
    assert "name=pool_index" in text


@pytest.mark.parametrize("name", ["mixed", "stochastic", "detail_preserving"])
def test_rules_agree(name):
    """Pools made of others, which are tested by every rule."""
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 1)).astype(np.float32)
    grad = gradient(jaxpool.POOLS[name], OVERLAPPING)
    results = []
    for rule in _lowering.RULES:
        with _lowering.force(rule):
            # A new function: no cache.
            compiled = jax.jit(lambda x: grad(x), compiler_options=QUICK)
            results.append(compiled(x))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-5, atol=1e-6)


@pytest.mark.once
def test_pools_that_share_a_program():
    """Lowering, export and sharding of those whose own checks leave that out."""
    window = {"window_shape": (2,)}

    def pools(x):
        upon = jaxpool.topk_avg_pool(x, k=1, **window)
        found = [
            upon,
            jaxpool.mixed_pool(x, **window),
            jaxpool.combined_pool(x, pools=("min", "avg"), mode="add", **window),
            jaxpool.idw_pool(x, **window),
            jaxpool.ada_pool(x, 0.3, **window),
            jaxpool.ada_unpool(upon, x, 0.3, **window)[..., ::2, :],
        ]
        return jnp.concatenate(found, -1)

    x, options = tie_free((2, 4, 1)), (True, 1e-5, 1e-6)
    platforms = ("cpu", "cuda", "tpu")
    transforms._check_lowering(pools, x, pools(x), platforms, True, True)
    transforms._check_export(pools, x, (0,), platforms, *options)
    transforms._check_sharding(pools, x, 0, *options)


def test_force_is_undone():
    with pytest.raises(ZeroDivisionError), _lowering.force("tpu"):
        _ = 1 / 0
    assert _lowering.rule_of(jnp.ones(1)) is _lowering.RULES["cpu"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "bool"])
def test_keep_is_the_identity(dtype):
    x = jnp.arange(-3, 5).reshape(2, 4).astype(dtype)
    np.testing.assert_array_equal(_lowering.RULES["cpu"].keep(x), x)


def test_stock_average_of_many_ones_is_what_we_avoid():
    """The reason to accumulate in float32; fails once stock JAX does."""
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
    stock = lax.reduce_window(x, 0.0, lax.add, x.shape, x.shape, "VALID") / 4096
    assert (
        float(stock.ravel()[0]) < 1 == float(jaxpool.avg_pool(x, (64, 64)).ravel()[0])
    )


@pytest.mark.parametrize(
    "pool, window, options",
    [
        (jaxpool.avg_pool, (15, 15), {"count_include_pad": False}),
        (jaxpool.max_pool, (31, 31), {}),
    ],
)
def test_large_windows_compile_to_a_small_program(pool, window, options):
    """No constant to fold over the whole image, and no tap per element of a window."""
    options = {"window_shape": window, "strides": 1, "padding": "SAME", **options}
    x = jax.ShapeDtypeStruct((1, 384, 384, 1), jnp.float32)
    text = lowered(gradient(pool, options), x, "cpu")
    assert text.count("\n") < 3000
    assert len(text) < 2e6


def test_a_platform_is_that_of_its_thread():
    """One thread may trace for a platform while another computes."""
    found = []

    def other():
        found.append(_lowering.rule_of(None))

    def branch(rule, x):
        assert _lowering.rule_of(None) is rule
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return x

    jax.make_jaxpr(lambda x: _lowering.per_platform(branch, x))(1.0)
    assert found == [None] * len(_lowering.RULES)


@pytest.mark.parametrize(
    "name, args, options, most",
    [
        ("avg_pool", ((3, 3),), {"strides": 2, "padding": 1}, 0),
        ("sum_pool", ((5, 4),), {"strides": 1, "padding": 2}, 0),
        ("adaptive_avg_pool", ((5, 3),), {}, 0),
        ("adaptive_max_pool", ((5, 3),), {}, 0.5),  # one code per axis and row
        ("global_max_pool", (), {}, 0),
        ("spatial_pyramid_pool", (), {}, 0.5),
    ],
)
def test_what_the_gradient_keeps(name, args, options, most):
    """So many times x, and constants of one plane: no comparison of all of x."""
    x = jnp.asarray(tie_free((8, 13, 11, 8)))
    pool = functools.partial(getattr(jaxpool, name), **options)
    _, vjp = jax.vjp(jax.jit(lambda x: pool(x, *args)), x)
    kept = [leaf for leaf in jax.tree.leaves(vjp) if hasattr(leaf, "nbytes")]
    assert sum(leaf.nbytes for leaf in kept) <= most * x.nbytes + 4 * 13 * 11
