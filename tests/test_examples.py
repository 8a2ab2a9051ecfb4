"""The examples run as they are, in this process, and their stores stand verification."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver import launch
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from tests.grid.test_own_data import write

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
RGBA = """\
seeds: [0]
rates: [1, 4]
methods: [{score: taylor, scope: global, structure: kernel, options: {batches: 2}}]
datasets: {badges: {npz: badges.npz}}
architectures:
  cnn5:
    dataset: badges
    attack_images: 16
    training: {max_epochs: 2, batch_size: 32, augmentation: {flip: true}}
    eps: {bb_l0: [5], cw_l2: [1], pgd_linf: [8/255]}
attacks:
  pgd_linf: {steps: 5, batch_size: 16}
  cw_l2: {binary_search_steps: 2, steps: 20, stepsize: 0.1, initial_const: 1, batch_size: 16}
  bb_l0: {binary_search_steps: 5, steps: 10, lr_num_decay: 5, batch_size: 16}
"""
ALL = ("own_network", "own_data", "own_score", "own_attack", "common_corruptions")


def frame(store: Path, kind: str) -> pd.DataFrame:
    return pd.read_parquet(store / "results" / kind)


def run(grid: Path, store: Path, data_dir: Path) -> Path:
    options = RunOptions(grid=grid, store=str(store), engine="inline", data_dir=str(data_dir))
    with (store.parent / "log").open("w") as log:
        assert run_grid(options, Console(file=log)) == 0, (store.parent / "log").read_text()
    return store


@pytest.fixture(scope="module")
def _not_tried_out_first() -> Iterator[None]:
    """That takes a process with a TensorFlow of its own; its tests are elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "try_out_new", lambda *given: None)
        yield


@pytest.fixture(scope="module")
def stores(tensorflow, tmp_path_factory, data_dir, _not_tried_out_first) -> dict[str, Path]:
    return {
        name: run(EXAMPLES / name / "grid.yaml", tmp_path_factory.mktemp(name) / "store", data_dir)
        for name in ALL
    }


@pytest.mark.tf
@pytest.mark.parametrize("name", ALL)
def test_the_store_stands_verification(name, stores):
    assert list(Verifier(Store.open(str(stores[name]))).findings()) == []


@pytest.mark.tf
def test_own_networks_are_told_apart_by_label_and_data(stores):
    models = frame(stores["own_network"], "models")
    assert dict(zip(models.architecture, models.dataset, strict=True)) == {
        "lenet": "synthetic28",
        "wide-lenet": "synthetic28",
        "mobilenet-grey": "synthetic28",
        "mobilenet-colour": "synthetic32",
    }
    weights = models[models.rate == 1].set_index("architecture").params_total
    assert weights["lenet"] == 784 * 300 + 300 * 100 + 100 * 10
    assert weights["wide-lenet"] == 784 * 600 + 600 * 200, "its logits are left out"
    pruned = models[models.rate == 4].set_index("architecture").effective_rate
    assert pruned.to_numpy() == pytest.approx(4, rel=0.01)


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


@pytest.mark.tf
@pytest.mark.usefixtures("_not_tried_out_first")
def test_images_that_are_not_square_with_four_channels_and_unequal_classes(tmp_path, data_dir):
    """Trained with, pruned by gradients, under a fixed-eps and two minimum-norm attacks."""
    write(tmp_path / "badges.npz")
    (tmp_path / "grid.yaml").write_text(RGBA)
    store = run(tmp_path / "grid.yaml", tmp_path / "store", data_dir)
    assert list(Verifier(Store.open(str(store))).findings()) == []
    cells = frame(store, "cells")
    assert len(cells) == 2 * 3
    assert set(cells.n_images) == {16}
