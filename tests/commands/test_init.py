"""`prunegrid init`: a grid file for a network and data, which is one that can be run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from prunegrid.orchestrator.cli import app, guarded
from prunegrid.orchestrator.commands import init
from prunegrid.orchestrator.commands.init import written
from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.tuning import first_eps


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PRUNEGRID_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {
        f"{name}_{part}": values
        for part, n in (("train", 60), ("test", 20))
        for name, values in (
            ("x", rng.integers(0, 256, (n, 9, 7, 1), dtype=np.uint8)),
            ("y", np.arange(n) % 3),
        )
    }
    np.savez(tmp_path / "my digits.npz", **arrays)
    return tmp_path


@pytest.mark.tf
def test_a_network_and_data_of_ones_own(folder, monkeypatch):
    import keras

    def nobody(*given: object, **more: object) -> object:
        raise ValueError("asked nobody")

    monkeypatch.setattr(first_eps, "ask_child", nobody)

    def save(classes: int) -> None:
        layers = [keras.Input((9, 7, 1)), keras.layers.Flatten(), keras.layers.Dense(classes)]
        keras.Sequential(layers).save(folder / "lenet.keras")

    save(3)
    done = CliRunner().invoke(app, ["init", "--model", "lenet.keras", "--data", "my digits.npz"])
    assert done.exit_code == 0, done.output
    (folder / "mine.yaml").write_text(done.stdout)
    (plan,) = read_grid(folder / "mine.yaml").architectures
    assert plan.name == "lenet"
    assert plan.network is not None
    assert plan.network.trained
    assert plan.data.dataset == "my-digits"
    assert plan.attack_images == 20
    assert plan.variants[0].training.max_epochs == 0
    assert "usual ones: none found by calibrate's rule, since asked nobody" in done.stdout
    save(5)
    with pytest.raises(GridError, match=r"can't be built: .* expected logits of 3 classes, got 5"):
        written("lenet.keras", "my digits.npz")


@pytest.mark.tf
def test_eps_of_a_trained_network_by_calibrates_rule(folder, monkeypatch):
    """Class k is a brightness of 48 k / 255, which the network reads off: to change a class an
    attack moves each pixel by half a step, and all 63 by the square root of 63 as far."""
    import keras

    labels = np.arange(60) % 3
    images = np.repeat(labels * 48, 63).reshape(60, 9, 7, 1).astype(np.uint8)
    np.savez(folder / "grey.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    dense = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((9, 7, 1)), keras.layers.Flatten(), dense])
    levels = np.arange(3, dtype=np.float32) * 48 / 255
    dense.set_weights([np.tile(levels, (63, 1)) * 40 / 63, -20 * levels**2])
    model.save(folder / "grey.keras")
    monkeypatch.setattr(
        first_eps,
        "ask_child",
        lambda module, asked, timeout_s: asdict(first_eps.calibrated(**asked)),
    )
    monkeypatch.setattr(init, "_EPS_IMAGES", (12, 12))
    text = written("grey.keras", "grey.npz")
    assert "by calibrate's rule from 12 test images (100.0% right)" in text
    (folder / "mine.yaml").write_text(text)
    (plan,) = read_grid(folder / "mine.yaml").architectures
    eps = {attack.label: attack.eps for attack in plan.attacks}
    assert eps["target_race_linf"] == (4 / 255, 8 / 255, 16 / 255, 32 / 255)
    exact = 24 / 255 * 63**0.5
    assert eps["target_race_l2"][0] == pytest.approx(exact, rel=0.02)
    assert eps["target_race_l2"][-1] >= exact


def test_nothing_of_ones_own(folder):
    text = written("cnn5", "synthetic28")
    assert "usual ones, since the network is not trained yet" in text
    (folder / "mine.yaml").write_text(text)
    (plan,) = read_grid(folder / "mine.yaml").architectures
    assert (plan.name, plan.data.dataset, plan.attack_images) == ("cnn5", "synthetic28", 200)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "none.keras"], "there is no file none.keras"),
        (["--model", "resnet"], "expected a file.keras, module:function, or one of cnn5"),
        (["--data", "none.npz"], "expected a file.npz, a folder of images, or one of mnist"),
    ],
)
def test_what_is_not_there_is_refused(folder, capsys, arguments, words):
    assert guarded(lambda: app(args=["init", *arguments], standalone_mode=False)) == 2
    assert words in " ".join(capsys.readouterr().err.split())
