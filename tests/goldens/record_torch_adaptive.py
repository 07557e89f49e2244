"""Record what PyTorch's adaptive pools compute, on the CPU, for all small sizes.

    python tests/goldens/record_torch_adaptive.py

writes `torch_adaptive.npz` beside this file; the torch version is in its
`torch_version`. The input of size n is the permutation `x_of(n)`, so that an index says
what the maximum is. Recorded, for n = 1 ... 64 and o = 1 ... 70, end to end:

  indices  uint8 (o,) of each pair: what adaptive_max_pool1d returns as indices
  avg      float32 (o,) of every 13th pair
  sums     float64, one per pair: the dot product of the averages and `weights_of(o)`

Of each pair in LARGE the same sum, `large_sums`, and `large_steps`, uint8: how far into
its window, from `i n // o` on, each maximum is.
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("torch_adaptive.npz")
PAIRS = [(n, o) for n in range(1, 65) for o in range(1, 71)]
EVERY = 13
LARGE = [(14, 7), (224, 7), (48000, 7919), (65537, 65536), (65536, 65537)]


def x_of(n):
    """The input of size n: the numbers 0 ... n - 1, shuffled."""
    return np.random.RandomState(n).permutation(n).astype(np.float32)


def weights_of(o):
    """Weights that tell every output from every other."""
    return np.random.RandomState(o).randint(1, 1000, o).astype(np.float64)


def pooled(n, o):
    """Where the maxima of x are, and the averages."""
    import torch
    import torch.nn.functional as F

    x = torch.from_numpy(x_of(n))[None, None]
    indices = F.adaptive_max_pool1d(x, o, return_indices=True)[1]
    return indices.numpy().ravel(), F.adaptive_avg_pool1d(x, o).numpy().ravel()


def record():
    """All arrays of the file."""
    import torch

    indices, avg, sums, large_steps, large_sums = [], [], [], [], []
    for number, (n, o) in enumerate(PAIRS):
        at, y = pooled(n, o)
        indices.append(at.astype(np.uint8))
        sums.append(float(y.astype(np.float64) @ weights_of(o)))
        if number % EVERY == 0:
            avg.append(y)
    for n, o in LARGE:
        at, y = pooled(n, o)
        large_steps.append((at - np.arange(o) * n // o).astype(np.uint8))
        large_sums.append(float(y.astype(np.float64) @ weights_of(o)))
    return {
        "torch_version": np.array(torch.__version__),
        "indices": np.concatenate(indices),
        "avg": np.concatenate(avg),
        "sums": np.array(sums),
        "large_steps": np.concatenate(large_steps),
        "large_sums": np.array(large_sums),
    }


def cases():
    """(n, o, indices, averages or None, weighted sum of the averages) of every pair."""
    with np.load(FILE) as file:
        data = dict(file)
    at, at_avg = 0, 0
    for number, (n, o) in enumerate(PAIRS):
        avg = None
        if number % EVERY == 0:
            avg = data["avg"][at_avg : at_avg + o]
            at_avg += o
        yield n, o, data["indices"][at : at + o], avg, data["sums"][number]
        at += o


def large_cases():
    """(n, o, indices, weighted sum of the averages) of each large pair."""
    with np.load(FILE) as file:
        steps, sums = file["large_steps"], file["large_sums"]
    ends = np.cumsum([o for _, o in LARGE])
    for (n, o), each, total in zip(
        LARGE, np.split(steps, ends[:-1]), sums, strict=True
    ):
        yield n, o, np.arange(o) * n // o + each, total


if __name__ == "__main__":
    np.savez_compressed(FILE, **record())
