"""Diverged models: no accuracy of theirs counts, nothing recommends one, everything names it."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.status import status
from prunegrid.orchestrator.dashboard.drill import why
from prunegrid.orchestrator.dashboard.heatmap import square_payload
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.findings import findings
from prunegrid.orchestrator.report.results import Results, load_results
from prunegrid.orchestrator.report.terminal import print_report
from prunegrid.orchestrator.report.write import write_report
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.files import LocalFiles
from tests.fakes import DIVERGES, DIVERGES_LATER, RUNNER
from tests.grids import with_seeds
from tests.report.synthetic import METHODS, synthetic, write_store


def as_before(results: Results, *seeds: int) -> Results:
    """With the model of METHODS[0] at rate 4 diverged, as rows of earlier versions have it: an
    accuracy by argmax of NaN, and cells that were not attacked and score 0. They score best here,
    so that whoever counts them recommends the model."""
    models, cells = results.models.copy(), results.cells.copy()
    for frame in (models, cells):
        mine = (frame.method == METHODS[0]) & (frame.rate == 4) & frame.seed.isin(seeds)
        if frame is models:
            frame["diverged"] = mine
            frame["loss"] = np.where(mine, np.nan, 0.1)
            frame.loc[mine, "accuracy"] = 0.10
        else:
            frame.loc[mine, "robust_accuracy"] = 0.99
    return dataclasses.replace(results, models=models, cells=cells)


@pytest.fixture(params=[(0, 1, 2), (1,)], ids=["all seeds", "one seed"])
def lost(request, tmp_path) -> Results:
    write_store(as_before(synthetic(seeds=3, noise=0.001), *request.param), tmp_path)
    return load_results(LocalFiles(tmp_path))


def test_no_number_of_a_diverged_model_counts(lost):
    analysis = analyse(lost)
    for table, low, high in ((analysis.clean, 0.9, 1.0), (analysis.cells, 0.1, 0.8)):
        mine = table[(table.method == METHODS[0]) & (table.rate == 4)]
        assert mine["mean"].dropna().between(low, high).all()
        assert (mine.n < 3).all()
    assert all((s.method, s.rate) != (METHODS[0], 4.0) for s in analysis.strategies)


def test_a_diverged_model_is_named_wherever_it_is_missed(lost, tmp_path):
    analysis = analyse(lost)
    text = " ".join(f.text for f in findings(analysis))
    assert f"diverged: {METHODS[0]} at rate 4, seed" in text
    shown = io.StringIO()
    print_report(Console(file=shown, width=100), analysis)
    assert f"diverged: {METHODS[0]} at rate 4, seed" in " ".join(shown.getvalue().split())
    out = tmp_path / "report"
    write_report(lost, out, formats=("html", "csv", "figures"))
    clean = pd.read_csv(out / "csv/clean.csv")
    mine = clean[(clean.method == METHODS[0]) & (clean.rate == 4)]
    (diverged,) = mine.diverged
    assert diverged + mine.n.item() == 3
    assert f"{METHODS[0]} at rate 4, seed" in (out / "index.html").read_text()
    svg = (out / "figures/cnn5-mnist-standard-strict-compression.svg").read_text()
    assert "diverged" in svg


def test_a_model_judged_by_weights_of_before_is_named_and_counts(tmp_path):
    """`restore_best: true`: the training diverged, the weights of an earlier epoch are finite."""
    whole = synthetic(seeds=3, noise=0.001)
    mine = (whole.models.method == METHODS[0]) & (whole.models.rate == 4) & (whole.models.seed == 1)
    models = whole.models.assign(diverged=mine, loss=0.1)
    write_store(dataclasses.replace(whole, models=models), tmp_path / "s")
    results = load_results(LocalFiles(tmp_path / "s"))
    analysis = analyse(results)
    clean = analysis.clean
    row = clean[(clean.method == METHODS[0]) & (clean.rate == 4)]
    assert (row.n.item(), row.diverged.item()) == (3, 0)
    name = f"1 model diverged later: {METHODS[0]} at rate 4, seed 1."
    assert name in " ".join(f.text for f in findings(analysis))
    shown = io.StringIO()
    print_report(Console(file=shown, width=100), analysis)
    assert name in " ".join(shown.getvalue().split())
    write_report(results, tmp_path / "report", formats=("html", "csv"))
    for file in ("index.html", "csv/findings.csv"):
        assert name in (tmp_path / "report" / file).read_text(), file


def test_a_run_status_and_verify_agree_on_a_diverged_model(tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(with_seeds(0, DIVERGES, DIVERGES_LATER))
    store = str(tmp_path / "s")
    options = RunOptions(grid=grid, store=store, engine="inline", runner=RUNNER)
    assert run_grid(options, Console(quiet=True)) == 0
    shown = io.StringIO()
    status(store, as_json=False, console=Console(file=shown, width=100))
    assert f"seed {DIVERGES}" in shown.getvalue()
    said = " ".join(shown.getvalue().split())
    assert "diverged, no accuracy: " in said
    assert f"seed {DIVERGES_LATER}" in said.split("judged by weights kept from before: ")[1]
    cells = pd.read_parquet(f"{store}/results/cells")
    assert cells.robust_accuracy.isna().tolist() == (cells.seed == DIVERGES).tolist()
    models = pd.read_parquet(f"{store}/results/models")
    assert models.accuracy.isna().tolist() == (models.seed == DIVERGES).tolist()
    assert list(Verifier(Store.open(store)).findings()) == []
    snapshot = StoreReader(Store.open(store)).refresh(budget_s=60)
    place = {"method": ("random-local-filter",), "rate": ("4",)}
    square = square_payload(snapshot, place)
    for one in (*square["models"], *square["cells"]):
        assert one["diverged"] == (one["seed"] == DIVERGES) == (one["value"] is None)
        if one["diverged"]:
            assert "diverged" in why(snapshot, one["tasks"], address=store)
        assert one["diverged_later"] == (one["seed"] == DIVERGES_LATER)
        assert one["value"] is not None or not one["diverged_later"]
