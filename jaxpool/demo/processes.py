"""Trains the demo's network on several processes as on one: `jax.distributed` on CPU.

    python -m jaxpool.demo.processes [--processes 2] [--steps 20] [--pool max]

Starts the processes on this machine, each with one CPU device, gives each its share of
every batch, and prints the losses as a line of JSON. The same code runs on several
hosts: there each is started with `--index`, its number, and `--address`, `host:port` of
the first.
"""

import argparse
import json
import socket
import subprocess
import sys
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ._modes import MODES
from ._training import load_digits, make_trainer

BATCH_SIZE = 64


def losses(pool: str, steps: int) -> list[float]:
    """The loss of each step of training on all devices of all processes."""
    digits, trainer = load_digits(), make_trainer(pool, steps)
    # The compiler places what lies between: the loss gathers by label, about which an
    # explicit mesh would have to be told.
    auto = (AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=auto)
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("batch"))
    # Made in every process from the same seed, and so the same in each.
    params, state = jax.device_put(trainer.init(0), everywhere)
    rng, found = np.random.default_rng(0), []
    # A process is given its share alone; the array of all shares is global.
    share, index = BATCH_SIZE // jax.process_count(), jax.process_index()
    for _ in range(steps):
        batch = rng.choice(len(digits.train_labels), BATCH_SIZE, replace=False)
        mine = batch[index * share : (index + 1) * share]
        images, labels = (
            jax.make_array_from_process_local_data(split, data[mine])
            for data in (digits.train_images, digits.train_labels)
        )
        params, state, loss = trainer.step(params, state, images, labels)
        found.append(float(loss))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one process, or starts all of them; 0 if each of them ended well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pool", choices=sorted(MODES), default="max")
    parser.add_argument("--index", type=int, help="the number of this process")
    parser.add_argument("--address", help="host:port of process 0")
    args = parser.parse_args(argv)
    if args.processes < 1 or BATCH_SIZE % args.processes:
        parser.error(f"--processes must divide {BATCH_SIZE}, got {args.processes}")
    if args.index is None and args.processes > 1:
        return _start_all(args)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    if args.processes > 1:
        jax.distributed.initialize(args.address, args.processes, args.index)
    found = losses(args.pool, args.steps)
    if jax.process_index() == 0:
        print(json.dumps(found), flush=True)
    return 0


def _start_all(args) -> int:
    with socket.socket() as free:  # any port that nobody uses
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jaxpool.demo.processes"]
    for name in ("processes", "steps", "pool"):
        command += [f"--{name}", str(getattr(args, name))]
    command += ["--address", f"localhost:{port}", "--index"]
    started = [subprocess.Popen([*command, str(i)]) for i in range(args.processes)]
    return max(abs(process.wait()) for process in started)


if __name__ == "__main__":
    sys.exit(main())
