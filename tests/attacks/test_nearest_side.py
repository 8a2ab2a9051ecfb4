"""The ways of `cw_walk_l2` to the boundary that gradients of the margin alone do not show."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.attacks.base import AttackContext, Batch
from prunegrid.workers.attacks.runtime.heartbeats import Ticker
from prunegrid.workers.attacks.runtime.micro_batches import MicroBatches

pytestmark = pytest.mark.tf

N = 12


def pruned_to_a_bias():
    """Three classes of 4x4 images: the first two logits are biases (2 and 1), as pruning leaves
    them; the third grows with the image's first pixel."""
    import keras

    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)], name="biases"
    )
    kernel = np.zeros((16, 3), np.float32)
    kernel[0, 2] = 4.0
    model.layers[-1].set_weights([kernel, np.array([2.0, 1.0, 0.0], np.float32)])
    return model


def surroundings() -> tuple[Batch, AttackContext]:
    images = np.random.default_rng(3).uniform(0, 0.2, (N, 4, 4, 1)).astype(np.float32)
    batch = Batch(images=images, labels=np.zeros(N, np.int64), indices=np.arange(N))
    ticker = Ticker(lambda share, note: None, lambda: False)
    return batch, AttackContext(
        eps=(), seed=0, micro_batches=MicroBatches(16), pool=None, ticker=ticker
    )


def test_a_best_other_class_that_no_input_moves_hides_no_other():
    from prunegrid.workers.attacks.algorithms.carlini_wagner.nearest_side import (
        linear_crossing,
        nearest_side,
    )
    from prunegrid.workers.attacks.runtime.network import Network

    network, (batch, context) = Network(pruned_to_a_bias()), surroundings()
    _, slopes = network.margin_and_gradient()(batch.images, batch.labels.astype(np.int32))
    assert not np.any(slopes), "the margin to the best other class has no gradient"
    images, found, queries = linear_crossing(network, batch, context)
    assert found.all()
    assert (network.logits(images).argmax(axis=1) == 2).all()
    assert (queries <= 6).all()
    nearest, _ = nearest_side(network, batch, images, found, context)
    # The boundary is where the first pixel is 1/2, and nothing else matters.
    moved = np.abs(nearest - batch.images).reshape(N, -1)
    np.testing.assert_allclose(moved[:, 0], 0.5 - batch.images[:, 0, 0, 0], rtol=0.02)
    np.testing.assert_allclose(moved[:, 1:], 0, atol=1e-6)


def test_where_adam_finds_nothing_the_attack_does_all_the_same():
    """Flat ends of tanh, a dead margin: no search of C&W's own moves such an image."""
    from prunegrid.workers.attacks.algorithms.carlini_wagner import (
        CarliniWagnerL2,
        CarliniWagnerWalkL2,
    )
    from prunegrid.workers.attacks.runtime.network import Network

    options = {
        "binary_search_steps": 2, "steps": 20, "stepsize": 0.01, "initial_const": 1.0,
        "confidence": 0.0, "abort_early": True,
    }  # fmt: skip
    network, (batch, context) = Network(pruned_to_a_bias()), surroundings()
    (alone,) = CarliniWagnerL2(**options).strict(network, batch, context)
    assert not alone.claimed.any()
    (found,) = CarliniWagnerWalkL2(**options).strict(network, batch, context)
    assert found.claimed.all()
    np.testing.assert_allclose(found.distance, 0.5 - batch.images[:, 0, 0, 0], rtol=0.02)
