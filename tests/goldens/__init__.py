"""Goldens recorded from PyTorch by `record_torch.py`, in jaxpool's vocabulary.

    for group in goldens.groups("max"):
        for case in group:
            y = jaxpool.max_pool(case["x"], **case["kwargs"])

A case is a dict: `name`, `pool` ("max", "avg" or "lp"), `x` (channels-last float32, a
batch axis first), `kwargs`, `y`, `g` (a cotangent), `dx` (the gradient of sum(y * g))
and for max `indices` (-1 for a window wholly in padding).

All cases of a group share one `x`, so that a test can run the group in one compiled
program, `outputs(f, group)`, instead of thousands of tiny ones.
"""

import itertools
import math
from pathlib import Path

import jax
import numpy as np

FILE = Path(__file__).with_name("torch_core.npz")


def _kwargs(pool, case):
    rank = case["rank"]

    def axes(name):
        return tuple(case[f"{name}{i}"] for i in range(rank))

    kwargs = {
        "window_shape": axes("k"),
        "strides": axes("s"),
        "padding": axes("pad"),
        "ceil_mode": bool(case["ceil_mode"]),
    }
    if pool == "max":
        return kwargs | {"dilation": axes("d")}
    if pool == "lp":
        return kwargs | {"p": float(case["p"])}
    return kwargs | {
        "count_include_pad": bool(case["count_include_pad"]),
        "divisor_override": case["divisor_override"] or None,
    }


def cases(pool=None, rank=None):
    """Every case in the order of the file, of one pool or rank if asked."""
    with np.load(FILE) as file:
        data = dict(file)
    starts = dict.fromkeys(("y", "indices", "dx"), 0)

    def take(name, shape, source=None):
        start = starts[name]
        return data[source or name][start : start + math.prod(shape)].reshape(shape)

    for line in data["cases"]:
        case = dict(zip(data["columns"].tolist(), line.tolist(), strict=True))
        kind = ("max", "avg", "lp")[case["pool"]]
        x_name = str(data["inputs"][case["x"]])
        x = data[x_name].astype(np.float32)
        out = tuple(case[f"out{i}"] for i in range(case["rank"]))
        shape = (x.shape[0], *out, x.shape[-1])
        kwargs = _kwargs(kind, case)
        found = {
            "name": f"{x_name} {kwargs}",
            "pool": kind,
            "x": x,
            "kwargs": kwargs,
            "y": take("y", shape),
            "g": take("y", shape, "g").astype(np.float32),
            "dx": take("dx", x.shape),
        }
        if kind == "max":
            found["indices"] = take("indices", shape).astype(np.int32)
            starts["indices"] += math.prod(shape)
        starts["y"] += math.prod(shape)
        starts["dx"] += x.size
        if pool in (None, kind) and rank in (None, case["rank"]):
            yield found


def groups(pool=None, rank=None, *, every=1, size=100):
    """The cases in lists of at most `size` that share their input `x`.

    every=n takes a fixed random n-th part of them, to save time.
    """
    rng = np.random.RandomState(0)
    some = (case for case in cases(pool, rank) if rng.randint(every) == 0)

    def same_input(case):
        return case["pool"], case["x"].shape

    for _, found in itertools.groupby(some, same_input):
        found = list(found)
        yield from (found[i : i + size] for i in range(0, len(found), size))


def outputs(f, group):
    """f(x, **kwargs) of every case of a group, and its gradient, from one compilation.

    f returns y or (y, indices). Returns a list of (f's value, dx) as NumPy arrays.
    """

    def one(x, g, kwargs):
        def value_and_rest(x):
            value = f(x, **kwargs)
            return value if isinstance(value, tuple) else (value, None)

        y, vjp, rest = jax.vjp(value_and_rest, x, has_aux=True)
        return y if rest is None else (y, rest), vjp(g)[0]

    def every(x, cotangents):
        pairs = zip(group, cotangents, strict=True)
        return [one(x, g, case["kwargs"]) for case, g in pairs]

    quick = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
    compiled = jax.jit(every, compiler_options=quick)
    return jax.device_get(compiled(group[0]["x"], [case["g"] for case in group]))
