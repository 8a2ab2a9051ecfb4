"""The engine `foolbox` against Foolbox itself, image by image and bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.attacks.conftest import settings

pytestmark = pytest.mark.tf

#: What must be equal; the count of passes differs by ours.
SAME = ("broken", "distance", "adversarial_prediction", "clean_prediction", "verified")
EPS = (8 / 255, 48 / 255)
CW = {"binary_search_steps": 3, "steps": 20}


def both(shard, model, stop, attack, **changes):
    stock = shard(model, settings(attack, "foolbox-stock", **changes), 0, stop)
    ours = shard(model, settings(attack, "foolbox", **changes), 0, stop)
    for name in SAME:
        assert ours[name] == stock[name], name
    return ours


@pytest.mark.parametrize("outputs", ["logits", "softmax"])
@pytest.mark.parametrize("batch_size", [16, 7])
def test_pgd_equals_foolbox(shard, cnn5, outputs, batch_size):
    ours = both(
        shard, cnn5, 20, "pgd_linf", eps=EPS, outputs=outputs, batch_size=batch_size,
        options={"steps": 12, "restarts": 2},
    )  # fmt: skip
    assert any(ours["broken"])
    assert not all(ours["broken"])


@pytest.mark.parametrize("outputs", ["logits", "softmax"])
@pytest.mark.parametrize("batch_size", [16, 7])
def test_cw_equals_foolbox(shard, cnn5, outputs, batch_size):
    ours = both(shard, cnn5, 20, "cw_l2", outputs=outputs, batch_size=batch_size, options=CW)
    assert 0.0 in ours["distance"], "expected a misclassified image in the batch"
    assert len(set(ours["distance"])) > 10


def test_cw_aborts_as_foolbox_does(shard, cnn5):
    """Enough steps for the batch's loss to stop falling between two checks."""
    options = {"binary_search_steps": 2, "steps": 30, "stepsize": 3.0, "initial_const": 100.0}
    ours = both(shard, cnn5, 16, "cw_l2", options=options)
    assert max(ours["queries"]) < 2 * 30


def test_cw_spends_the_tenth_search_at_the_upper_bound(shard, cnn5):
    options = {"binary_search_steps": 10, "steps": 4, "stepsize": 0.2, "initial_const": 1.0}
    both(shard, cnn5, 16, "cw_l2", options=options)


def test_cw_failures_are_black_images_in_both(shard, cnn5):
    """No step finds anything: what Foolbox then returns is judged like any other image."""
    options = {"binary_search_steps": 1, "steps": 2, "stepsize": 1e-4, "initial_const": 1e-3}
    ours = both(shard, cnn5, 16, "cw_l2", options=options)
    assert np.inf in ours["distance"], "expected a black image that keeps the label's class"
    assert max(d for d in ours["distance"] if np.isfinite(d)) > 4, "expected a black image"


def test_pgd_and_cw_equal_foolbox_on_a_residual_network(shard, resnet8):
    both(shard, resnet8, 16, "pgd_linf", eps=(2 / 255,), options={"steps": 6})
    both(shard, resnet8, 16, "cw_l2", options={"binary_search_steps": 2, "steps": 8})


def test_saturated_pixels(shard, cnn5, images):
    """Pixels that are all 0 or 1 sit on the box, where tanh space ends."""
    hard = np.round(images.test[:16])
    for attack, changes in (
        ("cw_l2", {"options": CW}),
        ("pgd_linf", {"eps": EPS, "options": {"steps": 5}}),
    ):
        stock = shard(cnn5, settings(attack, "foolbox-stock", **changes), 0, 16, images=hard)
        ours = shard(cnn5, settings(attack, "foolbox", **changes), 0, 16, images=hard)
        assert ours["distance"] == stock["distance"]


@pytest.mark.parametrize("outputs", ["logits", "softmax"])
def test_bb_equals_foolbox(shard, cnn5, uncompiled_foolbox, outputs):
    options = {"steps": 12, "binary_search_steps": 12}
    ours = both(shard, cnn5, 12, "bb_l0", batch_size=12, outputs=outputs, options=options)
    assert 0.0 in ours["distance"], "expected a misclassified image in the batch"


def test_bb_equals_foolbox_where_the_radius_binds(shard, cnn5, uncompiled_foolbox):
    options = {"steps": 5, "binary_search_steps": 10, "lr": 1e-3, "lr_num_decay": 5}
    both(shard, cnn5, 4, "bb_l0", batch_size=4, options=options)
