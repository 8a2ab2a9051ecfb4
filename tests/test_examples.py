"""The examples run as they are, in this process, and their stores stand verification."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
OF_DATA_METHODS_ATTACKS = ("own_data", "own_score", "own_attack", "common_corruptions")


def frame(store: Path, kind: str) -> pd.DataFrame:
    return pd.read_parquet(store / "results" / kind)


@pytest.fixture(scope="module")
def stores(tensorflow, tmp_path_factory, data_dir) -> dict[str, Path]:
    found = {}
    for name in OF_DATA_METHODS_ATTACKS:
        store = tmp_path_factory.mktemp(name) / "store"
        grid = EXAMPLES / name / "grid.yaml"
        options = RunOptions(grid=grid, store=str(store), engine="inline", data_dir=str(data_dir))
        with (store.parent / "log").open("w") as log:
            assert run_grid(options, Console(file=log)) == 0, (store.parent / "log").read_text()
        found[name] = store
    return found


@pytest.mark.tf
@pytest.mark.parametrize("name", OF_DATA_METHODS_ATTACKS)
def test_the_store_stands_verification(name, stores):
    assert list(Verifier(Store.open(str(stores[name]))).findings()) == []


@pytest.mark.tf
def test_own_data_is_learned(stores):
    models = frame(stores["own_data"], "models")
    assert set(models.dataset) == {"shapes"}
    assert models.accuracy.max() > 0.55, "half of the images are bars"
    images = frame(stores["own_data"], "images")
    assert set(images.label) == {0, 1, 2}


@pytest.mark.tf
def test_the_methods_prune_what_they_say(stores):
    models = frame(stores["own_score"], "models").set_index(["method", "rate"])
    dense = models.xs(1.0, level="rate").weights_sha256
    assert dense.nunique() == 1
    assert models.effective_rate["hydra-local-unstructured", 8.0] == pytest.approx(8, rel=0.01)
    half = models.effective_rate["magnitude-local-2:4", 2.0]
    assert half == pytest.approx(1.92, abs=0.01), "convolutions of 1 and 6 inputs are left alone"
    pruned = models.loc[[("hydra-local-unstructured", 8.0), ("magnitude-local-unstructured", 8.0)]]
    assert pruned.weights_sha256.nunique() == 2


@pytest.mark.tf
def test_the_attacks_break_images(stores):
    cells = frame(stores["own_attack"], "cells")
    mine = cells[cells.attack == "deepfool"]
    assert set(mine.algorithm) == {"deepfool_attack:deepfool"}
    assert set(mine.norm) == {"l2"}
    by_eps = mine.groupby("eps").robust_accuracy.mean()
    assert by_eps[0.5] >= by_eps[2.0]
    images = frame(stores["own_attack"], "images")
    found = images[images.attack == "deepfool_attack:deepfool"]
    right = found[found.clean_prediction == found.label]
    assert np.isfinite(right.distance).mean() > 0.9
    corrupted = frame(stores["common_corruptions"], "cells").pivot_table(
        index=["rate", "eps"], columns="attack", values="robust_accuracy"
    )
    assert (corrupted["any"] <= corrupted["noise"]).all(), "noise is one of them"


def test_the_data_of_the_example_are_the_same_as_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PRUNEGRID_DATA_DIR", str(tmp_path / "data"))
    subprocess.run(
        [sys.executable, str(EXAMPLES / "own_data/shapes_data.py")], cwd=tmp_path, check=True
    )
    text = (EXAMPLES / "own_data/grid.yaml").read_text()
    old = '{load: "shapes_data:load", options: {train: 300, test: 60}}'
    assert old in text
    (tmp_path / "grid.yaml").write_text(text.replace(old, "{npz: shapes.npz}"))
    drawn = read_grid(EXAMPLES / "own_data/grid.yaml").architectures[0].data
    saved = read_grid(tmp_path / "grid.yaml").architectures[0].data
    assert saved.fingerprint == drawn.fingerprint
