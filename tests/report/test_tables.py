"""Tables over imaginary grids: means by hand, margins to the dense model, worst cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.report.non_inferiority import margin_rows
from prunegrid.orchestrator.report.results import load_results
from prunegrid.orchestrator.report.sweet_spots import (
    AS_GOOD,
    BETTER,
    LOWER,
    UNKNOWN,
    WORSE,
    sweet_cells,
)
from prunegrid.orchestrator.report.sweet_spots import sweet_models as models_of
from prunegrid.orchestrator.report.tables import cell_table, clean_table
from prunegrid.orchestrator.report.worst_case import worst_table
from prunegrid.workers.files import LocalFiles
from tests.report.synthetic import METHODS, synthetic, write_store


@pytest.fixture(scope="module")
def results():
    return synthetic(seeds=3, protocols=("paper", "strict"))


def test_every_cell_s_mean_and_margin_by_hand(results):
    table = cell_table(results)
    assert len(table) == 3 * 4 * 2 * 12
    for row in table.sample(20, random_state=1).itertuples():
        same = results.cells[
            (results.cells.method == row.method)
            & (results.cells.protocol == row.protocol)
            & (results.cells.attack == row.attack)
            & (results.cells.eps == row.eps)
        ]
        mine = same[same.rate == row.rate].sort_values("seed").robust_accuracy.to_numpy()
        dense = same[same.rate == 1].sort_values("seed").robust_accuracy.to_numpy()
        assert (row.n, row.mean) == (3, pytest.approx(mine.mean()))
        if row.rate == 1:
            assert np.isnan(row.margin)
        else:
            assert row.margin == pytest.approx((mine - dense).mean())
            assert row.margin_half == pytest.approx(
                4.3027 * (mine - dense).std(ddof=1) / 3**0.5, 1e-4
            )


def test_clean_accuracy_has_its_compression(results):
    table = clean_table(results)
    odd = table[(table.method == METHODS[1]) & (table.rate == 8)].iloc[0]
    assert (odd.effective_rate, odd.effective_low, odd.effective_high) == (4.5, 4.5, 4.5)
    assert odd.speedup == pytest.approx(6.6)


def test_the_worst_case_is_each_seed_s_least_and_needs_every_attack(results):
    worst = worst_table(results)
    cells = results.cells
    row = worst[(worst.method == METHODS[0]) & (worst.rate == 4) & (worst.strength == 2)].iloc[0]
    levels = {"bb_l0": 6.0, "cw_l2": 2.0, "pgd_linf": 8 / 255}
    least = [
        min(
            cells[
                (cells.method == METHODS[0])
                & (cells.rate == 4)
                & (cells.seed == seed)
                & (cells.protocol == row.protocol)
                & (cells.attack == attack)
                & np.isclose(cells.eps, eps)
            ].robust_accuracy.item()
            for attack, eps in levels.items()
        )
        for seed in range(3)
    ]
    assert row["mean"] == pytest.approx(np.mean(least))
    gone = results.cells[~((cells.seed == 2) & (cells.attack == "cw_l2"))]
    partial = worst_table(type(results)(address="", models=results.models, cells=gone))
    assert set(partial.n) == {2}


def planted(margins):
    """A grid whose second rate beats or misses the dense model by these margins, seed by seed."""
    results = synthetic(methods=METHODS[:1], rates=(1.0, 2.0), seeds=len(margins), noise=0.0)
    cells = results.cells.copy()
    dense = cells[cells.rate == 1].set_index(["seed", "attack", "eps"]).robust_accuracy
    for i, cell in cells[cells.rate == 2].iterrows():
        base = dense[cell.seed, cell.attack, cell.eps]
        cells.loc[i, "robust_accuracy"] = base + margins[cell.seed]
    models = results.models.copy()
    models["accuracy"] = 0.9
    return type(results)(address="", models=models, cells=cells)


@pytest.mark.parametrize(
    ("margins", "verdict", "sweet"),
    [
        ([0.05, 0.0501, 0.0499, 0.05, 0.0502], BETTER, True),
        ([-0.05, -0.0501, -0.0499, -0.05, -0.0502], WORSE, False),
        ([0.05, -0.03, 0.01], AS_GOOD, True),
        ([0.01, -0.03, 0.01], LOWER, False),
        ([0.05], AS_GOOD, True),
    ],
)
def test_sweet_spots_are_planted_ones(margins, verdict, sweet):
    results = planted(margins)
    clean = clean_table(results)
    found = sweet_cells(clean, cell_table(results))
    assert set(found.verdict) == {verdict}
    assert set(found.sweet) == {sweet}
    (model,) = models_of(found, margin_rows(results, clean)).itertuples()
    assert bool(model.whole) == sweet
    for mean, n, sd in (
        (model.least, model.least_n, model.least_sd),
        (model.mean, model.mean_n, model.mean_sd),
    ):
        assert n == len(margins)
        assert mean == pytest.approx(np.mean(margins))
        if n > 1:
            assert sd == pytest.approx(np.std(margins, ddof=1))
    assert model.clean == 0


def test_without_a_dense_model_nothing_is_claimed(results):
    part = results.cells[results.cells.rate > 1]
    alone = type(results)(address="", models=results.models, cells=part)
    found = sweet_cells(clean_table(alone), cell_table(alone))
    assert set(found.verdict) == {UNKNOWN}
    assert not found.sweet.any()


def test_many_comparisons_are_corrected_for():
    """Seeds' noise alone: without the correction one in twenty cells would be called better or
    worse; of these 756 cells none is."""
    results = synthetic(methods=METHODS, seeds=5, rates=(1.0, 1.5, 2.0, 3.0), noise=0.02)
    cells = results.cells.copy()
    rng = np.random.default_rng(0)
    cells["robust_accuracy"] = 0.5 + 0.05 * rng.normal(size=len(cells))
    table = cell_table(type(results)(address="", models=results.models, cells=cells))
    tested = table.p.dropna()
    assert (tested < 0.05).mean() > 0.02
    assert not (table.p_holm < 0.05).any()


def test_rows_are_read_back_as_they_were_written(results, tmp_path):
    write_store(results, tmp_path)
    again = load_results(LocalFiles(tmp_path))
    assert len(again.cells) == len(results.cells)
    assert cell_table(again)["mean"].tolist() == cell_table(results)["mean"].tolist()
    (tmp_path / "results/cells/torn.parquet").write_bytes(b"PAR1 torn")
    assert len(load_results(LocalFiles(tmp_path)).cells) == len(results.cells)


def test_a_place_that_was_computed_anew_counts_once(results, tmp_path):
    """The row begun last stands, whatever its file's name; an older row is no further seed."""
    cells = results.cells.copy()
    again = cells.head(1).assign(
        cell_id="cell-000000-0", started_at="2027-01-01T00:00:00+00:00", robust_accuracy=0.125
    )
    older = cells.tail(1).assign(
        cell_id="cell-zzzzzz-9", started_at="2025-01-01T00:00:00+00:00", robust_accuracy=0.25
    )
    both = pd.concat([again, cells, older], ignore_index=True)
    write_store(type(results)(address="", models=results.models, cells=both), tmp_path)
    found = load_results(LocalFiles(tmp_path)).cells
    assert len(found) == len(cells)
    assert "cell-000000-0" in set(found.cell_id)
    assert "cell-zzzzzz-9" not in set(found.cell_id)
    assert cells.cell_id[0] not in set(found.cell_id)


def test_a_file_without_a_column_or_of_another_program(results, tmp_path):
    write_store(results, tmp_path)
    folder = tmp_path / "results/cells"
    whole = pa.parquet.read_table(folder / "merged.parquet")
    older = whole.drop_columns(["flags", "engine"])
    pa.parquet.write_table(older, folder / "merged.parquet")
    pa.parquet.write_table(whole.replace_schema_metadata(None), folder / "foreign.parquet")
    pa.parquet.write_table(pa.table({"cell_id": [1]}), folder / "other.parquet")
    found = load_results(LocalFiles(tmp_path)).cells
    assert len(found) == len(results.cells)
    assert found.engine.isna().all()
    assert set(cell_table(load_results(LocalFiles(tmp_path)))["flags"]) == {""}


class _Compacting(LocalFiles):
    """Merges all rows once, between a reader's listing and its reading; or vanishes for ever."""

    def __init__(self, root, moves: int) -> None:
        super().__init__(root)
        self.moves = moves

    def read(self, path: str) -> bytes:
        if self.moves:
            self.moves -= 1
            name = self.folder / path
            name.rename(name.with_name(f"merged-{self.moves}.parquet"))
        return super().read(path)


def test_a_store_that_is_compacted_meanwhile_loses_no_row(results, tmp_path):
    write_store(results, tmp_path)
    assert len(load_results(_Compacting(tmp_path, 1)).cells) == len(results.cells)
    with pytest.raises(StoreError, match="results/models: files disappear while they are read"):
        load_results(_Compacting(tmp_path, 1000))
