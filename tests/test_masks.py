"""`where` in every function: what is left out is as good as not there."""

import functools
import inspect

import catalogue
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transforms import QUICK, tie_free

import jaxpool

EMPTY = 2.5
TAKES = {
    name: inspect.signature(f).parameters
    for name, f in catalogue.public_functions().items()
}
MASKED = sorted(name for name, takes in TAKES.items() if "where" in takes)
OF_BOXES = {name for name in MASKED if "boxes" in TAKES[name]}
quick = functools.partial(jax.jit, compiler_options=QUICK)


def masked(name, monkeypatch, where):
    """The call in the catalogue, with a mask."""
    # What ada_unpool takes was pooled with the same mask.
    for pool in ("ada_pool", name) if name == "ada_unpool" else (name,):
        options = {"where": where, "empty": EMPTY}
        options = {k: v for k, v in options.items() if k in TAKES[pool]}
        here = functools.partial(getattr(jaxpool, pool), **options)
        monkeypatch.setattr(jaxpool, pool, here)

    def call(x):
        return [y.astype(x.dtype) for y in jax.tree.leaves(catalogue.CALLS[name](x))]

    return call


def a_mask(name):
    """A mask as the function takes it, with empty windows, and the same of all of x."""
    shape = catalogue.SHAPES.get(name, catalogue.SHAPE)
    if name in catalogue.SHAPES:  # tokens, nodes
        where = np.arange(np.prod(shape[:-1])).reshape(shape[:-1]) % 3 != 1
        of_x = where[..., None]
    else:
        of_x = where = tie_free((*shape[1:3], 1), 3) > -0.5
        where[:3, 3:] = False
    return where, np.broadcast_to(of_x, shape)


@pytest.mark.parametrize("name", sorted({*MASKED} - OF_BOXES))
def test_what_is_left_out_changes_nothing(name, monkeypatch, rng):
    """Neither values, nor tangents, nor gradients, whatever stands there."""
    where, of_x = a_mask(name)
    call = masked(name, monkeypatch, where)
    x, t = tie_free(of_x.shape), tie_free(of_x.shape, 1)
    garbage = np.resize(np.float32([np.nan, np.inf, -np.inf]), x.shape)

    @quick
    def run(x, t):
        y, tangent = jax.jvp(call, (x,), (t,))
        y, vjp = jax.vjp(call, x)
        return y, tangent, vjp([catalogue.like(a, *a.shape) + 2 for a in y])[0]

    *outputs, dx = jax.device_get(run(np.where(of_x, x, 0), np.where(of_x, t, 0)))
    *others, again = run(np.where(of_x, x, garbage), np.where(of_x, t, garbage))
    jax.tree.map(np.testing.assert_array_equal, (outputs, dx), (others, again))
    assert np.isfinite(dx).all() and dx.any() and not dx[~of_x].any()


@pytest.mark.parametrize("name", MASKED)
def test_nothing_is_left(name, monkeypatch):
    """Then values are `empty`, or finite, and no gradient remains."""
    call = masked(name, monkeypatch, np.array([False]))
    x = np.full(catalogue.SHAPES.get(name, catalogue.SHAPE), np.nan, np.float32)

    @quick
    def run(x):
        y, vjp = jax.vjp(call, x)
        return y, vjp([jnp.ones_like(a) for a in y])[0]

    y, dx = run(x)
    for leaf in y:
        if "empty" in TAKES[name]:
            np.testing.assert_array_equal(leaf, EMPTY)
        assert np.isfinite(leaf).all()
    assert not dx.any()


# --- The same as of what is left ------------------------------------------------------

# Parameters belong to the places or ranks in the window, or neighbours are filtered.
OF_PLACES = {"gated_pool", "tree_pool", "rank_pool", "detail_preserving_pool"}
# Windows or draws are others for another size.
OF_SIZES = {"random_pool", "random_mixed_pool", "stochastic_pool"}
OF_SIZES |= {"s3_pool", "fractional_max_pool"}
ARGUMENTS = {
    "ada_pool": lambda x: {"beta": 0.3},
    "local_importance_pool": lambda x: {"logits": -x},
    "topk_avg_pool": lambda x: {"k": 3},
}


def of_all(name, x, **where):
    """One window of all of x, along the first axis."""
    pool, arguments = getattr(jaxpool, name), ARGUMENTS.get(name, lambda x: {})(x)
    if name.startswith("global"):
        return pool(x, axes=(0,), keepdims=True, **where)
    if name.startswith("adaptive"):
        return pool(x, (1,), **where)
    return pool(x, window_shape=x.shape[:1], **arguments, **where)


def is_of_all(name):
    pools = name.startswith(("adaptive", "global")) or "window_shape" in TAKES[name]
    return pools and name not in {"ada_unpool", *OF_PLACES, *OF_SIZES}


@pytest.mark.parametrize("name", [*filter(is_of_all, MASKED)])
def test_the_rest_is_pooled(name):
    """Values and gradients are those of an array that has the valid elements alone."""
    valid = np.array([0, 1, 1, 0, 0, 1, 1, 1, 0], bool)
    x = tie_free((9, 2))

    @quick
    def run(x, rest):
        y, vjp = jax.vjp(lambda x: of_all(name, x, where=valid[:, None]), x)
        z, of_rest = jax.vjp(lambda x: of_all(name, x), rest)
        return (y, vjp(y)[0][valid]), (z, of_rest(z)[0])

    found, expected = run(x, x[valid])
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and jnp.any(b)
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)
