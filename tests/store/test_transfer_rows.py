"""A transfer's row from its images, against a count by hand and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.store.transfer_rows import summarise_transfer

INF, NONE = float("inf"), float("nan")


def columns(rows, eps=NONE, skipped=False):
    """(label, clean prediction, distance, transferred) of each image."""
    label, clean, distance, moved = zip(*rows, strict=True)
    n = len(rows)
    return {
        "eps": np.full(n, eps),
        "label": np.array(label),
        "clean_prediction": np.array(clean),
        "distance": np.array(distance, float),
        "transferred": np.array(moved, bool),
        "skipped": np.full(n, skipped),
    }


ROWS = [
    (3, 3, 0.5, True),  # fooled
    (3, 3, 1.0, False),  # stands
    (3, 3, 1.0, True),  # fooled at exactly 1
    (3, 3, 2.0, True),  # too far at 1
    (3, 3, INF, False),  # the source has none
    (3, 5, 0.5, False),  # wrong to begin with
]


def test_counts_by_hand():
    found = summarise_transfer(columns(ROWS), eps=1.0, within=True)
    assert (found["n_adversarials"], found["n_transferred"]) == (3, 2)
    assert found["transfer_rate"] == pytest.approx(2 / 3)
    assert found["robust_accuracy"] == pytest.approx(3 / 6)
    assert found["clean_accuracy"] == pytest.approx(5 / 6)
    below = summarise_transfer(columns(ROWS), eps=1.0, within=False)
    assert (below["n_adversarials"], below["n_transferred"]) == (1, 1)
    fixed = summarise_transfer(columns(ROWS, eps=1.0), eps=1.0, within=True)
    assert fixed["n_adversarials"] == 4, "each was checked against its own eps"


def test_no_adversarial_is_no_rate_and_a_skipped_target_scores_none():
    none = summarise_transfer(columns([(3, 3, INF, False)]), eps=1.0, within=True)
    assert none["transfer_rate"] is None
    assert none["robust_accuracy"] == 1.0
    chance = columns([(3, np.nan, 0.5, False)], skipped=True)
    assert summarise_transfer(chance, eps=1.0, within=True)["robust_accuracy"] == 0.0
    lost = columns([(3, -1, 0.5, False)], skipped=True)
    found = summarise_transfer(lost, eps=1.0, within=True)
    assert found["robust_accuracy"] is None
    assert found["clean_accuracy"] is None


IMAGES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from([0.25, 0.5, 1.0, 2.0, INF]),
        st.booleans(),
    ),
    min_size=1,
    max_size=20,
)


@given(IMAGES, st.sampled_from([0.1, 0.5, 1.0, 3.0]), st.booleans())
def test_more_eps_never_shows_fewer_nor_leaves_more_standing(rows, eps, within):
    rows = [(lab, p, d, m and d < INF and lab == p) for lab, p, d, m in rows]
    low = summarise_transfer(columns(rows), eps=eps, within=within)
    high = summarise_transfer(columns(rows), eps=2 * eps, within=within)
    assert low["n_transferred"] <= low["n_adversarials"] <= high["n_adversarials"]
    assert low["robust_accuracy"] >= high["robust_accuracy"]
    assert low["robust_accuracy"] == pytest.approx(
        low["clean_accuracy"] - low["n_transferred"] / low["n_images"]
    )
    order = list(reversed(rows))
    assert summarise_transfer(columns(order), eps=eps, within=within) == low
