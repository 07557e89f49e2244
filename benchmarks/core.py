"""Max and average pooling against stock Flax, Equinox, Keras and PyTorch.

    python -m benchmarks.core [--quick] [--json benchmarks/results/core.json]

Ours, stock (`flax.linen` pooling and its own gradient), Equinox and Keras are jitted;
PyTorch runs on channels-last arrays, eagerly, and on a GPU compiled as well. Libraries
that are not installed are left out. Ratios above 1 mean ours is faster; `limit` is the
time of a copy of the bytes that have to be read and written. On a GPU batches are 16
times as large, so that a kernel takes longer than its launch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

import jaxpool

from . import harness
from .harness import (
    equinox,
    finish,
    jax_contender,
    keras,
    measure,
    parse,
    torch,
    torch_contender,
)


class Case(NamedTuple):
    """An input and a window of the same size on every axis; padding is half of it."""

    shape: tuple[int, ...]
    size: int
    stride: int
    same: bool = True
    channel_first: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape) - 2

    @property
    def padding(self) -> int:
        return self.size // 2 if self.same else 0

    def __str__(self) -> str:
        window = "x".join([str(self.size)] * self.rank)
        layout = " channel-first" if self.channel_first else ""
        return f"{window}/s{self.stride} {'x'.join(map(str, self.shape))}{layout}"


SMALL, LARGE = (8, 112, 112, 64), (4, 80, 80, 128)
CASES = [
    Case(SMALL, 2, 2, same=False),
    Case(SMALL, 3, 2),
    Case(SMALL, 3, 1),
    Case(LARGE, 5, 1),
    Case(LARGE, 9, 1),
    Case(LARGE, 13, 1),
    Case(LARGE, 31, 1),
    Case((32, 224, 224, 3), 2, 2, same=False),
    Case((16, 4096, 128), 3, 2),
    Case((2, 32, 64, 64, 32), 2, 2, same=False),
    Case((8, 64, 112, 112), 3, 2, channel_first=True),
]


def ours(name: str, case: Case) -> Callable:
    pool = {"max": jaxpool.max_pool, "avg": jaxpool.avg_pool}[name]
    axes = tuple(range(-case.rank, 0)) if case.channel_first else None
    window = (case.size,) * case.rank
    return lambda x: pool(
        x, window, strides=case.stride, padding=case.padding, axes=axes
    )


def stock(name: str, case: Case) -> Callable:
    """Flax has channels last only: the axes are moved there and back."""
    pool = {"max": nn.max_pool, "avg": nn.avg_pool}[name]
    window, strides = (case.size,) * case.rank, (case.stride,) * case.rank
    pads: Any = ((case.padding, case.padding),) * case.rank

    def run(x):
        if case.channel_first:
            return jnp.moveaxis(
                pool(jnp.moveaxis(x, 1, -1), window, strides, pads), -1, 1
            )
        return pool(x, window, strides, pads)

    return run


def of_equinox(name: str, case: Case) -> Callable:
    """Equinox pools one example, channel-first."""
    make = {"max": "MaxPool", "avg": "AvgPool"}[name] + f"{case.rank}d"
    pool = getattr(equinox.nn, make)(case.size, case.stride, case.padding)
    axis = 0 if case.channel_first else -1

    def run(x):
        return jnp.moveaxis(pool(jnp.moveaxis(x, axis, 0)), 0, axis)

    return jax.vmap(run)


def of_keras(name: str, case: Case) -> Callable:
    pool = {"max": keras.ops.max_pool, "avg": keras.ops.average_pool}[name]
    layout = f"channels_{'first' if case.channel_first else 'last'}"
    padding = "same" if case.same else "valid"
    return lambda x: pool(x, case.size, case.stride, padding, data_format=layout)


def of_torch(name: str, case: Case) -> Callable:
    pool = getattr(torch.nn.functional, f"{name}_pool{case.rank}d")
    return lambda x: pool(x, case.size, case.stride, case.padding)


def contenders(name: str, case: Case, x: jax.Array, backward: bool):
    """Every implementation of one case."""
    jitted = {"ours": ours(name, case), "stock": stock(name, case)}
    # On JAX the others are stock's operations: once is enough where that takes long.
    once = harness.on_gpu() or case.size > 5
    if equinox is not None and not once:
        jitted["equinox"] = of_equinox(name, case)
    if keras is not None and not once:
        jitted["keras"] = of_keras(name, case)
    runs = {k: jax_contender(fn, x, backward) for k, fn in jitted.items()}
    if torch is not None and not case.channel_first:
        fn = of_torch(name, case)
        try:
            runs["torch"] = torch_contender(fn, x, backward)
        except NotImplementedError:
            return runs  # average pooling of bfloat16 volumes on CPU
        if harness.on_gpu() and case.size <= 5 and case.rank == 2:
            torch.compiler.reset()
            compiled = torch.compile(fn, dynamic=False)
            runs["compiled"] = torch_contender(compiled, x, backward)
    return runs


def main() -> None:
    """Measures every case and prints the table."""
    args = parse(__doc__ or "")
    rows = []
    for name in ("max", "avg"):
        for case in CASES:
            n, *rest = case.shape
            if args.quick:
                n, rest = 2, [*(max(m // 4, 1) for m in rest[:-1]), rest[-1]]
            if harness.on_gpu():
                n *= 16
            normal = jax.random.normal(jax.random.key(0), (n, *rest), jnp.float32)
            for dtype in ("float32", "bfloat16"):
                x = normal.astype(dtype)
                for backward in (False, True):
                    label = f"{name} {case} {dtype} {'fwd+bwd' if backward else 'fwd'}"
                    rows.append(_row(label, name, case, x, backward, args.rounds))
    peers = ["stock", "equinox", "keras", "torch", "compiled", "limit"]
    finish("core pools: times faster than", rows, peers, args)


def _row(label, name, case, x, backward, rounds):
    limit = harness.limit(ours(name, case), x, backward)
    row = measure(label, contenders(name, case, x, backward), rounds, limit)
    times = (f"{k} {t * 1e3:.3g}" for k, t in row.seconds.items())
    print(f"{label}:", *times, flush=True)
    return row


if __name__ == "__main__":
    main()
