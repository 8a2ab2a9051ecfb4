"""L0 by pixel: of image rows in the cells, and of cells in the report."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.page import page
from prunegrid.orchestrator.report.sections.pixel_distances import SECTION
from prunegrid.orchestrator.store.rows import CELL_NEEDS, summarise
from tests.report.synthetic import METHODS, synthetic


def columns(distance, pixels):
    n = len(distance)
    given = {name: np.zeros(n) for name in CELL_NEEDS}
    given |= {name: np.full(n, None) for name in ("backward_passes", "flat_passes", "broken_by")}
    pixels = np.array(pixels, dtype=object)
    return given | {"distance": np.array(distance, float), "distance_pixels": pixels}


def test_a_cell_counts_pixels_as_it_counts_elements():
    given = columns([3, 6, 9, 12], [1, 2, 3, 6])
    found = summarise(given, eps=6, minimum_norm=True, within=True)
    assert (found["robust_accuracy"], found["robust_accuracy_pixels"]) == (0.5, 0.0)
    at_two = summarise(given, eps=2, minimum_norm=True, within=True)
    assert (at_two["robust_accuracy"], at_two["robust_accuracy_pixels"]) == (1.0, 0.5)
    authors = summarise(given, eps=2, minimum_norm=True, within=False)
    assert authors["robust_accuracy_pixels"] == 0.75
    assert found["distance_pixels_q50"] == 2
    earlier = summarise(columns([3.0], [None]), eps=2, minimum_norm=True)
    assert earlier["robust_accuracy_pixels"] is None
    assert earlier["distance_pixels_q50"] is None


def test_the_report_has_it_where_the_two_differ():
    results = synthetic(methods=METHODS[:1], rates=(1.0, 2.0), seeds=2)
    cells = results.cells.copy()
    l0 = cells["attack"] == "bb_l0"
    cells.loc[l0, "robust_accuracy_pixels"] = cells.loc[l0, "robust_accuracy"]
    grey = analyse(dataclasses.replace(results, cells=cells.copy()))
    assert SECTION.frames(grey) == {}
    assert "L0 by pixel" not in page(grey, title="t")
    cells.loc[l0, "robust_accuracy_pixels"] -= 0.05
    colour = analyse(dataclasses.replace(results, cells=cells))
    (frame,) = SECTION.frames(colour).values()
    assert len(frame) == 2 * 4
    assert (frame["by_element"] - frame["mean"]).tolist() == pytest.approx([0.05] * 8)
    assert "L0 by pixel, protocol strict" in page(colour, title="t")
