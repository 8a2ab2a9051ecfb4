"""The race of targets and the walk along the boundary, also where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.attacks.conftest import settings
from tests.attacks.test_nearest_side import N, pruned_to_a_bias, surroundings

pytestmark = pytest.mark.tf


def _race(norm, **options):
    from prunegrid.workers.catalog import ATTACKS

    return ATTACKS[f"target_race_{norm}"].make(options)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_best_other_class_that_no_input_moves_hides_no_other(norm):
    """Flat towards one class, so that its runner follows the other; and two targets are few."""
    from prunegrid.workers.attacks.runtime.network import Network

    network, (batch, context) = Network(pruned_to_a_bias()), surroundings()
    _, slopes = network.margin_and_gradient()(batch.images, batch.labels.astype(np.int32))
    assert not np.any(slopes), "the margin to the best other class has no gradient"
    (found,) = _race(norm).strict(network, batch, context)
    assert found.claimed.all()
    assert (found.flat > 0).all()
    assert (network.logits(found.images).argmax(axis=1) == 2).all()
    # The boundary is where the first pixel is 1/2, and nothing else matters.
    np.testing.assert_allclose(found.distance, 0.5 - batch.images[:, 0, 0, 0], rtol=2e-3)


def in_a_kink():
    """Two classes of 4x4 images; the second wins where the first and the second pixel both are
    above 1/2: its logit is their minimum, a - relu(a - b)."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            layers.Dense(2, activation="relu"),
            layers.Dense(2),
        ]
    )
    first = np.zeros((16, 2), np.float32)
    first[0, 0], first[0, 1], first[1, 1] = 1.0, 1.0, -1.0
    last = np.array([[0.0, 1.0], [0.0, -1.0]], np.float32)
    model.set_weights([first, np.zeros(2, np.float32), last, np.array([0.5, 0.0], np.float32)])
    return model


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_walk_reaches_a_nearest_point_that_lies_in_a_kink(norm):
    """There the planes of both sides alternate, and neither leads to it."""
    from prunegrid.workers.attacks.runtime.network import Network

    network, (batch, context) = Network(in_a_kink()), surroundings()
    pixels = 0.5 - batch.images.reshape(N, -1)[:, :2]
    nearest = np.linalg.norm(pixels, axis=1) if norm == "l2" else pixels.max(axis=1)
    (found,) = _race(norm).strict(network, batch, context)
    assert (found.distance >= nearest * (1 - 1e-5)).all()
    np.testing.assert_allclose(found.distance, nearest, rtol=1e-2)
    (short,) = _race(norm, steps=12, walk=1).strict(network, batch, context)
    (walked,) = _race(norm, steps=12).strict(network, batch, context)
    assert (walked.distance / nearest - 1).mean() < 0.25 * (short.distance / nearest - 1).mean()


def test_the_mean_of_the_planes_leads_into_a_kink():
    """After a short race. By the last plane alone, .9 % are missing after as many steps (30)."""
    from prunegrid.workers.attacks.runtime.network import Network

    network, (batch, context) = Network(in_a_kink()), surroundings()
    nearest = (0.5 - batch.images.reshape(N, -1)[:, :2]).max(axis=1)
    options = {"targets": 1, "steps": 8, "leads": 1}
    (found,) = _race("linf", **options).strict(network, batch, context)
    np.testing.assert_allclose(found.distance, nearest, rtol=1e-3)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_passes_are_counted_and_bounded(shard, cnn5, norm):
    options = {"targets": 6, "steps": 24, "leads": 2, "walk": 5}
    columns = shard(cnn5, settings(f"target_race_{norm}", "strict", options=options), 0, 24)
    right = np.array(columns["distance"]) > 0
    forward, backward = (np.array(columns[name])[right] for name in ("queries", "backward_passes"))
    # 6 targets for 4 steps, 4 for 6, 3 for 14; the ranking of classes, clean, verification.
    most = 6 * 4 + 4 * 6 + 3 * 14
    assert (backward <= most + 2 * 5).all()
    assert (forward <= most + 2 * (5 + 7) + 3).all()
    assert (forward == backward + 2 * 7 + 3).all()


def test_nearer_than_the_literature_at_half_the_passes(shard, cnn5):
    """128 images in docs/attacks.md; here few, and each with what it had before."""
    count = 24
    ours = shard(cnn5, settings("target_race_l2", "strict", batch_size=32), 0, count)
    mine = np.array(ours["distance"])
    for attack, options in (
        ("ddn_l2", {"steps": 500}),
        ("cw_l2", {"binary_search_steps": 6, "steps": 100, "stepsize": 0.1, "initial_const": 1}),
    ):
        use = settings(attack, "strict", batch_size=32, options=options)
        theirs = np.array(shard(cnn5, use, 0, count)["distance"])
        assert (mine > theirs * 1.01).sum() <= 1, attack
        assert (theirs > mine * 1.01).sum() > 3, attack
    assert max(ours["queries"]) <= 500


def test_a_race_of_one_step_has_no_targets_to_leave_before_it(shard, cnn5):
    options = {"targets": 6, "steps": 1, "leads": 1, "walk": 1}
    columns = shard(cnn5, settings("target_race_l2", "strict", options=options), 0, 4)
    assert len(columns["distance"]) == 4
