"""Timing of several implementations of the same thing, side by side.

A case is a dict of contenders, each a callable that runs one of them so many times, to
completion. They take turns, round after round in one process, each round in another
order, and are compared by their medians: a noisy machine is noisy for all of them.
"""

import argparse
import ctypes
import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Waiting threads of one library must not take the cores from the next contender.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np


def _installed(name: str) -> Any:
    """A library to compare with, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch: Any = _installed("torch")
equinox: Any = _installed("equinox")
keras: Any = _installed("keras")
Contender = Callable[[int], object]


def _keep_memory() -> None:
    """Has the C library keep freed memory, for all contenders alike.

    By default it gives blocks above 32 MB back to the system, and the next call spends
    more time on fresh pages than on its work: as much noise as figure.
    """
    # glibc's names for mallopt. Without mmap, and with one arena for all threads: the
    # others cannot hold blocks of more than 64 MB, and would still use mmap.
    trim_threshold, mmap_max, arena_max = -1, -4, -8
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library
    mallopt(arena_max, 1)
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**30)


_keep_memory()


@dataclasses.dataclass(frozen=True)
class Row:
    """Medians, in seconds, of the contenders of a case: one call each."""

    case: str
    seconds: dict[str, float]

    def ratio(self, peer: str, ours: str = "ours") -> float | None:
        """How many times faster than `peer` we are."""
        if peer not in self.seconds:
            return None
        return self.seconds[peer] / self.seconds[ours]


def measure(
    case: str,
    contenders: Mapping[str, Contender],
    rounds: int,
    limit: tuple[Contender, float] | None = None,
) -> Row:
    """Runs the contenders in turn `rounds` times, after two calls to warm up.

    One that takes longer than a second has three rounds at most; where all take less
    than 20 ms there are four times as many, since the shortest vary most. What `limit`
    returns takes part.
    """
    if limit is not None:
        contenders = {**contenders, "limit": limit[0]}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    first = {}
    for name, run in contenders.items():
        run(1)
        first[name] = _seconds(run, 1)
    # A GPU queues calls, which hides the time to launch one.
    calls = {n: 10 if on_gpu() and t < 0.05 else 1 for n, t in first.items()}
    if max(first.values()) < 0.02:
        rounds *= 4
    turns = {n: min(rounds, 3) if t > 1 else rounds for n, t in first.items()}
    order, shuffle = list(contenders.items()), random.Random(0).shuffle
    for i in range(max(turns.values())):
        shuffle(order)  # what ran before leaves its data in the caches, or threads
        for name, run in order:
            if i < turns[name]:
                times[name].append(_seconds(run, calls[name]))
    seconds = {name: statistics.median(t) for name, t in times.items()}
    if limit is not None:
        seconds["limit"] *= limit[1]
    return Row(case, seconds)


def _seconds(run: Contender, calls: int) -> float:
    """The time of one of so many calls."""
    start = time.perf_counter()
    run(calls)
    return (time.perf_counter() - start) / calls


def on_gpu() -> bool:
    """Whether JAX computes on a GPU; PyTorch then does, too."""
    return jax.default_backend() == "gpu"


def jax_contender(
    fn: Callable[[jax.Array], jax.Array], x: jax.Array, backward: bool
) -> Contender:
    """`fn` jitted; with `backward` its value and vjp in one program."""

    @jax.jit
    def both(x, g):
        y, pullback = jax.vjp(fn, x)
        return y, pullback(g)[0]

    args = (x,)
    if backward:
        shape = jax.eval_shape(fn, x)
        args = (x, jnp.ones(shape.shape, shape.dtype))
    # Compiled here: a call then looks up no cache.
    compiled = jax.jit(both if backward else fn).lower(*args).compile()

    def run(calls):
        jax.block_until_ready([compiled(*args) for _ in range(calls)][-1])

    return run


def torch_contender(fn: Callable, x: jax.Array, backward: bool) -> Contender:
    """`fn` in PyTorch on a channels-last copy of x `(N, *space, C)`."""
    data = torch.from_numpy(np.array(x, np.float32)).to(
        getattr(torch, str(x.dtype))
    )  # channels last in memory, seen as (N, C, *space)
    data = data.movedim(-1, 1)
    if on_gpu():
        data = data.cuda()
    data.requires_grad_(backward)
    with torch.no_grad():
        g = torch.ones_like(fn(data))

    def once():
        if backward:
            data.grad = None
            fn(data).backward(g)
        else:
            with torch.no_grad():
                fn(data)

    def run(calls):
        for _ in range(calls):
            once()
        if on_gpu():
            torch.cuda.synchronize()

    return run


def limit(fn: Callable, x: jax.Array, backward: bool) -> tuple[Contender, float]:
    """A copy of x, and the bytes that `fn` must move as a multiple of the copy's.

    Those are the input and the output, and with `backward` their cotangents. A
    yardstick: a pool that writes less than it reads can beat the time of the copy.
    """
    y = jax.eval_shape(fn, x)
    must = x.nbytes + y.size * y.dtype.itemsize
    return jax_contender(jnp.negative, x, False), must * (1 + backward) / (2 * x.nbytes)


def report(title: str, rows: Sequence[Row], peers: Sequence[str]) -> str:
    """A table: our time, and how many times faster than each peer we are."""
    width = max(len(row.case) for row in rows)
    head = f"{'':{width}}  {'ours ms':>9}" + "".join(f"  {p:>9}" for p in peers)
    lines = [title, head]
    for row in rows:
        line = f"{row.case:{width}}  {row.seconds['ours'] * 1e3:9.2f}"
        for peer in peers:
            ratio = row.ratio(peer)
            line += f"  {'-':>9}" if ratio is None else f"  {ratio:8.2f}x"
        lines.append(line)
    for peer in peers:
        ratios = [r for row in rows if (r := row.ratio(peer)) is not None]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            lines.append(
                f"geometric mean over {peer}: {mean:.2f}x, worst {min(ratios):.2f}x"
            )
    return "\n".join(lines)


def stamp() -> dict[str, object]:
    """What the figures were measured on."""
    peers = {"torch": torch, "equinox": equinox, "keras": keras}
    return {
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": importlib.metadata.version("flax"),
        **{k: m and m.__version__ for k, m in peers.items()},
    }


def _processor() -> str:
    """Its name where Linux tells it."""
    try:
        told = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*: (.*)", told)
    return found[1] if found else platform.processor()


def parse(description: str) -> argparse.Namespace:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small arrays, few rounds")
    parser.add_argument("--rounds", type=int, default=None, help="rounds per case")
    parser.add_argument("--json", type=pathlib.Path, help="also write the rows here")
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 9)
    return args


def finish(
    title: str, rows: Sequence[Row], peers: Sequence[str], args: argparse.Namespace
) -> None:
    """Prints the table and writes the raw figures."""
    about = stamp()
    print(f"\n{', '.join(f'{k} {v}' for k, v in about.items())}")
    print(report(title, rows, peers))
    if args.json:
        data = {**about, "title": title, "rows": [dataclasses.asdict(r) for r in rows]}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(data, indent=1) + "\n")
