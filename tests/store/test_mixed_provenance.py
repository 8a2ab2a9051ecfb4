"""Rows of one grid that were not made alike are warned of, wherever their means are shown."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.status import status
from prunegrid.orchestrator.commands.verify import show_findings
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.python_api import open_store
from prunegrid.orchestrator.store import mixed_provenance
from prunegrid.orchestrator.store.mixed_provenance import mixed_values
from prunegrid.orchestrator.store.rows import AttackTraits, cell_table
from prunegrid.workers.contract import AttackTask
from prunegrid.workers.image_rows import read_images
from tests import fakes
from tests.grids import SMALL, with_seeds

ROW = {
    "architecture": "cnn5",
    "variant": "standard",
    "method": "random-local-filter",
    "rate": 2.0,
    "seed": 3,
    "git_revision": "a",
    "code_digest": "d",
    "versions": '{"keras": "3.1", "numpy": ""}',
    "device": "cpu",
    "threads": 1,
    "arithmetic": "oneDNN avx512f",
    "user_sources": "nets:net 2, scores:mine 1",
}
CELL = ROW | {"protocol": "strict", "attack": "pgd_linf", "eps": 8 / 255, "norm": "linf"}


def test_rows_that_were_made_alike_are_not_mixed():
    assert mixed_values([ROW, CELL, CELL | {"device": "cpu (XLA)"}]) == ()


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"git_revision": "a-dirty"}, "git revision"),
        ({"code_digest": "e"}, "code digest"),
        ({"code_digest": "d, e"}, "code digest"),
        ({"versions": '{"keras": "3.2"}'}, "keras version"),
        ({"device": "NVIDIA H200"}, "device"),
        ({"threads": 2.0}, "threads"),
        ({"arithmetic": "Eigen avx512f"}, "arithmetic"),
        ({"user_sources": "nets:net 1, data:load 3"}, "source of nets:net"),
    ],
)
def test_a_difference_is_named_with_its_rows_and_where_they_are(change, column):
    (mixed,) = mixed_values(
        [ROW | {"model_id": "a"}, ROW | {"model_id": "b"}, CELL | change | {"cell_id": "c"}]
    )
    assert mixed.column == column
    assert sorted(map(sorted, mixed.rows.values())) in (
        [["a", "b"], ["c"]],
        [["a", "b", "c"], ["c"]],
    )
    assert str(mixed).startswith(f"rows of more than one {column} are mixed: ")
    assert "in 1 row (all of protocol=strict attack=pgd_linf eps=8/255)" in str(mixed)


def test_rows_that_no_selection_tells_apart_are_told_by_what_bounds_them_and_one_of_them():
    grid = [
        CELL | {"seed": seed, "rate": float(rate), "cell_id": f"{seed}-{rate}"}
        for seed in range(3)
        for rate in (1, 2, 4)
    ]
    for row in grid:
        row["git_revision"] = "b" if row["cell_id"] in ("0-1", "1-2") else "a"
    (mixed,) = mixed_values(grid)
    assert list(mixed.rows) == ["a", "b"]
    assert mixed.rows["b"] == ["0-1", "1-2"]
    place = "architecture=cnn5,variant=standard,method=random-local-filter"
    tail = "protocol=strict,attack=pgd_linf,eps=8/255"
    assert mixed.places["b"] == f"among rate=1,2 seed=0,1; one is {place},rate=1,seed=0,{tail}"
    assert mixed.places["a"].startswith(f"one is {place},")


@pytest.mark.parametrize(
    "unknown",
    [
        {"code_digest": None, "arithmetic": None},
        {"code_digest": float("nan")},
        {"git_revision": "", "versions": '{"imported": "x"}', "device": "imported"},
    ],
)
def test_what_is_not_recorded_differs_from_nothing(unknown):
    assert mixed_values([ROW, ROW | unknown]) == ()


def test_a_cell_whose_shards_two_codes_made_names_both():
    plan = expand(parse_grid(SMALL, source="test"))
    cell = next(cell for cell in plan.cells if len(cell.task_keys) == 2)
    shards = []
    for number, key in enumerate(cell.task_keys):
        task = plan.tasks[key]
        assert isinstance(task, AttackTask)
        rows = read_images(fakes.fake_images(task))
        made = dataclasses.replace(
            rows.provenance, git_revision=f"r{number}", code_digest=f"d{number}", arithmetic="x"
        )
        shards.append(dataclasses.replace(rows, provenance=made))
    traits = AttackTraits(norm="linf", finds="fixed-eps", gradients=True)
    settings = cell.attack.settings
    (row,) = cell_table(cell.place, settings=settings, traits=traits, shards=shards).to_pylist()
    assert (row["code_digest"], row["arithmetic"]) == ("d0, d1", "x")
    assert row["git_revision"] == "r0, r1"
    assert [mixed.column for mixed in mixed_values([row])] == ["git revision", "code digest"]


def run(folder: Path, text: str) -> str:
    (folder / "grid.yaml").write_text(text)
    options = RunOptions(
        grid=folder / "grid.yaml",
        store=str(folder / "store"),
        engine="inline",
        runner=fakes.RUNNER,
        report=folder / "report",
    )
    console = Console(width=4000, record=True, file=io.StringIO())
    assert run_grid(options, console) == 0
    return console.export_text()


def said_by_status(folder: Path) -> str:
    console = Console(width=4000, record=True, file=io.StringIO())
    status(str(folder / "store"), as_json=False, console=console)
    return console.export_text()


def said_by_verify(folder: Path) -> str:
    console = Console(width=4000, record=True, file=io.StringIO())
    assert show_findings(str(folder / "store"), as_json=False, console=console) == 0
    return console.export_text()


def test_run_status_verify_and_the_report_warn_of_the_current_grid(tmp_path, monkeypatch):
    made = fakes.provenance

    def later(*arguments: object) -> object:
        return dataclasses.replace(made(*arguments), git_revision="1" * 12, code_digest="later")

    assert "warning" not in run(tmp_path, with_seeds(0))
    monkeypatch.setattr(fakes, "provenance", later)
    models, cells = 6, 24  # of one seed: 2 methods x 3 rates; 2 attacks x 2 eps
    texts = [
        run(tmp_path, with_seeds(0, 1)),
        said_by_status(tmp_path),
        said_by_verify(tmp_path),
        (tmp_path / "report/index.html").read_text(),
    ]
    for text in texts:
        assert "rows of more than one git revision are mixed: " in text
        for seed, revision in enumerate(("0" * 12, "1" * 12)):
            assert f"{revision} in {models + cells} rows (all of seed={seed})" in text
    found = open_store(tmp_path / "store").verify()
    assert (found, [mixed.column for mixed in found.mixed]) == ([], ["git revision"])
    run(tmp_path, with_seeds(1))
    assert "warning" not in said_by_status(tmp_path) + said_by_verify(tmp_path)


def test_status_says_where_it_would_take_long(tmp_path, monkeypatch):
    run(tmp_path, with_seeds(0))
    monkeypatch.setattr(mixed_provenance, "MOST_FILES", 10)
    assert "whether 30 row files were made alike; `verify` does" in said_by_status(tmp_path)
