"""`prunegrid verify`: a clean store has no finding; each planted defect is found and named."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.verify import set_aside, show_findings
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store import merged, wholeness
from prunegrid.orchestrator.store.compaction import compact_store
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify import verify
from prunegrid.orchestrator.verify.pruned import pruning_findings
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.artifacts import pack_masks, unpack_masks
from prunegrid.workers.files import append
from tests.fakes import RUNNER, attempts_of
from tests.grids import SMALL
from tests.science import prune_task, train_task

GRID = SMALL.replace("seeds: [0, 1]", "seeds: [0]").replace("magnitude-global-unstructured, ", "")
FILTERS = prune_task(train_task(), method="magnitude-local-filter", rate=2.0)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """A finished store, made once; tests copy it."""
    folder = tmp_path_factory.mktemp("clean")
    (folder / "grid.yaml").write_text(GRID)
    options = RunOptions(
        grid=folder / "grid.yaml", store=str(folder / "s"), engine="inline", runner=RUNNER
    )
    assert run_grid(options, Console(quiet=True)) == 0
    return folder / "s"


@pytest.fixture
def store(clean, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("prunegrid.orchestrator.store.compaction.PAUSE_S", 0.0)
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


def of_pgd(store: Path) -> Path:
    """Image rows of a fixed-eps attack that broke some."""
    for path in sorted(store.glob("results/images/*.parquet")):
        rows = pq.ParquetFile(path).read(["attack", "broken", "distance"]).to_pydict()
        far = map(bool, rows["distance"])  # else misclassified
        if rows["attack"][0] == "pgd_linf" and any(map(min, rows["broken"], far)):
            return path
    raise AssertionError("no such rows")


def write_masks(store: Path, change) -> dict[str, np.ndarray]:
    """Change the masks of a model at rate 4, whose parent is pruned too."""
    for path in sorted(store.glob("models/prune-*/masks.npz")):
        masks = unpack_masks(path.read_bytes())
        if masks["conv"].mean() == 0.25:
            masks = {name: change(mask) for name, mask in masks.items()}
            path.write_bytes(pack_masks(masks))
            return masks | {"path": path}
    raise AssertionError("no model at rate 4")


def prune_less(store: Path) -> None:
    """One weight too many is left, and everything that counts weights says so."""
    found = write_masks(store, lambda mask: np.arange(200).reshape(mask.shape) < 51)
    edit_record(
        found["path"].with_name("result.json"),
        lambda raw: raw["result"]["layers"][0].update(left=51),
    )


def damage(path: Path, *, footer: bool = True) -> None:
    """Both ends stay."""
    content = bytearray(path.read_bytes())
    stop = len(content) * 2 // 3
    if not footer:
        stop = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[20:stop] = bytes(stop - 20)
    path.write_bytes(content)


def edit_merged(store: Path, kind: str, column: str) -> None:
    list(compact_store(Store.open(str(store))))
    path = first(store, f"results/{kind}/*.parquet")
    metadata = pq.read_metadata(path).metadata
    edit_rows(path, **{column: lambda v: [0.0, *v[1:]]})
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata(metadata), path)


def orphan(store: Path) -> None:
    """The store's grid is now without the models at rate 4; one of them has lost its parent."""
    grid = store / "grid.yaml"
    grid.write_text(grid.read_text().replace("rates: [1, 2, 4]", "rates: [1]"))
    for path in store.glob("models/prune-*/result.json"):
        if json.loads(path.read_text())["task"]["pruning"]["rate"] == 2:
            shutil.rmtree(path.parent)


def merge_and_keep_one(store: Path) -> None:
    path = first(store, "results/images/*.parquet")
    content = path.read_bytes()
    assert len(list(compact_store(Store.open(str(store))))) == 3
    path.write_bytes(content)


def retype(path: Path, *, text: bytes | None = None) -> None:
    """As one flipped bit does: in the file's schema, or in a `text` itself."""
    table = pq.read_table(path)
    index = table.schema.get_field_index("host")
    column = table.column("host").combine_chunks().cast(pa.binary())
    if text is not None:
        raw = pa.array([text] * len(table), pa.binary())
        column = pa.StringArray.from_buffers(len(raw), *raw.buffers()[1:])
    pq.write_table(table.set_column(index, "host", column), path)


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
    **{
        f"a cell's {name} edited": (
            "row-mismatch",
            lambda s, name=name, value=value: edit_rows(
                first(s, "results/cells/*.parquet"), **{name: lambda v: [value]}
            ),
        )
        for name, value in {
            "method": "random-local-kernel",
            "rate": 32.0,
            "seed": 7,
            "eps": 9.0,
            "protocol": "strict and more",
            "cell_id": "cell-x-y",
            "distance_q50": 1e9,
            "flags": ["zero-gradients"],
            "task_keys": [],
            "model_key": "train-0",
            "host": "elsewhere",
        }.items()
    },
    **{
        f"a model's {name} edited": (
            "row-mismatch",
            lambda s, name=name, value=value: edit_rows(
                first(s, "results/models/*.parquet"), **{name: lambda v: [value]}
            ),
        )
        for name, value in {"method": "?", "rate": 32.0, "loss": -3.0, "accuracy": None}.items()
    },
    "image rows of another task": (
        "key-mismatch",
        lambda s: edit_rows(
            first(s, "results/images/*.parquet"), task_key=lambda v: ["attack-x"] * len(v)
        ),
    ),
    "image rows at another eps": (
        "key-mismatch",
        lambda s: edit_rows(of_pgd(s), eps=lambda v: [2 * eps for eps in v]),
    ),
    "broken though its class is the same": (
        "not-adversarial",
        lambda s: edit_rows(of_pgd(s), adversarial_prediction=lambda v: [None] * len(v)),
    ),
    "broken at no distance": (
        "distance-mismatch",
        lambda s: edit_rows(of_pgd(s), distance=lambda v: [float("inf")] * len(v)),
    ),
    "fewer weights pruned than the rate says": ("not-pruned-as-claimed", prune_less),
    "a mask that grew": (
        "not-pruned-as-claimed",
        lambda s: write_masks(s, lambda mask: np.roll(mask, 100, axis=-1)),
    ),
    "a result that a merged file holds as well": ("doubled-row", merge_and_keep_one),
    "no Parquet file among the rows": (
        "foreign-file",
        lambda s: (s / "results/cells/notes.txt").write_text("mine"),
    ),
    "a file where a folder of rows belongs": (
        "foreign-file",
        lambda s: (shutil.rmtree(s / "results/images"), (s / "results/images").write_text("mine")),
    ),
    "an empty file": (
        "torn-file",
        lambda s: (s / "results/cells/cell-x-y.parquet").write_bytes(b""),
    ),
    "a grid that is no text": (
        "unreadable",
        lambda s: (s / "grid.yaml").write_bytes(b"\xff\xfe\0"),
    ),
    "a journal line nested without end": (
        "torn-journal",
        lambda s: append(first(s, "journal/*.jsonl"), b"[" * 50_000 + b"\n"),
    ),
    "a torn grid": ("unreadable", lambda s: (s / "grid.yaml").write_text("{{")),
    **{
        f"a column of another type in {pattern}": (
            "schema-mismatch",
            lambda s, pattern=pattern: retype(first(s, pattern)),
        )
        for pattern in ("results/cells/*.parquet", "results/images/*.parquet")
    },
    "text that is no UTF-8": (
        "torn-file",
        lambda s: retype(first(s, "results/cells/*.parquet"), text=b"\xab"),
    ),
    "a foreign file among the rows": (
        "schema-mismatch",
        lambda s: pq.write_table(pa.table({"x": [1]}), s / "results/cells/cell-x-y.parquet"),
    ),
}


#: Damage between a file's two ends, which only a reader of all of it can see.
DEFECTS |= {
    f"{kind} damaged between its ends": (
        "torn-file",
        lambda s, pattern=pattern: damage(first(s, pattern)),
    )
    for kind, pattern in {
        "a cell row": "results/cells/*.parquet",
        "a model row": "results/models/*.parquet",
        "image rows": "results/images/*.parquet",
        "weights": "models/*/weights.npz",
        "masks": "models/prune-*/masks.npz",
    }.items()
}
DEFECTS |= {
    f"merged {kind} damaged between its ends": (
        "torn-file",
        lambda s, kind=kind: (
            list(compact_store(Store.open(str(s)))),
            damage(first(s, f"results/{kind}/*.parquet"), footer=False),
        ),
    )
    for kind in ("cells", "models", "images")
}
DEFECTS |= {
    "a merged cell edited": ("row-mismatch", lambda s: edit_merged(s, "cells", "robust_accuracy")),
    "merged image rows edited": (
        "distance-mismatch",
        lambda s: edit_merged(s, "images", "distance"),
    ),
    "a child of another grid without its parent": ("parent-missing", orphan),
}


def test_a_finished_store_has_no_finding(store):
    assert names(store) == set()
    assert show_findings(str(store), as_json=False, console=Console(quiet=True)) == 0


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_planted_defect_is_found_and_named_and_mended_as_advised(defect, store, clean):
    """As told, word by word: `verify --set-aside`, then the grid again."""
    name, plant = DEFECTS[defect]
    plant(store)
    assert name in names(store)
    console = Console(record=True, width=500, file=io.StringIO())
    assert show_findings(str(store), as_json=False, console=console) == 1
    advice = (
        f"prunegrid verify --store {store} --set-aside; then prunegrid run GRID --store {store}"
    )
    assert advice in console.export_text()
    set_aside(str(store), Console(quiet=True))
    options = RunOptions(
        grid=clean.parent / "grid.yaml", store=str(store), engine="inline", runner=RUNNER
    )
    assert run_grid(options, Console(quiet=True)) == 0
    assert names(store) == set()
    for kind, count in {"cells": 12, "models": 3}.items():
        assert len(pd.read_parquet(store / "results" / kind)) == count, "for any reader"


#: Found in the published experiment's files, which no run makes anew.
IMPORTED = {"failed-attack-scored", "identical-results"}


#: Planted in tests/driver/test_transfers.py and tests/workers/test_transfers.py.
OF_TRANSFERS = {"adversarials-differ", "prediction-differs"}


def test_every_finding_has_a_defect_that_is_planted_here():
    source = "".join(path.read_text() for path in Path(verify.__file__).parent.glob("*.py"))
    said = set(re.findall(r'(?:yield|_finding\(|name=)\s*"([a-z-]+)"', source))
    assert len(said) > 15
    assert said - IMPORTED - OF_TRANSFERS == {name for name, _ in DEFECTS.values()}


@pytest.mark.parametrize("kind", ["cells", "models", "images"])
def test_damaged_rows_are_made_anew_by_the_next_run_without_more(kind, store, clean, monkeypatch):
    damage(first(store, f"results/{kind}/*.parquet"))
    with pytest.raises((OSError, pa.ArrowException)):
        pd.read_parquet(store / "results" / kind)
    options = RunOptions(
        grid=clean.parent / "grid.yaml", store=str(store), engine="inline", runner=RUNNER
    )
    assert run_grid(options, Console(quiet=True)) == 0
    assert names(store) == set()
    assert len(pd.read_parquet(store / "results" / kind)) > 0
    decoded = []
    monkeypatch.setattr(wholeness, "read_table", decoded.append)
    assert run_grid(options, Console(quiet=True)) == 0
    assert decoded == [], "what was read once is known by its CRC"


def test_of_a_damaged_merged_file_only_what_can_t_be_read_is_made_anew(store, clean, monkeypatch):
    monkeypatch.setattr(merged, "GROUP_MEMBERS", 5)
    list(compact_store(Store.open(str(store))))
    path = first(store, "results/images/*.parquet")
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    before = attempts_of(store)
    options = RunOptions(
        grid=clean.parent / "grid.yaml", store=str(store), engine="inline", runner=RUNNER
    )
    assert run_grid(options, Console(quiet=True)) == 0
    again = [key for key, count in attempts_of(store).items() if count > before[key]]
    assert len(again) == 5
    assert names(store) == set()


def test_findings_as_json_say_where(store, capsys):
    tear(first(store, "results/images/*.parquet"))
    assert show_findings(str(store), as_json=True, console=Console(quiet=True)) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any(f["where"].startswith("results/images/attack-") for f in findings)


def test_findings_before_an_unreadable_file_are_shown_too(store, capsys, monkeypatch):
    def unreadable(*_):
        raise StoreError("can't read it")

    (store / "results/cells/notes.txt").write_text("mine")
    monkeypatch.setattr(Verifier, "_check_images", unreadable)
    assert show_findings(str(store), as_json=True, console=Console(quiet=True)) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [f["name"] for f in findings] == ["foreign-file", "unreadable"]


def test_a_filter_of_a_depthwise_convolution_is_no_half_pruned_one():
    """Its kernels have four axes, as a convolution's, and another unit."""
    mask = np.broadcast_to(np.arange(8).reshape(1, 1, 8, 1) < 4, (3, 3, 8, 1))
    findings = pruning_findings(FILTERS, {"d": mask}, {"d": "depthwise"}, None)
    assert list(findings) == []
    assert "half pruned" in str(list(pruning_findings(FILTERS, {"d": mask}, {"d": "conv"}, None)))
