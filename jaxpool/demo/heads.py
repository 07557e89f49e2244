"""Two small models around pyramids, trained on real images in either Flax system.

    python -m jaxpool.demo.heads [--steps 100]

* A detector in YOLO's manner: convolutions, `SPPF`, and a score per cell for each digit
  and for none, on handwritten digits laid over a photograph.
* A segmenter in DeepLab's manner, `ASPP` or `PPM` on convolutions, which finds the
  flower in grey crops of a photograph; its colours say where that is.

Each is written twice, for `flax.nnx` and for `flax.linen`; the images are those that
scikit-learn bundles.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from flax import linen, nnx
from sklearn import datasets

from .. import linen as linen_pools
from .. import nnx as nnx_pools

CROP, CELL = 64, 8  # pixels
CLASSES = 11  # ten digits, and none
WIDTHS = (16, 24, 32)
BATCH_SIZE = 8
LEARNING_RATE = 3e-3

Batch = tuple[np.ndarray, np.ndarray]


# --- Real images ----------------------------------------------------------------------


def detection_batches(seed: int) -> Iterator[Batch]:
    """Crops `(n, 64, 64, 1)` with digits in some cells, and the class of each cell."""
    rng = np.random.default_rng(seed)
    photo = _grey(datasets.load_sample_image("china.jpg"))
    digits: Any = datasets.load_digits()
    while True:
        images = _crops(photo, rng) * 0.5
        labels = np.full((BATCH_SIZE, CROP // CELL, CROP // CELL), CLASSES - 1)
        for cell in np.argwhere(rng.uniform(size=labels.shape) < 0.25):
            which = rng.integers(len(digits.images))
            n, i, j = cell
            rows, columns = (slice(CELL * k, CELL * (k + 1)) for k in (i, j))
            patch = images[n, rows, columns, 0]
            np.maximum(patch, digits.images[which] / 16, out=patch)
            labels[n, i, j] = digits.target[which]
        yield images, labels.astype(np.int32)


def segmentation_batches(seed: int) -> Iterator[Batch]:
    """Grey crops `(n, 64, 64, 1)` of the flower, and where it is."""
    rng = np.random.default_rng(seed)
    photo = datasets.load_sample_image("flower.jpg")[::3, ::3]
    red, green, _ = np.moveaxis(photo.astype(np.float32), -1, 0)
    both = np.concatenate([_grey(photo), (red > 1.3 * green)[..., None]], axis=-1)
    while True:
        crops = _crops(both, rng)
        yield crops[..., :1], crops[..., 1].astype(np.int32)


def _grey(photo):
    return (photo.mean(-1, keepdims=True) / 255).astype(np.float32)


def _crops(image, rng):
    places = [rng.integers(n - CROP, size=BATCH_SIZE) for n in image.shape[:2]]
    return np.stack(
        [image[i : i + CROP, j : j + CROP] for i, j in zip(*places, strict=True)]
    )


# --- The models -----------------------------------------------------------------------

# In either system, the channels of the output, and the options. PPM puts as many again
# beside those that it is given.
HEADS = {
    "SPPF": (nnx_pools.SPPF, linen_pools.SPPF, 32, {"kernel_size": 3}),
    "ASPP": (nnx_pools.ASPP, linen_pools.ASPP, 32, {"rates": (1, 2, 3)}),
    "PPM": (nnx_pools.PPM, linen_pools.PPM, 64, {}),
}


class NNXModel(nnx.Module):
    """Convolutions with strides of 2, a head, and scores per cell."""

    def __init__(self, head: str, classes: int, *, rngs: nnx.Rngs):
        widths = (1, *WIDTHS)
        pairs = zip(widths, WIDTHS, strict=False)
        self.stages = nnx.List(
            nnx_pools.ConvNormAct(a, b, (3, 3), strides=2, rngs=rngs) for a, b in pairs
        )
        make, _, features, options = HEADS[head]
        sizes = () if head == "PPM" else (features,)
        self.head = make(WIDTHS[-1], *sizes, **options, rngs=rngs)
        self.scores = nnx.Conv(features, classes, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Scores `(n, 8, 8, classes)` of crops `(n, 64, 64, 1)`."""
        for stage in self.stages:
            x = stage(x)
        return self.scores(self.head(x))


class LinenModel(linen.Module):
    """The same in Linen."""

    head: str
    classes: int

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Scores `(n, 8, 8, classes)` of crops `(n, 64, 64, 1)`."""
        for width in WIDTHS:
            x = linen_pools.ConvNormAct(width, (3, 3), strides=2)(x, not train)
        _, make, features, options = HEADS[self.head]
        sizes = () if self.head == "PPM" else (features,)
        x = make(*sizes, **options)(x, not train)
        return linen.Conv(self.classes, (1, 1))(x)


# --- Training -------------------------------------------------------------------------


def loss_of(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy; scores are resized to the labels."""
    shape = (*labels.shape, scores.shape[-1])
    scores = jax.image.resize(scores, shape, "linear")
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    return losses.mean()


def train_nnx(head: str, classes: int, batches: Iterator[Batch], steps: int):
    """Trains a model in NNX; the loss of every step."""
    model = NNXModel(head, classes, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, images, labels):
        loss, grads = nnx.value_and_grad(lambda m: loss_of(m(images), labels))(model)
        optimizer.update(model, grads)
        return loss

    losses = [step(model, optimizer, *next(batches)) for _ in range(steps)]
    return np.array(jax.device_get(losses))


def train_linen(head: str, classes: int, batches: Iterator[Batch], steps: int):
    """Trains a model in Linen; the loss of every step."""
    model, optimizer = LinenModel(head, classes), optax.adam(LEARNING_RATE)
    key = jax.random.key(0)
    variables = jax.jit(model.init, static_argnums=2)(key, next(batches)[0], False)
    params, stats = variables["params"], variables["batch_stats"]

    @jax.jit
    def step(params, stats, state, key, images, labels):
        def objective(params):
            scores, changed = model.apply(
                {"params": params, "batch_stats": stats},
                images,
                True,
                rngs={"dropout": key},
                mutable="batch_stats",
            )
            return loss_of(scores, labels), changed["batch_stats"]

        grad = jax.value_and_grad(objective, has_aux=True)
        (loss, stats_now), grads = grad(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), stats_now, state, loss

    state, losses = optimizer.init(params), []
    for i in range(steps):
        now = jax.random.fold_in(key, i)
        params, stats, state, loss = step(params, stats, state, now, *next(batches))
        losses.append(loss)
    return np.array(jax.device_get(losses))


TASKS: dict[str, tuple[str, int, Callable[[int], Iterator[Batch]]]] = {
    "detector": ("SPPF", CLASSES, detection_batches),
    "segmenter": ("ASPP", 2, segmentation_batches),
    "segmenter (PPM)": ("PPM", 2, segmentation_batches),
}
SYSTEMS = {"nnx": train_nnx, "linen": train_linen}


def main() -> None:
    """Trains every model in both systems and prints how the loss fell."""
    parser = argparse.ArgumentParser(prog="python -m jaxpool.demo.heads")
    parser.add_argument("--steps", type=int, default=100, help="training steps")
    steps = parser.parse_args().steps
    print(f"{'model':16} {'head':5} {'system':6}  first loss  last loss (mean of 10)")
    for task, (head, classes, batches) in TASKS.items():
        for system, train in SYSTEMS.items():
            losses = train(head, classes, batches(0), steps)
            last = losses[-10:].mean()
            print(f"{task:16} {head:5} {system:6}  {losses[0]:10.3f}  {last:9.3f}")


if __name__ == "__main__":
    main()
