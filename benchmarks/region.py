"""RoI align of 512 boxes against gathers on stock JAX and torchvision.

    python -m benchmarks.region [--quick] [--json benchmarks/results/region.json]

512 boxes of 2 to 30 pixels on (2, 64, 64, 256), 7x7 bins of 2x2 samples. `gather` is
the usual form on stock JAX: the four neighbours of every sample, weighted and averaged.
The gradient is that to the images. Ratios above 1 mean ours is faster; the temporaries
are printed in MB.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxpool

from . import harness
from .harness import finish, jax_contender, measure, parse, torch, torch_contender

try:
    import torchvision  # pyright: ignore[reportMissingImports]
except (ImportError, RuntimeError):
    torchvision: Any = None

BINS, RATIO = 7, 2


def boxes_on(shape, count):
    rng = np.random.default_rng(0)
    n, h, w, _ = shape
    corner = rng.uniform(0, [w - 15, h - 15], (count, 2))
    size = rng.uniform(2, 30, (count, 2))
    boxes = np.concatenate([corner, corner + size], 1).astype(np.float32)
    return boxes, rng.integers(0, n, count).astype(np.int32)


def ours(boxes, index):
    return lambda x: jaxpool.roi_align(
        x, boxes, (BINS, BINS), batch_index=index, sampling_ratio=RATIO
    )


def gather(boxes, index):
    """What is written without a library."""

    def axis(low, high, size):
        at = (np.arange(BINS * RATIO) + 0.5) / RATIO
        y = low[:, None] - 0.5 + at * (high - low)[:, None] / BINS
        inside = (y >= -1) & (y <= size)
        y = jnp.clip(y, 0, size - 1)
        below = jnp.floor(y).astype(jnp.int32)
        return below, jnp.minimum(below + 1, size - 1), y - below, inside

    def run(x):
        x1, y1, x2, y2 = jnp.asarray(boxes).T
        low_y, high_y, fy, in_y = axis(y1, y2, x.shape[1])
        low_x, high_x, fx, in_x = axis(x1, x2, x.shape[2])

        def at(i, j):
            found = x[index[:, None, None], i[:, :, None], j[:, None, :]]
            return found.astype(jnp.float32)

        fy, fx = fy[:, :, None, None], fx[:, None, :, None]
        y = at(low_y, low_x) * (1 - fy) * (1 - fx) + at(low_y, high_x) * (1 - fy) * fx
        y += at(high_y, low_x) * fy * (1 - fx) + at(high_y, high_x) * fy * fx
        y = jnp.where((in_y[:, :, None] & in_x[:, None, :])[..., None], y, 0)
        k, _, _, c = y.shape
        y = y.reshape(k, BINS, RATIO, BINS, RATIO, c).mean((2, 4))
        return y.astype(x.dtype)

    return run


def of_torchvision(boxes, index):
    rois = torch.tensor(np.concatenate([index[:, None], boxes], 1))
    if harness.on_gpu():
        rois = rois.cuda()
    return lambda x: torchvision.ops.roi_align(
        x, rois.to(x.dtype), BINS, sampling_ratio=RATIO, aligned=True
    )


def main() -> None:
    """Measures every case and prints the table."""
    args = parse(__doc__ or "")
    shape, count = ((2, 32, 32, 32), 64) if args.quick else ((2, 64, 64, 256), 512)
    boxes, index = boxes_on(shape, count)
    rows = []
    for dtype in ("float32", "bfloat16"):
        x = jax.random.normal(jax.random.key(0), shape, jnp.float32).astype(dtype)
        for backward in (False, True):
            runs = {
                "ours": jax_contender(ours(boxes, index), x, backward),
                "gather": jax_contender(gather(boxes, index), x, backward),
            }
            if torchvision is not None and dtype == "float32":
                fn = of_torchvision(boxes, index)
                runs["torchvision"] = torch_contender(fn, x, backward)
            label = f"roi_align {dtype} {'fwd+bwd' if backward else 'fwd'}"
            rows.append(measure(label, runs, args.rounds))
            used = {
                name: temporaries(make(boxes, index), x, backward)
                for name, make in (("ours", ours), ("gather", gather))
            }
            print(label, *(f"{k} {v:.0f} MB" for k, v in used.items()), flush=True)
    finish("regions: times faster than", rows, ["gather", "torchvision"], args)


def temporaries(fn, x, backward) -> float:
    """MB that the program needs besides its inputs and outputs."""

    def run(x):
        y, pullback = jax.vjp(fn, x)
        return (y, pullback(y)) if backward else y

    analysis: Any = jax.jit(run).lower(x).compile().memory_analysis()
    return analysis.temp_size_in_bytes / 1e6


if __name__ == "__main__":
    main()
