"""Pools of tokens: functions against loops, heads against PyTorch."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parity import by_name, copy_to_nnx
from transforms import QUICK, check_transforms, tie_free

import jaxpool.linen
import jaxpool.nnx
from jaxpool import attention_pool, global_avg_pool, netvlad

X = tie_free((2, 5, 4))
MASK = np.array([[True, False, True, True, False], [False] * 5])


# --- Functions ------------------------------------------------------------------------


def attention_oracle(queries, keys, values, where=True, scale=None):
    queries, keys, values = (np.asarray(t, float) for t in (queries, keys, values))
    where = np.broadcast_to(where, keys.shape[:-1])
    scale = keys.shape[-1] ** -0.5 if scale is None else scale
    y = np.zeros((*queries.shape[:-1], values.shape[-1]))
    for place in np.ndindex(queries.shape[:-1]):
        kept = where[place[:-1]]
        if kept.any():
            logits = scale * keys[place[:-1]][kept] @ queries[place]
            w = np.exp(logits - logits.max())
            y[place] = w @ values[place[:-1]][kept] / w.sum()
    return y


def test_no_tokens_give_zero_and_a_scale_may_be_learned(rng):
    q, k, v = (jnp.asarray(rng.normal(size=(2, n, 3)), jnp.float32) for n in (4, 5, 5))
    np.testing.assert_array_equal(attention_pool(q, k[:, :0], v[:, :0]), 0 * q)
    half = jax.jit(lambda scale: attention_pool(q, k, v, scale=scale))(jnp.array(0.5))
    np.testing.assert_allclose(half, attention_pool(q, k, v, scale=0.5), 1e-5, 1e-6)
    slope = jax.grad(lambda scale: attention_pool(q, k, v, scale=scale).sum())(0.5)
    ends = [attention_pool(q, k, v, scale=0.5 + h).sum() for h in (0.01, -0.01)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 0.02, 1e-2, 1e-3)


@pytest.mark.parametrize("scale", [None, 0.7, 1e4])
def test_attention_equals_the_oracle(scale, rng):
    queries = rng.normal(size=(2, 3, 4)).astype(np.float32)
    values = rng.normal(size=(2, 5, 6)).astype(np.float32)
    got = attention_pool(queries, X, values, scale=scale)
    expected = attention_oracle(queries, X, values, scale=scale)
    np.testing.assert_allclose(got, expected, 1e-4, 1e-5)
    garbage = (np.where(MASK[..., None], t, np.nan) for t in (X, values))
    got = attention_pool(queries, *garbage, where=MASK, scale=scale)
    expected = attention_oracle(queries, X, values, MASK, scale)
    np.testing.assert_allclose(got, expected, 1e-4, 1e-5)


def netvlad_oracle(x, centers, weights, bias, where=True):
    found = []
    for tokens, kept in zip(x, np.broadcast_to(where, x.shape[:-1]), strict=True):
        total = np.zeros(centers.shape)
        for token in tokens[kept].astype(float):
            token = token / np.linalg.norm(token)
            logits = token @ weights + bias
            a = np.exp(logits - logits.max())
            total += (a / a.sum())[:, None] * (token - centers)
        norms = np.linalg.norm(total, axis=1, keepdims=True)
        total = total / np.where(norms > 0, norms, 1)
        norm = np.linalg.norm(total)
        found.append(total.ravel() / (norm if norm else 1))
    return np.stack(found)


def test_netvlad_equals_the_oracle(rng):
    centers, weights, bias = (
        rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4, 3), (3,))
    )
    got = netvlad(X, centers, weights, bias=bias)
    np.testing.assert_allclose(
        got, netvlad_oracle(X, centers, weights, bias), 1e-4, 1e-5
    )
    np.testing.assert_allclose(
        netvlad(X, centers, weights), netvlad_oracle(X, centers, weights, 0), 1e-4, 1e-5
    )
    garbage = np.where(MASK[..., None], X, np.nan)
    got = netvlad(garbage, centers, weights, bias=bias, where=MASK)
    expected = netvlad_oracle(X, centers, weights, bias, MASK)
    np.testing.assert_allclose(got, expected, 1e-4, 1e-5)


def test_netvlad_of_the_paper_is_a_softmax_of_distances(rng):
    centers, alpha = rng.normal(size=(3, 4)).astype(np.float32), 2.0
    weights, bias = 2 * alpha * centers.T, -alpha * (centers**2).sum(1)
    got = netvlad(X, centers, weights, bias=bias)
    total = np.zeros((2, 3, 4))
    for n, t in np.ndindex(2, 5):
        token = X[n, t] / np.linalg.norm(X[n, t])
        near = np.exp(-alpha * ((token - centers) ** 2).sum(1))
        total[n] += (near / near.sum())[:, None] * (token - centers)
    total /= np.linalg.norm(total, axis=2, keepdims=True)
    np.testing.assert_allclose(got, total.reshape(2, 12) / np.sqrt(3), 1e-4, 1e-5)


def test_masked_mean_of_tokens():
    got = global_avg_pool(
        np.where(MASK[..., None], X, np.nan), axes=(-2,), where=MASK[..., None]
    )
    np.testing.assert_allclose(got[0], X[0][MASK[0]].mean(0), 1e-6)
    np.testing.assert_array_equal(got[1], 0)


def poolings():
    weights = {k: tie_free(s, i) for i, (k, s) in enumerate(SHAPES.items())}
    as_x = lambda k, x: jnp.asarray(weights[k], x.dtype)  # noqa: E731

    def queries(x):
        return jnp.broadcast_to(as_x("queries", x), (*x.shape[:-2], 2, 3))

    return {
        "attention": lambda x: attention_pool(queries(x), x, x[..., :2]),
        "attention, masked": lambda x: attention_pool(
            queries(x), x, x, where=np.array([True, False, True])
        ),
        "netvlad": lambda x: netvlad(
            x, *(as_x(k, x) for k in ("centers", "weights")), bias=as_x("bias", x)
        ),
        "netvlad, masked": lambda x: netvlad(
            x,
            as_x("centers", x),
            as_x("weights", x),
            where=np.array([True, False, True]),
        ),
    }


SHAPES = {"queries": (2, 3), "centers": (2, 3), "weights": (3, 2), "bias": (2,)}


@pytest.mark.parametrize("name", poolings())
def test_transforms(name):
    check_transforms(
        poolings()[name],
        tie_free((2, 3, 3)),
        dtypes=("bfloat16",),
        eager_grad=False,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", poolings())
def test_order_and_what_is_left_out_do_not_matter(name):
    pool = poolings()[name]
    x = tie_free((3, 3))
    y, pullback = jax.vjp(pool, jnp.asarray(x))
    dx = pullback(jnp.ones_like(y))[0]
    if name.endswith("masked"):
        garbage = np.where([[True], [False], [True]], x, np.nan)
        other, pullback = jax.vjp(pool, jnp.asarray(garbage))
        np.testing.assert_array_equal(pullback(jnp.ones_like(y))[0], dx)
        np.testing.assert_array_equal(dx[1], 0)
        np.testing.assert_array_equal(other, y)
    np.testing.assert_allclose(pool(jnp.asarray(x[[2, 1, 0]])), y, 1e-5, 1e-6)


# --- Heads ----------------------------------------------------------------------------

GOLDENS = pathlib.Path(__file__).with_name("goldens") / "torch_heads.npz"


def stored(name, arrays):
    return {k.split("/")[1]: v for k, v in arrays.items() if k.startswith(f"{name}/")}


def heads(kernel, bias, inwards=True):
    """A dense layer of PyTorch as one to or from two heads."""
    if inwards:
        return {"kernel": kernel.T.reshape(8, 2, 4), "bias": bias.reshape(2, 4)}
    return {"kernel": kernel.T.reshape(2, 4, -1), "bias": bias}


def map_tree(p):
    names = ("query", "key", "value")
    kernels, biases = (
        np.split(p[f"attention.in_proj_{k}"], 3) for k in ("weight", "bias")
    )
    attention = {n: heads(k, b) for n, k, b in zip(names, kernels, biases, strict=True)}
    out = "attention.out_proj"
    attention["out"] = heads(p[f"{out}.weight"], p[f"{out}.bias"], inwards=False)
    dense = {
        n: {"kernel": p[f"{n}.weight"].T, "bias": p[f"{n}.bias"]}
        for n in ("hidden", "out")
    }
    norm = {"scale": p["norm.weight"], "bias": p["norm.bias"]}
    return {"probe": p["probe"][0], "attention": attention, "norm": norm, **dense}


def clip_tree(p):
    attention = {
        n: heads(p[f"{n}.weight"], p[f"{n}.bias"]) for n in ("query", "key", "value")
    }
    attention["out"] = heads(p["out.weight"], p["out.bias"], inwards=False)
    return {"position": p["position"], "attention": attention}


HEADS = {
    "map": (
        map_tree,
        functools.partial(jaxpool.nnx.AttentionPool, 8, num_heads=2),
        functools.partial(jaxpool.linen.AttentionPool, num_heads=2),
    ),
    "clip": (
        clip_tree,
        functools.partial(
            jaxpool.nnx.AttentionPool2D, 8, 6, image_shape=(2, 3), num_heads=2
        ),
        functools.partial(
            jaxpool.linen.AttentionPool2D, 6, image_shape=(2, 3), num_heads=2
        ),
    ),
}


def check_head(name, arrays):
    tree, of_nnx, of_linen = HEADS[name]
    known = stored(name, arrays)
    params, dparams = (
        tree({k[2:]: v for k, v in known.items() if k.startswith(prefix)})
        for prefix in ("p:", "d:")
    )
    layer = of_linen()

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(params, x, g):
        y, pullback = jax.vjp(lambda p, x: layer.apply({"params": p}, x), params, x)
        return y, *pullback(g)

    y, found, dx = run(params, known["x"], known["g"])
    np.testing.assert_allclose(y, known["y"], 1e-4, 1e-5)
    np.testing.assert_allclose(dx, known["dx"], 1e-3, 1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-3), found, dparams
    )
    twin = of_nnx(rngs=nnx.Rngs(0))
    copy_to_nnx(twin, {"params": params})
    np.testing.assert_allclose(twin(known["x"]), y, 1e-5, 1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_heads_equal_pytorch(name):
    check_head(name, dict(np.load(GOLDENS)))


@pytest.mark.parametrize("name", HEADS)
def test_heads_equal_pytorch_live(name):
    pytest.importorskip("torch")
    from goldens import record_torch_heads

    check_head(name, record_torch_heads.record())


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


COUNTS = [
    ("AttentionPool", (768,), {}, (1, 4, 768), 7_087_104),
    (
        "AttentionPool",
        (1152,),
        {"mlp_features": 4304, "num_heads": 16},
        (1, 4, 1152),
        15_238_352,
    ),
    (
        "AttentionPool2D",
        (2048, 1024),
        {"image_shape": (7, 7), "num_heads": 32},
        (1, 7, 7, 2048),
        14_789_632,
    ),
    ("PMA", (128,), {"num_seeds": 4}, (1, 9, 128), 66_560),
    ("PMA", (128,), {"num_seeds": 4, "layer_norm": True}, (1, 9, 128), 66_560 + 512),
    ("NetVLAD", (128,), {}, (1, 9, 128), 2 * 64 * 128),
    ("NetVLAD", (128,), {"use_bias": True}, (1, 9, 128), 2 * 64 * 128 + 64),
]


@pytest.mark.parametrize(("name", "sizes", "options", "shape", "expected"), COUNTS)
def test_parameter_counts(name, sizes, options, shape, expected):
    make = getattr(jaxpool.nnx, name)
    layer = nnx.eval_shape(lambda: make(*sizes, **options, rngs=nnx.Rngs(0)))
    assert count(nnx.state(layer, nnx.Param)) == expected
    linen = getattr(jaxpool.linen, name)(*sizes[1:], **options)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(linen.init, jax.random.key(0), x)
    assert count(variables) == expected
    names = jax.tree.map(jnp.shape, by_name(layer))
    assert names == jax.tree.map(jnp.shape, variables["params"])


LAYERS = {
    "AttentionPool": {"num_heads": 2, "mlp_features": 5},
    "PMA": {"num_heads": 2, "num_seeds": 2, "layer_norm": True},
    "NetVLAD": {"clusters": 3, "use_bias": True},
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_mask_and_train(name, key):
    linen = getattr(jaxpool.linen, name)(**LAYERS[name])
    variables = linen.init(key, X)
    layer = getattr(jaxpool.nnx, name)(4, **LAYERS[name], rngs=nnx.Rngs(0))
    copy_to_nnx(layer, variables)

    @jax.jit
    def run(variables, x):
        def loss(variables, x):
            y = linen.apply(variables, x, where=MASK)
            weights = jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)
            return (y * weights).sum(), y

        (_, y), found = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables, x)
        return y, found

    y, (dparams, dx) = run(variables, X)
    np.testing.assert_allclose(nnx.jit(layer)(X, where=MASK), y, 1e-5, 1e-6)
    garbage = np.where(MASK[..., None], X, np.nan)
    same, (again, dagain) = run(variables, garbage)
    jax.tree.map(np.testing.assert_array_equal, (same, again, dagain), (y, dparams, dx))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(dparams))
    np.testing.assert_array_equal(dx[~MASK], 0)
    kept = linen.apply(variables, X[:1][:, MASK[0]])
    np.testing.assert_allclose(y[0], kept[0], 1e-4, 1e-5)
    with jax.numpy_dtype_promotion("standard"):  # Flax's own layers need it
        narrow = jax.eval_shape(linen.apply, variables, X.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16


def test_pma_equals_the_definition(key):
    layer = jaxpool.linen.PMA(num_heads=2, num_seeds=3)
    variables = layer.init(key, X)
    p = jax.tree.map(lambda t: np.asarray(t, float), variables["params"])
    dense = lambda n, t: t @ p[n]["kernel"] + p[n]["bias"]  # noqa: E731
    q, k, v = dense("query", p["seeds"]), dense("key", X), dense("value", X)
    y = np.zeros((2, 3, 4))
    for n, h in np.ndindex(2, 2):
        part = slice(2 * h, 2 * h + 2)
        w = np.exp(q[:, part] @ k[n, :, part].T / 2)  # sqrt of all 4 channels
        y[n, :, part] = q[:, part] + w / w.sum(1, keepdims=True) @ v[n, :, part]
    y += np.maximum(dense("out", y), 0)
    np.testing.assert_allclose(layer.apply(variables, X), y, 1e-4, 1e-5)


# --- Wrong calls ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (
            "`queries` and `keys` must have as many channels",
            lambda: attention_pool(X[..., :3], X, X),
        ),
        (
            "`keys` and `values` must have the same tokens",
            lambda: attention_pool(X, X, X[:, :3]),
        ),
        (
            "`queries` and `keys` must have the same batch",
            lambda: attention_pool(X[0], X, X),
        ),
        (
            r"`values` must have two axes at least, got \(4,\)",
            lambda: attention_pool(X, X, X[0, 0]),
        ),
        (
            r"`where` must broadcast to x with shape \(2, 5\)",
            lambda: attention_pool(X, X, X, where=np.ones(4, bool)),
        ),
        (
            r"`centers` must have shape \(K, 4\) .*, got shape \(3,\)",
            lambda: netvlad(X, np.ones(3), np.ones((4, 3))),
        ),
        (
            r"`weights` must have shape \(4, 3\), got \(3, 4\)",
            lambda: netvlad(X, np.ones((3, 4)), np.ones((3, 4))),
        ),
        (
            r"`bias` must have shape \(3,\), got \(4,\)",
            lambda: netvlad(X, np.ones((3, 4)), np.ones((4, 3)), bias=np.ones(4)),
        ),
        (
            r"`x` must have shape \(\*batch, \*\(7, 7\), channels\), got \(2, 5, 4\)",
            lambda: jaxpool.nnx.AttentionPool2D(
                4, 4, image_shape=(7, 7), num_heads=2, rngs=nnx.Rngs(0)
            )(X),
        ),
        (
            "`num_heads` must divide the 4 channels, got 3",
            lambda: jaxpool.nnx.PMA(4, num_heads=3, rngs=nnx.Rngs(0))(X),
        ),
    ],
)
def test_wrong_calls(message, call):
    with pytest.raises(ValueError, match=message):
        call()
