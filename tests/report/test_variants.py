"""Clean against robust accuracy of every variant: planted accuracies, the front, the figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.page import page
from prunegrid.orchestrator.report.plotly_figures import draw
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.report.sections.clean_and_robust import SECTION
from prunegrid.orchestrator.report.style import look_of
from prunegrid.orchestrator.report.variants import variant_table
from tests.report.synthetic import METHODS, synthetic

METHOD = METHODS[0]
#: Clean and robust accuracy by variant and rate, of seed 0; each further seed has 1 point more.
PLANTED: Mapping[tuple[str, float], tuple[float, float]] = {
    ("natural", 1.0): (0.95, 0.30),
    ("natural", 4.0): (0.93, 0.28),  # beaten by the dense one
    ("mix-50", 1.0): (0.90, 0.60),
    ("mix-50", 4.0): (0.91, 0.62),  # beats the dense one of its variant
}


@pytest.fixture(scope="module")
def results() -> Results:
    parts = []
    for variant in ("natural", "mix-50"):
        found = synthetic(variant=variant, methods=(METHOD,), rates=(1.0, 4.0), seeds=3)
        for frame, column, which in (
            (found.models, "accuracy", 0),
            (found.cells, "robust_accuracy", 1),
        ):
            planted = [PLANTED[variant, rate][which] for rate in frame["rate"]]
            frame[column] = np.array(planted) + 0.01 * frame["seed"]
        parts.append(found)
    return dataclasses.replace(
        parts[0],
        models=pd.concat([p.models for p in parts], ignore_index=True),
        cells=pd.concat([p.cells for p in parts], ignore_index=True),
    )


def test_changes_are_against_the_natural_unpruned_model_of_the_same_seed(results):
    cells = results.cells.copy()
    best = (cells["variant"] == "mix-50") & (cells["rate"] == 4.0)
    cells.loc[best, "robust_accuracy"] = 0.6 + 0.03 * cells.loc[best, "seed"]
    table = variant_table(dataclasses.replace(results, cells=cells))
    assert set(table["reference"]) == {"natural"}
    assert set(table["attack"]) == {"", "bb_l0", "cw_l2", "pgd_linf"}
    at = table[table["attack"] == ""].set_index(["variant", "rate"])
    row = at.loc[("mix-50", 4.0)]
    changes = np.array([0.6 - 0.30, 0.63 - 0.31, 0.66 - 0.32])
    assert row.change == pytest.approx(changes.mean())
    assert row.change_sd == pytest.approx(changes.std(ddof=1))
    assert row.clean_change == pytest.approx(-0.04)
    assert (row.n, row.clean_n, row.change_n) == (3, 3, 3)
    assert np.isnan(at.loc[("natural", 1.0), "change"])
    assert at.loc[("natural", 4.0), "method"] == METHOD
    assert at.loc[("natural", 1.0), "method"] == "unpruned"


def test_the_front_has_what_nothing_beats_in_both(results):
    table = variant_table(results)
    at = table[table["attack"] == ""].set_index(["variant", "rate"])["front"]
    assert at.to_dict() == {
        ("natural", 1.0): True,
        ("natural", 4.0): False,
        ("mix-50", 1.0): False,
        ("mix-50", 4.0): True,
    }


def test_without_variants_there_is_no_section(results):
    alone = synthetic(methods=(METHOD,), rates=(1.0, 4.0))
    assert variant_table(alone).empty
    assert "Clean against robust" not in page(analyse(alone), title="t")
    text = page(analyse(results), title="t")
    assert text.count(">Clean against robust, all variants, protocol strict</h3>") == 1


def test_the_figure_has_accuracy_on_both_axes_and_a_colour_for_each_variant(results):
    parts = [p for p in analyse(results).parts() if p.setting.variant == "natural"]
    grid = SECTION.figure(parts[0])
    assert grid is not None
    figure = draw(grid)
    first = [t for t in figure.data if t.xaxis in (None, "x")]
    lines = {t.name: t for t in first}
    assert set(lines) == {"natural", "mix-50"}
    assert list(lines["natural"].x) == pytest.approx([96, 94], abs=1e-3), "dense, then pruned"
    assert list(lines["natural"].y) == pytest.approx([31, 29], abs=1e-3)
    assert figure.layout.xaxis.type != "log"
    assert lines["natural"].line.color != lines["mix-50"].line.color


def test_methods_keep_their_colours():
    assert look_of(METHOD, ["natural", METHOD]) == look_of(METHOD)
    assert look_of("natural", ["natural"]) == look_of("natural")
