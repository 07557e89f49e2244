"""Weights from PyTorch: a state dict as the variables of layers of convolutions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._convolutional import TorchNames

Path = tuple[str, ...]

# What PyTorch calls the variables of a convolution and of a norm.
_LEAVES = {
    ("conv", "kernel"): "weight",
    ("conv", "bias"): "bias",
    ("norm", "scale"): "weight",
    ("norm", "bias"): "bias",
    ("norm", "mean"): "running_mean",
    ("norm", "var"): "running_var",
}


def from_torch(
    state_dict: Mapping[str, Any],
    shapes: Mapping[Path, tuple[int, ...]],
    names: TorchNames,
    prefix: str,
) -> dict[Path, np.ndarray]:
    """The variables with these shapes by path, from those under `prefix`.

    Kernels `(out, in, *space)` become `(*space, in, out)`.
    """
    keys = {path: prefix + _key(path, names) for path in shapes}
    given = {key for key in state_dict if key.startswith(prefix)}
    given -= {key for key in given if key.endswith("num_batches_tracked")}
    if missing := sorted(set(keys.values()) - given):
        raise ValueError(f"`state_dict` must have {', '.join(missing)}")
    if unknown := sorted(given - set(keys.values())):
        raise ValueError(
            f"`state_dict` must have under {prefix!r} what the layer has alone, got "
            f"{', '.join(unknown)}"
        )
    variables = {}
    for path, key in keys.items():
        value = np.asarray(state_dict[key])
        if path[-1] == "kernel":
            value = np.moveaxis(value, (1, 0), (-2, -1))
        if value.shape != shapes[path]:
            raise ValueError(
                f"`state_dict` must have {key} of shape {shapes[path]} (kernels with "
                f"their channels last), got {value.shape}"
            )
        variables[path] = value
    return variables


def kernel_shape(
    state_dict: Mapping[str, Any], names: TorchNames, prefix: str
) -> tuple[int, ...]:
    """The shape, in PyTorch, of the first kernel of a layer."""
    conv, _ = next(iter(names.values()))
    key = f"{prefix}{conv}.weight"
    if key not in state_dict:
        raise ValueError(f"`state_dict` must have {key}")
    return np.shape(state_dict[key])


def _key(path, names):
    *unit, layer, leaf = path
    conv, norm = names["/".join(unit)]
    return f"{conv if layer == 'conv' else norm}.{_LEAVES[layer, leaf]}"
