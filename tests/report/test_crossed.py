"""Tests over seeds and images: their arithmetic, their false positives, and whom they pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from prunegrid.orchestrator.report.crossed import crossed_t
from prunegrid.orchestrator.report.image_outcomes import (
    ImageOutcomes,
    Standing,
    crossed_margins,
    paired_differences,
)
from prunegrid.orchestrator.report.moderated import fit_prior, moderated_t
from prunegrid.orchestrator.report.statistics import SIGNIFICANT
from tests.bench.power import make_differences
from tests.report.synthetic import METHODS, synthetic
from tests.report.test_images import N, images_of


def draws(cells: int, seeds: int, images: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (cells, seeds, images)).astype(float)


def squares(d: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of the two-way analysis of variance, from their definitions."""
    (seeds, images), total = d.shape, d.mean()
    of_seeds = images * sum((row.mean() - total) ** 2 for row in d) / (seeds - 1)
    of_images = seeds * sum((column.mean() - total) ** 2 for column in d.T) / (images - 1)
    rest = sum(
        (d[s, i] - d[s].mean() - d[:, i].mean() + total) ** 2
        for s in range(seeds)
        for i in range(images)
    )
    return of_seeds, of_images, rest / ((seeds - 1) * (images - 1))


def test_one_cell_by_hand():
    d = draws(1, 4, 30)[0]
    seed, image, rest = squares(d)
    variance = max(seed + image - rest, seed, image)
    freedom = max(variance**2 / (seed**2 / 3 + image**2 / 29 + rest**2 / 87), 1)
    found = crossed_t([d])
    t = d.mean() / math.sqrt(variance / 120)
    assert found.p[0] == pytest.approx(2 * stats.t.sf(abs(t), freedom))
    assert found.freedom[0] == pytest.approx(freedom)


def test_a_family_shares_what_it_says_of_seeds():
    family = list(draws(8, 3, 40))
    sd2 = np.array([d.mean(axis=1).var(ddof=1) for d in family])
    prior = fit_prior(sd2, np.full(8, 2.0))
    assert prior is not None
    if math.isinf(prior.freedom):
        shrunk, own_freedom = np.full(8, prior.variance), 16.0
    else:
        shrunk = (2 * sd2 + prior.freedom * prior.variance) / (2 + prior.freedom)
        own_freedom = min(2 + prior.freedom, 16.0)
    found = crossed_t(family)
    for k, d in enumerate(family):
        _, image, rest = squares(d)
        seed = 40 * shrunk[k]
        variance = max(seed + image - rest, seed, image)
        parts = seed**2 / own_freedom + image**2 / 39 + rest**2 / 78
        p = 2 * stats.t.sf(abs(d.mean()) / math.sqrt(variance / 120), variance**2 / parts)
        assert found.p[k] == pytest.approx(p)
        assert (found.p[k] < SIGNIFICANT) == (abs(d.mean()) > found.half[k])


@pytest.mark.parametrize("shape", [(2, 50), (1, 50), (3, 1), (0, 0)])
def test_one_cell_needs_seeds_and_images(shape):
    values = np.random.default_rng(0).integers(-1, 2, shape)
    assert math.isnan(crossed_t([values]).p[0])


def test_what_can_t_be_tested_stays_untested_beside_others():
    family = [*draws(12, 2, 40), np.full((2, 40), -1.0), None, np.ones((1, 40))]
    found = crossed_t(family)
    assert not np.isnan(found.p[:12]).any()
    assert np.isnan(found.p[12:]).all()
    with pytest.raises(ValueError, match=r"\[seeds, images\], got the shape \(40,\)"):
        crossed_t([np.ones(40)])


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_new_images_are_covered_where_a_test_over_seeds_alone_is_not(seeds):
    """What one side finds hard about an image is the same with every seed: on these images a
    difference is real, over all images there is none."""
    calls: dict[str, list[float]] = {"moderated": [], "crossed": []}
    for repeat in range(40):
        rng = np.random.default_rng([11, repeat, seeds])
        made = make_differences(rng, cells=30, seeds=seeds, images=96, change=0.0, lasting=1.5)
        by_seed = made.mean(axis=2)
        moderated = moderated_t(
            np.full(30, seeds), by_seed.mean(axis=1), by_seed.std(axis=1, ddof=1)
        )
        calls["moderated"].append(float((moderated.p < SIGNIFICANT).mean()))
        calls["crossed"].append(float((crossed_t(list(made)).p < SIGNIFICANT).mean()))
    error = np.std(calls["crossed"]) / math.sqrt(40)
    assert np.mean(calls["crossed"]) < SIGNIFICANT + 2.5 * error
    assert np.mean(calls["moderated"]) > 0.12


def standing(robust: list[float], start: int = 0) -> Standing:
    return Standing(np.arange(start, start + len(robust)), np.array(robust))


def test_images_are_paired_within_a_seed():
    ours = {0: standing([1, 0, 1]), 1: standing([0, 0, 1]), 7: standing([1, 1, 1])}
    theirs = {1: standing([1, 0, 0]), 0: standing([1, 1, 1])}
    assert paired_differences(ours, theirs).tolist() == [[0, -1, 0], [-1, 0, 1]]
    assert paired_differences(ours, theirs | {1: standing([1, 0, 0], start=1)}) is None
    assert paired_differences(ours, theirs | {1: None}) is None
    assert paired_differences(ours, {}) is None


def test_margins_are_tested_where_there_are_image_rows():
    results = synthetic(methods=METHODS[:1], rates=(1.0, 2.0), seeds=3)
    draw = np.random.default_rng(5)
    images = {}
    for key in results.cells["model_id"].unique():
        mine = results.cells[results.cells["model_id"] == key]
        images |= images_of(
            type(results)(address="", models=results.models, cells=mine),
            {"cw_l2": draw.uniform(0, 5, N), "bb_l0": draw.integers(0, 15, N).astype(float)},
        )
    found = crossed_margins(results.cells, ImageOutcomes(images))
    assert set(found["rate"]) == {2.0}
    tested = found[found["p_crossed"].notna()]
    assert set(tested["attack"]) == {"cw_l2", "bb_l0"}
    row = tested[(tested["attack"] == "cw_l2") & (tested["eps"] == 2.0)].iloc[0]
    assert row.p_crossed <= row.p_crossed_holm
    assert row.p_crossed <= row.p_crossed_fdr <= row.p_crossed_holm
    bare = crossed_margins(results.cells, ImageOutcomes({}))
    assert bare["p_crossed"].isna().all()
