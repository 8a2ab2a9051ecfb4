"""How far one may prune: planted losses, and seeds' noise that must not count as proof."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.findings import Topic, findings
from prunegrid.orchestrator.report.non_inferiority import margin_rows, non_inferiority
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.report.strategies import AVERAGE, WORST_ATTACK
from prunegrid.orchestrator.report.tables import clean_table
from tests.report.synthetic import METHODS, synthetic, without

RATES = (1.0, 2.0, 4.0, 8.0)


def planted(
    robust: dict[float, float], clean: dict[float, float] | None = None, *, noise: float = 1e-3
) -> Results:
    """One method whose models lose these fractions at each rate, with a little noise of seeds."""
    base = synthetic(methods=METHODS[:1], rates=RATES, seeds=5, noise=0.0)
    draw = np.random.default_rng(3)
    cells, models = base.cells.copy(), base.models.copy()
    dense = {"bb_l0": 0.6, "cw_l2": 0.5, "pgd_linf": 0.4}
    cells["robust_accuracy"] = (
        cells["attack"].map(dense)
        - cells["rate"].map({1.0: 0.0, **robust})
        + noise * draw.normal(size=len(cells))
    )
    models["accuracy"] = (
        0.9
        - models["rate"].map({1.0: 0.0, **(clean or dict.fromkeys(RATES[1:], 0.0))})
        + noise * draw.normal(size=len(models))
    )
    return dataclasses.replace(base, cells=cells, models=models)


def found(results: Results, attack: str = "", criterion: str = AVERAGE):
    (one,) = (
        limit
        for limit in non_inferiority(margin_rows(results, clean_table(results)))
        if (limit.attack, limit.criterion) == (attack, criterion)
    )
    return one


def test_the_most_compressed_model_within_two_points_is_found_and_proved():
    limit = found(planted({2.0: 0.0, 4.0: 0.01, 8.0: 0.05}))
    assert limit.shown is not None
    assert limit.models == [(METHODS[0], 4.0)] * 2
    assert limit.shown.robust.mean == pytest.approx(-0.01, abs=0.002)
    assert limit.shown.robust.n == limit.shown.clean.n == 5
    assert limit.shown.p_holm < 0.05


def test_clean_accuracy_counts_as_much_as_robustness():
    limit = found(planted(dict.fromkeys(RATES[1:], 0.0), {2.0: 0.0, 4.0: 0.03, 8.0: 0.05}))
    assert limit.models == [(METHODS[0], 2.0)] * 2


def test_small_means_of_noisy_seeds_are_no_proof():
    limit = found(planted(dict.fromkeys(RATES[1:], 0.0), noise=0.2))
    assert limit.shown is None
    assert found(planted(dict.fromkeys(RATES[1:], 0.5))).by_means is None


def test_each_attack_has_its_own_limit_and_the_worst_attack_too():
    results = planted({2.0: 0.0, 4.0: 0.0, 8.0: 0.0})
    cells = results.cells.copy()
    hit = (cells.attack == "pgd_linf") & (cells.rate > 2)
    cells.loc[hit, "robust_accuracy"] -= 0.05
    results = dataclasses.replace(results, cells=cells)
    assert found(results, "bb_l0").shown.rate == 8.0
    assert found(results, "pgd_linf").shown.rate == 2.0
    assert found(results, criterion=WORST_ATTACK).shown.rate == 2.0  # PGD is the worst


def test_a_seed_that_lacks_a_cell_does_not_count():
    results = without(planted(dict.fromkeys(RATES[1:], 0.0)), rate=8.0, seed=1, attack="cw_l2")
    rows = margin_rows(results, clean_table(results)).set_index(["attack", "criterion", "rate"])
    assert rows.loc[("", AVERAGE, 8.0), "robust_n"] == 4
    assert rows.loc[("", WORST_ATTACK, 8.0), "robust_n"] == 4
    assert rows.loc[("bb_l0", AVERAGE, 8.0), "robust_n"] == 5


def test_many_candidates_are_corrected_for():
    """Losses of just two points: one candidate in twenty would pass by chance alone."""
    base = synthetic(methods=METHODS, rates=RATES, seeds=5, noise=0.0)
    draw = np.random.default_rng(11)
    cells, models = base.cells.copy(), base.models.copy()
    lost = 0.02 * (cells["rate"] > 1)
    cells["robust_accuracy"] = 0.5 - lost
    seeds = cells.groupby(["method", "rate", "seed"]).ngroup()
    cells["robust_accuracy"] += 0.01 * draw.normal(size=seeds.max() + 1)[seeds]
    models["accuracy"] = 0.9 + 1e-4 * draw.normal(size=len(models))
    rows = margin_rows(dataclasses.replace(base, cells=cells, models=models), clean_table(base))
    mine = rows[(rows.attack == "") & (rows.criterion == AVERAGE)]
    assert len(mine) == 27
    assert (mine.p < 0.05).any()
    assert not (mine.p_holm < 0.05).any()


def test_the_findings_say_how_far():
    results = planted({2.0: 0.0, 4.0: 0.01, 8.0: 0.05})
    said = [f for f in findings(analyse(results)) if f.topic is Topic.HOW_FAR]
    assert said[0].lead == "Adversary unknown, average case"
    assert f"up to {METHODS[0]} at rate 4 (clean " in said[0].text
    assert "shown to lose less than 2 points of either" in said[0].text
    assert "speed-up 3.4 in theory" in said[0].text
    one = [f for f in findings(analyse(synthetic(seeds=1))) if f.topic is Topic.HOW_FAR]
    assert "no pruned model is shown to lose less than 2 points" in one[0].text
