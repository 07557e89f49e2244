"""What it costs to compile a pool with its gradient, and the memory that is planned.

    python -m benchmarks.compiler [--json benchmarks/results/compiler.json]

Seconds from a Python function to a program, tracing included: medians of three, from
empty caches, ours and stock (`flax`). Temporaries are the bytes beside inputs and
outputs, as a multiple of the input's.
"""

import argparse
import json
import pathlib
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp

from . import core
from .harness import stamp


def compiled(fn, x):
    """The value and vjp of `fn` as a program, and the seconds that took."""

    def both(x, g):
        y, pullback = jax.vjp(fn, x)
        return y, pullback(g)[0]

    jax.clear_caches()
    start = time.perf_counter()
    program = jax.jit(both).lower(x, jax.eval_shape(fn, x)).compile()
    return program, time.perf_counter() - start


def facts(fn, x) -> tuple[float, float]:
    """Seconds, and temporaries per byte of x."""
    runs = [compiled(fn, x) for _ in range(3)]
    analysis: Any = runs[0][0].memory_analysis()
    seconds = statistics.median(seconds for _, seconds in runs)
    return seconds, analysis.temp_size_in_bytes / (x.size * x.dtype.itemsize)


def main() -> None:
    """Compiles every case of `benchmarks/core.py` and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=pathlib.Path, help="also write the rows here")
    args = parser.parse_args()
    rows = []
    for name in ("max", "avg"):
        for case in core.CASES:
            for dtype in ("float32", "bfloat16"):
                x = jax.ShapeDtypeStruct(case.shape, jnp.dtype(dtype))
                row: dict = {"case": f"{name} {case} {dtype} fwd+bwd"}
                row |= {"seconds": {}, "temporaries": {}}
                for kind in ("ours", "stock"):
                    found = facts(getattr(core, kind)(name, case), x)
                    row["seconds"][kind], row["temporaries"][kind] = found
                rows.append(row)
                print(row, flush=True)
    if args.json:
        data = {**stamp(), "title": "compilation with gradient", "rows": rows}
        args.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
