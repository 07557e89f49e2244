"""Every pooling mode against stock Flax average pooling of the same window.

    python -m benchmarks.modes [--quick] [--json benchmarks/results/modes.json]

Both are jitted. `stock` is `flax.linen.avg_pool` and its own gradient; the rows of
`soft` have `composed` too: SoftPool as two of these, which is how it is written without
a library. Ratios above 1 mean ours is faster: what a mode costs is the inverse. The
temporaries are those of `jit(grad)`, as multiples of the input.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

import jaxpool

from .harness import finish, jax_contender, measure, parse

SHAPE = (8, 56, 56, 64)
# Window, stride, padding.
WINDOWS = [(2, 2, 0), (3, 2, 1)]
SOFT_WINDOWS = [*WINDOWS, (3, 1, 1), (5, 1, 2)]


def modes(k, s, p) -> dict[str, Callable[[jax.Array], jax.Array]]:
    """Every mode with this window, as near to it as its arguments allow."""
    options = {"strides": s, "padding": p}
    window, taps, key = (k, k), k * k, jax.random.key(0)

    def windowed(pool, **more):
        return functools.partial(pool, window_shape=window, **options, **more)

    def lip(x):
        return jaxpool.local_importance_pool(x, x, window, **options)

    def ada(x):
        return jaxpool.ada_pool(x, 0.5, window, **options)

    def gated(x):
        return jaxpool.gated_pool(x, jnp.full(taps, 1 / taps), window, **options)

    def tree(x):
        leaves, gates = jnp.full((2, taps), 1 / taps), jnp.full((1, taps), 1 / taps)
        return jaxpool.tree_pool(x, leaves, gates, window, **options)

    found = {name: windowed(pool) for name, pool in jaxpool.POOLS.items()}
    found |= {
        "rank": windowed(jaxpool.rank_pool, weights=jnp.full(taps, 1 / taps)),
        "topk_avg": windowed(jaxpool.topk_avg_pool, k=2),
        "local_importance": lip,
        "ada": ada,
        "gated": gated,
        "tree": tree,
        "stochastic, drawn": windowed(jaxpool.stochastic_pool, key=key),
        "random, drawn": windowed(jaxpool.random_pool, key=key),
        "s3, drawn": functools.partial(
            jaxpool.s3_pool, window_shape=window, strides=s, key=key
        ),
        "subsample": functools.partial(jaxpool.subsample, strides=s),
        "blur": functools.partial(jaxpool.blur_pool, strides=s),
        "max_blur": functools.partial(
            jaxpool.max_blur_pool, window_shape=window, strides=s
        ),
        "polyphase": functools.partial(jaxpool.polyphase_pool, strides=s),
        "spectral": lambda x: jaxpool.spectral_pool(
            x, (x.shape[1] // s, x.shape[2] // s)
        ),
        "wavelet": jaxpool.wavelet_pool,
        "strip": lambda x: functools.reduce(jnp.add, jaxpool.strip_pool(x)),
    }
    return found


def stock(x, k, s, p):
    """Average pooling of Flax."""
    pads: Any = ((p, p), (p, p))
    return nn.avg_pool(x, (k, k), (s, s), pads)


def composed(x, k, s, p):
    """SoftPool made of two average pools of Flax."""
    weight = jnp.exp(x)
    return stock(weight * x, k, s, p) / stock(weight, k, s, p)


def temporaries(fn, x) -> float:
    """What `jit(grad)` needs besides its input and output, over the input's size."""
    gradient = jax.jit(jax.grad(lambda x: fn(x).astype(jnp.float32).sum()))
    analysis: Any = gradient.lower(x).compile().memory_analysis()
    return analysis.temp_size_in_bytes / x.nbytes


def main() -> None:
    """Measures every case and prints the table."""
    args = parse(__doc__ or "")
    shape = (2, 28, 28, 32) if args.quick else SHAPE
    x = jax.random.normal(jax.random.key(0), shape, jnp.float32)
    rows = []

    def add(case, contenders):
        for backward in (False, True):
            label = f"{case} {'fwd+bwd' if backward else 'fwd'}"
            runs = {
                name: jax_contender(fn, y, backward)
                for name, (fn, y) in contenders.items()
            }
            rows.append(measure(label, runs, args.rounds))
            ratio = rows[-1].ratio("stock")
            print(f"{label}: {ratio or 0:.2f}x stock", flush=True)

    for window in WINDOWS:
        k, s, p = window
        plain = functools.partial(stock, k=k, s=s, p=p)
        for name, fn in modes(*window).items():
            if name != "soft":
                contenders = {"ours": (fn, x), "stock": (plain, x)}
                add(f"{name} {k}x{k}/s{s} float32", contenders)
    for k, s, p in SOFT_WINDOWS:
        for dtype in ("float32", "bfloat16"):
            y = x.astype(dtype)
            fn = functools.partial(
                jaxpool.soft_pool, window_shape=(k, k), strides=s, padding=p
            )
            peers = {"stock": stock, "composed": composed}
            contenders = {"ours": (fn, y)} | {
                name: (functools.partial(peer, k=k, s=s, p=p), y)
                for name, peer in peers.items()
            }
            case = f"soft {k}x{k}/s{s} {dtype}"
            add(case, contenders)
            print(f"{case}: temporaries {temporaries(fn, y):.1f} times the input")
    finish("modes: times faster than", rows, ["stock", "composed"], args)


if __name__ == "__main__":
    main()
