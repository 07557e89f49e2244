"""Every public function and layer, for tests that go through all.

`CALLS[name]` is a function from a float array of shape `SHAPES.get(name, SHAPE)` to
arrays. What else a function needs is a constant, with the dtype of the array where it
is a number. `layer(name, x)` is a Linen layer with what it takes besides x; the layers
of both systems have the same bodies.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxpool
import jaxpool.linen

SHAPE = (2, 6, 6, 4)
WINDOW = {"window_shape": (2, 2), "strides": 1, "padding": 1}
BOXES = np.array([[0.3, 0.6, 5.2, 4.9], [2.0, 1.0, 7.5, 7.0]], np.float32)
INDEX = np.array([1, 0], np.int32)
# Without arrays to compute on.
STATIC = {"pool_output_shape", "pool_cost", "fixed_window"}


def like(x: jax.Array, *shape: int, scale: float = 1.0) -> jax.Array:
    """Numbers of x's dtype, each different."""
    values = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape) * scale
    return jnp.asarray(values, x.dtype)


def windowed(name: str, *arrays: Callable, **options: Any) -> Callable:
    return lambda x: getattr(jaxpool, name)(
        x, *(a(x) for a in arrays), **WINDOW, **options
    )


def of(name: str, *args: Any, **options: Any) -> Callable:
    return lambda x: getattr(jaxpool, name)(x, *args, **options)


def weights(*shape: int) -> Callable:
    return lambda x: like(x, *shape)


def regions(name: str) -> Callable:
    return of(name, BOXES, (2, 2), batch_index=INDEX)


def graph(name: str, more: Callable, **options: Any) -> Callable:
    def call(x):
        a = (1 - jnp.eye(x.shape[-2], dtype=jnp.float32)).astype(x.dtype)
        a = jnp.broadcast_to(a, (*x.shape[:-1], x.shape[-2]))
        return getattr(jaxpool, name)(x, a, more(x), **options)

    return call


def segments(name: str) -> Callable:
    ids = np.array([0, 2, 0, 1, 2, 2], np.int32)

    def call(x):
        logits = (x[:, :1],) if name == "segment_softmax_pool" else ()
        return getattr(jaxpool, name)(x, *logits, ids, 4)

    return call


def unpooled(x: jax.Array) -> Any:
    h, w = x.shape[1:3]
    every_other = 2 * jnp.arange(h * w, dtype=np.int32).reshape(h, w, 1)
    return jaxpool.max_unpool(x, jnp.broadcast_to(every_other, x.shape), (2 * h, w))


def in_tensorflow(x: jax.Array) -> Any:
    y, indices = jaxpool.max_pool(x, (2, 2), return_indices=True)
    there = jaxpool.indices_to_tensorflow(indices, x.shape)
    return y, jaxpool.indices_from_tensorflow(there, x.shape)


KEY = jax.random.key(0)
PLAIN = {f"{name}_pool": windowed(f"{name}_pool") for name in jaxpool.POOLS}
CALLS: dict[str, Callable] = PLAIN | {
    "ada_pool": lambda x: jaxpool.ada_pool(x, 0.3, **WINDOW),
    "ada_unpool": lambda x: jaxpool.ada_unpool(
        jaxpool.ada_pool(x, 0.3, (2, 2)), x, 0.3, (2, 2)
    ),
    "adaptive_avg_pool": of("adaptive_avg_pool", (3, 5)),
    "adaptive_max_pool": of("adaptive_max_pool", (3, 5)),
    "adaptive_min_pool": of("adaptive_min_pool", (3, 5)),
    "attention_pool": lambda x: jaxpool.attention_pool(x[:, :1], x, x),
    "avg_unpool": of("avg_unpool", (2, 2)),
    "bilinear_pool": of("bilinear_pool"),
    "blur_pool": of("blur_pool"),
    "compact_bilinear_pool": of("compact_bilinear_pool", features=8, key=KEY),
    "covariance_pool": of("covariance_pool"),
    "diff_pool": graph("diff_pool", lambda x: x[..., :2]),
    "fractional_max_pool": of("fractional_max_pool", (2, 2), output_ratio=0.6, key=KEY),
    "gated_pool": windowed("gated_pool", weights(4)),
    "global_avg_max_pool": of("global_avg_max_pool"),
    "global_avg_pool": of("global_avg_pool"),
    "global_gem_pool": of("global_gem_pool"),
    "global_lse_pool": of("global_lse_pool"),
    "global_max_pool": of("global_max_pool"),
    "global_min_pool": of("global_min_pool"),
    "global_sum_pool": of("global_sum_pool"),
    "indices_from_tensorflow": in_tensorflow,
    "indices_to_tensorflow": in_tensorflow,
    "local_importance_pool": windowed("local_importance_pool", lambda x: x),
    "low_rank_bilinear_pool": lambda x: jaxpool.low_rank_bilinear_pool(
        x, like(x, 4, 3), like(x, 4, 3)
    ),
    "max_blur_pool": of("max_blur_pool", (2, 2)),
    "max_pool_pyramid": of("max_pool_pyramid", sizes=(3, 5)),
    "max_unpool": unpooled,
    "mincut_pool": graph("mincut_pool", lambda x: x[..., :2]),
    "netvlad": lambda x: jaxpool.netvlad(x, like(x, 3, 4), like(x, 4, 3)),
    "polyphase_pool": of("polyphase_pool"),
    "precise_roi_pool": regions("precise_roi_pool"),
    "ps_roi_align": regions("ps_roi_align"),
    "ps_roi_pool": regions("ps_roi_pool"),
    "rank_pool": lambda x: jaxpool.rank_pool(x, weights=like(x, 4), **WINDOW),
    "roi_align": regions("roi_align"),
    "roi_pool": regions("roi_pool"),
    "s3_pool": of("s3_pool", (2, 2), grid=(2, 2), key=KEY),
    "sag_pool": graph("sag_pool", lambda x: x[..., 0], k=3),
    "segment_avg_pool": segments("segment_avg_pool"),
    "segment_max_pool": segments("segment_max_pool"),
    "segment_softmax_pool": segments("segment_softmax_pool"),
    "segment_sum_pool": segments("segment_sum_pool"),
    "spatial_pyramid_pool": of("spatial_pyramid_pool"),
    "spectral_pool": of("spectral_pool", (3, 5)),
    "strip_pool": of("strip_pool"),
    "struct_pool": graph("struct_pool", lambda x: x[..., :2]),
    "subsample": of("subsample", 2),
    "topk_avg_pool": windowed("topk_avg_pool", k=2),
    "topk_pool": graph("topk_pool", weights(4), k=3),
    "tree_pool": windowed("tree_pool", weights(2, 4), weights(1, 4)),
    "wavelet_pool": of("wavelet_pool"),
}
CALLS["random_pool"] = windowed("random_pool", key=KEY)
CALLS["stochastic_pool"] = windowed("stochastic_pool", key=KEY)
CALLS["random_mixed_pool"] = windowed("random_mixed_pool", key=KEY)
TOKENS = ["attention_pool", "netvlad", "diff_pool", "mincut_pool", "struct_pool"]
TOKENS += ["topk_pool", "sag_pool"]
SHAPES = dict.fromkeys(TOKENS, (2, 6, 4)) | {
    name: (6, 4) for name in CALLS if name.startswith("segment_")
}


# What layers must be given, and some are given besides.
REQUIRED = {
    **{"window_shape": (2, 2), "output_shape": (4, 3), "kernel_size": (3, 3)},
    **{"image_shape": (6, 6), "strides": 2, "features": 4, "num_heads": 2},
    **{"clusters": 2, "k": 2, "num_segments": 4},
}
BESIDES = {
    "AttentionPool": {"num_heads": 2},
    "FractionalMaxPool": {"output_ratio": 0.6},
    "MaxUnpool": {"output_shape": (6, 6)},
    "NetVLAD": {"clusters": 3},
    "PMA": {"num_heads": 2},
    "PSRoIAlign": {"output_shape": (2, 2)},
    "PSRoIPool": {"output_shape": (2, 2)},
    "S3Pool": {"grid": (2, 2)},
    "SAGPool": {"ratio": 0.5},
    "TopKPool": {"k": 3},
}
OF_TOKENS = ["AttentionPool", "NetVLAD", "PMA"]
OF_GRAPHS = ["DiffPool", "MinCutPool", "SAGPool", "StructPool", "TopKPool"]
LAYERS = [name for name, kind in vars(jaxpool.linen).items() if isinstance(kind, type)]


def layer(name: str, x: jax.Array) -> tuple[Any, list[Any]]:
    """A layer, and its inputs: x, or what can be made of it, and what goes with it."""
    kind = getattr(jaxpool.linen, name)
    takes = inspect.signature(kind).parameters
    needed = {p for p in takes if takes[p].default is inspect.Parameter.empty}
    options = {p: v for p, v in REQUIRED.items() if p in needed}
    if "deterministic" in takes:
        options["deterministic"] = False
    if "use_running_average" in takes:
        options["use_running_average"] = False
    made = kind(**options | BESIDES.get(name, {}))
    if name in OF_TOKENS:
        return made, [x[:, 0]]
    if name in OF_GRAPHS:
        edges = jnp.asarray(1 - np.eye(6), x.dtype)
        return made, [x[:, 0], jnp.broadcast_to(edges, (2, 6, 6))]
    if name.startswith("Segment"):
        logits = [x[:, 0, 0, :1]] if "Softmax" in name else []
        return made, [x[:, 0, 0], *logits, np.array([0, 2])]
    if "RoI" in name:
        return made, [x[0], BOXES]
    if name == "LocalImportancePool":
        return made, [x, x * x]
    if name == "AdaUnpool":
        return made, [x[:, ::2, ::2], x]
    if name == "MaxUnpool":
        return made, [*jaxpool.max_pool(x, (2, 2), return_indices=True)]
    return made, [x]


def layer_with_gradient(name: str) -> Callable:
    """Value and gradients to x and the parameters, as in training."""

    def run(x):
        rngs = {"params": KEY, "pool": KEY, "dropout": KEY}

        def init(x):
            made, arrays = layer(name, x)
            return made.init(rngs, *arrays)

        shapes = jax.eval_shape(init, x)
        variables = jax.tree.map(lambda leaf: like(leaf, *leaf.shape), shapes)

        def call(moved):
            x, params = moved
            made, arrays = layer(name, x)
            given = {**variables, "params": params}
            return made.apply(given, *arrays, rngs=rngs, mutable=["batch_stats"])[0]

        return gradient(call)((x, variables.get("params", {})))

    return run


def public_functions() -> dict[str, Callable]:
    return {
        name: value
        for name, value in vars(jaxpool).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


def gradient(call: Callable) -> Callable:
    """The value of a call, and the gradient of the sum of its squares."""

    def run(x):
        def loss(x):
            y = call(x)
            leaves = [
                leaf.astype(jnp.float32)
                for leaf in jax.tree.leaves(y)
                if jnp.issubdtype(leaf.dtype, jnp.floating)
            ]
            return functools.reduce(jnp.add, [(t * t).sum() for t in leaves]), y

        (_, y), dx = jax.value_and_grad(loss, has_aux=True)(x)
        return y, dx

    return run
