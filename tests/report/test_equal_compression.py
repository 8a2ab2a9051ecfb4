"""Methods at equal compression: where curves meet, what lies between rates, who is best."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.report.analysis import Analysis, analyse
from prunegrid.orchestrator.report.equal_compression import CLEAN, best_at_equal, contrast_table
from prunegrid.orchestrator.report.evidence import Evidence
from prunegrid.orchestrator.report.image_outcomes import ImageOutcomes
from prunegrid.orchestrator.report.page import page
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.report.tables import clean_table
from tests.report.synthetic import METHODS, RATES, synthetic
from tests.report.test_images import N, images_of

#: Of `synthetic`: its effective rates are the nominal ones, 1 + (rate - 1) / 2 of the second.
A, B = METHODS[0], METHODS[1]


@pytest.fixture(scope="module")
def results() -> Results:
    return synthetic(seeds=4, rates=RATES[:4])


def accuracy(results: Results, method: str, rate: float) -> np.ndarray:
    models = results.models
    mine = models[(models["method"] == method) & (models["rate"] == rate)]
    return mine.sort_values("seed")["accuracy"].to_numpy()


def between(results: Results, method: str, low: float, high: float, weight: float) -> np.ndarray:
    a, b = (accuracy(results, method, rate) for rate in (low, high))
    return (1 - weight) * a + weight * b


def contrast(results: Results, a: str = A, b: str = B):
    found = contrast_table(results, clean_table(results), ImageOutcomes({}), a, b)
    return found[found["axis"] == "effective_rate"]


def test_a_contrast_is_at_each_rate_of_either_that_the_other_reaches(results):
    at = contrast(results).drop_duplicates("x").set_index("x")["at"]
    assert at.index.tolist() == [1.5, 2.0, 2.5, 4.0, 4.5]
    assert at[2.5] == f"{B} at rate 4"
    assert at[4.0] == f"{A} at rate 4"
    assert max(at.index) <= 4.5  # the second method's last effective rate


def test_between_two_rates_accuracy_is_linear_in_the_logarithm(results):
    weight = (math.log(2.5) - math.log(2)) / (math.log(4) - math.log(2))
    d = between(results, A, 2, 4, weight) - accuracy(results, B, 4)
    found = contrast(results)
    row = found[(found["x"] == 2.5) & (found["attack"] == CLEAN)].iloc[0]
    assert row.difference == pytest.approx(d.mean())
    assert row.half == pytest.approx(stats.t.ppf(0.975, 3) * d.std(ddof=1) / 2)
    assert row.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert row.mean_a - row.mean_b == pytest.approx(d.mean())


def test_the_other_way_round_is_the_negative(results):
    one, other = contrast(results, A, B), contrast(results, B, A)
    assert one["difference"].tolist() == pytest.approx((-other["difference"]).tolist())


def test_seeds_are_paired_and_a_seed_that_one_side_lacks_is_left_out(results):
    models = results.models
    gone = (models["method"] == B) & (models["seed"] == 0) & (models["rate"] == 4.0)
    fewer = dataclasses.replace(results, models=models[~gone])
    found = contrast(fewer)
    row = found[(found["x"] == 2.5) & (found["attack"] == CLEAN)].iloc[0]
    weight = (math.log(2.5) - math.log(2)) / (math.log(4) - math.log(2))
    d = between(results, A, 2, 4, weight)[1:] - accuracy(results, B, 4)[1:]
    assert (row.n, row.difference) == (3, pytest.approx(d.mean()))


def test_images_are_interpolated_as_accuracies_are(results):
    """Then the mean over images is the difference of accuracies."""
    draw, images = np.random.default_rng(1), {}
    for key in results.cells["model_id"].unique():
        cells = results.cells[results.cells["model_id"] == key]
        part = dataclasses.replace(results, cells=cells)
        images |= images_of(part, {"cw_l2": draw.uniform(0, 5, N)})
    outcomes = ImageOutcomes(images)
    cells = results.cells[results.cells["attack"] == "cw_l2"].copy()
    cells["robust_accuracy"] = [outcomes.of(c).robust.mean() for c in cells.itertuples()]
    exact = dataclasses.replace(results, cells=cells)
    found = contrast_table(exact, clean_table(exact), outcomes, A, B)
    robust = found[found["attack"] != CLEAN]
    assert set(robust["images"]) == {N}
    assert robust["p_crossed"].notna().all()
    assert found.loc[found["attack"] == CLEAN, "p_crossed"].isna().all()
    # about more than these images, so never much surer than a test over seeds
    assert (robust["crossed_half"] > 0).all()
    inside = np.abs(robust["difference"]) < robust["crossed_half"]
    assert (inside == (robust["p_crossed"] > 0.05)).all()


def test_the_best_at_equal_compression_is_not_the_best_at_equal_rates(results):
    """The second method loses more at every nominal rate but is compressed less: planted so that
    at equal compression it wins."""
    models = results.models.copy()
    second = models["method"] == B
    models.loc[second, "effective_rate"] = models.loc[second, "rate"] ** 2
    better = dataclasses.replace(results, models=models)
    clean = clean_table(better)
    at_rate = clean[clean["rate"] == 4.0].set_index("method")["mean"]
    assert at_rate[A] > at_rate[B]
    best = best_at_equal(better, clean)
    row = best[(best.axis == "effective_rate") & (best.attack == CLEAN) & (best.x == 4)].iloc[0]
    assert (row.method, row.low_rate, row.high_rate) == (B, 2, 2)
    values = accuracy(better, B, 2)
    assert row["mean"] == pytest.approx(values.mean())
    assert row.margin == pytest.approx((values - accuracy(better, B, 1)).mean())


def test_the_best_table_has_a_row_where_all_methods_still_are(results):
    best = best_at_equal(results, clean_table(results))
    assert 4.5 in set(best.loc[best.axis == "effective_rate", "x"])
    beyond = best[(best.axis == "effective_rate") & (best.x == 8)]
    assert set(beyond["candidates"]) == {2}, "the second method ends at 4.5"
    assert (best["lead"] >= 0).all()


def test_a_method_that_prunes_nothing_is_no_candidate(results):
    models = results.models.copy()
    models.loc[models["method"] == B, "effective_rate"] = 1.0
    idle = dataclasses.replace(results, models=models)
    best = best_at_equal(idle, clean_table(idle))
    assert B not in {*best["method"], *best["second"]}
    assert contrast(idle).empty


@pytest.fixture(scope="module")
def analysis(results) -> Analysis:
    return analyse(results, contrast=(A, B))


def test_the_page_has_both(analysis, results):
    text = page(analysis, title="t")
    assert "Best method at equal compression, protocol strict" in text
    assert f"a: {A}; b: {B}." in text
    assert f"Equal effective rate 2.5 ({B} at rate 4)" in text
    assert "Contrast, protocol" not in page(analyse(results), title="t")


def test_an_unknown_method_is_refused(results, tmp_path):
    with pytest.raises(UsageError, match=f"expected one of .*{A}.*, got 'magnitude'"):
        analyse(results, contrast=(A, "magnitude"))


def test_without_cells_there_is_nothing_to_compare(results):
    empty = dataclasses.replace(results, cells=results.cells.iloc[:0])
    analysis = analyse(empty, contrast=(A, B), evidence=Evidence())
    assert analysis.equal.empty
    assert analysis.contrasts is not None
    assert analysis.contrasts.empty
    assert page(analysis, title="t")
