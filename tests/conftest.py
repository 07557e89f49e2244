"""Strictness for every test, and eight CPU devices for the sharding checks."""

import jax
import numpy as np
import pytest

collect_ignore_glob = ["goldens/record_torch*.py"]  # scripts, which need torch

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)  # before the first use of a device


@pytest.fixture
def key():
    """A JAX random key, the same in every test."""
    return jax.random.key(0)


@pytest.fixture
def rng():
    """A NumPy generator, seeded anew for every test."""
    return np.random.default_rng(0)
