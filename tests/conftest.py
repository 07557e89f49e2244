"""Strictness for every test, eight CPU devices for the sharding checks, and a cache.

Compilation is what tests cost: JAX's cache, in `.pytest_cache`, shares programs among
the workers, with the processes that tests start, and with the next run. XLA fuses as
always, but LLVM optimises nothing: the arrays are tiny.
"""

import os
import pathlib

import jax
import numpy as np
import pytest

collect_ignore_glob = ["goldens/record_torch*.py"]  # scripts, which need torch

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)  # before the first use of a device

# Read at the first use of a device, and not left to the processes that tests start.
given = os.environ.get("XLA_FLAGS", "")
quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{quick} {given}"
jax.devices()
os.environ["XLA_FLAGS"] = given

ROOT = pathlib.Path(__file__).parents[1]
CACHE = {
    "jax_compilation_cache_dir": str(ROOT / ".pytest_cache" / "jax"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for option, value in CACHE.items():
    jax.config.update(option, value)
    os.environ[option.upper()] = str(value)


@pytest.fixture
def key():
    """A JAX random key, the same in every test."""
    return jax.random.key(0)


@pytest.fixture
def rng():
    """A NumPy generator, seeded anew for every test."""
    return np.random.default_rng(0)
