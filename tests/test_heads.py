"""The two models around pyramids: they learn, in either system."""

import jax
import numpy as np
import pytest

from jaxpool.demo import heads


def test_batches_are_real_images_and_their_labels():
    images, labels = next(heads.detection_batches(0))
    assert images.shape == (8, 64, 64, 1) and labels.shape == (8, 8, 8)
    assert 0.1 < (labels < 10).mean() < 0.4  # a quarter of the cells hold a digit
    assert images.std() > 0.05 and 0 <= images.min() < images.max() <= 1
    images, labels = next(heads.segmentation_batches(0))
    assert images.shape == (8, 64, 64, 1) and labels.shape == (8, 64, 64)
    assert 0.02 < labels.mean() < 0.9  # flower and background


@pytest.mark.once
@pytest.mark.parametrize("system", heads.SYSTEMS)
@pytest.mark.parametrize("task", heads.TASKS)
@jax.numpy_dtype_promotion("standard")  # optax relies on it
@jax.numpy_rank_promotion("allow")
def test_the_loss_falls(task, system):
    head, classes, batches = heads.TASKS[task]
    losses = heads.SYSTEMS[system](head, classes, batches(0), 24)
    assert np.isfinite(losses).all()
    assert losses[-4:].mean() < 0.8 * losses[:2].mean()
