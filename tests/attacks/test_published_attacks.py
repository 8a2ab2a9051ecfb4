"""APGD, FAB, Square, DDN, ALMA, sigma-zero and AutoAttack: what their papers promise."""

from __future__ import annotations

import numpy as np
import pytest

from tests.attacks.conftest import quick, settings
from tests.attacks.test_flat_margins import _of_one_pixel, certain, of_one_unit
from tests.attacks.test_nearest_side import surroundings

pytestmark = pytest.mark.tf

COUNT = 32


def alike():
    """Four logits of 4x4 images from their first pixel; three fall as one, the last rises."""
    return _of_one_pixel([-4.0, -4.0, -4.0, 4.0], [2.0, 1.9, 1.8, 0.0])


FIXED = {"linf": (0.05, 0.15), "l2": (0.6, 1.5)}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_autoattack_breaks_what_any_of_its_parts_breaks(shard, cnn5, norm):
    """Each draws by image alone, and so does in a row what it does alone."""
    short = {"steps": 6, "targets": 2}
    parts = {
        "apgd-ce": ("apgd", {"steps": 6}),
        "apgd-dlr-t": ("apgd", {"steps": 6, "ratio": True, "targets": 2}),
        "fab-t": ("fab", short),
        "square": ("square", {"steps": 30}),
    }
    eps = FIXED[norm]
    use = settings(f"autoattack_{norm}", "strict", eps=eps, options=short | {"square_steps": 30})
    whole = shard(cnn5, use, 0, COUNT)
    broken, by = (np.array(whole[name]).reshape(2, COUNT) for name in ("broken", "broken_by"))
    wrong = np.array(whole["clean_prediction"]).reshape(2, COUNT)[0] != whole["label"][:COUNT]
    expected = np.where(wrong, "wrong", "").astype("U16")[None].repeat(2, axis=0)
    for name, (attack, options) in parts.items():
        given = () if attack == "fab" else eps
        columns = shard(
            cnn5, settings(f"{attack}_{norm}", "strict", eps=given, options=options), 0, COUNT
        )
        if given:
            hit = np.array(columns["broken"]).reshape(2, COUNT)
        else:
            hit = np.array([np.array(columns["distance"]) <= e for e in eps])
        expected[(expected == "") & hit] = name
    assert np.array_equal(broken, expected != "")
    assert np.array_equal(by, np.where(np.isin(expected, list(parts)), expected, None))
    assert {"apgd-ce", "wrong", ""} <= set(expected.ravel()), "the test would prove nothing"
    first = np.array(whole["queries"]).reshape(2, COUNT)[expected == "apgd-ce"]
    assert first.max() <= 9, "steps, start, clean prediction, verification"


def test_nested_eps_are_attacked_no_second_time(shard, cnn5):
    for attack, eps, options in (
        ("apgd_linf", (0.15, 0.3), {"steps": 8}),
        ("square_linf", (0.3, 0.5), {"steps": 60}),
        ("autoattack_linf", (0.15, 0.3), {"steps": 8, "targets": 1, "square_steps": 5}),
    ):
        both = {}
        for nested in (False, True):
            use = settings(attack, "strict", eps=eps, options=options | {"nested": nested})
            columns = shard(cnn5, use, 0, COUNT)
            both[nested] = {
                name: np.array(columns[name]).reshape(2, COUNT)
                for name in ("broken", "distance", "queries")
            }
        right = np.array(columns["clean_prediction"])[:COUNT] == columns["label"][:COUNT]
        hit = both[True]["broken"][0] & right
        assert hit.any()
        assert not hit[right].all()
        assert (both[True]["distance"][0] == both[True]["distance"][1])[hit].all()
        assert (both[True]["queries"][1][hit] == 2).all()
        assert (both[True]["broken"] >= both[False]["broken"]).all()


def test_square_sees_no_gradients(shard, cnn5, monkeypatch):
    import prunegrid.workers.attacks.runtime.oracle as oracle

    def refused(*arguments):
        raise AssertionError("asked for a gradient")

    monkeypatch.setattr(oracle.Oracle, "slopes", refused)
    for norm, eps in {"linf": (0.2, 0.4), "l2": (2.0, 4.0)}.items():
        use = settings(f"square_{norm}", "strict", eps=eps, options={"steps": 150})
        columns = shard(cnn5, use, 0, COUNT)
        broken = np.array(columns["broken"]).reshape(2, COUNT)
        wrong = np.array(columns["clean_prediction"]) != columns["label"]
        assert set(np.array(columns["backward_passes"])[~wrong]) == {0}
        assert broken[1].sum() > broken[0].sum() > wrong[:COUNT].sum()
        # A query in a row, a clean prediction, a verification, and the start.
        standing = np.array(columns["queries"])[~broken.ravel()]
        assert set(standing) == {153}


def test_passes_are_counted_apart(shard, cnn5):
    steps = 5
    for attack, forward, backward in (
        ("ddn_l2", steps, steps),
        ("alma_l2", steps, steps),
        ("sigma_zero_l0", steps, steps),
        ("fab_l2", 1 + 2 * 2 * steps, 2 * steps),
    ):
        options = {"steps": steps} | ({"targets": 2} if attack == "fab_l2" else {})
        columns = shard(cnn5, settings(attack, "strict", options=options), 0, 16)
        right = np.array(columns["clean_prediction"]) == columns["label"]
        assert set(np.array(columns["queries"])[right]) == {forward + 2}, attack
        assert set(np.array(columns["backward_passes"])[right]) == {backward}, attack
        assert set(np.array(columns["flat_passes"])[right]) == {0}, attack


@pytest.mark.parametrize(
    ("attack", "options", "make"),
    [
        ("apgd_linf", {"steps": 10}, certain),
        ("apgd_l2", {"steps": 10}, certain),
        ("ddn_l2", {"steps": 20}, certain),
        ("apgd_linf", {"steps": 10, "ratio": True}, alike),
        ("fab_l2", {"steps": 10, "targets": 1}, alike),
        ("fab_linf", {"steps": 10, "targets": 1}, alike),
        ("alma_l2", {"steps": 60}, alike),
        ("sigma_zero_l0", {"steps": 20}, alike),
    ],
)
def test_a_loss_without_a_slope_is_noticed_left_and_counted(shard, attack, options, make):
    """The label's probability is 1, or its logit and the next two move as one. A random start may
    lie beyond that."""
    batch, _ = surroundings()
    n = len(batch)
    fixed = attack.startswith("apgd")
    use = settings(attack, "strict", eps=(0.4,) if fixed else (), options=options)
    columns = shard(make(), use, 0, n, images=batch.images, labels=batch.labels)
    assert columns["broken"] == [True] * n
    flat, back = np.array(columns["flat_passes"]), np.array(columns["backward_passes"])
    assert (flat > 0).mean() >= (0.3 if fixed else 1)
    forward = np.array(columns["queries"]) - 2
    assert (back >= (forward - 1) // (2 if attack.startswith("fab") else 1) + flat).all()
    assert columns["zero_gradient"] == [False] * n


def test_with_fewer_than_four_classes_the_cross_entropy_takes_the_ratios_place(shard):
    batch, _ = surroundings()
    n = len(batch)
    use = quick("autoattack_linf", "strict", eps=(0.01, 0.4))
    columns = shard(of_one_unit(), use, 0, n, images=batch.images, labels=batch.labels)
    assert columns["broken"] == [False] * n + [True] * n
    from prunegrid.workers.attacks.algorithms.autoattack import AutoAttackLinf
    from prunegrid.workers.attacks.runtime.network import Network
    from prunegrid.workers.attacks.runtime.oracle import Oracle

    network, (batch, context) = Network(of_one_unit()), surroundings()
    assert list(AutoAttackLinf()._parts(network)) == ["apgd-ce", "apgd-ce-t", "fab-t", "square"]
    oracle = Oracle(network, batch, context)
    assert oracle.defined("target-ratio") == "target-cross-entropy"
    assert oracle.defined("ratio") == "cross-entropy"
    assert oracle.defined("margin") == "margin"


def test_more_steps_come_nearer(shard, cnn5):
    for attack in ("ddn_l2", "alma_l2", "fab_l2", "fab_linf", "sigma_zero_l0"):
        medians = []
        for steps in (8, 40):
            options = {"steps": steps} | ({"targets": 2} if attack.startswith("fab") else {})
            columns = shard(cnn5, settings(attack, "strict", options=options), 0, 16)
            medians.append(float(np.median(columns["distance"])))
        assert medians[1] < medians[0], attack
