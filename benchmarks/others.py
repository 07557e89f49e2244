"""Global, Lp, log-sum-exp, soft, median, stochastic pools and un-pooling against peers.

    python -m benchmarks.others [--quick] [--json benchmarks/results/others.json]

`stock` is what one writes with JAX alone, jitted: reductions, average pools of powers
and exponentials, stacked taps that are sorted or drawn from, a scatter; with JAX's own
derivative. Keras on JAX, jitted, and PyTorch, eagerly on channels-last arrays, run
where they have the mode. Ratios above 1 mean ours is faster; `limit` is the time of a
copy of the bytes that have to be read and written.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

import jaxpool

from . import harness
from .harness import (
    finish,
    jax_contender,
    keras,
    measure,
    parse,
    torch,
    torch_contender,
)

KEY = jax.random.key(0)
SIZE, STRIDE = (3, 3), (2, 2)
functional: Any = torch and torch.nn.functional


class Peers(NamedTuple):
    """A mode, ours and theirs."""

    ours: Callable
    stock: Callable
    torch: Callable | None = None
    keras: Callable | None = None


def average(x):
    return nn.avg_pool(x, SIZE, STRIDE)


def stacked_taps(x):
    """The elements of every window on a new first axis."""
    n, h, w, c = x.shape
    return jnp.stack(
        [
            lax.slice(x, (0, i, j, 0), (n, h - 2 + i, w - 2 + j, c), (1, 2, 2, 1))
            for i, j in itertools.product(range(3), range(3))
        ]
    )


def drawn(x):
    """An element of every window, as likely as its part of the sum."""
    taps = stacked_taps(jnp.abs(x))
    drawn = jax.random.categorical(KEY, jnp.log(lax.stop_gradient(taps)), axis=0)
    return jnp.take_along_axis(taps, drawn[None], 0)[0]


def scattered(x):
    """Values at every fourth element of a plane twice as high and wide."""
    n, h, w, c = x.shape
    index = places(h, w)[None, :, :, None]
    batch, channel = np.arange(n)[:, None, None, None], np.arange(c)
    plane = jnp.zeros((n, 4 * h * w, c), x.dtype)
    return plane.at[batch, index, channel].set(x).reshape(n, 2 * h, 2 * w, c)


def places(h, w):
    """Indices of maxima: of each 2x2 window one, in turn."""
    i, j = np.arange(h)[:, None], np.arange(w)
    return ((2 * i + (i + j) % 2) * 2 * w + 2 * j + i % 2).astype(np.int32)


def unpooled(x):
    _, h, w, _ = x.shape
    index = jnp.broadcast_to(places(h, w)[None, :, :, None], x.shape)
    return jaxpool.max_unpool(x, index, (2 * h, 2 * w))


def torch_unpooled(x):
    n, c, h, w = x.shape
    index = torch.from_numpy(places(h, w).astype(np.int64)).expand(n, c, h, w)
    return functional.max_unpool2d(x, index, 2)


def torch_median(x):
    n, c, *_ = x.shape
    taps = functional.unfold(x, 3, stride=2).reshape(n, c, 9, -1)
    return taps.median(2).values


def ours(name, **options):
    pool = getattr(jaxpool, name)
    return lambda x: pool(x, SIZE, strides=STRIDE, **options)


CASES = {
    "global avg": Peers(
        jaxpool.global_avg_pool,
        lambda x: x.mean((1, 2)),
        lambda x: functional.adaptive_avg_pool2d(x, 1),
        lambda x: keras.layers.GlobalAveragePooling2D(dtype=x.dtype.name)(x),
    ),
    "global max": Peers(
        jaxpool.global_max_pool,
        lambda x: x.max((1, 2)),
        lambda x: functional.adaptive_max_pool2d(x, 1),
        lambda x: keras.layers.GlobalMaxPooling2D(dtype=x.dtype.name)(x),
    ),
    "soft 3x3/s2": Peers(
        ours("soft_pool"), lambda x: average(jnp.exp(x) * x) / average(jnp.exp(x))
    ),
    "lse 3x3/s2": Peers(ours("lse_pool"), lambda x: jnp.log(average(jnp.exp(x)))),
    "lp 3x3/s2": Peers(
        ours("lp_pool"),
        lambda x: jnp.sqrt(average(x * x) * np.asarray(9, x.dtype)),
        lambda x: functional.lp_pool2d(x, 2.0, 3, 2),
    ),
    "median 3x3/s2": Peers(
        ours("median_pool"), lambda x: jnp.sort(stacked_taps(x), 0)[4], torch_median
    ),
    "stochastic 3x3/s2": Peers(
        lambda x: jaxpool.stochastic_pool(jnp.abs(x), SIZE, strides=2, key=KEY), drawn
    ),
    "max unpool 2x2/s2": Peers(unpooled, scattered, torch_unpooled),
}


def main() -> None:
    """Measures every case and prints the table."""
    args = parse(__doc__ or "")
    size = 28 if args.quick else 112
    normal = jax.random.normal(KEY, (8, size, size, 64), jnp.float32)
    rows = []
    cases = itertools.product(CASES, ("float32", "bfloat16"), (False, True))
    for name, dtype, backward in cases:
        peers, x = CASES[name], normal.astype(dtype)
        runs = {
            "ours": jax_contender(peers.ours, x, backward),
            "stock": jax_contender(peers.stock, x, backward),
        }
        if keras is not None and peers.keras is not None:
            runs["keras"] = jax_contender(peers.keras, x, backward)
        if torch is not None and peers.torch is not None:
            runs["torch"] = torch_contender(peers.torch, x, backward)
        case = f"{name} {dtype} {'fwd+bwd' if backward else 'fwd'}"
        limit = harness.limit(peers.ours, x, backward)
        row = measure(case, runs, args.rounds, limit)
        rows.append(row)
        print(case, *(f"{k} {t * 1e3:.3g}" for k, t in row.seconds.items()), flush=True)
    finish("times faster than", rows, ["stock", "keras", "torch", "limit"], args)


if __name__ == "__main__":
    main()
