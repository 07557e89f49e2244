"""What the GPU compiler makes of pools, on a machine without a GPU.

    pip install --no-deps --target DIR \
        jax-cuda12-plugin==JAX jax-cuda12-pjrt==JAX nvidia-cuda-nvcc-cu12
    PYTHONPATH=DIR python -m benchmarks.gpu_compiler [--json FILE] [--hlo CASE]

with JAX the version of jax, compiles for an H100 and prints for each case, ours and
stock (`flax`), the number of kernels, the bytes of temporaries per output element, and
what the program should not have: a scatter, a sort or a custom call in its HLO, an
atomic operation in its PTX. Should one of ours have any, it ends with status 1. It
cannot run what it compiles: times are those of `benchmarks/core.py` on a GPU.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import tempfile
from typing import Any

# ruff: noqa: E402
# Before jax reads them: no GPU is looked for, and no kernel is tuned by timing it.
_FOUND = [p for d in sys.path for p in pathlib.Path(d).glob("nvidia/cuda_nvcc")]
_NVCC = _FOUND[0] if _FOUND else ""
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    f"--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={_NVCC} "
    + os.environ.get("XLA_FLAGS", "")
)
os.environ["PATH"] = f"{_NVCC}/bin:{os.environ['PATH']}"

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from . import core

# The published data of an H100 SXM, in XLA's form.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  name: "NVIDIA H100 80GB HBM3"
  threads_per_block_limit: 1024 threads_per_warp: 32
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
"""
KERNEL = re.compile(r" (fusion|reduce-window|select-and-scatter|copy|scatter|sort)\(")
UNWANTED = re.compile(r" (scatter|select-and-scatter|sort|custom-call)\(")
ATOMIC = re.compile(r"\b(?:atom|red)\.")


def compiled(fn, x, backward):
    """`fn`, with `backward` its value and vjp, compiled for an H100, and its PTX."""
    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="h100", target_config=H100, topology="1x1x1"
    )
    place = jax.sharding.SingleDeviceSharding(topology.devices[0])
    args = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)]
    if backward:
        y = jax.eval_shape(fn, x)
        args.append(jax.ShapeDtypeStruct(y.shape, y.dtype, sharding=place))

    def run(x, *g):
        if not g:
            return fn(x)
        y, pullback = jax.vjp(fn, x)
        return y, pullback(*g)[0]

    lowered = jax.jit(run, out_shardings=place).trace(*args).lower()
    with tempfile.TemporaryDirectory() as there:
        program = lowered.compile(compiler_options={"xla_dump_to": there})
        ptx = [file.read_text() for file in pathlib.Path(there).glob("*.ptx")]
    return program, "\n".join(ptx)


def facts(program, ptx: str, outputs: int) -> dict[str, Any]:
    """What there is to say of a compiled program."""
    text = program.as_text()
    entry = text[text.index("\nENTRY") :]
    analysis = program.memory_analysis()
    unwanted = {*UNWANTED.findall(text), *(["atomic"] if ATOMIC.search(ptx) else [])}
    return {
        "kernels": len(KERNEL.findall(entry)),
        "temporary bytes per output": analysis.temp_size_in_bytes / outputs,
        "unwanted": sorted(unwanted),
    }


def main() -> None:
    """Compiles every case of `benchmarks/core.py` and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=pathlib.Path, help="also write the rows here")
    parser.add_argument("--hlo", help="print our programs whose case contains this")
    args = parser.parse_args()
    rows = []
    for name in ("max", "avg"):
        for case in core.CASES:
            for dtype in ("float32", "bfloat16"):
                x = jax.ShapeDtypeStruct(case.shape, jnp.dtype(dtype))
                for backward in (False, True):
                    label = f"{name} {case} {dtype} {'fwd+bwd' if backward else 'fwd'}"
                    if args.hlo and args.hlo not in label:
                        continue
                    row: dict[str, Any] = {"case": label}
                    for kind in ("ours",) if args.hlo else ("ours", "stock"):
                        fn = getattr(core, kind)(name, case)
                        program, ptx = compiled(fn, x, backward)
                        row[kind] = facts(program, ptx, jax.eval_shape(fn, x).size)
                        if args.hlo:
                            print(program.as_text())
                    print(row, flush=True)
                    rows.append(row)
    if args.json:
        data = {"device": "H100, compiled only", "jax": jax.__version__, "rows": rows}
        args.json.write_text(json.dumps(data, indent=1) + "\n")
    if found := [row["case"] for row in rows if row["ours"]["unwanted"]]:
        sys.exit(f"not free of what is unwanted: {found}")


if __name__ == "__main__":
    main()
