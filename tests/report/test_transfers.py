"""The report's section on transfer, against sums over the rows of a store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.page import page
from prunegrid.orchestrator.report.results import load_results
from prunegrid.orchestrator.report.sections.transferred import SECTION
from prunegrid.orchestrator.report.transfers import (
    FROM_DENSE,
    TO_DENSE,
    pooled_transfers,
    transfer_sentences,
    transfer_table,
)
from prunegrid.workers.files import open_files
from tests.commands.test_run import run
from tests.grids import TRANSFERRED
from tests.report.synthetic import synthetic


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfers")
    text = TRANSFERRED.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    assert run(folder, text.replace("methods: [", "dense_model: shared\nmethods: [")) == 0
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return load_results(open_files(str(folder / "store")))


def test_pooled_rates_are_sums_over_sums_within_a_seed(folder, results):
    rows = pd.read_parquet(folder / "store/results/transfers")
    pooled = pooled_transfers(results)
    assert len(pooled) == 2 * 2 * 3, "methods, pruned rates; all, and each of two attacks"
    for row in pooled.itertuples():
        mine = rows[rows["method"] == row.method]
        mine = mine if not row.attack else mine[mine["attack"] == row.attack]
        for name, ends in (
            ("to_pruned", ("source_rate", "rate")),
            ("to_dense", ("rate", "source_rate")),
        ):
            one = mine[(mine[ends[0]] == 1) & (mine[ends[1]] == row.pruned_rate)]
            one = one.assign(n_right=one["clean_accuracy"] * one["n_images"])
            sums = one.groupby("seed")[["n_transferred", "n_adversarials", "n_right"]].sum()
            broken = (sums["n_transferred"] / sums["n_right"]).mean()
            assert getattr(row, f"{name}_broken") == pytest.approx(broken)
            rates = sums["n_transferred"] / sums["n_adversarials"]
            assert getattr(row, f"{name}_mean") == pytest.approx(rates.mean(), nan_ok=True)
            assert getattr(row, f"{name}_n") == rates.count()
            low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
            assert np.isnan(low) or low <= rates.mean() <= high
        assert not row.to_pruned_broken > min(row.to_pruned_mean, 1.0)
        if row.difference_n == 3:
            assert row.difference == pytest.approx(row.to_pruned_mean - row.to_dense_mean)
    known = pooled.dropna(subset="p")
    assert len(known)
    assert (known["p_holm"] >= known["p"] - 1e-12).all()
    least = known.loc[known[known["attack"] == ""]["p"].idxmin()]
    count = (known["attack"] == "").sum()
    assert least["p_holm"] == pytest.approx(min(1.0, count * least["p"])), "a family of its own"


def test_each_threat_stands_beside_the_attack_on_the_target(results):
    table = transfer_table(results)
    assert set(table["direction"]) == {FROM_DENSE, TO_DENSE}
    assert len(table) == 2 * 2 * 4 * 2
    row = table[table["direction"] == FROM_DENSE].iloc[0]
    cells = results.cells
    mine = cells[
        (cells["method"] == row["method"])
        & (cells["rate"] == row["pruned_rate"])
        & (cells["attack"] == row["attack"])
        & (cells["eps"] == row["eps"])
    ]
    assert row["white_box"] == pytest.approx(mine["robust_accuracy"].mean())
    assert row["gap"] == pytest.approx(row["robust"] - row["white_box"])


def test_the_page_has_the_section_where_there_are_transfers(results):
    analysis = analyse(results)
    text = page(analysis, title="t")
    assert "Transfer between dense and pruned models" in text
    ((stem, tex),) = SECTION.latex(analysis)
    assert stem.startswith("transfer-")
    assert tex.count("\\\\\n") == 1 + 12
    assert set(SECTION.frames(analysis)) == {"transfers", "transfers_pooled"}
    figure = SECTION.figure(analysis.parts()[0])
    assert [len(row) for row in figure.panels] == [2]
    for panel in figure.panels[0]:
        assert panel.rows["mean"].notna().sum() == 4
    without = analyse(synthetic())
    assert "Transfer between" not in page(without, title="t")
    assert SECTION.frames(without) == {}


def test_sentences_count_what_the_table_has(results):
    part = analyse(results).parts()[0]
    said = transfer_sentences(part)
    pooled = pooled_transfers(results)
    for text, name in zip(said, ("to_pruned", "to_dense"), strict=False):
        mine = pooled[pooled["attack"] == ""]
        for column in ("mean", "broken", "white_box"):
            assert f"{100 * mine[f'{name}_{column}'].mean():.1f} %" in text
    assert "of 4 pruned models (paired t test over seeds, Holm)" in said[2]
    weak = results.cells.assign(robust_accuracy=1.0)
    masked = analyse(replace(results, cells=weak)).parts()[0]
    assert any("masked gradients" in each for each in transfer_sentences(masked))
    table = transfer_table(results)
    count = int((table["gap"] < -1e-9).sum())
    assert any(f"At {count} of {len(table)}" in each for each in said) == (count > 0)


def test_one_seed_and_cells_that_are_not_there_have_no_test_and_no_white_box(results):
    one = replace(
        results,
        models=results.models[results.models["seed"] == 0],
        transfers=results.transfers[results.transfers["seed"] == 0],
        cells=results.cells[(results.cells["seed"] == 0) & (results.cells["rate"] > 1)],
    )
    pooled = pooled_transfers(one)
    assert pooled["p_holm"].isna().all()
    assert pooled["to_dense_white_box"].isna().all()
    assert np.isfinite(pooled["to_pruned_white_box"]).all()
    text = page(analyse(one), title="t")
    assert "Too few seeds to test" in text
