"""The contest: one small network per pooling mode, trained on handwritten digits.

Every mode starts from the same weights and sees the same batches for a given seed, so
that two modes differ by their pooling alone.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn import datasets

from ._modes import MODES

WINDOW_SHAPE = (2, 2)
FEATURES = (16, 32)
LEARNING_RATE = 3e-3
TIMING_ROUNDS = 15
STEPS_PER_ROUND = 10

Pool = Callable[[jax.Array], jax.Array]


class Digits(NamedTuple):
    """Images `(n, 8, 8, 1)` in [0, 1] and their labels `(n,)`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_digits() -> Digits:
    """Loads scikit-learn's 1,797 digits: the first half trains, the rest tests.

    Not shuffled, as in scikit-learn's own example: neighbours in the file look alike,
    and a shuffled split is too easy to tell the modes apart.
    """
    data: Any = datasets.load_digits()
    images = (data.images[..., None] / 16).astype(np.float32)
    labels = data.target.astype(np.int32)
    half = len(images) // 2
    return Digits(images[:half], labels[:half], images[half:], labels[half:])


class PooledNet(nnx.Module):
    """Two stages of convolution, ReLU and pooling, then a dense layer."""

    def __init__(self, pool: Pool, *, rngs: nnx.Rngs):
        self.pool = pool
        shape = (8, 8, 1)
        convolutions = []
        for features in FEATURES:
            convolutions.append(nnx.Conv(shape[-1], features, (3, 3), rngs=rngs))
            # Asked, not computed: a pool may also return more channels than it takes.
            shape = jax.eval_shape(pool, jnp.zeros((*shape[:-1], features))).shape
        self.conv1, self.conv2 = convolutions
        self.dense = nnx.Linear(int(np.prod(shape)), 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns the logits `(n, 10)` of images `(n, 8, 8, 1)`."""
        x = self.pool(nnx.relu(self.conv1(images)))
        x = self.pool(nnx.relu(self.conv2(x)))
        return self.dense(x.reshape(x.shape[0], -1))


class Trainer(NamedTuple):
    """One mode's network as pure functions; each is compiled once, for every seed."""

    init: Callable[[int], tuple[Any, Any]]  # seed -> params, optimizer state
    step: Callable[..., tuple[Any, Any, jax.Array]]  # ..., images, labels -> ..., loss
    accuracy: Callable[..., jax.Array]  # params, images, labels -> fraction right


def make_trainer(mode: str, steps: int) -> Trainer:
    """Builds the network of `mode`, to be trained for `steps` steps."""

    def pool(x):
        return MODES[mode](x, WINDOW_SHAPE)

    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))
    graph, _ = nnx.split(nnx.eval_shape(lambda: PooledNet(pool, rngs=nnx.Rngs(0))))

    def init(seed):
        _, params = nnx.split(PooledNet(pool, rngs=nnx.Rngs(seed)))
        return params, optimizer.init(params)

    def loss_of(params, images, labels):
        logits = nnx.merge(graph, params)(images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    @jax.jit
    def step(params, state, images, labels):
        loss, gradient = jax.value_and_grad(loss_of)(params, images, labels)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    @jax.jit
    def accuracy(params, images, labels):
        return (nnx.merge(graph, params)(images).argmax(-1) == labels).mean()

    return Trainer(init, step, accuracy)


class Run(NamedTuple):
    """What one seed of one mode came to."""

    seed: int
    accuracy: float
    loss: list[float]  # mean over each epoch
    params: Any
    state: Any


def train(
    trainer: Trainer,
    digits: Digits,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    on_epoch: Callable[[], None],
) -> Run:
    """Trains from scratch; the seed draws the weights and the order of the images."""
    params, state = trainer.init(seed)
    rng = np.random.default_rng(seed)
    curve = []
    for _ in range(epochs):
        losses = []
        for batch in _batches(len(digits.train_labels), batch_size, rng):
            images, labels = digits.train_images[batch], digits.train_labels[batch]
            params, state, loss = trainer.step(params, state, images, labels)
            losses.append(loss)
        curve.append(float(np.mean(jax.device_get(losses))))
        on_epoch()
    accuracy = trainer.accuracy(params, digits.test_images, digits.test_labels)
    return Run(seed, float(accuracy), curve, params, state)


def _batches(size: int, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    # The incomplete last batch is left out: its shape would need its own compilation.
    count = size // batch_size
    return rng.permutation(size)[: count * batch_size].reshape(count, batch_size)


def count_parameters(params: Any) -> int:
    """Counts the numbers that training adjusts."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def time_steps(
    trainers: dict[str, Trainer],
    digits: Digits,
    *,
    batch_size: int,
    rounds: Callable[[range], Iterable[int]],
) -> dict[str, float]:
    """Measures the seconds of one training step of each mode, compilation left out.

    The modes take turns, in a round there and back again, so that whatever else the
    machine does meets all of them alike; the figure is the median over rounds.
    """
    batch = (digits.train_images[:batch_size], digits.train_labels[:batch_size])
    images, labels = jax.device_put(batch)
    states = {mode: trainer.init(0) for mode, trainer in trainers.items()}
    seconds: dict[str, list[float]] = {mode: [] for mode in trainers}

    def measure(mode):
        params, state = states[mode]
        step = trainers[mode].step
        start = time.perf_counter()
        for _ in range(STEPS_PER_ROUND):
            params, state, _ = step(params, state, images, labels)
        jax.block_until_ready((params, state))
        seconds[mode].append((time.perf_counter() - start) / STEPS_PER_ROUND)

    for mode in trainers:
        measure(mode)  # compiles where nothing has been trained yet
        seconds[mode].clear()
    for round_ in rounds(range(TIMING_ROUNDS)):
        for mode in list(trainers)[:: 1 if round_ % 2 else -1]:
            measure(mode)
    return {mode: float(np.median(values)) for mode, values in seconds.items()}


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Gathers the runs of one mode into what `results.json` says about it."""
    accuracies = [run.accuracy for run in runs]
    return {
        "accuracy_mean": float(np.mean(accuracies)),
        # The sample's standard deviation, which one seed does not have.
        "accuracy_std": float(np.std(accuracies, ddof=1)) if len(runs) > 1 else None,
        "parameters": count_parameters(runs[0].params),
        "runs": [
            {
                "seed": run.seed,
                "accuracy": run.accuracy,
                # JSON has no word for NaN; a diverged epoch is null.
                "loss": [x if np.isfinite(x) else None for x in run.loss],
            }
            for run in runs
        ],
    }


def describe_network() -> str:
    """Names the layers of `PooledNet`, and the window of its pools."""
    stages = "".join(f"conv 3x3 ({n}), ReLU, pool; " for n in FEATURES)
    return f"{stages}dense (10); pool: {'x'.join(map(str, WINDOW_SHAPE))}"
