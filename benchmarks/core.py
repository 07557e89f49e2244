"""Max and average pooling against stock Flax and PyTorch.

    python -m benchmarks.core [--quick] [--json benchmarks/results/core.json]

Ours and stock (`flax.linen` pooling and its own gradient) are jitted; PyTorch, where it
is installed, runs eagerly on channels-last arrays. Ratios above 1 mean ours is faster.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import linen as nn

import jaxpool

from .harness import finish, jax_contender, measure, parse, torch, torch_contender

# Shape, window, stride, padding; PyTorch pads by half the window.
SMALL, LARGE = (8, 112, 112, 64), (4, 80, 80, 128)
WINDOWS = [(SMALL, 2, 2, 0), (SMALL, 3, 2, 1), (LARGE, 5, 1, 2), (LARGE, 13, 1, 6)]


def contenders(name, x, k, s, p, backward):
    """The three implementations of one case."""
    pads, window, strides = ((p, p), (p, p)), (k, k), (s, s)
    ours = {"max": jaxpool.max_pool, "avg": jaxpool.avg_pool}[name]
    stock = {"max": nn.max_pool, "avg": nn.avg_pool}[name]
    runs = {
        "ours": jax_contender(
            lambda x: ours(x, window, strides=s, padding=p), x, backward
        ),
        "stock": jax_contender(lambda x: stock(x, window, strides, pads), x, backward),
    }
    if torch is not None:
        f = torch.nn.functional
        pool = {"max": f.max_pool2d, "avg": f.avg_pool2d}[name]
        runs["torch"] = torch_contender(lambda x: pool(x, k, s, p), x, backward)
    return runs


def main() -> None:
    """Measures every case and prints the table."""
    args = parse(__doc__ or "")
    rows = []
    cases = itertools.product(
        ("max", "avg"), WINDOWS, ("float32", "bfloat16"), (False, True)
    )
    for name, (shape, k, s, p), dtype, backward in cases:
        if args.quick:
            shape = (2, shape[1] // 2, shape[2] // 2, 32)
        x = jax.random.normal(jax.random.key(0), shape, jnp.float32).astype(dtype)
        case = f"{name} {k}x{k}/s{s} {dtype} {'fwd+bwd' if backward else 'fwd'}"
        rows.append(measure(case, contenders(name, x, k, s, p, backward), args.rounds))
        print(
            case,
            *(f"{n} {t * 1e3:.2f}" for n, t in rows[-1].seconds.items()),
            flush=True,
        )
    finish("core pools: times faster than", rows, ["stock", "torch"], args)


if __name__ == "__main__":
    main()
