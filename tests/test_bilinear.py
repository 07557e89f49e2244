"""Second-order pools against loops over positions, exact roots, and statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from flax import nnx
from parity import by_name, copy_to_nnx
from transforms import QUICK, check_transforms, tie_free

import jaxpool.linen
import jaxpool.nnx
from jaxpool import (
    bilinear_pool,
    compact_bilinear_pool,
    covariance_pool,
    low_rank_bilinear_pool,
)

RAW = {"signed_sqrt": None, "normalize": False}
X = tie_free((2, 3, 4, 3))
Y = tie_free((2, 3, 4, 2), 1)
MASK = np.array([[True, False, True, True], [False] * 4, [True, True, False, True]])


def positions(x, where=True):
    """The features of each example's positions that take part."""
    where = np.broadcast_to(where, x.shape[1:-1])
    return [np.asarray(example, np.float64)[where] for example in x]


def finished(z, signed_sqrt="smooth", normalize=True, eps=1e-8):
    if signed_sqrt == "smooth":
        z = np.sign(z) * (np.sqrt(abs(z) + eps) - np.sqrt(eps))
    elif signed_sqrt == "authors":
        z = np.sign(z) * np.sqrt(abs(z) + eps)
    norm = np.sqrt((z**2).sum())
    return z / norm if normalize and norm else z


def bilinear_oracle(x, y, where=True, **options):
    found = []
    for a, b in zip(positions(x, where), positions(y, where), strict=True):
        total = sum((np.outer(p, q) for p, q in zip(a, b, strict=True)), np.zeros(1))
        found.append(finished(np.ravel(total / max(len(a), 1)), **options))
    return np.stack(found)


@pytest.mark.parametrize(
    "options",
    [{}, RAW, {"signed_sqrt": "authors", "eps": 1e-3}, {"signed_sqrt": None}],
    ids=str,
)
def test_bilinear_equals_the_oracle(options):
    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(x, y):
        garbage = jnp.where(MASK[..., None][None], x, jnp.nan)
        return (
            bilinear_pool(x, y, **options),
            bilinear_pool(x, **options),
            bilinear_pool(garbage, y, where=MASK[..., None], **options),
            bilinear_pool(jnp.moveaxis(x, 1, 0), axes=(0, 2), **options),
        )

    crossed, own, masked, moved = run(X, Y)
    np.testing.assert_allclose(crossed, bilinear_oracle(X, Y, **options), 1e-5, 1e-6)
    np.testing.assert_allclose(own, bilinear_oracle(X, X, **options), 1e-5, 1e-6)
    expected = bilinear_oracle(X, Y, MASK, **options)
    np.testing.assert_allclose(masked, expected, 1e-5, 1e-6)
    np.testing.assert_allclose(moved, own, 1e-5, 1e-6)


def test_gradients_at_zero_are_finite():
    for pool in (
        bilinear_pool,
        covariance_pool,
        lambda x: compact_bilinear_pool(x, features=8, key=jax.random.key(0)),
    ):
        for x in (jnp.zeros((2, 2, 3)), jnp.ones((2, 2, 3))):
            loss = lambda x, pool=pool: pool(x).sum()  # noqa: E731
            y, dx = jax.jit(jax.value_and_grad(loss))(x)
            assert np.isfinite(y) and np.isfinite(dx).all()
    none = bilinear_pool(X, where=np.zeros((1, 1, 1), bool))
    np.testing.assert_array_equal(none, 0)
    none = covariance_pool(X, where=np.zeros((1, 1, 1), bool))
    np.testing.assert_array_equal(none, 0)


def test_signed_root_of_small_numbers():
    """`z / (2 sqrt(eps))` near 0, where the difference of two roots would be 0."""
    x, eps = jnp.array([[1.0, 2.0]])[:, None] * 1e-8, 1e-8
    y = bilinear_pool(x, normalize=False, eps=eps).ravel()
    np.testing.assert_allclose(y, 1e-16 * np.array([1, 2, 2, 4]) / 2e-4, 1e-5)
    one = jnp.ones((1, 1, 1))
    slope = jax.grad(lambda x: bilinear_pool(x, one, normalize=False, eps=eps).sum())
    np.testing.assert_allclose(slope(0 * one), 1 / 2e-4, 1e-5)


@pytest.mark.parametrize("method", ["tensor_sketch", "random_maclaurin"])
def test_a_key_draws_the_same_with_64_bits(method, key):
    options = {"features": 8, "key": key, "method": method}
    x = np.asarray(X, np.float32)
    y = compact_bilinear_pool(x, **options)
    with jax.enable_x64(True):
        np.testing.assert_allclose(compact_bilinear_pool(x, **options), y, 1e-5, 1e-6)


def test_low_rank_is_bilinear_forms(rng):
    u, v = rng.normal(size=(3, 6)), rng.normal(size=(2, 6))
    u, v = u.astype(np.float32), v.astype(np.float32)
    matrices = np.einsum("cdk,edk->dce", u.reshape(3, 2, 3), v.reshape(2, 2, 3))
    outer = bilinear_oracle(X, Y, **RAW).reshape(2, 3, 2)
    expected = np.einsum("bce,dce->bd", outer, matrices)
    got = low_rank_bilinear_pool(X, u, v, y=Y, factors=3)
    np.testing.assert_allclose(got, expected, 1e-4, 1e-5)
    got = low_rank_bilinear_pool(
        X, u, v, y=Y, factors=3, signed_sqrt="smooth", normalize=True
    )
    expected = np.stack([finished(z) for z in expected])
    np.testing.assert_allclose(got, expected, 1e-4, 1e-5)
    # MLB, and an activation that is not 0 at 0, under a mask.
    squash = lambda z: jnp.tanh(z) + 1  # noqa: E731
    got = low_rank_bilinear_pool(X, u, v, y=Y, activation=squash, where=MASK[..., None])
    for z, a, b in zip(got, positions(X, MASK), positions(Y, MASK), strict=True):
        mean = ((np.tanh(a @ u) + 1) * (np.tanh(b @ v) + 1)).mean(0)
        np.testing.assert_allclose(z, mean, 1e-4, 1e-5)


@pytest.mark.parametrize("method", ["tensor_sketch", "random_maclaurin"])
def test_compact_is_unbiased(method, rng):
    """Inner products of sketches average to those of the products: <x, y>^2."""
    a, b = rng.normal(size=(2, 1, 1, 6)).astype(np.float32)
    c, d = rng.normal(size=(2, 1, 1, 6)).astype(np.float32)

    def inner(key):
        sketch = functools.partial(
            compact_bilinear_pool, features=16, key=key, method=method, **RAW
        )
        return jnp.stack(
            [(sketch(a) * sketch(c)).sum(), (sketch(a, b) * sketch(c, d)).sum()]
        )

    keys = jax.random.split(jax.random.key(1), 4000)
    found = np.asarray(jax.jit(jax.vmap(inner))(keys), np.float64)
    expected = [(a * c).sum() ** 2, (a * c).sum() * (b * d).sum()]
    error = found.std(0) / np.sqrt(len(keys))
    assert (abs(found.mean(0) - expected) < 4 * error).all()
    # Far from what a lost sign or scale would give.
    assert (4 * error < 0.2 * np.abs(expected) + 0.5).all()


def test_tensor_sketch_is_a_convolution(key):
    """The product of transforms is the sketch of the outer product."""
    x = jnp.asarray(X)
    whole = compact_bilinear_pool(x, features=7, key=key, **RAW)
    each = jnp.stack(
        [
            compact_bilinear_pool(
                x[:, i : i + 1, j : j + 1], features=7, key=key, **RAW
            )
            for i, j in np.ndindex(3, 4)
        ]
    )
    np.testing.assert_allclose(whole, each.mean(0), 1e-4, 1e-5)
    again = compact_bilinear_pool(x, features=7, key=key, **RAW)
    np.testing.assert_array_equal(whole, again)
    one, other = (
        compact_bilinear_pool(x, features=7, key=jax.random.key(k)) for k in (0, 1)
    )
    assert not np.allclose(one, other)


def test_covariance_equals_the_root(rng):
    x = rng.normal(size=(2, 40, 1, 5)).astype(np.float32) * [1, 2, 1, 1, 2]
    x = x.astype(np.float32)
    flat = x[:, :, 0].astype(np.float64)
    matrices = [np.cov(example.T, bias=True) for example in flat]
    got = covariance_pool(x, iterations=0, triangle=False)
    np.testing.assert_allclose(got, matrices, 1e-4, 1e-5)
    roots = np.stack([scipy.linalg.sqrtm(m).real for m in matrices])
    errors = []
    for iterations in (3, 5, 12):
        got = covariance_pool(x, iterations=iterations, triangle=False)
        errors.append(np.abs(got - roots).max() / np.abs(roots).max())
        np.testing.assert_allclose(got, by_loop(matrices, iterations), 1e-3, 1e-4)
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-5
    upper = covariance_pool(x, iterations=12)
    np.testing.assert_allclose(upper, roots[:, *np.triu_indices(5)], 1e-3, 1e-4)
    where = rng.random((40, 1, 1)) < 0.6
    got = covariance_pool(np.where(where, x, np.nan), where=where, iterations=0)
    masked = [np.cov(e[where[:, 0, 0]].T, bias=True)[np.triu_indices(5)] for e in flat]
    np.testing.assert_allclose(got, masked, 1e-4, 1e-5)


def by_loop(matrices, iterations):
    found = []
    for matrix in matrices:
        trace, eye = np.trace(matrix), np.eye(len(matrix))
        y, z = matrix / trace, eye
        for _ in range(iterations):
            t = (3 * eye - z @ y) / 2
            y, z = y @ t, t @ z
        found.append(np.sqrt(trace) * y)
    return found


FUNCTIONS = {
    "bilinear": bilinear_pool,
    "bilinear, y": lambda x: bilinear_pool(tie_free((1, 2, 1), 5).astype(x.dtype), x),
    "covariance": functools.partial(covariance_pool, iterations=2),
    # Without the square root, which makes 1e-4 of what is 1e-8 and should be 0.
    "compact": lambda x: compact_bilinear_pool(
        x, features=5, key=jax.random.key(0), **RAW
    ),
    "maclaurin": lambda x: compact_bilinear_pool(
        x, features=5, key=jax.random.key(0), method="random_maclaurin", **RAW
    ),
    "low rank": lambda x: low_rank_bilinear_pool(
        x, tie_free((2, 3), 1).astype(x.dtype), tie_free((2, 3), 2).astype(x.dtype)
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transforms(name):
    batched = name != "bilinear, y"
    x = tie_free((2, 1, 3, 2) if batched else (1, 2, 2), 3) + np.float32(2)
    few = {"dtypes": ("bfloat16",), "eager_grad": False}
    more = {} if batched else {"export": False, "platforms": (), "sharded": False}
    if name == "compact":
        more["sharded"] = None
    axes = (0,) if batched else ()
    check_transforms(
        FUNCTIONS[name],
        x,
        vmap_axes=axes,
        rtol=1e-4,
        atol=1e-5,
        no_scatter=name != "covariance",
        **few,
        **more,
    )


def test_dtypes_and_shapes(key):
    whole = jnp.ones((5, 2, 2, 3), jnp.int32)
    assert bilinear_pool(whole).dtype == jnp.float32
    y = jax.eval_shape(bilinear_pool, jnp.ones((0, 2, 2, 3), jnp.bfloat16))
    assert y.shape == (0, 9) and y.dtype == jnp.bfloat16
    assert jax.eval_shape(covariance_pool, jnp.ones((4, 4, 256))).shape == (32896,)
    pool = functools.partial(compact_bilinear_pool, features=8192, key=key)
    assert jax.eval_shape(pool, jnp.ones((2, 7, 7, 512))).shape == (2, 8192)


@pytest.mark.parametrize("options", [{}, {"other_features": 2}], ids=str)
def test_low_rank_layer(options, key):
    given = (X, Y) if options else (X,)
    ours = jaxpool.linen.LowRankBilinearPool(4, factors=2)
    variables = ours.init(key, *given)
    layer = jaxpool.nnx.LowRankBilinearPool(
        3, 4, factors=2, **options, rngs=nnx.Rngs(0)
    )
    copy_to_nnx(layer, variables)
    y = layer(*given)
    np.testing.assert_allclose(y, ours.apply(variables, *given), 1e-6)
    p = by_name(layer)
    expected = low_rank_bilinear_pool(
        X, p["u"], p["v"], y=Y if options else None, factors=2, activation=jnp.tanh
    )
    np.testing.assert_allclose(y, expected, 1e-6)
    assert p["v"].shape == (2 if options else 3, 8)


@pytest.mark.parametrize("system", [jaxpool.nnx, jaxpool.linen])
def test_compact_layer(system):
    layer = system.CompactBilinearPool(6, seed=3, method="random_maclaurin")
    y = layer.apply({}, X, Y) if system is jaxpool.linen else layer(X, Y)
    expected = compact_bilinear_pool(
        X, Y, features=6, key=jax.random.key(3), method="random_maclaurin"
    )
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"`axes` must not name the last", lambda: bilinear_pool(X, axes=(1, 3))),
        (
            r"`y` must have the axes of x .* got shape \(2, 3, 2\)",
            lambda: bilinear_pool(X, Y[:, :, 0]),
        ),
        ("`eps` must be positive, got 0", lambda: bilinear_pool(X, eps=0)),
        (
            "`key` must be one key, got an array of keys",
            lambda: compact_bilinear_pool(
                X, features=4, key=jax.random.split(jax.random.key(0))
            ),
        ),
        (
            "`signed_sqrt` must be one of smooth, authors, got 'a'",
            lambda: bilinear_pool(X, signed_sqrt="a"),
        ),
        (
            r"`where` must broadcast to x with shape \(2, 3, 4, 1\)",
            lambda: bilinear_pool(X, where=np.ones((2, 3, 4, 3), bool)),
        ),
        (
            "`iterations` must not be negative, got -1",
            lambda: covariance_pool(X, iterations=-1),
        ),
        (
            "`features` must be at least 1, got 0",
            lambda: compact_bilinear_pool(X, features=0, key=jax.random.key(0)),
        ),
        (
            r"`u` must have shape \(3, D factors\), got shape \(2, 4\)",
            lambda: low_rank_bilinear_pool(X, np.ones((2, 4)), np.ones((3, 4))),
        ),
        (
            "`u` and `v` must have the same number of columns, a multiple of 3",
            lambda: low_rank_bilinear_pool(
                X, np.ones((3, 4)), np.ones((3, 4)), factors=3
            ),
        ),
    ],
)
def test_wrong_calls(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_kinds():
    for key in (None, 0, np.zeros(3, np.uint32)):
        with pytest.raises(TypeError, match="`key` must be a key of"):
            compact_bilinear_pool(X, features=4, key=key)
    with pytest.raises(TypeError, match="`eps` must be a number or an array, got 'a'"):
        bilinear_pool(X, eps="a")
