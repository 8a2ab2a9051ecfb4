"""An attack that claims what is not so is refused."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.attacks.base import AttackLied, AttackResult, Batch, row_norms
from prunegrid.workers.attacks.runtime.verification import verify_adversarials

CLEAN = np.full((3, 2, 2, 1), 0.5, np.float32)
BATCH = Batch(images=CLEAN, labels=np.array([0, 0, 0]), indices=np.array([7, 8, 9]))
#: Class 1 wins everywhere.
CHANGED = np.array([[0.0, 5.0, 1.0]] * 3, np.float32)


def found(images, claimed=(True, True, True), distance=(0.1, 0.1, 0.1)):
    return AttackResult(
        images=images,
        claimed=np.array(claimed),
        distance=np.array(distance),
        queries=np.ones(3, np.int64),
    )


def moved(by=0.1):
    images = CLEAN.copy()
    images[:, 0, 0, 0] += np.float32(by)
    return images


def test_an_honest_claim_is_confirmed_and_measured():
    checked = verify_adversarials(BATCH, found(moved()), CHANGED, norm="linf", eps=0.1)
    assert checked.broken.all()
    np.testing.assert_allclose(checked.distance, 0.1, rtol=1e-5)
    assert checked.prediction.tolist() == [1, 1, 1]
    assert checked.distance_loose is None


def test_what_is_not_claimed_does_not_count():
    checked = verify_adversarials(
        BATCH, found(moved(), claimed=(True, False, True)), CHANGED, norm="l2", eps=None
    )
    assert checked.broken.tolist() == [True, False, True]
    assert checked.distance[1] == np.inf


@pytest.mark.parametrize(
    ("images", "distance", "logits", "eps", "message"),
    [
        (moved(), 0.1, np.array([[5.0, 0, 1]] * 3, np.float32), None, "class is still the label's"),
        (moved(), 0.1, np.full((3, 3), np.nan, np.float32), None, "class is still the label's"),
        (moved(0.6), 0.6, CHANGED, None, "outside"),
        (moved(), 0.05, CHANGED, None, "norm is not as claimed"),
        (moved(), 0.1, CHANGED, 0.05, "further than eps"),
    ],
)
def test_a_lie_is_named(images, distance, logits, eps, message):
    claim = found(images, distance=(distance,) * 3)
    with pytest.raises(AttackLied, match=f"image 7: .*{message}.*3 of 3"):
        verify_adversarials(BATCH, claim, logits, norm="linf", eps=eps)


def test_a_tie_that_rounding_decides_is_no_lie_and_no_success():
    tied = np.array([[5.0, 5.0 - 1e-5, 1.0]] * 3, np.float32)
    checked = verify_adversarials(BATCH, found(moved()), tied, norm="linf", eps=None)
    assert not checked.broken.any()


def test_l0_is_counted_both_ways():
    images = CLEAN.copy()
    images[:, 0, 0, 0] += np.float32(0.2)
    images[:, 1, 1, 0] += np.float32(5e-5)
    checked = verify_adversarials(
        BATCH, found(images, distance=(2, 2, 2)), CHANGED, norm="l0", eps=None
    )
    assert checked.distance.tolist() == [2, 2, 2]
    assert checked.distance_loose is not None
    assert checked.distance_loose.tolist() == [1, 1, 1]


def test_a_pixel_counts_once_however_many_of_its_channels_changed():
    delta = np.zeros((2, 3, 3, 3), np.float32)
    delta[0, 1, 1] = 0.5
    delta[0, 2, 0, 1] = -0.5
    delta[1, :, :, 2] = 1e-6
    assert row_norms(delta, "l0").tolist() == [4, 9]
    assert row_norms(delta, "l0_pixels").tolist() == [2, 9]


def test_an_l0_distance_has_its_pixels_and_another_norm_has_none():
    clean = np.full((3, 4, 4, 3), 0.5, np.float32)
    colour = Batch(images=clean, labels=BATCH.labels, indices=BATCH.indices)
    images = colour.images.copy()
    images[:, 0, 0, :] += np.float32(0.2)
    images[:, 1, 1, 0] += np.float32(0.2)
    claim = found(images, distance=(4, 4, 4))
    checked = verify_adversarials(colour, claim, CHANGED, norm="l0", eps=None)
    assert checked.distance.tolist() == [4, 4, 4]
    assert checked.distance_pixels is not None
    assert checked.distance_pixels.tolist() == [2, 2, 2]
    linf = verify_adversarials(BATCH, found(moved()), CHANGED, norm="linf", eps=None)
    assert linf.distance_pixels is None


@pytest.mark.parametrize("norm", ["l0", "l0_pixels", "l0_loose", "l2", "linf"])
def test_no_images_have_no_norms(norm):
    """As of a batch in which no image has a start."""
    assert row_norms(np.zeros((0, 4, 4, 1), np.float32), norm).shape == (0,)
