"""Readouts of packed graphs, against loops over graphs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transforms import check_transforms, tie_free

from jaxpool import (
    segment_avg_pool,
    segment_max_pool,
    segment_softmax_pool,
    segment_sum_pool,
)

IDS = np.array([2, 0, 0, 5, 2, -1, 2, 0, 3])
X = tie_free((9, 2))
LOGITS = tie_free((9, 1), 1)
MASK = np.array([1, 1, 0, 1, 1, 1, 0, 1, 0], bool)


def weighted(x, logits):
    w = np.exp(logits - logits.max(0))
    return (w * x).sum(0) / w.sum(0)


POOLS = {
    "sum": (segment_sum_pool, lambda x, _: x.sum(0)),
    "avg": (segment_avg_pool, lambda x, _: x.mean(0)),
    "max": (segment_max_pool, lambda x, _: x.max(0)),
    "softmax": (
        lambda x, *args, **more: segment_softmax_pool(x, LOGITS, *args, **more),
        weighted,
    ),
}
every_pool = pytest.mark.parametrize("name", POOLS)


def oracle(name, x, count, where=True, empty=0.0):
    value = POOLS[name][1]
    y = np.full((count, x.shape[1]), empty)
    for graph in range(count):
        nodes = (IDS == graph) & where
        if nodes.any():
            y[graph] = value(np.asarray(x[nodes], float), LOGITS[nodes].astype(float))
    return y


@every_pool
def test_equals_the_oracle(name):
    pool = jax.jit(POOLS[name][0], static_argnums=2, static_argnames="empty")
    np.testing.assert_allclose(pool(X, IDS, 5), oracle(name, X, 5), 1e-5)
    garbage = np.where(MASK[:, None], X, np.nan)
    got = pool(garbage, IDS, 5, where=MASK, empty=-2.0)
    np.testing.assert_allclose(got, oracle(name, X, 5, MASK, -2.0), 1e-5)


def test_any_number_of_feature_axes():
    x = X[:, :, None] + np.zeros((1, 1, 3), np.float32)
    for name in ("sum", "avg", "max"):
        y = POOLS[name][0](x, IDS, 5)
        np.testing.assert_allclose(y[..., 1], oracle(name, X, 5), 1e-5)


@every_pool
def test_gradients_by_differences(name):
    g = np.random.default_rng(0).normal(size=(5, 2))
    with jax.enable_x64(True):
        x = jnp.asarray(X, jnp.float64)
        run = lambda x: POOLS[name][0](x, IDS, 5, where=MASK)  # noqa: E731
        dx = jax.vjp(run, x)[1](jnp.asarray(g))[0]
    expected = np.zeros(X.shape)
    for place in np.ndindex(*X.shape):
        step = np.zeros(X.shape)
        step[place] = 1e-5
        up, down = (oracle(name, X + s * step, 5, MASK) for s in (1, -1))
        expected[place] = ((up - down) * g).sum() / 2e-5
    np.testing.assert_allclose(dx, expected, 1e-5, 1e-6)


def test_gradient_to_logits():
    def pool(logits):
        return segment_softmax_pool(X.astype(logits.dtype), logits, IDS, 5)

    check_transforms(
        pool, LOGITS, vmap_axes=(), no_scatter=False, dtypes=(), export=False
    )


@every_pool
def test_order_of_nodes_does_not_matter(name, rng):
    order = rng.permutation(9)
    if name == "softmax":
        got = segment_softmax_pool(X[order], LOGITS[order], IDS[order], 5)
    else:
        got = POOLS[name][0](X[order], IDS[order], 5)
    np.testing.assert_allclose(got, POOLS[name][0](X, IDS, 5), 1e-5)


def test_maximum_routes_ties_and_nan():
    x = jnp.array([1.0, 3.0, 3.0, 2.0, 2.0, -jnp.inf])[:, None]
    ids = np.array([0, 0, 0, 1, 1, 2])
    y, pullback = jax.vjp(lambda x: segment_max_pool(x, ids, 4), x)
    np.testing.assert_array_equal(y[:, 0], [3, 2, -np.inf, 0])
    dx = pullback(jnp.ones_like(y))[0]
    np.testing.assert_array_equal(dx[:, 0], [0, 1, 0, 1, 0, 1])
    x = x.at[2].set(jnp.nan)
    y, pullback = jax.vjp(lambda x: segment_max_pool(x, ids, 4), x)
    assert np.isnan(y[0, 0]) and y[1, 0] == 2
    assert pullback(jnp.ones_like(y))[0][2, 0] == 1


def test_softmax_is_stable():
    x = jnp.array([[1.0], [2.0], [5.0]])
    for logits in ([1e4, 1e4, -1e4], [-1e4, -1e4, 1e4]):
        pool = lambda x, logits: segment_softmax_pool(x, logits, np.array([0, 0, 1]), 2)  # noqa: E731
        y, pullback = jax.vjp(pool, x, jnp.array(logits)[:, None])
        np.testing.assert_allclose(y[:, 0], [1.5, 5])
        assert all(np.isfinite(t).all() for t in pullback(jnp.ones_like(y)))


def test_dtypes():
    whole = jnp.arange(18).reshape(9, 2)
    assert segment_sum_pool(whole, IDS, 5).dtype == whole.dtype
    assert segment_max_pool(whole, IDS, 5).dtype == whole.dtype
    assert segment_max_pool(whole > 3, IDS, 5).dtype == bool
    assert segment_sum_pool(whole > 3, IDS, 5).dtype == jnp.int32
    assert segment_avg_pool(whole, IDS, 5).dtype == jnp.float32
    none = segment_max_pool(jnp.zeros((0, 2)), jnp.zeros(0, int), 3)
    np.testing.assert_array_equal(none, np.zeros((3, 2)))
    # 16-bit sums are those of float32, rounded once.
    many = jnp.ones((3000, 1), jnp.bfloat16)
    y = segment_sum_pool(many, jnp.zeros(3000, int), 1)
    assert y[0, 0] == jnp.bfloat16(3000)
    assert segment_sum_pool(whole.astype(jnp.complex64), IDS, 5).dtype == jnp.complex64


@every_pool
def test_transforms(name):
    """Features as batch: of an array (batch, nodes) here."""

    def fn(x):
        if x.ndim != 2:
            return jax.vmap(fn)(x) if x.ndim > 2 else fn(x[None])[0]
        pool = POOLS[name][0]
        if name == "softmax":
            return segment_softmax_pool(x.T, LOGITS[:4].astype(x.dtype), IDS[:4], 3).T
        return pool(x.T, IDS[:4], 3).T

    check_transforms(
        fn, tie_free((2, 4)), no_scatter=False, dtypes=("bfloat16",), eager_grad=False
    )


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            r"`segment_ids` must have one int per node, shape \(9,\) .* shape \(3,\)",
            lambda: segment_sum_pool(X, IDS[:3], 2),
        ),
        (
            TypeError,
            "`segment_ids` must be integers, got dtype float32",
            lambda: segment_sum_pool(X, IDS.astype(np.float32), 2),
        ),
        (
            ValueError,
            "`num_segments` must be at least 1, got 0",
            lambda: segment_max_pool(X, IDS, 0),
        ),
        (
            TypeError,
            "`num_segments` must hold ints, got 2.0",
            lambda: segment_avg_pool(X, IDS, 2.0),
        ),
        (
            ValueError,
            r"`logits` must broadcast to x with shape \(9, 2\), got shape \(9,\)",
            lambda: segment_softmax_pool(X, LOGITS[:, 0], IDS, 2),
        ),
        (
            ValueError,
            r"`where` must broadcast to x with shape \(9,\)",
            lambda: segment_avg_pool(X, IDS, 2, where=np.ones((9, 2), bool)),
        ),
    ],
)
def test_wrong_calls(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_works_with_the_arrays_of_jraph():
    n_node = jnp.array([2, 0, 3])  # and padding: 4 nodes more
    run = functools.partial(jnp.repeat, jnp.arange(3), total_repeat_length=5)
    ids = jnp.concatenate([run(n_node), jnp.full(4, 3)])
    got = segment_sum_pool(X, ids, 3)
    expected = [X[:2].sum(0), np.zeros(2), X[2:5].sum(0)]
    np.testing.assert_allclose(got, expected, 1e-6)
