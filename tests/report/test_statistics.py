"""Estimates, intervals and corrections, against SciPy and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prunegrid.orchestrator.report.statistics import (
    TINY,
    accuracy_interval,
    accuracy_over_seeds,
    estimate,
    holm,
    over_seeds,
    paired_p,
    sampling_half,
    signed,
    welch_half,
)

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=20)


@given(VALUES)
def test_estimates_agree_with_scipy(values):
    found = estimate(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    if found.sd > 1e-6:  # scipy warns of nearly equal values
        assert found.sd == pytest.approx(stats.tstd(values), abs=1e-9)
        low, high = stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=stats.sem(values))
        assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))


def test_one_value_has_no_interval_and_none_is_a_dash():
    assert estimate([0.5]).text() == "50.0"
    assert math.isnan(estimate([0.5]).half)
    assert estimate([]).text() == "–"
    assert estimate([float("nan"), 0.25]).n == 1
    assert estimate([0.2, 0.8]).text() == "50.0 (0.4–99.6)"
    assert estimate([0.2, 0.8]).points() == "+50.0 ± 381.2 points"


def test_values_that_are_all_the_same_have_no_interval_and_say_so():
    """With two seeds and 32 images that happens by chance."""
    same = estimate([0.946, 0.946])
    assert math.isnan(same.half)
    assert same.text() == "94.6 (no spread)"
    assert same.points() == "+94.6 points (no spread)"
    table = over_seeds(pd.DataFrame({"g": [0, 0], "v": [0.946, 0.946]}), ["g"], "v")
    assert table.half.isna().all()
    parts = [pd.DataFrame({"n": [2], "sd": [sd]}) for sd in (0.0, 0.1)]
    assert np.isnan(welch_half(*parts)).all(), "a side without spread is no exact one"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_an_interval_of_accuracies_stays_within_what_an_accuracy_can_be(values):
    frame = pd.DataFrame({"g": 0, "v": values})
    row = next(accuracy_over_seeds(frame, ["g"], "v").itertuples())
    if row.sd > TINY:
        assert 0 <= row.low <= row.mean <= row.high <= 1
        one = estimate(values)
        assert (one.low, one.high) == pytest.approx((row.low, row.high), abs=1e-6)
    else:
        assert math.isnan(row.low)


def test_the_interval_of_accuracies_is_wilsons_with_the_variance_over_seeds():
    """At its ends, the distance from the mean is t standard errors, which grow as the SD of a
    proportion does; with a binomial variance it is the textbook's."""
    one = estimate([0.97, 0.99])
    error = stats.t.ppf(0.975, 1) * 0.01
    for end in (one.low, one.high):
        scale = math.sqrt(end * (1 - end) / (0.98 * 0.02))
        assert abs(end - 0.98) == pytest.approx(error * scale)
    binomial = 1.959964 * math.sqrt(0.9 * 0.1 / 50)
    low, high = accuracy_interval(np.array([0.9]), np.array([binomial]))
    wanted = stats.binomtest(45, 50).proportion_ci(0.95, method="wilson")
    assert (low[0], high[0]) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_the_sampling_error_of_images_is_the_binomial_one():
    assert sampling_half(32) == pytest.approx(1.96 * math.sqrt(0.25 / 32), rel=1e-4)


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.013, "+1.3"), (-0.004, "−0.4"), (0.0001, "0.0"), (-0.0001, "0.0")]
)
def test_a_difference_has_its_sign(fraction, text):
    assert signed(fraction) == text


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_a_frame_gives_what_single_estimates_give(groups):
    frame = pd.DataFrame([{"g": g, "v": v} for g, part in enumerate(groups) for v in part])
    table = over_seeds(frame, ["g"], "v")
    for row, part in zip(table.itertuples(), groups, strict=True):
        one = estimate(part)
        assert row.n == one.n
        assert row.mean == pytest.approx(one.mean, abs=1e-7)
        if min(row.sd, one.sd) > 1e-6:  # sums in another order
            assert row.half == pytest.approx(one.half, abs=1e-7)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_a_paired_test_is_scipys(differences):
    sd = np.std(differences, ddof=1)
    (p,) = paired_p(np.array([len(differences)]), np.array([np.mean(differences)]), np.array([sd]))
    if sd > 1e-6:
        assert p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=1e-9)


def test_what_can_t_be_tested_has_no_p():
    n, mean, sd = np.array([1.0, 2.0, 2.0]), np.array([0.1, 0.1, 0.0]), np.array([np.nan, 0, 0])
    assert np.isnan(paired_p(n, mean, sd)).tolist() == [True, True, False]
    assert paired_p(n, mean, sd)[2] == 1.0


@given(VALUES, VALUES)
def test_unpaired_intervals_are_welchs(a, b):
    parts = [pd.DataFrame({"n": [len(v)], "sd": [np.std(v, ddof=1)]}) for v in (a, b)]
    if min(np.std(a), np.std(b)) > 1e-3:
        wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        assert welch_half(*parts)[0] == pytest.approx((wanted.high - wanted.low) / 2, rel=1e-6)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=15))
def test_holms_correction_is_the_step_down_procedure(p):
    adjusted = holm(np.array(p))
    known = sorted(v for v in p if not math.isnan(v))
    for value, found in zip(p, adjusted, strict=True):
        if math.isnan(value):
            assert math.isnan(found)
            continue
        # The largest of (m - i) * p_i over the tests up to this one, by its definition.
        steps = [(len(known) - i) * q for i, q in enumerate(known) if q <= value]
        last = [i for i, q in enumerate(known) if q == value]
        steps = [s for i, s in enumerate(steps) if i <= last[-1]]
        assert found == pytest.approx(min(1.0, max(steps)))
        assert found >= value
