"""Graph pools against loops, enumeration, and a graph of people."""

import functools
import itertools

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import optax
import pytest
from flax import nnx
from parity import by_name, copy_to_nnx
from transforms import QUICK, check_transforms, tie_free

import jaxpool.linen
import jaxpool.nnx
from jaxpool import diff_pool, mincut_pool, sag_pool, struct_pool, topk_pool

N, C, K = 5, 3, 2
NODES = np.array([[True] * 5, [True, True, False, True, False]])


def graphs(seed=0):
    """Two graphs: features, weights of edges, logits."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 3, (2, N, N)).astype(np.float32)
    a = np.triu(a, 1) + np.triu(a, 1).swapaxes(1, 2)
    return (
        rng.uniform(0.2, 1, (2, N, C)).astype(np.float32),
        a,
        rng.normal(size=(2, N, K)).astype(np.float32),
    )


def softmax(z):
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def per_graph(value):
    """An oracle of a batch from one of a graph, which sees its own nodes alone."""

    @functools.wraps(value)
    def oracle(x, a, logits, nodes, **options):
        found = []
        for g in range(len(x)):
            kept = nodes[g]
            arrays = x[g][kept], a[g][kept][:, kept], logits[g][kept]
            *pooled, s, losses = value(*(t.astype(float) for t in arrays), **options)
            whole = np.zeros((len(kept), s.shape[1]))
            whole[kept] = s
            found.append((*pooled, whole, losses))
        return found

    return oracle


@per_graph
def diff_oracle(x, a, logits):
    s = softmax(logits)
    gap, n = a - s @ s.T, len(x)
    losses = {
        "link": np.sqrt((gap**2).sum()) / n**2,
        "entropy": -(s * np.log(s)).sum() / n,
    }
    return s.T @ x, s.T @ a @ s, s, losses


@per_graph
def mincut_oracle(x, a, logits, temperature=1.0):
    s = softmax(logits / temperature)
    square, k = s.T @ s, s.shape[1]
    gap = square / np.linalg.norm(square) - np.eye(k) / np.sqrt(k)
    degree = np.diag(a.sum(1))
    losses = {
        "cut": -np.trace(s.T @ a @ s) / np.trace(s.T @ degree @ s),
        "orthogonality": np.linalg.norm(gap),
    }
    coarse = s.T @ a @ s
    np.fill_diagonal(coarse, 0)
    root = np.sqrt(coarse.sum(1))
    return s.T @ x, coarse / np.outer(root, root), s, losses


@per_graph
def struct_oracle(x, a, logits, iterations=5, kernel="dot", hops=None, m=None, hard=0):
    n, k = logits.shape
    m = -np.eye(k) if m is None else m
    w = np.zeros((n, n))
    reach = np.linalg.matrix_power((a != 0) + np.eye(n), hops or n) > 0
    for i, j in np.ndindex(n, n):
        if i != j and (hops is None or reach[i, j]):
            w[i, j] = x[i] @ x[j] if kernel == "dot" else np.exp(x[i] @ x[j])
    total = w.sum(1, keepdims=True)
    w = np.divide(w, total, out=np.zeros_like(w), where=total != 0)
    q = logits
    for _ in range(iterations):
        q = logits - w @ softmax(q) @ m
    s = softmax(q)
    if hard:
        s = np.eye(k)[s.argmax(1)]
    return s.T @ x, s.T @ a @ s, s, {}


POOLS = {
    "diff": (diff_pool, {}, diff_oracle, {}),
    "mincut": (mincut_pool, {"temperature": 0.5}, mincut_oracle, {"temperature": 0.5}),
    "struct": (struct_pool, {}, struct_oracle, {}),
    "struct, softmax": (
        struct_pool,
        {"kernel": "softmax", "hops": 1, "iterations": 2},
        struct_oracle,
        {"kernel": "softmax", "hops": 1, "iterations": 2},
    ),
    "struct, two hops": (struct_pool, {"hops": 2}, struct_oracle, {"hops": 2}),
    "struct, hard": (struct_pool, {"assignment": "hard"}, struct_oracle, {"hard": 1}),
    "struct, compatible": (
        struct_pool,
        {"compatibility": np.array([[0.5, 2.0], [1.0, -1.0]], np.float32)},
        struct_oracle,
        {"m": np.array([[0.5, 2.0], [1.0, -1.0]])},
    ),
}
every_pool = pytest.mark.parametrize("name", POOLS)


@every_pool
def test_equals_the_oracle_and_sees_its_own_nodes_alone(name):
    pool, options, oracle, known = POOLS[name]
    x, a, logits = graphs()
    pairs = NODES[:, :, None] & NODES[:, None]
    garbage = (
        np.where(NODES[..., None], x, np.nan),
        np.where(pairs, a, np.inf),
        np.where(NODES[..., None], logits, np.nan),
    )

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(*arrays):
        def loss(*arrays):
            pooled = pool(*arrays, where=NODES, **options)
            total = (pooled.x**2).sum() + (pooled.adjacency**2).sum()
            return total + sum(t.sum() for t in pooled.losses.values()), pooled

        (_, pooled), found = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*arrays)
        return pooled, found

    pooled, gradients = run(x, a, logits)
    for g, expected in enumerate(oracle(x, a, logits, NODES, **known)):
        got = (pooled.x[g], pooled.adjacency[g], pooled.assignment[g])
        for mine, theirs in zip(got, expected[:3], strict=True):
            np.testing.assert_allclose(mine, theirs, 1e-4, 1e-5)
        losses = {k: v[g] for k, v in pooled.losses.items()}
        assert losses.keys() == expected[3].keys()
        for key, value in losses.items():
            np.testing.assert_allclose(value, expected[3][key], 1e-4, 1e-5)
    other, same = run(*garbage)
    jax.tree.map(np.testing.assert_array_equal, (other, same), (pooled, gradients))
    np.testing.assert_array_equal(gradients[0][~NODES], 0)
    np.testing.assert_array_equal(gradients[1][~pairs], 0)


@every_pool
def test_order_of_nodes_does_not_matter(name, rng):
    pool, options, _, _ = POOLS[name]
    x, a, logits = (t[0] for t in graphs(1))
    order = rng.permutation(N)
    first = pool(x, a, logits, **options)
    other = pool(x[order], a[order][:, order], logits[order], **options)
    np.testing.assert_allclose(other.assignment, first.assignment[order], 1e-4, 1e-5)
    jax.tree.map(
        lambda p, q: np.testing.assert_allclose(p, q, 1e-4, 1e-5),
        (other.x, other.adjacency, other.losses),
        (first.x, first.adjacency, first.losses),
    )


def test_struct_without_iterations_is_diff():
    x, a, logits = graphs()
    ours, theirs = struct_pool(x, a, logits, iterations=0), diff_pool(x, a, logits)
    np.testing.assert_allclose(ours.x, theirs.x, 1e-6)
    np.testing.assert_allclose(ours.adjacency, theirs.adjacency, 1e-6)


def test_messages_are_expectations_of_the_field(rng):
    """Mean field on 3 nodes, with every expectation by enumeration of all states.

    For a product of independent P, the update of node i is the mean, over the states of
    all nodes, of minus the energy that each label of i would have.
    """
    x, a, logits = rng.uniform(0.2, 1, (3, 4)), np.ones((3, 3)), rng.normal(size=(3, 2))
    m = rng.normal(size=(2, 2))
    w = x @ x.T * (1 - np.eye(3))
    w /= w.sum(1, keepdims=True)
    q = logits
    for _ in range(3):
        p, q = softmax(q), np.zeros((3, 2))
        for states in itertools.product(range(2), repeat=3):
            likely = np.prod([p[i, k] for i, k in enumerate(states)])
            for i, label in np.ndindex(3, 2):
                energy = -logits[i, label]
                energy += sum(w[i, j] * m[states[j], label] for j in range(3) if j != i)
                q[i, label] -= likely * energy
    cast = [np.asarray(t, np.float32) for t in (x, a, logits)]
    given = {"iterations": 3, "compatibility": m.astype(np.float32)}
    got = struct_pool(*cast, **given)
    np.testing.assert_allclose(got.assignment, softmax(q), 1e-4, 1e-5)


@every_pool
@pytest.mark.parametrize("kind", ["no edges", "one node", "no node", "zeros"])
def test_nothing_gives_nan(name, kind):
    pool, options, _, _ = POOLS[name]
    x, a, logits = (jnp.asarray(t[0]) for t in graphs())
    where = {"one node": jnp.arange(N) == 2, "no node": jnp.zeros(N, bool)}.get(kind)
    if kind in ("no edges", "zeros"):
        a = a * 0
    if kind == "zeros":
        x, logits = x * 0, logits * 0

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(*arrays):
        return jax.value_and_grad(
            lambda *t: sum(
                leaf.sum() for leaf in jax.tree.leaves(pool(*t, where=where, **options))
            ),
            (0, 1, 2),
        )(*arrays)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run(x, a, logits)))


def test_straight_through_has_the_soft_gradient():
    x, a, logits = (t[0] for t in graphs())

    def loss(logits, assignment):
        return struct_pool(x, a, logits, assignment=assignment).assignment[:, 0].sum()

    value, slope = jax.value_and_grad(loss)(logits, "straight_through")
    hard, none = jax.value_and_grad(loss)(logits, "hard")
    _, soft = jax.value_and_grad(loss)(logits, "soft")
    np.testing.assert_allclose(value, hard, 1e-6)
    np.testing.assert_allclose(slope, soft, 1e-5)
    np.testing.assert_array_equal(none, 0)


# --- Selection ------------------------------------------------------------------------


def select_oracle(x, a, scores, nodes, k, ratio=None):
    kept = [i for i in range(len(x)) if nodes[i]]
    if ratio is not None:
        k = int(np.ceil(ratio * len(kept)))
    kept = sorted(kept, key=lambda i: (-scores[i], i))[:k]
    gate = np.tanh(scores[kept])
    return x[kept] * gate[:, None], a[kept][:, kept], np.array(kept)


@pytest.mark.parametrize(
    "given", [{"k": 3}, {"k": 1}, {"k": 7}, {"ratio": 0.5}], ids=str
)
@pytest.mark.parametrize("pool", ["topk", "sag"])
def test_selection_equals_the_oracle(pool, given):
    x, a, logits = graphs()
    p = np.array([1.0, -2.0, 2.0], np.float32)
    scores = logits[..., 0] if pool == "sag" else x @ p / 3
    garbage = np.where(NODES[..., None], x, np.nan)
    if pool == "sag":
        given_scores = np.where(NODES, scores, np.nan)
        got = sag_pool(garbage, a, given_scores, where=NODES, **given)
    else:
        got = topk_pool(garbage, a, p, where=NODES, **given)
    room = given.get("k") or 3
    assert got.x.shape == (2, room, C) and got.adjacency.shape == (2, room, room)
    for g in range(2):
        y, edges, kept = select_oracle(
            x[g], a[g], scores[g], NODES[g], given.get("k"), given.get("ratio")
        )
        count = len(kept)
        np.testing.assert_allclose(got.x[g, :count], y, 1e-5, 1e-6)
        np.testing.assert_allclose(got.adjacency[g, :count, :count], edges, 1e-6)
        np.testing.assert_array_equal(got.indices[g, :count], kept)
        np.testing.assert_array_equal(got.where[g], np.arange(room) < count)
        np.testing.assert_array_equal(got.indices[g, count:], -1)
        np.testing.assert_array_equal(got.x[g, count:], 0)
        np.testing.assert_array_equal(got.adjacency[g, count:], 0)


@pytest.mark.parametrize("pool", ["topk", "sag"])
def test_order_of_nodes_does_not_matter_to_selection(pool, rng):
    x, a, logits = (t[0] for t in graphs(2))
    order = rng.permutation(N)

    def run(x, a, scores):
        if pool == "sag":
            return sag_pool(x, a, scores, k=3)
        return topk_pool(x, a, np.array([1.0, -2.0, 2.0], np.float32), k=3)

    first = run(x, a, logits[:, 0])
    other = run(x[order], a[order][:, order], logits[order, 0])
    np.testing.assert_allclose(other.x, first.x, 1e-5)
    np.testing.assert_allclose(other.adjacency, first.adjacency, 1e-5)
    np.testing.assert_array_equal(order[np.asarray(other.indices)], first.indices)


def test_ties_keep_the_first_node():
    kept = sag_pool(jnp.ones((4, 1)), jnp.ones((4, 4)), jnp.zeros(4), k=2)
    np.testing.assert_array_equal(kept.indices, [0, 1])


def test_scores_that_are_no_numbers_are_not_kept():
    scores = jnp.array([jnp.nan, 1.0, -jnp.inf, 2.0, jnp.inf])
    kept = sag_pool(jnp.ones((5, 1)), jnp.ones((5, 5)), scores, k=3)
    np.testing.assert_array_equal(kept.indices, [3, 1, -1])
    assert np.isfinite(kept.x).all()
    x = jnp.ones((5, 1)).at[jnp.array([0, 2])].set(jnp.nan)
    edges = jnp.ones((5, 5)).at[4, 1].set(jnp.inf).at[1, 0].set(jnp.nan)
    other = sag_pool(x, edges, scores, k=3)
    np.testing.assert_array_equal(other.x, kept.x)
    np.testing.assert_array_equal(other.adjacency, kept.adjacency)


def test_parts_are_exact():
    """0.07 * 100 is 7.000000000000001."""
    x = jnp.ones((100, 1))
    kept = sag_pool(x, jnp.ones((100, 100)), jnp.zeros(100), ratio=0.07)
    assert kept.x.shape == (7, 1) and kept.where.all()


def test_gradient_reaches_the_direction_through_the_gate():
    x, a, _ = (t[0] for t in graphs())
    p = jnp.array([1.0, -2.0, 2.0])
    found = jax.grad(lambda p: topk_pool(x, a, p, k=2).x.sum())(p)
    slopes = []
    for step in np.eye(3) * 1e-3:
        up, down = (
            topk_pool(x, a, p + s * step.astype(np.float32), k=2) for s in (1, -1)
        )
        slopes.append((up.x.sum() - down.x.sum()) / 2e-3)
    np.testing.assert_allclose(found, slopes, 1e-2, 1e-3)
    zero = jax.grad(lambda p: topk_pool(x, a, p, k=2).x.sum())(jnp.zeros(3))
    assert np.isfinite(zero).all()


# --- Transformations ------------------------------------------------------------------


def of_x(x):
    """Adjacency and logits that go with x, and depend on nothing."""
    n = x.shape[-2]
    a, logits = (jnp.asarray(t, x.dtype) for t in (1 - np.eye(n), tie_free((n, 2), 3)))
    return tuple(jnp.broadcast_to(t, (*x.shape[:-2], *t.shape)) for t in (a, logits))


def flat(pooled):
    return jnp.concatenate([pooled.x, pooled.adjacency], -1)


P = np.array([1.0, -0.3])
FUNCTIONS = {
    "diff": lambda x: flat(diff_pool(x, *of_x(x))),
    "mincut": lambda x: flat(mincut_pool(x, of_x(x)[0], x)),
    "struct": lambda x: flat(struct_pool(x, *of_x(x), iterations=2)),
    "topk": lambda x: flat(topk_pool(x, of_x(x)[0], P.astype(x.dtype), k=2)),
    "sag": lambda x: flat(sag_pool(x, of_x(x)[0], x[..., 0], k=2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transforms(name):
    check_transforms(
        FUNCTIONS[name],
        np.abs(tie_free((2, 3, 2))) + np.float32(0.1),
        dtypes=("bfloat16",),
        eager_grad=False,
        rtol=1e-4,
        atol=1e-5,
        export=name in ("struct", "topk"),
    )


# --- Layers ---------------------------------------------------------------------------

LAYERS = {
    "DiffPool": ((C, K), {"out_features": 4}),
    "MinCutPool": ((C, K), {}),
    "StructPool": ((C, K), {"hidden": (4,)}),
    "TopKPool": ((C,), {"k": 2}),
    "SAGPool": ((C,), {"ratio": 0.5}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_mask_and_train(name, key):
    sizes, options = LAYERS[name]
    x, a, _ = graphs()
    linen = getattr(jaxpool.linen, name)(*sizes[1:], **options)
    variables = linen.init(key, x, a)
    layer = getattr(jaxpool.nnx, name)(*sizes, **options, rngs=nnx.Rngs(0))
    copy_to_nnx(layer, variables)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(variables, x, a):
        def loss(variables):
            y = linen.apply(variables, x, a, where=NODES)
            return (y.x**3).sum(), y

        (_, y), found = jax.value_and_grad(loss, has_aux=True)(variables)
        return y, found

    y, found = run(variables, x, a)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found))
    garbage = np.where(NODES[..., None], x, np.nan), np.where(NODES[:, None], a, np.nan)
    other = run(variables, *garbage)
    jax.tree.map(np.testing.assert_array_equal, other, (y, found))
    jax.tree.map(
        lambda p, q: np.testing.assert_allclose(p, q, 1e-5, 1e-6),
        nnx.jit(layer)(x, a, where=NODES),
        y,
    )


def test_convolutions_are_means_of_neighbourhoods(key):
    x, a, _ = (t[0] for t in graphs())
    mean = (x + a @ x) / (1 + a.sum(1, keepdims=True))
    linen = jaxpool.linen.SAGPool(k=N)
    variables = linen.init(key, x, a)
    p = jax.tree.map(np.asarray, variables["params"]["score"])
    scores = np.asarray(mean @ p["kernel"] + p["bias"])[:, 0]
    kept = linen.apply(variables, x, a)
    np.testing.assert_array_equal(kept.indices, np.argsort(-scores))
    np.testing.assert_allclose(kept.scores, np.tanh(np.sort(scores)[::-1]), 1e-5)


def test_struct_layer_starts_as_the_authors():
    layer = jaxpool.nnx.StructPool(8, 4, rngs=nnx.Rngs(0))
    p = by_name(layer)
    np.testing.assert_array_equal(p["compatibility"], -np.eye(4))
    shapes = [p[f"conv_{i}"]["kernel"].shape for i in range(3)]
    assert shapes == [(8, 48), (48, 48), (48, 4)]


def test_struct_pool_recovers_the_factions_of_the_karate_club():
    """Zachary's club split in two; only its two leaders are labelled in training.

    The loss is their cross-entropy minus the modularity of the clusters. 32 members are
    unlabelled; chance is 0.53, the larger faction; more than 0.85 is asked of every one
    of three seeds.
    """
    club = networkx.karate_club_graph()
    a = jnp.asarray(networkx.to_numpy_array(club, weight=None), jnp.float32)
    factions = np.array([club.nodes[i]["club"] == "Officer" for i in club]).astype(int)
    leaders, x = np.array([0, 33]), jnp.eye(34)

    def loss(layer):
        pooled = layer(x, a)
        s = pooled.assignment[leaders]
        right = jnp.take_along_axis(s, factions[leaders][:, None], 1)
        degree = a.sum(0, keepdims=True) @ pooled.assignment
        inside = jnp.trace(pooled.adjacency) - (degree**2).sum() / a.sum()
        return -jnp.log(right).sum() - inside / a.sum()

    @nnx.jit
    def train(layer, optimizer):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
        def step(carry, _):
            layer, optimizer = carry
            value, slopes = nnx.value_and_grad(loss)(layer)
            optimizer.update(layer, slopes)
            return (layer, optimizer), value

        return step((layer, optimizer), jnp.arange(100))[1]

    for seed in range(3):
        layer = jaxpool.nnx.StructPool(34, 2, hidden=(16,), hops=1, rngs=nnx.Rngs(seed))
        optimizer = nnx.Optimizer(layer, optax.adam(0.02), wrt=nnx.Param)
        with jax.numpy_dtype_promotion("standard"):  # optax needs it
            values = train(layer, optimizer)
        assert values[-1] < values[0] - 0.5
        found = np.asarray(layer(x, a).assignment).argmax(1)
        others = np.setdiff1d(np.arange(34), leaders)
        assert (found == factions)[others].mean() > 0.85


# --- Wrong calls ----------------------------------------------------------------------

X, A, LOGITS = (t[0] for t in graphs())


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (
            r"`adjacency` must have shape \(5, 5\) .*, got shape \(5, 4\)",
            lambda: diff_pool(X, A[:, :4], LOGITS),
        ),
        (
            r"`logits` must have shape \(5, 'K'\) .*, got shape \(4, 2\)",
            lambda: diff_pool(X, A, LOGITS[:4]),
        ),
        (
            r"`x` must have nodes and features, got shape \(3,\)",
            lambda: diff_pool(X[0], A, LOGITS),
        ),
        (
            "`temperature` must be positive, got 0",
            lambda: mincut_pool(X, A, LOGITS, temperature=0),
        ),
        (
            "`hops` must be at least 1, got 0",
            lambda: struct_pool(X, A, LOGITS, hops=0),
        ),
        (
            "`iterations` must not be negative, got -1",
            lambda: struct_pool(X, A, LOGITS, iterations=-1),
        ),
        (
            "`assignment` must be one of soft, hard, straight_through, got 'a'",
            lambda: struct_pool(X, A, LOGITS, assignment="a"),
        ),
        (
            r"`compatibility` must have shape \(2, 2\), got \(3, 3\)",
            lambda: struct_pool(X, A, LOGITS, compatibility=np.eye(3)),
        ),
        (
            "one of `k` and `ratio` must be given, got None and None",
            lambda: sag_pool(X, A, X[:, 0]),
        ),
        (
            r"`ratio` must be in \(0, 1\], got 2",
            lambda: topk_pool(X, A, np.ones(3), ratio=2),
        ),
        ("`k` must be at least 1, got 0", lambda: topk_pool(X, A, np.ones(3), k=0)),
        (
            r"`weights` must have shape \(3,\), got \(2,\)",
            lambda: topk_pool(X, A, np.ones(2), k=1),
        ),
        (
            r"`scores` must have shape \(5,\), got \(5, 3\)",
            lambda: sag_pool(X, A, X, k=1),
        ),
        (
            r"`where` must broadcast to x with shape \(5,\)",
            lambda: sag_pool(X, A, X[:, 0], k=1, where=np.ones((5, 1), bool)),
        ),
    ],
)
def test_wrong_calls(message, call):
    with pytest.raises(ValueError, match=message):
        call()
