"""Layers that draw random numbers: Flax's `deterministic`, and the stream "pool"."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors, linen, nnx
from transforms import tie_free

import jaxpool
import jaxpool.linen
import jaxpool.nnx

X = tie_free((2, 9, 8, 3))
# Each layer: its function and its options.
LAYERS = {
    "FractionalMaxPool": (
        jaxpool.fractional_max_pool,
        {"window_shape": (2, 3), "output_shape": (5, 4)},
    ),
    "RandomMixedPool": (
        jaxpool.random_mixed_pool,
        {"window_shape": (2, 1), "per": "region", "alpha": 0.25},
    ),
    "RandomPool": (jaxpool.random_pool, {"window_shape": (2, 1), "strides": 2}),
    "S3Pool": (jaxpool.s3_pool, {"window_shape": (2, 1), "grid": (4, 1)}),
    "StochasticPool": (
        jaxpool.stochastic_pool,
        {"window_shape": (2, 1), "sampling": "uniform", "value": "avg"},
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def of(system, name, **more):
    _, options = LAYERS[name]
    return getattr(system, name)(**options, **more)


def function(name):
    pool, options = LAYERS[name]
    return functools.partial(pool, **options)


@every_layer
def test_constructor_is_the_functions(name):
    pool, _ = LAYERS[name]
    inputs = {"x", "where", "key", "samples"}
    expected = [p for p in inspect.signature(pool).parameters if p not in inputs]
    own = {"self", "parent", "name", "deterministic", "rngs", "inference", "features"}
    for system in (jaxpool.nnx, jaxpool.linen):
        found = inspect.signature(getattr(system, name).__init__).parameters
        assert [p for p in found if p not in own] == expected


class Key(linen.Module):
    """Draws the key that a layer in its place draws."""

    def __call__(self):
        return self.make_rng("pool")


@every_layer
def test_both_systems_equal_the_function(name):
    pool, make_nnx, make_linen = (
        function(name),
        functools.partial(of, jaxpool.nnx, name),
        functools.partial(of, jaxpool.linen, name),
    )
    where = np.ones((9, 8, 1), bool)
    where[4] = False
    rngs = {"pool": jax.random.key(3)}

    @jax.jit
    def inference(x):
        layers = make_nnx(deterministic=True), make_linen(deterministic=True)
        of_nnx = layers[0](x, where=where)
        return of_nnx, layers[1].apply({}, x, where=where), pool(x, where=where)

    @jax.jit
    def training(x):
        of_nnx = make_nnx(rngs=nnx.Rngs(pool=1))(x)
        of_linen = make_linen(deterministic=False).apply({}, x, rngs=rngs)
        keys = nnx.Rngs(pool=1)["pool"].fork()(), Key().apply({}, rngs=rngs)
        return (of_nnx, of_linen), [pool(x, key=key) for key in keys]

    dirty = np.where(where, X, np.float32(np.nan))
    *got, expected = inference(dirty)
    assert jnp.isfinite(expected).all()
    for y in got:
        np.testing.assert_array_equal(y, expected)
    got, drawn = training(X)
    for y, expected in zip(got, drawn, strict=True):
        np.testing.assert_array_equal(y, expected)
    assert (drawn[0] != drawn[1]).any()


# --- What all have in common, shown by one --------------------------------------------

SOME = "FractionalMaxPool"


def test_deterministic_is_the_inference_of_the_function():
    expected = function(SOME)(X)
    layer = of(jaxpool.nnx, SOME, deterministic=True)  # without a stream
    np.testing.assert_array_equal(layer(X), expected)
    layer = of(jaxpool.nnx, SOME, rngs=nnx.Rngs(pool=0))
    np.testing.assert_array_equal(layer(X, deterministic=True), expected)
    layer.eval()
    np.testing.assert_array_equal(layer(X), expected)
    layer.train()
    assert (layer(X) != expected).any()
    view = nnx.view(layer, deterministic=True)
    np.testing.assert_array_equal(view(X), expected)
    layer = of(jaxpool.linen, SOME)
    y = layer.apply({}, X, deterministic=True)
    np.testing.assert_array_equal(y, expected)
    layer = of(jaxpool.linen, SOME, deterministic=True)
    np.testing.assert_array_equal(layer.apply({}, X), expected)


def test_nnx_draws_from_its_stream():
    layer = of(jaxpool.nnx, SOME, rngs=nnx.Rngs(0, pool=1))
    same = of(jaxpool.nnx, SOME, rngs=nnx.Rngs(pool=1)["pool"])
    first, second = layer(X), layer(X)
    assert (first != second).any()
    np.testing.assert_array_equal(same(X), first)
    expected = function(SOME)(X, key=nnx.Rngs(pool=1)["pool"].fork()())
    np.testing.assert_array_equal(first, expected)
    # A stream of the call takes its place.
    given = layer(X, rngs=nnx.Rngs(pool=5))
    np.testing.assert_array_equal(given, same(X, rngs=nnx.Rngs(pool=5)["pool"]))


def test_nnx_under_jit():
    layer = of(jaxpool.nnx, SOME, rngs=nnx.Rngs(pool=1))
    other = of(jaxpool.nnx, SOME, rngs=nnx.Rngs(pool=1))
    step = nnx.jit(lambda layer, x: layer(x))
    for _ in range(2):  # the count goes on
        np.testing.assert_array_equal(step(layer, X), other(X))


def test_linen_draws_from_its_stream():
    layer = of(jaxpool.linen, SOME, deterministic=False)

    @jax.jit
    def apply(seed):
        return layer.apply({}, X, rngs={"pool": jax.random.key(seed)})

    assert (apply(0) != apply(1)).any()
    np.testing.assert_array_equal(apply(0), apply(0))
    with pytest.raises(errors.InvalidRngError, match="pool"):
        layer.apply({}, X)
    with pytest.raises(ValueError, match="deterministic"):
        of(jaxpool.linen, SOME).apply({}, X)


# --- Counts ---------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_what_was_drawn_more_often(per, key):
    """After five calls; channels apart, which some draw more often than others."""
    features = {"features": 3} if per == "channel" else {}
    options = {"window_shape": (2, 1), "per": per, "inference": "frequency", **features}
    largest, mean = jaxpool.max_pool(X, (2, 1)), jaxpool.avg_pool(X, (2, 1))

    layer = jaxpool.nnx.RandomMixedPool(**options, rngs=nnx.Rngs(pool=0))
    made = jaxpool.linen.RandomMixedPool(**options)
    rngs = {"pool": key}
    state = made.init(rngs, X, deterministic=False)
    assert not state["batch_stats"]["taken"].any()
    step = nnx.jit(lambda layer, x: layer(x))
    drawn = {"nnx": [], "linen": []}
    np.testing.assert_allclose(  # as often: the expectation
        layer(X, deterministic=True), (largest + mean) / 2, 1e-6
    )
    for i in range(5):
        drawn["nnx"].append(step(layer, X))
        rngs = {"pool": jax.random.fold_in(key, i)}
        y, state = made.apply(
            state, X, deterministic=False, rngs=rngs, mutable=["batch_stats"]
        )
        drawn["linen"].append(y)
    found = {
        "nnx": (layer.taken[...], layer(X, deterministic=True)),
        "linen": (
            state["batch_stats"]["taken"],
            made.apply(state, X, deterministic=True),
        ),
    }
    for system, (taken, y) in found.items():
        maxima = np.array([(one == largest).all((0, 1, 2)) for one in drawn[system]])
        wanted = maxima.sum(0) if per == "channel" else maxima.all(-1).sum()
        np.testing.assert_array_equal(taken, [wanted, 5 - wanted])
        np.testing.assert_array_equal(y, np.where(wanted > 2, largest, mean))


def test_counts_with_channels_first():
    alpha = np.array([0, 1, 0.3], np.float32).reshape(3, 1, 1)
    options = {"axes": (-2, -1), "alpha": alpha}
    layer = jaxpool.nnx.RandomMixedPool(
        (2, 1), inference="frequency", features=3, **options, rngs=nnx.Rngs(pool=0)
    )
    x = np.moveaxis(X, -1, 1)
    for _ in range(2):
        layer(x)
    np.testing.assert_array_equal(layer.taken[:, :2], [[0, 2], [2, 0]])
    y = layer(x, deterministic=True)
    np.testing.assert_allclose(y[:, 0], jaxpool.avg_pool(X, (2, 1))[..., 0], 1e-6)
    np.testing.assert_allclose(y[:, 1], jaxpool.max_pool(X, (2, 1))[..., 1], 1e-6)


def test_what_cannot_be_counted():
    for system in (jaxpool.nnx, jaxpool.linen):
        pool = functools.partial(system.RandomMixedPool, (2, 2), inference="frequency")
        with pytest.raises(ValueError, match="`features` must be given"):
            pool()
        with pytest.raises(ValueError, match="`per` must be one of layer, channel"):
            pool(per="region")
        with pytest.raises(ValueError, match="`alpha` must be one number per draw"):
            pool(per="layer", alpha=np.ones(3))
        with pytest.raises(ValueError, match="`inference` must be one of"):
            system.RandomMixedPool((2, 2), inference="median")


def test_wrong_streams():
    with pytest.raises(TypeError, match=r"`rngs` must be an nnx\.Rngs or nnx\.RngSt"):
        of(jaxpool.nnx, SOME, rngs=jax.random.key(0))
    with pytest.raises(ValueError, match="`rngs` must be given"):
        of(jaxpool.nnx, SOME)(X)
    with pytest.raises(ValueError, match="`deterministic` must be given"):
        of(jaxpool.nnx, SOME, deterministic=None)(X)
