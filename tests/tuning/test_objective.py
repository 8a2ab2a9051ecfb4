"""What is minimised, and how much stronger one attack is than another."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prunegrid.orchestrator.tuning.objective import (
    compare,
    geometric_mean,
    median_distance,
    robust_accuracy,
)

#: A comparison draws 2 000 times.
slow = settings(max_examples=20, deadline=None)
DISTANCE = st.one_of(st.floats(1e-3, 1e3), st.just(math.inf), st.just(math.nan))
DISTANCES = arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 12)), elements=DISTANCE)


@given(DISTANCES)
def test_a_nearer_image_never_makes_an_attack_weaker(distances):
    nearer = distances * 0.5
    assert median_distance(nearer) <= median_distance(distances)
    assert robust_accuracy(nearer, 1.0) <= robust_accuracy(distances, 1.0)
    assert geometric_mean(nearer) <= geometric_mean(distances)


@given(DISTANCES, st.randoms(use_true_random=False))
def test_the_order_of_images_and_models_does_not_matter(distances, random):
    rows, columns = (random.sample(range(n), n) for n in distances.shape)
    other = distances[np.ix_(rows, columns)]
    assert median_distance(other) == pytest.approx(median_distance(distances))
    assert robust_accuracy(other, 1.0) == pytest.approx(robust_accuracy(distances, 1.0))


def test_medians_by_hand():
    nan, inf = math.nan, math.inf
    assert median_distance(np.array([[1.0, 2, 9, nan]])) == 2
    assert median_distance(np.array([[1.0, 4, 9, 16], [2, 2, 2, 2]])) == pytest.approx(
        math.sqrt(6.5 * 2)
    )
    assert median_distance(np.array([[1.0, inf, inf]])) == inf
    assert median_distance(np.array([[1.0, inf, 2, inf]])) == inf, "half of the images failed"
    assert median_distance(np.array([[nan, nan]])) == inf
    assert robust_accuracy(np.array([[nan, 0.5, 1, 2]]), 1.0) == 0.25, "at eps counts as broken"


@slow
@given(
    base=arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(2, 20)),
                elements=st.floats(0.1, 10)),
    factor=st.floats(0.2, 5),
)  # fmt: skip
def test_a_constant_ratio_is_found_exactly(base, factor):
    found = compare(base * factor, base)
    assert found.effect == pytest.approx(factor)
    assert (found.low, found.high) == pytest.approx((factor, factor))
    assert found.pairs == base.size
    assert found.at_least == (base.size if factor <= 1 + 1e-6 else 0)
    assert found.nearer == (base.size if factor < 1 - 1e-6 else 0)


@slow
@given(DISTANCES, st.integers(0, 99))
def test_counts_are_those_of_a_loop_and_the_interval_has_the_effect(theirs, seed):
    rng = np.random.default_rng(seed)
    ours = theirs * rng.choice([0.5, 1.0, 2.0], size=theirs.shape)
    found = compare(ours, theirs)
    pairs = [
        (a, b)
        for a, b in zip(ours.ravel(), theirs.ravel(), strict=True)
        if not math.isnan(a) and not math.isnan(b)
    ]
    assert found.pairs == len(pairs)
    assert found.at_least == sum(a <= b for a, b in pairs)
    assert found.nearer == sum(a < b for a, b in pairs)
    if pairs:
        assert 0 <= found.at_least_low <= found.at_least / len(pairs)
    assert compare(ours, theirs) == found or math.isnan(found.effect)


@slow
@given(st.floats(0.5, 3))
def test_robust_accuracies_are_compared_by_their_difference(eps):
    rng = np.random.default_rng(5)
    theirs = rng.exponential(2.0, (2, 64))
    found = compare(theirs * 0.5, theirs, eps=eps)
    assert found.effect == pytest.approx((theirs * 0.5 >= eps).mean() - (theirs >= eps).mean())
    assert found.low <= found.effect <= found.high
    assert found.high <= 0


def test_an_interval_covers_as_often_as_it_says():
    """60 draws of 64 images whose true ratio of medians is known: 95 % intervals, at least 52."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        theirs = rng.lognormal(0.0, 0.5, (1, 64))
        ours = theirs * 0.8 * rng.lognormal(0.0, 0.1, theirs.shape)
        found = compare(ours, theirs)
        covered += found.low <= 0.8 <= found.high
    assert covered >= 52


def test_the_bound_on_the_share_is_clopper_and_pearsons():
    ones = np.ones((1, 64))
    assert compare(ones, ones).at_least_low == pytest.approx(0.025 ** (1 / 64))
    assert compare(2 * ones, ones).at_least_low == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(1, 3\) and \(1, 4\)"):
        compare(np.ones((1, 3)), np.ones((1, 4)))
