"""Strictness for every test, two devices for the sharding checks, quick compiling."""

import os

import jax
import numpy as np
import pytest

collect_ignore_glob = ["goldens/record_torch*.py"]  # scripts, which need torch

# Most of the time goes into compiling: LLVM's costly passes are left out.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)  # before the first use of a device


@pytest.fixture
def key():
    """A JAX random key, the same in every test."""
    return jax.random.key(0)


@pytest.fixture
def rng():
    """A NumPy generator, seeded anew for every test."""
    return np.random.default_rng(0)
