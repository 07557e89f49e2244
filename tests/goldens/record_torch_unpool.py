"""Record PyTorch's max un-pooling and fractional max pooling, on the CPU.

    python tests/goldens/record_torch_unpool.py

writes `torch_unpool.npz` beside this file; the torch version is in its `torch_version`.
The inputs are fixed, so a rerun with the same torch writes the same arrays.

Arrays are named `<case>/<name>` and channels-last, batch axis first. A case `unpool*`
has `y` and `indices` (of a max pool of another array), `x` (un-pooled y), `g` (a
cotangent of x) and `dy`; one with overlapping windows has no gradient, since torch
gives one to windows that were overwritten as well. A case `fractional*` has `x`,
`window_shape`, `samples` (in the order of the axes, `(N, C, pooled axes)`), `y`,
`indices`, `g` and `dx`.

Numbers are small integers, so that there are ties and all sums are exact.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

# The pooled array's shape, the window and its stride and padding.
UNPOOL = [
    ((2, 9, 2), (3,), (3,), (0,)),
    ((2, 7, 1), (3,), (2,), (1,)),
    ((2, 6, 5, 3), (2, 2), (2, 2), (0, 1)),
    ((1, 5, 6, 2), (3, 2), (1, 2), (1, 0)),
    ((1, 4, 6, 5, 2), (2, 3, 2), (2, 3, 2), (0, 0, 1)),
    ((2, 4, 3, 5, 1), (2, 2, 3), (2, 1, 1), (0, 0, 1)),
]
# The input's shape, the window, the output's size, and the dtype.
FRACTIONAL = [
    ((2, 9, 8, 3), (2, 2), (6, 5), np.float32),
    ((1, 25, 7, 2), (2, 3), (18, 1), np.float32),
    ((2, 12, 11, 2), (3, 2), (3, 10), np.float64),
    ((1, 11, 13, 2), (1, 5), (5, 4), np.float64),
    ((2, 6, 5, 7, 2), (2, 2, 2), (4, 3, 5), np.float32),
    ((1, 7, 6, 5, 2), (3, 1, 2), (2, 4, 3), np.float64),
]


def first(x):
    """A torch array with channels first."""
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def last(x):
    """A NumPy array with channels last."""
    return np.moveaxis(x.detach().numpy(), 1, -1)


def unpool(rng, shape, k, s, p):
    """One case of max_unpool."""
    rank = len(k)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    back = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)[rank - 1]
    x = first(rng.randint(-3, 4, shape).astype(np.float32))
    y, indices = pool(x, k, s, p, return_indices=True)
    y.requires_grad_()
    x = back(y, indices, k, s, p, output_size=shape[1:-1])
    case = {"y": last(y), "indices": last(indices).astype(np.int32), "x": last(x)}
    if k == s:
        g = first(rng.randint(-4, 5, shape).astype(np.float32))
        (dy,) = torch.autograd.grad(x, y, g)
        case |= {"g": last(g), "dy": last(dy)}
    return case


def fractional(rng, shape, k, output, dtype):
    """One case of fractional_max_pool."""
    rank = len(k)
    pool = (F.fractional_max_pool2d, F.fractional_max_pool3d)[rank - 2]
    x = first(rng.randint(-4, 5, shape).astype(dtype)).requires_grad_()
    samples = rng.rand(shape[0], shape[-1], rank).astype(dtype)
    # 2-D takes its samples as (W, H), 3-D as (T, H, W).
    given = samples[..., ::-1] if rank == 2 else samples
    y, indices = pool(
        x,
        k,
        output_size=output,
        return_indices=True,
        _random_samples=torch.from_numpy(given.copy()),
    )
    g = torch.from_numpy(rng.randint(-4, 5, y.shape).astype(dtype))
    (dx,) = torch.autograd.grad(y, x, g)
    return {
        "x": last(x),
        "window_shape": np.array(k),
        "samples": samples,
        "y": last(y),
        "indices": last(indices).astype(np.int32),
        "g": last(g),
        "dx": last(dx),
    }


def cases():
    """Every case by its name."""
    rng = np.random.RandomState(0)  # RandomState's streams never change
    found = {f"unpool{i}": unpool(rng, *args) for i, args in enumerate(UNPOOL)}
    return found | {
        f"fractional{i}": fractional(rng, *args) for i, args in enumerate(FRACTIONAL)
    }


def main():
    torch.set_num_threads(1)
    arrays = {
        f"{name}/{key}": array
        for name, case in cases().items()
        for key, array in case.items()
    }
    file = Path(__file__).with_name("torch_unpool.npz")
    np.savez_compressed(file, torch_version=torch.__version__, **arrays)
    print(f"{len(arrays)} arrays recorded with torch {torch.__version__}")


if __name__ == "__main__":
    main()
