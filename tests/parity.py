"""The layers of one system with the variables of the other, by name."""

import jax
from flax import nnx

COLLECTIONS = {"params": nnx.Param, "batch_stats": nnx.BatchStat}


def by_name(layer, collection="params"):
    """Variables of an nnx layer as a nested dictionary of arrays, as linen has them."""
    return nnx.to_pure_dict(nnx.state(layer, COLLECTIONS[collection]))


def shapes(tree):
    return jax.tree.map(lambda leaf: leaf.shape, dict(tree))


def copy_to_nnx(layer, variables):
    """Gives an nnx layer the variables of a linen layer, which must fit."""
    for collection, values in variables.items():
        state = nnx.state(layer, COLLECTIONS[collection])
        old = nnx.to_pure_dict(state)
        assert shapes(old) == shapes(values)
        nnx.replace_by_pure_dict(state, values)
        nnx.update(layer, state)
