"""The claim checklist and the model cards: each answer follows from the rows, none is fixed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from prunegrid.orchestrator.report.analysis import Analysis, analyse
from prunegrid.orchestrator.report.checklist import NO, UNKNOWN, YES, ChecklistItem, checklist
from prunegrid.orchestrator.report.evidence import Evidence
from prunegrid.orchestrator.report.model_cards import as_markdown, cards
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.report.statistics import estimate
from prunegrid.orchestrator.report.write import write_report
from tests.report.synthetic import METHODS, RATES, synthetic
from tests.report.test_images import N, images_of


@pytest.fixture(scope="module")
def results() -> Results:
    found = synthetic(methods=METHODS[:3], rates=RATES[:4], seeds=3)
    cells = found.cells.assign(clean_accuracy=0.9, n_unverified=0)
    return dataclasses.replace(found, cells=cells)


def answers(results: Results, evidence: Evidence | None = None) -> dict[str, ChecklistItem]:
    analysis = analyse(results, evidence=evidence or Evidence())
    (part,) = analysis.parts()
    items = checklist(part)
    assert len({item.question for item in items}) == len(items)
    return {item.question: item for item in items}


def changed(results: Results, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Results:
    return dataclasses.replace(results, cells=change(results.cells.copy()))


def flagged(flag: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(cells: pd.DataFrame) -> pd.DataFrame:
        flags = [[flag] if k == 0 else [] for k in range(len(cells))]
        return cells.assign(flags=pd.Series(flags, index=cells.index, dtype=object))

    return change


@pytest.mark.parametrize(
    ("question", "change"),
    [
        ("Was each model attacked itself", lambda c: c.assign(model_key="another")),
        ("Does clean accuracy of the same images", lambda c: c.assign(clean_accuracy=np.nan)),
        ("Was each adversarial image checked", lambda c: c.assign(n_unverified=1)),
        ("Were the attacked images held out", lambda c: c.assign(split="validation")),
        ("Does robust accuracy fall", flagged("not-monotone")),
        ("Do iterated attacks break", flagged("weaker-than-first-step")),
        ("Do attacks see logits", flagged("softmax-outputs")),
        ("Do gradients vanish", flagged("zero-gradients")),
    ],
)
def test_an_answer_turns_with_the_rows(results, question, change):
    before = {q: i for q, i in answers(results).items() if q.startswith(question)}
    after = {q: i for q, i in answers(changed(results, change)).items() if q.startswith(question)}
    assert [i.answer for i in before.values()] == [YES]
    assert [i.to_run for i in before.values()] == [""]
    (item,) = after.values()
    assert item.answer == NO
    assert item.to_run, "what would have to run"


def test_numbers_and_what_is_missing(results):
    found = answers(results)
    assert found["How many attacks?"].answer == "3"
    assert found["In how many norms?"].answer == "3"
    assert found["How many images?"].answer == "128"
    assert found["How many seeds?"].answer == "3"
    assert found["Are there at least 5 compression rates?"].answer == NO
    assert found["Is random pruning there to compare with?"].detail == METHODS[2]
    more = synthetic(methods=METHODS[:1], rates=RATES, seeds=1)
    other = answers(more)
    assert other["Are there at least 5 compression rates?"].answer == YES
    assert other["Is random pruning there to compare with?"].answer == NO
    assert other["Is random pruning there to compare with?"].to_run == "the methods random-local-*"
    assert other["Are means given with their spread over seeds?"].answer == NO


def test_what_only_image_rows_know(results):
    unbounded = "Do attacks without a bound on the distance break every image?"
    worst = "Is the worst case over attacks taken image by image?"
    bare = answers(results)
    assert (bare[unbounded].answer, bare[worst].answer) == (UNKNOWN, NO)
    distance = np.full(N, 2.0)
    planted = {"cw_l2": distance, "bb_l0": distance}
    found = answers(results, Evidence(images=images_of(results, planted)))
    assert (found[unbounded].answer, found[worst].answer) == (YES, YES)
    assert found[worst].detail == "bb_l0, cw_l2"
    planted["cw_l2"] = np.where(np.arange(N) == 0, np.inf, 2.0)
    failing = answers(results, Evidence(images=images_of(results, planted)))[unbounded]
    models = 3 * 4 * 3
    assert failing.answer == NO
    assert failing.detail.startswith(f"{models} of {2 * models * N} images")


@pytest.fixture(scope="module")
def analysis(results) -> Analysis:
    return analyse(results)


def test_a_card_has_the_numbers_of_its_model(analysis, results):
    (part,) = analysis.parts()
    mine = {(c["pruning"]["method"], c["pruning"]["nominal_rate"]): c for c in cards(part)}
    assert ("unpruned", 1.0) not in mine or mine["unpruned", 1.0]["best_for"][0] == "any"
    (method, rate), card = next((k, c) for k, c in mine.items() if k[0] != "unpruned")
    models = results.models
    own = models[(models["method"] == method) & (models["rate"] == rate)]
    expected = estimate(own["accuracy"].tolist())
    split = card["clean_accuracy"]["test_split"]
    assert (split["n"], split["mean"]) == (3, pytest.approx(expected.mean))
    assert (split["low"], split["high"]) == pytest.approx((expected.low, expected.high))
    cells = results.cells[(results.cells["method"] == method) & (results.cells["rate"] == rate)]
    assert len(card["robust_accuracy"]["by_threat"]) == 12
    for threat in card["robust_accuracy"]["by_threat"]:
        at = cells[(cells["attack"] == threat["attack"]) & (cells["eps"] == threat["eps"])]
        assert threat["mean"] == pytest.approx(at["robust_accuracy"].mean())
    assert card["seeds"] == [0, 1, 2]
    assert card["made_by"]["git_revision"] == ["0123456789ab"]
    text = as_markdown(card)
    assert f"{100 * expected.mean:.1f}" in text
    assert "| pgd_linf | 8/255 |" in text


def test_the_files_are_json_without_nan(results, tmp_path):
    write_report(results, tmp_path / "r", formats=("cards",))
    found = sorted(p.relative_to(tmp_path / "r").as_posix() for p in (tmp_path / "r").rglob("*.*"))
    assert "checklist.json" in found
    assert "cards/cnn5-mnist-standard-strict-1/card.json" in found
    assert "cards/cnn5-mnist-standard-strict-1/card.md" in found

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    for path in found:
        if path.endswith("checklist.json") or path.endswith("card.json"):
            json.loads((tmp_path / "r" / path).read_text(), parse_constant=refuse)
