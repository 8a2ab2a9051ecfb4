"""Moderated tests: their arithmetic, their false positives, their power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from prunegrid.orchestrator.report.moderated import (
    LEAST_CELLS,
    false_discovery,
    fit_prior,
    moderated_t,
)
from prunegrid.orchestrator.report.statistics import SIGNIFICANT, holm
from tests.bench.power import make_differences, p_values


@pytest.mark.parametrize(("variance", "freedom"), [(4e-4, 4.0), (1e-3, 12.0), (0.25, 2.5)])
def test_the_prior_that_made_the_variances_is_found(variance, freedom):
    rng = np.random.default_rng(0)
    true = variance * freedom / rng.chisquare(freedom, 40_000)
    found = fit_prior(true * rng.chisquare(3, true.size) / 3, np.full(true.size, 3.0))
    assert found is not None
    assert found.variance == pytest.approx(variance, rel=0.05)
    assert found.freedom == pytest.approx(freedom, rel=0.1)


def test_where_variances_differ_by_chance_alone_the_prior_has_all_the_freedom():
    rng = np.random.default_rng(1)
    found = fit_prior(0.01 * rng.chisquare(4, 5000) / 4, np.full(5000, 4.0))
    assert found is not None
    assert found.freedom > 50
    assert found.variance == pytest.approx(0.01, rel=0.05)


def test_moderation_by_hand():
    """Posterior variance and degrees of freedom as Smyth's equations have them."""
    rng = np.random.default_rng(2)
    n = np.array([3.0, 5, 2, 4, 5, 5, 3, 2])
    sd = np.sqrt(4e-4 * 5 / rng.chisquare(5, 8)) * np.sqrt(rng.chisquare(n - 1) / (n - 1))
    mean = rng.normal(0, 0.02, 8)
    prior = fit_prior(sd**2, n - 1)
    found = moderated_t(n, mean, sd)
    assert prior is not None
    assert found.prior == prior
    for i in range(8):
        d = n[i] - 1
        if math.isinf(prior.freedom):
            variance, freedom = prior.variance, (n - 1).sum()
        else:
            variance = (prior.freedom * prior.variance + d * sd[i] ** 2) / (prior.freedom + d)
            freedom = min(prior.freedom + d, (n - 1).sum())
        t = mean[i] / math.sqrt(variance / n[i])
        assert found.p[i] == pytest.approx(2 * stats.t.sf(abs(t), freedom))
        assert (found.p[i] < SIGNIFICANT) == (abs(mean[i]) > found.half[i])


def test_equal_differences_of_one_cell_are_tested_by_the_others_variance():
    """Two seeds with the same count of images have a sample SD of 0, not certainty."""
    sd = np.array([0.0, 0.02, 0.03, 0.01, 0.02, 0.04])
    found = moderated_t(np.full(6, 2.0), np.full(6, 0.03), sd)
    assert 0.01 < found.p[0] < 1
    assert found.half[0] > 0.005


def test_without_a_family_nothing_is_tested():
    few = LEAST_CELLS - 1
    found = moderated_t(np.full(few, 3.0), np.full(few, 0.1), np.linspace(0.01, 0.02, few))
    assert np.isnan(found.p).all()
    assert np.isnan(found.half).all()
    flat = moderated_t(np.full(9, 3.0), np.full(9, 0.1), np.zeros(9))
    assert np.isnan(flat.p).all()


def test_one_seed_is_no_test_beside_cells_with_more():
    n = np.array([1.0, 3, 3, 3, 3, 3])
    sd = np.array([np.nan, 0.02, 0.03, 0.01, 0.02, 0.04])
    found = moderated_t(n, np.full(6, 0.03), sd)
    assert np.isnan(found.p[0])
    assert not np.isnan(found.p[1:]).any()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=30))
def test_false_discovery_is_benjamini_and_hochberg_s(p):
    found = false_discovery(np.array(p))
    known = sorted(x for x in p if not math.isnan(x))
    for given_p, adjusted in zip(p, found, strict=True):
        if math.isnan(given_p):
            assert math.isnan(adjusted)
            continue
        steps = [len(known) * x / (k + 1) for k, x in enumerate(known) if x >= given_p]
        assert adjusted == pytest.approx(min(1.0, *steps, 1.0))
    both = ~np.isnan(found)
    assert (found[both] <= holm(np.array(p, dtype=float))[both] + 1e-12).all()


@pytest.mark.parametrize(("seeds", "images"), [(2, 128), (3, 32), (3, 512), (5, 128)])
def test_false_positives_are_no_more_than_stated(seeds, images):
    """30 families of 60 cells that share their seeds' noise, with nothing to find."""
    called: dict[str, list[float]] = {}
    falsely = 0
    for repeat in range(30):
        rng = np.random.default_rng([9, repeat, seeds, images])
        made = make_differences(rng, cells=60, seeds=seeds, images=images, change=0.0)
        found = p_values(made)
        for test, p in found.items():
            called.setdefault(test, []).append(float((p < SIGNIFICANT).mean()))
        falsely += bool((holm(found["moderated t"]) < SIGNIFICANT).any())
        assert np.nanmean(found["crossed t"] >= found["moderated t"] - 1e-9) > 0.5
    for test, shares in called.items():
        error = np.std(shares) / math.sqrt(len(shares))  # of families: their cells are not free
        assert np.mean(shares) < SIGNIFICANT + 2.5 * error + 0.003, (test, np.mean(shares))
    # The chance of six or more families of 30 with a false call at 5 % each is 0.3 %.
    assert falsely <= 5


def test_moderated_tests_find_what_paired_ones_miss():
    shares: dict[str, list[float]] = {}
    for repeat in range(12):
        rng = np.random.default_rng([5, repeat])
        made = make_differences(rng, cells=60, seeds=3, images=512, change=-0.03)
        for test, p in p_values(made).items():
            shares.setdefault(test, []).append(float((p < SIGNIFICANT).mean()))
    assert np.mean(shares["moderated t"]) > 1.5 * np.mean(shares["paired t"])
    assert np.mean(shares["crossed t"]) > 1.5 * np.mean(shares["paired t"])


def test_trigamma_is_inverted():
    from prunegrid.orchestrator.report.moderated import _inverse_trigamma

    for value in (1e-4, 0.1, 1.0, 30.0, 1e4):
        assert special.polygamma(1, _inverse_trigamma(value)) == pytest.approx(value, rel=1e-6)
