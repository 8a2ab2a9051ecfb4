"""`prunegrid verify`: a clean store has no finding; each planted defect is found and named."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from orchestrator.commands.run import run_grid
from orchestrator.driver.launch import RunOptions
from orchestrator.store.store import Store
from orchestrator.verify.verify import Verifier, show_findings
from tests.grids import SMALL

GRID = SMALL.replace("seeds: [0, 1]", "seeds: [0]")


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """A finished store, made once; tests copy it."""
    folder = tmp_path_factory.mktemp("clean")
    (folder / "grid.yaml").write_text(GRID)
    options = RunOptions(
        grid=folder / "grid.yaml", store=str(folder / "s"), engine="inline", runner="tests.fakes"
    )
    assert run_grid(options, Console(quiet=True)) == 0
    return folder / "s"


@pytest.fixture
def store(clean, tmp_path) -> Path:
    shutil.copytree(clean, tmp_path / "s")
    return tmp_path / "s"


def names(store: Path) -> set[str]:
    return {finding.name for finding in Verifier(Store.open(str(store))).findings()}


def first(store: Path, pattern: str) -> Path:
    return sorted(store.glob(pattern))[0]


def edit_rows(path: Path, **columns) -> None:
    """Rewrite columns of a Parquet file, its metadata kept."""
    table = pq.read_table(io.BytesIO(path.read_bytes()))
    for name, change in columns.items():
        values = change(table.column(name).to_pylist())
        index = table.schema.get_field_index(name)
        table = table.set_column(
            index, table.schema.field(name), pa.array(values, table.schema.field(name).type)
        )
    pq.write_table(table, path)


def edit_record(path: Path, change) -> None:
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def revive_a_weight(store: Path) -> None:
    path = first(store, "models/prune-*/weights.npz")
    with np.load(path) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    arrays["conv/kernel"].reshape(-1)[-1] = 1.0
    np.savez(path, **arrays)


DEFECTS = {
    "torn image rows": ("torn-file", lambda s: tear(first(s, "results/images/*.parquet"))),
    "torn cell row": ("torn-file", lambda s: tear(first(s, "results/cells/*.parquet"))),
    "torn model record": ("torn-file", lambda s: tear(first(s, "models/*/result.json"))),
    "torn weights": ("torn-file", lambda s: tear(first(s, "models/*/weights.npz"))),
    "missing masks": ("torn-file", lambda s: first(s, "models/*/masks.npz").unlink()),
    "a pruned weight came back": ("pruned-weight-alive", revive_a_weight),
    "changed weights": ("weights-changed", revive_a_weight),
    "count not as claimed": (
        "count-mismatch",
        lambda s: edit_record(
            first(s, "models/prune-*/result.json"),
            lambda raw: raw["result"]["layers"][0].update(left=1),
        ),
    ),
    "accuracy over one": (
        "out-of-range",
        lambda s: edit_record(
            first(s, "models/*/result.json"), lambda raw: raw["result"].update(accuracy=1.5)
        ),
    ),
    "another task's record": (
        "key-mismatch",
        lambda s: edit_record(
            first(s, "models/*/result.json"), lambda raw: raw["task"].update(seed=77)
        ),
    ),
    "image rows under another name": (
        "key-mismatch",
        lambda s: shutil.copy(
            first(s, "results/images/*.parquet"),
            s / "results/images/attack-00000000000000000000.parquet",
        ),
    ),
    "parent gone": ("parent-missing", lambda s: shutil.rmtree(first(s, "models/train-*"))),
    "an image missing": (
        "images-missing",
        lambda s: edit_rows(first(s, "results/images/*.parquet"), image=lambda v: [v[0], *v[:-1]]),
    ),
    "distance 0 though it was right": (
        "distance-mismatch",
        lambda s: edit_rows(
            first(s, "results/images/*.parquet"), distance=lambda v: [0.0] * len(v)
        ),
    ),
    "negative distance": (
        "out-of-range",
        lambda s: edit_rows(
            first(s, "results/images/*.parquet"), distance=lambda v: [-1.0, *v[1:]]
        ),
    ),
    "unverified image": (
        "unverified",
        lambda s: edit_rows(
            first(s, "results/images/*.parquet"),
            verified=lambda v: [False] * len(v),
            broken=lambda v: [True] * len(v),
        ),
    ),
    "an edited accuracy": (
        "row-mismatch",
        lambda s: edit_rows(first(s, "results/cells/*.parquet"), robust_accuracy=lambda v: [0.123]),
    ),
    "an impossible accuracy": (
        "out-of-range",
        lambda s: edit_rows(first(s, "results/cells/*.parquet"), robust_accuracy=lambda v: [1.2]),
    ),
    "a cell twice": (
        "doubled-row",
        lambda s: shutil.copy(
            first(s, "results/cells/*.parquet"),
            first(s, "results/cells/*.parquet").with_name(
                first(s, "results/cells/*.parquet").stem[:-8] + "deadbeef.parquet"
            ),
        ),
    ),
    "a cell gone": ("row-missing", lambda s: first(s, "results/cells/*.parquet").unlink()),
    "a model row gone": ("row-missing", lambda s: first(s, "results/models/*.parquet").unlink()),
    "image rows gone": ("task-missing", lambda s: first(s, "results/images/*.parquet").unlink()),
    "a rising curve": (
        "not-monotone",
        lambda s: [
            edit_rows(path, robust_accuracy=lambda v, e=eps: [e / 10])
            for path in s.glob("results/cells/*.parquet")
            for eps in [pq.read_table(io.BytesIO(path.read_bytes())).column("eps")[0].as_py()]
        ],
    ),
    "a foreign file among the rows": (
        "schema-mismatch",
        lambda s: pq.write_table(pa.table({"x": [1]}), s / "results/cells/cell-x-y.parquet"),
    ),
}


def test_a_finished_store_has_no_finding(store):
    assert names(store) == set()
    assert show_findings(str(store), as_json=False, console=Console(quiet=True)) == 0


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_planted_defect_is_found_and_named(defect, store):
    name, plant = DEFECTS[defect]
    plant(store)
    assert name in names(store)
    assert show_findings(str(store), as_json=False, console=Console(quiet=True)) == 1


def test_findings_as_json_say_where(store, capsys):
    tear(first(store, "results/images/*.parquet"))
    assert show_findings(str(store), as_json=True, console=Console(quiet=True)) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any(f["where"].startswith("results/images/attack-") for f in findings)
