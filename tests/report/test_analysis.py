"""Missing cells, two stores side by side, the best strategy, flat curves, and what is said of
all that in words; over imaginary grids with planted shapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.grid import CellCoordinates, ModelCoordinates
from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.comparison import compare_stores
from prunegrid.orchestrator.report.counterparts import match_attacks
from prunegrid.orchestrator.report.curves import compression_grid, protocol_grid
from prunegrid.orchestrator.report.findings import Topic, findings
from prunegrid.orchestrator.report.masking import flat_curves
from prunegrid.orchestrator.report.missing import missing_cells, missing_text
from prunegrid.orchestrator.report.results import Results, load_results
from prunegrid.orchestrator.report.strategies import (
    ATTACK_KNOWN,
    AVERAGE,
    KNOWN,
    NOTHING_KNOWN,
    strategies,
)
from prunegrid.orchestrator.report.tables import cell_table, clean_table
from prunegrid.orchestrator.report.terminal import summary_tables
from prunegrid.orchestrator.report.write import write_report
from prunegrid.workers.catalog import CONTROL
from prunegrid.workers.files import LocalFiles
from tests.report.synthetic import METHODS, synthetic, without, write_store


def changed(results: Results, value: float | np.ndarray, **where: object) -> Results:
    """With the robust accuracy of the cells at `where` moved by `value`."""
    cells = results.cells.copy()
    mine = np.logical_and.reduce([cells[name] == at for name, at in where.items()])
    assert mine.any()
    cells.loc[mine, "robust_accuracy"] += value
    return dataclasses.replace(results, address=f"{results.address}-changed", cells=cells)


# ------------------------------------------------------------------ missing cells


def test_missing_cells_are_named_with_and_without_a_plan():
    whole = synthetic()
    assert missing_cells(whole).empty
    part = without(whole, method=METHODS[1], rate=8.0, seed=1, attack="cw_l2")
    gone = missing_cells(part)
    assert len(gone) == 4
    assert set(gone.method) == {METHODS[1]}
    assert missing_text(gone, 288) == (
        f"4 of 288 cells have no result: 4 of {METHODS[1]} at rate 8"
    )
    place = ModelCoordinates(
        architecture="vgg11",
        dataset="cifar10",
        variant="standard",
        method=METHODS[0],
        rate=2.0,
        seed=0,
    )
    planned = [CellCoordinates(model=place, protocol="strict", attack="cw_l2", eps=1.0)]
    assert missing_cells(whole, planned).architecture.tolist() == ["vgg11"]


# ------------------------------------------------------------------ two stores


def test_a_store_beside_its_equal_shows_no_difference():
    a, b = synthetic(), dataclasses.replace(synthetic(), address="other")
    (side,) = compare_stores(a, b)
    assert side.paired
    assert set(side.table.verdict) == {"no difference shown"}
    assert (side.table.difference == 0).all()


def test_a_moved_cell_is_the_one_that_differs():
    a = synthetic(seeds=5)
    place = {"method": METHODS[0], "rate": 4.0, "attack": "cw_l2", "eps": 1.0}
    (side,) = compare_stores(changed(a, np.linspace(0.09, 0.11, 5), **place), a)
    (odd,) = side.table[side.table.verdict != "no difference shown"].itertuples()
    assert (odd.method, odd.rate, odd.attack, odd.eps) == (METHODS[0], 4.0, "cw_l2", 1.0)
    assert odd.difference == pytest.approx(0.1)
    assert odd.verdict == "a higher"
    assert "1 cell: a higher" in " ".join(side.sentences())


def test_seeds_that_differ_by_the_same_show_nothing():
    """Two of them, and no variance: "a higher" with certainty would be by chance."""
    a = synthetic(seeds=2)
    cells = a.cells.assign(robust_accuracy=a.cells.robust_accuracy + 0.1)
    (side,) = compare_stores(dataclasses.replace(a, address="b", cells=cells), a)
    attacked = side.table[side.table.attack != "clean"]
    assert set(attacked.verdict) == {"untestable"}
    assert attacked.half.isna().all()
    assert "cells: untestable" in " ".join(side.sentences())


def test_whether_a_conclusion_survives_is_said():
    """B ranks the models the other way round, so its best is another."""
    a = synthetic(noise=0.0)
    same = " ".join(compare_stores(a, dataclasses.replace(a, address="b"))[0].sentences())
    assert "order of the models: Spearman 1.00" in same
    assert "in a as in b: no pruning" in same
    cells = a.cells.assign(robust_accuracy=1 - a.cells.robust_accuracy)
    other = dataclasses.replace(a, address="b", cells=cells)
    turned = " ".join(compare_stores(a, other)[0].sentences())
    assert "C&W L2: " in turned
    assert "order of the models: Spearman -1.00" in turned
    assert f"in a no pruning, in b {METHODS[2]} at rate 8" in turned


def test_protocols_of_one_store_are_compared_and_gaps_are_missing():
    both = synthetic(protocols=("paper", "strict"))
    part = without(both, protocol="strict", attack="bb_l0", rate=2.0)
    (side,) = compare_stores(part, part)
    assert "paper" in side.a
    assert "strict" in side.b
    gaps = side.table[side.table.verdict == "missing in b"]
    assert set(gaps.attack) == {"bb_l0"}
    assert len(gaps) == 3 * 4


def of_other_attacks(results, protocol, **names):
    """`results`, with other attacks under one protocol: label to label."""
    cells = results.cells
    mine = cells["protocol"] == protocol
    renamed = cells["attack"].where(~mine, cells["attack"].replace(names))
    return dataclasses.replace(results, cells=cells.assign(attack=renamed))


def test_attacks_of_one_norm_stand_beside_each_other():
    """`strict` has the strongest of each norm, under names of their own."""
    plain = synthetic(protocols=("paper", "strict"))
    names = {"bb_l0": "exchange_l0", "cw_l2": "target_race_l2"}
    other = of_other_attacks(plain, "strict", **names)
    ((before,), (now,)) = (compare_stores(each, each) for each in (plain, other))
    assert not set(now.table.verdict) & {"missing in a", "missing in b"}
    assert set(now.table.attack) == {
        "clean", "bb_l0 / exchange_l0", "cw_l2 / target_race_l2", "pgd_linf"
    }  # fmt: skip
    assert now.table.difference.tolist() == before.table.difference.tolist()
    said = " ".join(now.sentences())
    assert "C&W L2 / Target race L2: " in said
    assert "PGD L∞: " in said


def test_protocols_panels_have_attacks_of_one_norm_in_a_row():
    other = of_other_attacks(
        synthetic(protocols=("paper", "strict")), "strict", bb_l0="exchange_l0", cw_l2="x"
    )
    (part,) = analyse(other).experiments()
    found = [
        [panel.title if panel else None for panel in row] for row in protocol_grid(part).panels
    ]
    assert found == [
        ["B&B L0, paper", "Exchange L0, strict"],
        ["C&W L2, paper", "x, strict"],
        ["PGD L∞, paper", "PGD L∞, strict"],
    ]


SIDES = st.dictionaries(
    st.sampled_from("abc"),
    st.dictionaries(st.sampled_from(["p", "q", "r", "s"]), st.none(), max_size=4),
    min_size=1,
)


@given(SIDES)
def test_every_attack_is_in_one_row_of_its_norm(sides):
    norms = {"p": "l2", "q": "l2", "r": "linf", "s": "l2"}
    named = {side: {label: norms[label] for label in labels} for side, labels in sides.items()}
    rows = match_attacks(named)
    assert sorted((side, label) for row in rows for side, label in row.items()) == sorted(
        (side, label) for side, labels in named.items() for label in labels
    )
    for row in rows:
        assert len({norms[label] for label in row.values()}) == 1
    for label in norms:  # one label of several sides is never apart
        assert sum(label in row.values() for row in rows) <= 1
    for norm in ("l2", "linf"):  # what could stand together does
        mine = [row for row in rows if len(row) == 1 and norms[next(iter(row.values()))] == norm]
        assert len({side for row in mine for side in row}) <= 1


def test_the_strongest_stands_for_its_norm():
    """Of two that are left on one side, that with the lower robust accuracy."""
    plain = synthetic(protocols=("paper", "strict"))
    cells = plain.cells
    strict = cells[(cells["protocol"] == "strict") & (cells["attack"] == "cw_l2")]
    weak = strict.assign(attack="aaa", robust_accuracy=strict["robust_accuracy"] + 0.01)
    strong = strict.assign(attack="zzz")
    rest = cells.drop(strict.index)
    both = dataclasses.replace(plain, cells=pd.concat([rest, weak, strong], ignore_index=True))
    (side,) = compare_stores(both, both)
    assert {"cw_l2 / zzz", "aaa"} < set(side.table.attack)
    assert set(side.table[side.table.attack == "aaa"].verdict) == {"missing in a"}


def test_stores_with_nothing_in_common():
    assert compare_stores(synthetic(), synthetic(architectures=("vgg11",), address="b")) == ()


# ------------------------------------------------------------------ strategies


def test_the_best_choice_under_each_assumption_is_the_planted_one():
    results = synthetic(seeds=3, noise=0.001)
    results = changed(results, 0.15, method=METHODS[1], rate=2.0, attack="cw_l2")
    results = changed(results, 0.05, method=METHODS[2], rate=2.0, attack="bb_l0", eps=3.0)
    chosen = {
        (s.knowledge, s.attack, s.eps if s.knowledge == KNOWN else 0, s.criterion): s
        for s in strategies(results, clean_table(results))
        if s.least_rate == 1
    }
    cw = chosen[ATTACK_KNOWN, "cw_l2", 0, "average robust accuracy"]
    assert (cw.method, cw.rate, cw.rivals) == (METHODS[1], 2.0, 0)
    assert cw.margin.mean == pytest.approx(0.15, abs=0.02)
    bb = chosen[KNOWN, "bb_l0", 3.0, "robust accuracy"]
    assert (bb.method, bb.rate) == (METHODS[2], 2.0)
    unknown = chosen[NOTHING_KNOWN, "", 0, "average robust accuracy"]
    assert (unknown.method, unknown.rate) == (METHODS[1], 2.0)


def test_a_demand_for_compression_leaves_out_what_does_not_meet_it():
    """The second method's effective rate is far below its nominal one."""
    results = changed(synthetic(noise=0.0), 0.3, method=METHODS[1])
    for s in strategies(results, clean_table(results)):
        assert s.effective_rate >= 0.9 * s.least_rate
        if s.least_rate == 8:
            assert s.method != METHODS[1]


def test_a_candidate_that_lacks_a_cell_is_not_chosen():
    results = changed(synthetic(noise=0.0), 0.3, method=METHODS[0], rate=2.0)
    part = without(results, method=METHODS[0], rate=2.0, seed=0, attack="pgd_linf")
    for s in strategies(part, clean_table(part)):
        if s.knowledge == NOTHING_KNOWN:
            assert (s.method, s.rate) != (METHODS[0], 2.0)
            assert s.incomplete == (1 if s.least_rate <= 2 else 0)


def fine_tuned_alone(results: Results, method: str, name: str | None = None) -> Results:
    """The method prunes nothing: further training makes its models the best by far."""
    results = changed(results, 0.3, method=method, rate=4.0)
    models = results.models.copy()
    mine = (models.method == method) & (models.rate > 1)
    models.loc[mine, ["effective_rate", "speedup"]] = 1.0
    results = dataclasses.replace(results, models=models)
    if name is None:
        return results
    return dataclasses.replace(
        results,
        models=results.models.replace({"method": {method: name}}),
        cells=results.cells.replace({"method": {method: name}}),
    )


def test_what_prunes_nothing_is_never_chosen_and_named():
    results = fine_tuned_alone(synthetic(seeds=3, noise=0.001), METHODS[2])
    analysis = analyse(results)
    assert all(s.method != METHODS[2] for s in analysis.strategies)
    chosen = [m for f in analysis.non_inferiority for m in f.models if m is not None]
    assert all(method != METHODS[2] for method, _ in chosen)
    assert METHODS[2] not in set(analysis.sweet_models.method)
    said = findings(analysis)
    compression = " ".join(f.text for f in said if f.topic is Topic.COMPRESSION)
    assert f"{METHODS[2]} prunes nothing at rate 2, 4, 8" in compression
    (side,) = compare_stores(results, dataclasses.replace(results, address="b"))
    assert METHODS[2] not in " ".join(side.sentences())
    other = [f.text for f in said if f.topic is not Topic.COMPRESSION]
    assert METHODS[2] not in " ".join(other)


def test_a_choice_stands_beside_as_much_fine_tuning_without_pruning():
    results = changed(synthetic(seeds=3, noise=0.001), 0.2, method=METHODS[0], rate=4.0)
    results = fine_tuned_alone(results, METHODS[2], CONTROL)
    best = next(
        s
        for s in analyse(results).strategies
        if (s.knowledge, s.criterion, s.least_rate) == (NOTHING_KNOWN, AVERAGE, 1)
    )
    assert (best.method, best.rate) == (METHODS[0], 4.0)
    cells = results.cells[results.cells.rate == 4]
    of = {m: cells[cells.method == m].robust_accuracy.mean() for m in (METHODS[0], CONTROL)}
    assert best.control.mean == pytest.approx(of[METHODS[0]] - of[CONTROL])
    deploy = next(f.text for f in findings(analyse(results)) if f.topic is Topic.DEPLOY)
    assert "against as much fine-tuning without pruning" in deploy


def test_sides_that_count_differently_at_exactly_eps_are_named(tmp_path):
    """Rows of schema 1 have no rule; a minimum-norm attack's are by `distance < eps`."""
    a = synthetic()
    a = dataclasses.replace(a, cells=a.cells.assign(broken_at="distance <= eps"))
    (same,) = compare_stores(a, dataclasses.replace(a, address="b"))
    assert same.other_rule == 0
    write_store(dataclasses.replace(a, cells=a.cells.assign(broken_at=None)), tmp_path)
    (side,) = compare_stores(a, load_results(LocalFiles(tmp_path)))
    assert side.other_rule == int((a.cells["finds"] == "minimum-norm").sum()) > 0
    assert f"{side.other_rule} cells of single seeds" in " ".join(side.sentences())


# ------------------------------------------------------------------ trust, and words


def test_a_curve_that_hardly_falls_is_not_trusted_unremarked():
    results = synthetic(noise=0.0)
    cells = results.cells.copy()
    flat = (cells.method == METHODS[0]) & (cells.rate == 8) & (cells.attack == "cw_l2")
    cells.loc[flat, "robust_accuracy"] = 0.7
    results = dataclasses.replace(results, cells=cells)
    (curve,) = flat_curves(cell_table(results)).itertuples()
    assert (curve.method, curve.rate, curve.attack) == (METHODS[0], 8.0, "cw_l2")
    text = " ".join(f.text for f in findings(analyse(results)))
    assert "suspiciously flat" in text


def test_a_choice_whose_cells_are_flagged_says_so():
    results = changed(synthetic(), 0.2, method=METHODS[0], rate=2.0)
    cells = results.cells.copy()
    chosen = ((cells.method == METHODS[0]) & (cells.rate == 2)).tolist()
    raised = ["zero-gradients", "softmax-outputs"]
    cells["flags"] = pd.Series([raised * here for here in chosen], dtype=object)
    flagged = dataclasses.replace(results, cells=cells)
    warning = "Beware: flagged zero-gradients (see 'How far to trust this' in the report)"
    for source, said in ((flagged, True), (results, False)):
        deploy = [f.text for f in findings(analyse(source)) if f.topic == "What to deploy"]
        assert (warning in " ".join(deploy)) is said


def test_findings_say_what_to_deploy_and_how_sure_it_is():
    results = changed(synthetic(seeds=5, noise=0.001), 0.1, method=METHODS[0], rate=2.0)
    models = results.models.copy()
    models["accuracy"] = 0.97
    said = findings(analyse(dataclasses.replace(results, models=models)))
    deploy = [f.text for f in said if f.topic is Topic.DEPLOY]
    assert deploy[0].startswith(f"Adversary unknown, average case: {METHODS[0]} at rate 2")
    assert "Tests tell it from its 9 rivals" in deploy[0]
    assert "clean 97.0 (no spread) %, n = 5" in deploy[0]
    assert "(no gain shown)" not in deploy[0]
    sweet = " ".join(f.text for f in said if f.topic is Topic.SWEET_SPOTS)
    assert f"{METHODS[0]} at rate 2" in sweet
    compression = " ".join(f.text for f in said if f.topic is Topic.COMPRESSION)
    assert f"{METHODS[1]} 8 is 4.5" in compression
    assert {f.topic for f in said} == set(Topic)


@pytest.mark.parametrize(("clean", "said"), [(0.12, True), (0.2, False)])
def test_a_choice_that_hardly_beats_chance_says_so(clean, said):
    results = synthetic(seeds=2, dataset="mnist5k")
    results.models["accuracy"] = clean
    text = _unknown(results)[0]
    warning = "Beware: with 10 classes its clean accuracy is little above chance"
    assert (warning in text) is said


def test_criteria_that_choose_one_model_share_a_paragraph():
    """And those that choose another have one of their own."""
    base = synthetic(seeds=1, noise=0.001)
    best = changed(base, 0.1, method=METHODS[0], rate=2.0)
    (alike,) = _unknown(best)
    assert alike.startswith(f"Adversary unknown, average case: {METHODS[0]} at rate 2. Robust ")
    assert " Under the worst attack at each strength the same: robust " in alike
    assert " By least regret at any attack and ε the same: +9.0 points against" in alike
    assert alike.count("With one seed, nothing tells it from its 9 rivals") == 1
    split = _unknown(changed(best, -0.15, method=METHODS[0], rate=2.0, attack="cw_l2"))
    assert [text.partition(":")[0] for text in split] == [
        "Adversary unknown, average case",
        "Adversary unknown, worst attack at each strength",
    ]
    assert all(METHODS[0] not in text for text in split[1:])


def _unknown(results: Results) -> list[str]:
    said = findings(analyse(results))
    return [f.text for f in said if f.topic is Topic.DEPLOY and "unknown, " in f.lead]


def test_cells_without_spread_are_said_to_be_untestable():
    results = synthetic(seeds=2)
    results.cells["robust_accuracy"] = 0.5
    trust = " ".join(f.text for f in findings(analyse(results)) if f.topic is Topic.TRUST)
    assert "all 144 cells have the same value with every seed" in trust
    assert "Untestable" in trust


def attacked(results: Results, clean: float, images: int) -> Results:
    """With so many attacked images, of which the share `clean` is classified correctly."""
    cells = results.cells.assign(n_images=images, clean_accuracy=clean + 0.01 * results.cells.seed)
    return dataclasses.replace(results, cells=cells)


def test_robust_accuracy_stands_beside_the_clean_one_of_the_same_images(tmp_path):
    results = attacked(synthetic(seeds=3), 0.96, 32)
    results.models["accuracy"] = 0.90 + 0.01 * results.models.seed
    analysis = analyse(results)
    assert analysis.cells.clean_accuracy.tolist() == pytest.approx([0.97] * len(analysis.cells))
    deploy = next(f.text for f in findings(analysis) if f.topic is Topic.DEPLOY)
    assert "clean 97.0 (" in deploy
    assert "on the same images" in deploy
    assert "91.0 (" in deploy
    assert "on the whole test split" in deploy
    (panels, _) = compression_grid(analysis.parts()[0]).panels
    assert "attacked images" in panels[0].y
    assert panels[0].rows["mean"].tolist() == pytest.approx([0.97] * len(panels[0].rows))
    (table,) = summary_tables(analysis.experiments()[0], wide=True)
    assert "clean: of the attacked images" in str(table.title)
    assert all(cell.startswith("97.0 (") for cell in table.columns[3].cells)
    page = write_report(results, tmp_path / "r", formats=("html",)).page.read_text()
    assert page.count("clean, attacked images") == 3
    assert page.count("All seeds attack the same 32 images") == 3, "figure, table, findings"


def test_the_sampling_error_of_the_images_is_said():
    text = " ".join(f.text for f in findings(analyse(attacked(synthetic(), 0.96, 32))))
    assert "All seeds attack the same 32 images" in text
    assert "± 17.3 points" in text


def test_one_seed_proves_nothing_and_says_so():
    said = findings(analyse(synthetic(seeds=1)))
    deploy = [f.text for f in said if f.topic is Topic.DEPLOY and "rival" in f.text]
    assert deploy
    assert all("(one seed: untestable)" in t for t in deploy if "against unpruned" in t)
    assert all("one seed" in text for text in deploy)
