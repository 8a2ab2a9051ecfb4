"""`prunegrid export` on a store that a real run left: which model, what the file has, how fast."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.export import export, model_key
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import cell_id, model_id
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.workers.contract import TaskKind
from tests.grids import SMALL

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = """\
name: tiny
seeds: [0, 1]
rates: [1, 4, 64]
methods: [magnitude-global-unstructured, magnitude-local-filter]
dense_model: shared
resources: {latency_batch: 8}
architectures:
  cnn5:
    dataset: synthetic28
    attack_images: 10
    images_per_shard: 10
    training: {max_epochs: 1, batch_size: 64}
    eps: {pgd_linf: [8/255]}
attacks:
  pgd_linf: {steps: 2}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory, data_dir, tensorflow) -> str:
    """Seed 0 alone is trained."""
    folder = tmp_path_factory.mktemp("export")
    grid = folder / "grid.yaml"
    grid.write_text(TINY)
    options = RunOptions(
        grid=grid,
        store=str(folder / "s"),
        engine="inline",
        data_dir=str(data_dir),
        select=("seed=0",),
    )
    assert run_grid(options, Console(quiet=True)) == 0
    return str(folder / "s")


def told(store: str, what: str, out: Path, **more) -> str:
    text = io.StringIO()
    options = {"form": "keras", "latency_batch": None} | more
    export(store, what, out, console=Console(file=text, width=200), **options)
    return text.getvalue()


@pytest.mark.tf
@pytest.mark.parametrize("method", ["magnitude-global-unstructured", "magnitude-local-filter"])
@pytest.mark.parametrize("rate", [1, 4, 64])
def test_a_row_s_effective_rate_is_what_a_reader_counts(method, rate, store, tmp_path):
    import keras

    models = pd.read_parquet(f"{store}/results/models")
    (row,) = models[(models["method"] == method) & (models["rate"] == rate)].to_dict("records")
    path = tmp_path / "model.keras"
    text = told(store, f"method={method},rate={rate},seed=0", path)
    kernels = [
        np.asarray(layer.kernel)
        for layer in keras.models.load_model(path).layers
        if hasattr(layer, "kernel")
    ]
    total, left = sum(k.size for k in kernels), sum(np.count_nonzero(k) for k in kernels)
    assert row["effective_rate"] == total / left
    assert (row["params_total"], row["params_left"]) == (total, left)
    assert f"{left:,} of {total:,} prunable weights are not 0" in text
    assert f"{path.stat().st_size:,} bytes" in text


@pytest.mark.tf
def test_latency_is_in_the_model_row_where_the_grid_asks(store):
    models = pd.read_parquet(f"{store}/results/models")
    assert set(models["latency_batch"]) == {8}
    assert (models["latency_ms"] > 0).all()
    assert (models["shrunk_latency_ms"] > 0).all()


@pytest.mark.tf
def test_a_smaller_network_timed_against_the_whole(store, tmp_path):
    where = "method=magnitude-local-filter,rate=4,seed=0"
    text = told(store, where, tmp_path / "small", form="shrunk", latency_batch=4)
    assert (tmp_path / "small/saved_model.pb").is_file()
    assert "forward pass of 4: " in text
    assert "ms without its dead channels" in text


@pytest.mark.tf
def test_what_can_t_be_exported_is_said_in_one_line(store, tmp_path):
    where = "method=magnitude-local-filter,rate=4,seed=0"
    with pytest.raises(StoreError, match="not trained yet"):
        told(store, where.replace("seed=0", "seed=1"), tmp_path / "a.keras")
    (tmp_path / "b.keras").write_text("somebody's")
    with pytest.raises(UsageError, match=r"b\.keras exists already"):
        told(store, where, tmp_path / "b.keras")
    assert (tmp_path / "b.keras").read_text() == "somebody's"
    with pytest.raises(UsageError, match=r"ends in \.keras, got .*model\.h5"):
        told(store, where, tmp_path / "model.h5")


@pytest.mark.tf
def test_the_command_prints_its_answer_and_nothing_else(store, tmp_path):
    where, out = "method=magnitude-local-filter,rate=64,seed=0", tmp_path / "m.keras"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "prunegrid.orchestrator.cli",
            "export",
            where,
            "--store",
            store,
            "--out",
            out,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2
    assert out.is_file()


# ------------------------------------------------------------------ names and coordinates


@pytest.fixture(scope="module")
def plan() -> Plan:
    return expand(parse_grid(SMALL, source="small.yaml"))


def test_every_model_is_found_by_place_by_name_and_by_its_cells(plan):
    for model in plan.models:
        place = model.place
        where = f"method={place.method},rate={place.rate:g},seed={place.seed},architecture=cnn5"
        assert model_key(plan, where) == model.task_key
        assert model_key(plan, model_id(place, model.task_key)) == model.task_key
        assert model_key(plan, model.task_key) == model.task_key
    models = {model.place: model.task_key for model in plan.models}
    for cell in plan.cells:
        name = cell_id(cell.place, cell.task_keys)
        assert model_key(plan, name) == models[cell.place.model]
    attacks = [key for key, task in plan.tasks.items() if task.kind is TaskKind.ATTACK]
    assert all(model_key(plan, key) == plan.parent(key) for key in attacks)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("seed=0", "names 6 models, expected one"),
        ("prune-", "names 8 models, expected one"),
        ("nothing", "'nothing' names no model"),
        ("method=magnitude-global-filtr,seed=0", "magnitude-global-filtr: expected one of"),
        ("rate=3,seed=0", "rate=3: expected one of 1, 2, 4"),
    ],
)
def test_a_name_of_none_or_several_is_refused(plan, what, message):
    with pytest.raises(UsageError, match=message):
        model_key(plan, what)
