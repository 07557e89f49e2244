"""Pyramids of maxima, and the blocks around them, against stock Flax and PyTorch.

    python -m benchmarks.pyramid [--quick] [--json benchmarks/results/pyramid.json]

Stock is one `flax` max pool per size; PyTorch, where it is installed, runs eagerly on
channels-last arrays: one pool per size (`torch`), and pools of 5 chained, as SPPF has
them (`chained`). The blocks are in training mode, from and to the same convolutions.
Ratios above 1 mean ours is faster; `limit`, of the pyramids alone, is the time of a
copy of the bytes that have to be read and written.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

import jaxpool
import jaxpool.nnx
from jaxpool._layers import _pyramid as _layers

from . import harness
from .harness import finish, jax_contender, measure, parse, torch, torch_contender

SIZES = (5, 9, 13)
BLOCKS = {
    "SPPF": (jaxpool.nnx.SPPF, 256, 256),
    "SPPCSPC": (jaxpool.nnx.SPPCSPC, 256, 128),
}


def stock_pyramid(x: jax.Array, **_: Any) -> tuple[jax.Array, ...]:
    return tuple(nn.max_pool(x, (k, k), (1, 1), "SAME") for k in SIZES)


def joined(pyramid):
    return lambda x: jnp.concatenate(pyramid(x), axis=-1)


def torch_pyramid(x):
    pool = torch.nn.functional.max_pool2d
    return torch.cat([pool(x, k, 1, k // 2) for k in SIZES], 1)


def torch_chain(x):
    found = [x]
    for _ in SIZES:
        found.append(torch.nn.functional.max_pool2d(found[-1], 5, 1, 2))
    return torch.cat(found[1:], 1)


def pools(x, backward):
    """The contenders for the pyramid alone."""
    runs = {
        "ours": jax_contender(joined(jaxpool.max_pool_pyramid), x, backward),
        "stock": jax_contender(joined(stock_pyramid), x, backward),
    }
    if torch is not None:
        runs["torch"] = torch_contender(torch_pyramid, x, backward)
        runs["chained"] = torch_contender(torch_chain, x, backward)
    return runs


def torch_block(name, a, b, dtype):
    """The same layers in PyTorch."""
    t = torch.nn

    def conv(i, o, k=1):
        return t.Sequential(
            t.Conv2d(i, o, k, padding=k // 2, bias=False), t.BatchNorm2d(o), t.SiLU()
        )

    def build(*layers):
        block: Any = t.ModuleList(layers)
        block = block.to(memory_format=torch.channels_last).to(dtype)
        return block.requires_grad_(False)  # the gradient is that of x alone

    if name == "SPPF":
        first, last = build(conv(a, a // 2), conv(2 * a, b))

        def sppf(x):
            y = first(x)
            return last(torch.cat([y, torch_chain(y)], 1))

        return sppf
    c1, c2, c3, c4, c5, c6, c7 = build(
        conv(a, b), conv(a, b), conv(b, b, 3), conv(b, b),
        conv(4 * b, b), conv(b, b, 3), conv(2 * b, b),
    )  # fmt: skip

    def sppcspc(x):
        y = c4(c3(c1(x)))
        y = c6(c5(torch.cat([y, torch_pyramid(y)], 1)))
        return c7(torch.cat([y, c2(x)], 1))

    return sppcspc


def blocks(name, x, backward):
    """The contenders for a block: ours, ours with stock pools, and PyTorch's."""
    make, a, b = BLOCKS[name]
    graphdef, state = nnx.split(make(a, b, dtype=x.dtype, rngs=nnx.Rngs(0)))

    def run(x):
        return nnx.merge(graphdef, state, copy=True)(x)

    runs = {"ours": jax_contender(run, x, backward)}
    ours = _layers.max_pool_pyramid
    try:
        _layers.max_pool_pyramid = stock_pyramid
        runs["stock"] = jax_contender(lambda x: run(x), x, backward)
    finally:
        _layers.max_pool_pyramid = ours
    if torch is not None:
        block = torch_block(name, a, b, getattr(torch, str(x.dtype)))
        runs["torch"] = torch_contender(block, x, backward)
    return runs


def main() -> None:
    """Measures every case and prints the table."""
    args = parse(__doc__ or "")
    rows = []
    kinds = ("pyramid", *BLOCKS)
    for name, dtype, backward in itertools.product(
        kinds, ("float32", "bfloat16"), (False, True)
    ):
        shape = (4, 40, 40, 256)
        if args.quick:
            shape = (1, 20, 20, 256)
        x = jax.random.normal(jax.random.key(0), shape, jnp.float32).astype(dtype)
        case = f"{name} {dtype} {'fwd+bwd' if backward else 'fwd'}"
        if name == "pyramid":
            limit = harness.limit(joined(jaxpool.max_pool_pyramid), x, backward)
            row = measure(case, pools(x, backward), args.rounds, limit)
        else:
            row = measure(case, blocks(name, x, backward), args.rounds)
        rows.append(row)
        times = (f"{n} {t * 1e3:.2f}" for n, t in rows[-1].seconds.items())
        print(case, *times, flush=True)
    peers = ["stock", "torch", "chained", "limit"]
    finish("pyramids: times faster than", rows, peers, args)


if __name__ == "__main__":
    main()
