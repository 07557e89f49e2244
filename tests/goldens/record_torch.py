"""Record what PyTorch's pools compute, values, indices and gradients, on the CPU.

    python tests/goldens/record_torch.py

writes `torch_core.npz` beside this file; the torch version is in its `torch_version`.
The inputs are fixed, so a rerun with the same torch writes the same arrays.
`goldens.groups()` reads it back, in channels-last layout and jaxpool's vocabulary.

What is recorded, everything that torch accepts among
  max, 1-D  n <= 9, k <= 4, s <= 4, p <= k // 2, d <= 3, floor and ceil mode, all of it
  avg, 1-D  the same without dilation, count_include_pad on and off, all of it
  max, avg  2-D and 3-D, a fixed sample with other k, s, p, d on each axis; avg with
            divisor_override too
  lp        floor mode, x >= 1 (torch raises x, not |x|, to the power)

Inputs and cotangents are small integers: few distinct ones for max, so that there are
ties, and multiples of 1728 = 12^3 for avg, so that every mean is an integer and exact.

A window wholly in padding has index -1 and cotangent 0 here: torch gives it -inf and an
index that points outside the input.

File format: `cases` is an int table with the columns of `columns`, unused axes filled
with 1 (0 for padding); `x_<shape>` is an input; `y`, `indices`, `g` and `dx` hold the
arrays of all cases end to end, in the order of the table, each array channels-last and
as long as its shape says (`indices` for max only).
"""

import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

COLUMNS = (
    ["pool", "rank", "x", "ceil_mode", "count_include_pad", "divisor_override", "p"]
    + [f"{name}{i}" for name in ("k", "s", "pad", "d", "out") for i in range(3)]
)  # fmt: skip
POOLS = ("max", "avg", "lp")
SHAPES_1D = [(1, n, 2) for n in range(1, 10)]
SHAPES_2D = [(2, 7, 6, 2), (1, 5, 9, 3), (2, 4, 4, 1), (1, 8, 3, 2)]
SHAPES_3D = [(1, 5, 4, 6, 2), (2, 3, 5, 4, 1)]
# Input, then windows with their strides.
LP = [
    ((2, 7, 6, 2), [((2, 2), (2, 2)), ((3, 2), (1, 2)), ((2, 4), (3, 1))]),
    ((2, 9, 2), [((2,), (2,)), ((4,), (1,)), ((3,), (4,))]),
    ((1, 5, 4, 6, 2), [((2, 2, 2), (2, 2, 2)), ((3, 1, 2), (1, 2, 3))]),
]


def axis_options(k):
    """Every (stride, padding) of a window of k."""
    return itertools.product(range(1, 5), range(k // 2 + 1))


def cases_1d(pool):
    windows = [(k, s, p) for k in range(1, 5) for s, p in axis_options(k)]
    for (k, s, p), ceil in itertools.product(windows, (False, True)):
        base = {"k": (k,), "s": (s,), "pad": (p,), "ceil_mode": ceil}
        if pool == "max":
            # A window of one element has no dilation.
            yield from (base | {"d": (d,)} for d in (1, 2, 3) if d == 1 or k > 1)
        else:
            yield from (base | {"count_include_pad": include} for include in (0, 1))


def cases_nd(pool, rank, count, rng):
    """A random sample, with own numbers for each axis."""
    for _ in range(count):
        k = tuple(int(v) for v in rng.randint(1, 5, rank))
        case = {
            "k": k,
            "s": tuple(int(v) for v in rng.randint(1, 5, rank)),
            "pad": tuple(int(rng.randint(0, v // 2 + 1)) for v in k),
            "ceil_mode": bool(rng.randint(2)),
        }
        if pool == "max":
            yield case | {"d": tuple(int(v) for v in rng.randint(1, 4, rank))}
        else:
            yield case | {
                "count_include_pad": bool(rng.randint(2)),
                # These divide 1728 too; 0 stands for no override.
                "divisor_override": int(rng.choice([0, 0, 2, 3, 8])),
            }


def run(pool, x, g_rng, case):
    """torch's y, indices, g and dx for one case, channels-last; None if it refuses."""
    rank = len(case["k"])
    first = torch.from_numpy(np.moveaxis(x, -1, 1).astype(np.float64).copy())
    first.requires_grad_()
    options = {
        "kernel_size": case["k"],
        "stride": case["s"],
        "ceil_mode": case["ceil_mode"],
    }
    indices = None
    try:
        if pool == "max":
            f = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
            options |= {"padding": case["pad"], "dilation": case["d"]}
            y, indices = f(first, **options, return_indices=True)
        elif pool == "avg":
            f = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
            options |= {"padding": case["pad"]}
            options |= {"count_include_pad": bool(case["count_include_pad"])}
            if case.get("divisor_override"):
                options |= {"divisor_override": case["divisor_override"]}
            y = f(first, **options)
        else:
            f = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)[rank - 1]
            if rank == 1:  # unlike the others, it takes no tuple
                options |= {"kernel_size": case["k"][0], "stride": case["s"][0]}
            y = f(first, case["p"], **options)
    except RuntimeError as error:
        expected = ("too small", "should be at most half", "smaller than kernel")
        if not any(text in str(error) for text in expected):
            raise
        return None
    scale = 1728 if pool == "avg" else 1
    g = torch.from_numpy(g_rng.randint(-4, 5, y.shape) * float(scale))
    g[y.isinf()] = 0
    (dx,) = torch.autograd.grad(y, first, g)
    if indices is not None:
        indices[y.isinf()] = -1
    return tuple(
        None if a is None else np.moveaxis(a.detach().numpy(), 1, -1)
        for a in (y, indices, g, dx)
    )


def row(pool, x_index, case, y):
    """A case as a line of the table."""
    rank = len(case["k"])
    line = dict.fromkeys(COLUMNS, 1) | {f"pad{i}": 0 for i in range(3)}
    line |= {"pool": POOLS.index(pool), "rank": rank, "x": x_index}
    line["divisor_override"] = case.get("divisor_override", 0)
    for name in ("ceil_mode", "count_include_pad", "p"):
        line[name] = int(case.get(name, 0))
    for name in ("k", "s", "pad", "d"):
        value = case.get(name, 1 if name != "pad" else 0)
        value = value if isinstance(value, tuple) else (value,) * rank
        line |= {f"{name}{i}": v for i, v in enumerate(value)}
    line |= {f"out{i}": n for i, n in enumerate(y.shape[1:-1])}
    return [line[name] for name in COLUMNS]


def plan():
    """(pool, input shape, case) of everything to try."""
    rng = np.random.RandomState(0)  # RandomState's streams never change
    for pool in ("max", "avg"):
        for shape in SHAPES_1D:
            yield from ((pool, shape, case) for case in cases_1d(pool))
        for shapes, count in ((SHAPES_2D, 40), (SHAPES_3D, 24)):
            for shape in shapes:
                rank = len(shape) - 2
                cases = cases_nd(pool, rank, count, rng)
                yield from ((pool, shape, case) for case in cases)
    for (shape, windows), p in itertools.product(LP, (1, 2, 3)):
        for k, s in windows:
            yield "lp", shape, {"k": k, "s": s, "ceil_mode": False, "p": p}


def make_input(pool, shape, seed):
    rng = np.random.RandomState(seed)
    if pool == "max":
        return rng.randint(-3, 4, shape)
    return (
        1728 * rng.randint(-7, 8, shape) if pool == "avg" else rng.randint(1, 9, shape)
    )


def main():
    torch.set_num_threads(1)
    g_rng = np.random.RandomState(1)
    inputs, table = {}, []
    found = {name: [] for name in ("y", "indices", "g", "dx")}
    for pool, shape, case in plan():
        key = f"x_{pool}_{'_'.join(map(str, shape))}"
        if key not in inputs:
            inputs[key] = make_input(pool, shape, seed=len(inputs))
        arrays = run(pool, inputs[key], g_rng, case)
        if arrays is None:
            continue
        table.append(row(pool, list(inputs).index(key), case, arrays[0]))
        for name, array in zip(found, arrays, strict=True):
            if array is not None:
                found[name].append(array.ravel())
    flat = {name: np.concatenate(arrays) for name, arrays in found.items()}
    np.savez_compressed(
        Path(__file__).with_name("torch_core.npz"),
        torch_version=torch.__version__,
        columns=COLUMNS,
        inputs=list(inputs),
        cases=np.array(table, np.int16),
        y=flat["y"],
        indices=flat["indices"].astype(np.int16),
        g=flat["g"].astype(np.int16),
        dx=flat["dx"],
        **{key: x.astype(np.int32) for key, x in inputs.items()},
    )
    print(f"{len(table)} cases recorded with torch {torch.__version__}")


if __name__ == "__main__":
    main()
