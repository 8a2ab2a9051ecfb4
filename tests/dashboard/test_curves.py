"""Live curves are the report's: same means, same intervals."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from prunegrid.orchestrator.dashboard.curve_panels import curves_payload
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.report.statistics import accuracy_over_seeds
from prunegrid.orchestrator.store.store import Store


def flat(payload) -> dict[tuple, tuple]:
    out = {}
    for panel in payload["panels"]:
        for line in panel["lines"]:
            columns = (line["rate"], line["mean"], line["low"], line["high"], line["n"])
            for rate, *numbers in zip(*columns, strict=True):
                out[panel["attack"], panel["eps"], line["method"], rate] = tuple(numbers)
    return out


def test_means_and_intervals_are_those_of_the_report(done):
    snapshot = StoreReader(Store.open(done.address)).refresh(budget_s=60)
    found = flat(curves_payload(snapshot, {}))
    cells = pd.read_parquet(f"{done.address}/results/cells")
    models = pd.read_parquet(f"{done.address}/results/models")
    expected = {}
    for row in accuracy_over_seeds(
        cells, ["attack", "eps", "method", "rate"], "robust_accuracy"
    ).itertuples():
        expected[row.attack, row.eps, row.method, row.rate] = (row.mean, row.low, row.high, row.n)
    for row in accuracy_over_seeds(models, ["method", "rate"], "accuracy").itertuples():
        expected[None, None, row.method, row.rate] = (row.mean, row.low, row.high, row.n)
    assert found.keys() == expected.keys()
    for place, numbers in expected.items():
        known = [None if math.isnan(number) else number for number in numbers]  # no spread
        assert list(found[place]) == pytest.approx(known, abs=1e-5), place


def test_one_seed_has_no_interval(done):
    snapshot = StoreReader(Store.open(done.address)).refresh(budget_s=60)
    for mean, low, high, n in flat(curves_payload(snapshot, {"seed": ("0",)})).values():
        assert (low, high, n) == (None, None, 1)
        assert math.isfinite(mean)


def test_a_panel_names_its_adversary(done):
    snapshot = StoreReader(Store.open(done.address)).refresh(budget_s=60)
    panels = curves_payload(snapshot, {"attack": ("pgd_linf",)})["panels"]
    assert [(p["attack"], p["norm"], p["eps_text"]) for p in panels] == [
        (None, None, None),
        ("pgd_linf", "linf", "4/255"),
        ("pgd_linf", "linf", "8/255"),
    ]
    cells = pd.read_parquet(f"{done.address}/results/cells")
    dense = cells[(cells.rate == 1) & (cells.attack == "pgd_linf") & (cells.eps < 0.02)]
    assert panels[1]["dense"] == pytest.approx(dense.robust_accuracy.mean(), abs=1e-5)


def test_without_results_there_are_no_panels(tmp_path, mixed):
    snapshot = StoreReader(Store.open(mixed.address)).refresh(budget_s=0)
    assert curves_payload(snapshot, {})["panels"] == []
