"""`strict`: an image's result does not depend on its shard, nor on other images or their order."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.catalog import ATTACKS
from tests.attacks.conftest import quick, settings

pytestmark = pytest.mark.tf

CASES = {
    "pgd_linf": {"eps": (8 / 255, 32 / 255), "options": {"steps": 15, "restarts": 2}},
    "cw_l2": {"options": {"binary_search_steps": 3, "steps": 20}},
    "bb_l0": {"options": {"binary_search_steps": 5, "steps": 40}},
}
STRICT = [name for name, entry in ATTACKS.items() if "strict" in entry.engines]
COLUMNS = (
    "image", "eps", "label", "clean_prediction", "adversarial_prediction", "distance",
    "distance_loose", "distance_pixels", "broken", "verified", "queries", "compute_batch",
    "zero_gradient",
)  # fmt: skip


def rows(columns):
    keys = zip(columns["image"], columns["eps"], strict=True)
    values = zip(*(columns[name] for name in COLUMNS), strict=True)
    return dict(zip(keys, values, strict=True))


@pytest.mark.parametrize("outputs", ["logits", "softmax"])
@pytest.mark.parametrize("attack", STRICT)
def test_equal_for_every_sharding(shard, cnn5, attack, outputs):
    if outputs == "softmax" and attack != "cw_l2":
        pytest.skip("softmax changes the network alone; C&W amplifies most")
    use = quick(attack, "strict", outputs=outputs, batch_size=32, **CASES.get(attack, {}))
    count = 70 if attack != "bb_l0" else 66
    whole = rows(shard(cnn5, use, 0, count))
    for size in (1, 7, 64):
        stop = min(count, 8 * size)  # eight single images are enough
        for start in range(0, stop, size):
            part = rows(shard(cnn5, use, start, min(start + size, count)))
            for key, value in part.items():
                assert value == whole[key], (size, key)


@pytest.mark.parametrize("attack", CASES)
def test_foolboxs_batches_are_equal_in_shards_of_whole_ones(shard, cnn5, attack):
    """What `prunegrid measure` proposes cuts no batch; the last one may be smaller."""
    use = settings(attack, "foolbox", batch_size=16, **CASES[attack])
    whole = rows(shard(cnn5, use, 0, 40))
    parts = rows(shard(cnn5, use, 0, 16)) | rows(shard(cnn5, use, 16, 40))
    assert parts == whole
    cut = rows(shard(cnn5, use, 0, 24)) | rows(shard(cnn5, use, 24, 40))
    assert cut != whole, "the test would prove nothing"


def test_a_residual_network_too(shard, resnet8):
    use = settings("cw_l2", "strict", batch_size=16, **CASES["cw_l2"])
    whole = rows(shard(resnet8, use, 0, 20))
    for start, stop in ((0, 1), (3, 10)):
        for key, value in rows(shard(resnet8, use, start, stop)).items():
            assert value == whole[key]


def test_smaller_shapes_are_used_only_where_they_are_equal(shard, cnn5, monkeypatch):
    from prunegrid.workers.attacks.runtime.network import Network

    use = settings("cw_l2", "strict", batch_size=64, **CASES["cw_l2"])
    free = shard(cnn5, use, 0, 20)
    monkeypatch.setattr(Network, "smaller_is_equal", lambda self, size: False)
    fixed = shard(cnn5, use, 0, 20)
    assert free["distance"] == fixed["distance"]


def test_draws_are_keyed_by_image_eps_and_restart():
    from prunegrid.workers.attacks.runtime.draws import uniform

    base = uniform((4, 4, 1), 1, 2, 0.1, 0)
    assert np.array_equal(base, uniform((4, 4, 1), 1, 2, 0.1, 0))
    for other in ((2, 2, 0.1, 0), (1, 3, 0.1, 0), (1, 2, 0.2, 0), (1, 2, 0.1, 1)):
        assert not np.array_equal(base, uniform((4, 4, 1), *other))
    assert base.min() >= -1
    assert base.max() < 1
