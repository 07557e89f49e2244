"""Adaptive pooling against hand-written JAX, Equinox and PyTorch.

    python -m benchmarks.adaptive [--quick] [--json benchmarks/results/adaptive.json]

Ours is jitted, and so is the hand-written version: windows gathered along one axis
after the other, with JAX's own derivative. Equinox, where it is installed, runs jitted
and vmapped on NCHW arrays (its windows are others, of the same number); PyTorch, where
it is installed, eagerly on channels-last arrays. Ratios above 1 mean ours is faster;
`limit` is the time of a copy of the bytes that have to be read and written.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import jaxpool

from . import harness
from .harness import (
    equinox,
    finish,
    jax_contender,
    measure,
    parse,
    torch,
    torch_contender,
)

SIZES = [(14, 7), (30, 7), (56, 7), (64, 13), (224, 7)]


def by_hand(name, o):
    """Gathers the windows of an axis, `starts + arange`, and reduces them."""
    reduce, fill = {"avg": (jnp.sum, 0.0), "max": (jnp.max, -jnp.inf)}[name]

    def along(x, axis):
        n = x.shape[axis]
        starts = np.arange(o) * n // o
        ends = -(-np.arange(1, o + 1) * n // o)
        at = starts[:, None] + np.arange((ends - starts).max())
        inside = jnp.asarray(at < ends[:, None])
        windows = jnp.take(x, np.minimum(at, n - 1), axis)
        lines = (*inside.shape, *(1,) * (x.ndim - axis - 1))
        y = reduce(jnp.where(inside.reshape(lines), windows, fill), axis + 1)
        sizes = jnp.asarray(ends - starts, y.dtype).reshape(o, *lines[2:])
        return y / sizes if name == "avg" else y

    return lambda x: along(along(x.astype(jnp.float32), 2), 1).astype(x.dtype)


def ours(name, o):
    pool = {"max": jaxpool.adaptive_max_pool, "avg": jaxpool.adaptive_avg_pool}[name]
    return lambda x: pool(x, (o, o))


def contenders(name, x, o, backward):
    """The implementations of one case."""
    runs = {
        "ours": jax_contender(ours(name, o), x, backward),
        "by hand": jax_contender(by_hand(name, o), x, backward),
    }
    if equinox is not None:
        nn = equinox.nn
        pool = {"max": nn.AdaptiveMaxPool2d, "avg": nn.AdaptiveAvgPool2d}[name](o)
        nchw = jnp.transpose(x, (0, 3, 1, 2))
        runs["equinox"] = jax_contender(jax.vmap(pool), nchw, backward)
    if torch is not None:
        f = torch.nn.functional
        pool = {"max": f.adaptive_max_pool2d, "avg": f.adaptive_avg_pool2d}[name]
        runs["torch"] = torch_contender(lambda x: pool(x, o), x, backward)
    return runs


def main() -> None:
    """Measures every case and prints the table."""
    args = parse(__doc__ or "")
    rows = []
    cases = itertools.product(
        ("max", "avg"), SIZES, ("float32", "bfloat16"), (False, True)
    )
    for name, (n, o), dtype, backward in cases:
        shape = (2, n, n, 32) if args.quick else (8, n, n, 64)
        x = jax.random.normal(jax.random.key(0), shape, jnp.float32).astype(dtype)
        case = f"{name} {n} to {o} {dtype} {'fwd+bwd' if backward else 'fwd'}"
        limit = harness.limit(ours(name, o), x, backward)
        runs = contenders(name, x, o, backward)
        rows.append(measure(case, runs, args.rounds, limit))
        print(
            case,
            *(f"{n} {t * 1e3:.2f}" for n, t in rows[-1].seconds.items()),
            flush=True,
        )
    peers = ["by hand", "equinox", "torch", "limit"]
    finish("adaptive pools: times faster than", rows, peers, args)


if __name__ == "__main__":
    main()
