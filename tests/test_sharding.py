"""Pools of sharded arrays: what is communicated, on eight devices.

The compiled programs are read: batches and channels must need no collective at all, and
pooled axes the neighbours' borders only.
"""

import re

import catalogue
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from transforms import COLLECTIVE, QUICK, tie_free

import jaxpool
from jaxpool import _lowering

RANDOM = ["random_mixed_pool", "random_pool", "s3_pool", "stochastic_pool"]
RANDOM += ["fractional_max_pool"]


def mesh_of(names, sizes, kind=AxisType.Auto):
    return jax.make_mesh(sizes, names, axis_types=(kind,) * len(sizes))


def with_gradient(fn):
    def run(x, g):
        y, pullback = jax.vjp(fn, x)
        return y, pullback(g)[0]

    return run


def arguments(fn, shape):
    y = jax.eval_shape(fn, jax.ShapeDtypeStruct(shape, jnp.float32))
    g = np.random.RandomState(0).randn(*y.shape).astype(np.float32)
    return jnp.asarray(tie_free(shape)), jnp.asarray(g)


def compare(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def compiled(fn, args, sharding):
    args = jax.device_put(args, sharding)
    program = jax.jit(fn).lower(*args).compile(QUICK)
    return program, args


@pytest.mark.parametrize("name", jaxpool.POOLS)
def test_batch_and_channels_need_no_collective(name):
    fn = catalogue.CALLS[f"{name}_pool"]
    args = arguments(fn, (8, 5, 6, 4))
    mesh = mesh_of(("batch", "channels"), (4, 2))
    split = NamedSharding(mesh, P("batch", None, None, "channels"))
    if name == "combined":  # joins pools along the channels, which then move
        split = NamedSharding(mesh, P(("batch", "channels")))
    program, args = compiled(with_gradient(fn), args, split)
    assert not COLLECTIVE.search(program.as_text())
    compare(program(*args), jax.jit(with_gradient(fn))(*args))


def collectives(fn, args, sharding):
    program, _ = compiled(fn, args, sharding)
    # Each is counted once: not where its result is used.
    where = rf"= \S+ {COLLECTIVE.pattern[2:-2]}(?:-start)?\("
    return re.findall(where, program.as_text())


WINDOWS = [(2, 2, 0), (3, 1, 1), (3, 2, 1)]


@pytest.mark.parametrize("rule", ["tpu", "default"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("name", ["max", "avg"])
@jax.numpy_dtype_promotion("standard")  # Flax's average relies on it
def test_rows_on_accelerators_need_what_stock_needs(name, window, rule):
    k, s, p = window
    ours = {"max": jaxpool.max_pool, "avg": jaxpool.avg_pool}[name]
    stock = {"max": linen.max_pool, "avg": linen.avg_pool}[name]
    pools = [
        lambda x: ours(x, (k, k), strides=s, padding=p),
        lambda x: stock(x, (k, k), (s, s), ((p, p), (p, p))),
    ]
    args = arguments(pools[0], (2, 64, 8, 4))
    split = NamedSharding(mesh_of(("rows",), (8,)), P(None, "rows"))
    with _lowering.force(rule):
        found = [
            collectives(fn, args[:count], split)
            for pool in pools
            for fn, count in ((pool, 1), (with_gradient(pool), 2))
        ]
    (forward, gradient), theirs = found[:2], found[2:]
    assert set(forward + gradient) <= {"collective-permute"}
    assert len(forward) <= len(theirs[0]) and len(gradient) <= len(theirs[1])


@pytest.mark.once
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("name", ["max", "avg"])
def test_pooled_axes_may_be_split(name, window):
    k, s, p = window
    pool = {"max": jaxpool.max_pool, "avg": jaxpool.avg_pool}[name]
    fn = with_gradient(lambda x: pool(x, (k, k), strides=s, padding=p))
    args = arguments(lambda x: pool(x, (k, k), strides=s, padding=p), (2, 64, 8, 4))
    mesh = jax.make_mesh(  # compiled several times as fast as for eight
        (4,), ("rows",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4]
    )
    program, placed = compiled(fn, args, NamedSharding(mesh, P(None, "rows")))
    assert set(COLLECTIVE.findall(program.as_text())) <= {"collective-permute"}
    compare(program(*placed), jax.jit(fn)(*args))


# Above nine taps platforms differ in how maxima are searched.
BY_AXIS = {"max 5x5": lambda x: jaxpool.max_pool(x, (5, 5), strides=1, padding=2)}
EXPLICIT = BY_AXIS | {name: catalogue.CALLS[f"{name}_pool"] for name in jaxpool.POOLS}
RUN = ["max 5x5", "max", "avg", "soft", "lp", "median"]  # the others are made of these


@pytest.mark.parametrize("name", EXPLICIT)
def test_explicit_sharding(name):
    fn = EXPLICIT[name]
    mesh = mesh_of(("batch",), (8,), AxisType.Explicit)
    x, g = arguments(fn, (8, 5, 6, 4))
    with jax.set_mesh(mesh):
        placed = jax.device_put((x, g), NamedSharding(mesh, P("batch")))
        traced = jax.jit(with_gradient(fn)).trace(*placed)
        for out in jax.tree.leaves(traced.out_info):
            assert out.sharding.spec[0] == "batch"
        if name not in RUN:
            return
        got = traced.lower().compile(QUICK)(*placed)
    compare(got, jax.jit(with_gradient(fn))(x, g))


@pytest.mark.parametrize("name", RUN)
def test_shard_map(name):
    fn = EXPLICIT[name]
    args = arguments(fn, (8, 5, 6, 4))
    split = {"in_specs": P("batch"), "out_specs": P("batch")}
    mapped = jax.shard_map(with_gradient(fn), mesh=mesh_of(("batch",), (8,)), **split)
    program = jax.jit(mapped).lower(*args).compile(QUICK)
    assert not COLLECTIVE.search(program.as_text())
    compare(program(*args), jax.jit(with_gradient(fn))(*args))


@pytest.mark.parametrize("name", RANDOM)
def test_same_random_numbers(name):
    fn = catalogue.CALLS[name]
    args = arguments(fn, (8, 8, 8, 4))
    split = NamedSharding(mesh_of(("batch",), (8,)), P("batch"))
    program, placed = compiled(with_gradient(fn), args, split)
    whole, _ = compiled(with_gradient(fn), args, jax.devices()[0])
    for got, want in zip(program(*placed), whole(*args), strict=True):
        np.testing.assert_array_equal(got, want)
