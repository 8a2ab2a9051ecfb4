"""`track:` of a grid: each model becomes a run of the tracker, and no tracker stops a grid.

W&B and TensorBoard's own reader are not in the lock file: W&B's test skips without it, TensorFlow
reads in TensorBoard's place. They ran with wandb 0.31.0 and tensorboard 2.21.0.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.tracking import follower
from prunegrid.orchestrator.tracking.trackers import TrackedModel
from tests.commands.test_run import options, run
from tests.grids import with_seeds

ONE = with_seeds(0)
MODELS, CELLS = 6, 24
CURVE = [{"loss": 2.0, "val_accuracy": 0.25}, {"loss": 1.5, "val_accuracy": float("nan")}]


class FakeTracker:
    kind: ClassVar[str] = "mlflow"
    is_costly: ClassVar[bool] = False

    def __init__(self) -> None:
        self.calls: list[tuple[TrackedModel, str | None]] = []
        self.errors: list[Exception] = []

    def track(self, model: TrackedModel, run: str | None) -> str:
        self.calls.append((model, run))
        if self.errors:
            raise self.errors.pop()
        return run or f"run of {model.model_id}"


@pytest.fixture
def tracker(monkeypatch) -> FakeTracker:
    fake = FakeTracker()
    monkeypatch.setattr(follower, "make_tracker", lambda kind, target: fake)
    return fake


def tracked(text: str = ONE, **trackers: object) -> str:
    return f"{text}track: {json.dumps({name: str(to) for name, to in trackers.items()})}\n"


def said(folder: Path, text: str) -> str:
    """What a run printed that ended well."""
    with (folder / "said").open("w") as file:
        console = Terminal(file=file, width=300)
        assert run_grid(options(folder, text), console) == 0
    return (folder / "said").read_text()


def plant_curves(folder: Path) -> None:
    for record in (folder / "store/models").glob("*/result.json"):
        record.with_name("history.json").write_text(json.dumps(CURVE))


def test_a_run_for_each_model_with_curves_and_cells(tmp_path, tracker):
    assert run(tmp_path, ONE) == 0
    plant_curves(tmp_path)
    assert run(tmp_path, tracked(mlflow="somewhere")) == 0
    assert len(tracker.calls) == MODELS
    assert all(there is None for _, there in tracker.calls)
    assert sum(len(model.cells) for model, _ in tracker.calls) == CELLS
    model = next(model for model, _ in tracker.calls if model.coordinates["rate"] == 4)
    assert model.grid == "small"
    assert model.name == f"cnn5 {model.coordinates['method']} rate 4 seed 0"
    assert set(model.cells) == {
        *(f"robust_accuracy/strict/pgd_linf/{eps}" for eps in ("4/255", "8/255")),
        *(f"robust_accuracy/strict/cw_l2/{eps}" for eps in (1, 2)),
    }
    assert 0 <= model.scores["accuracy"] <= 1
    assert list(model.curves) == [CURVE[0], {"loss": 1.5}], "NaN is no number to a tracker"


def test_a_run_again_adds_what_is_new_to_the_same_runs(tmp_path, tracker):
    assert run(tmp_path, tracked(mlflow="somewhere")) == 0
    first = {model.model_id for model, there in tracker.calls if there is None}
    assert len(first) == MODELS
    tracker.calls.clear()
    assert run(tmp_path, tracked(mlflow="somewhere")) == 0
    assert tracker.calls == []
    more = ONE.replace("cw_l2: [1, 2]", "cw_l2: [0.5, 1, 2]")
    assert run(tmp_path, tracked(more, mlflow="somewhere")) == 0
    assert {there for _, there in tracker.calls} == {f"run of {name}" for name in first}
    assert [(list(m.cells), m.scores, m.curves) for m, _ in tracker.calls] == [
        (["robust_accuracy/strict/cw_l2/0.5"], {}, ())
    ] * MODELS
    tracker.calls.clear()
    assert run(tmp_path, tracked(more, mlflow="elsewhere")) == 0
    assert len(tracker.calls) == MODELS, "another server knows nothing yet"


def test_a_tracker_that_fails_stops_nothing_and_the_next_run_catches_up(tmp_path, tracker):
    tracker.errors = [ConnectionError("planted\nby a test")]
    text = said(tmp_path, tracked(mlflow="somewhere"))
    assert "track: mlflow refused model-" in text
    assert "ConnectionError: planted by a test" in text
    tracker.calls.clear()
    assert run(tmp_path, tracked(mlflow="somewhere")) == 0
    told = {model.model_id for model, _ in tracker.calls}
    assert len(told) <= 1, "those that were tracked are not again"


def test_a_tracker_that_always_fails_is_left_alone(tmp_path, tracker):
    tracker.errors = [OSError("planted") for _ in range(99)]
    text = said(tmp_path, tracked(mlflow="somewhere"))
    assert "nothing more goes to mlflow in this run" in text
    assert len(tracker.calls) == 3


def test_a_tracker_that_hangs_holds_up_no_run(tmp_path, tracker, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(tracker, "track", lambda model, run: str(released.wait(60)))
    monkeypatch.setattr(follower, "QUIET_S", 0.2)
    try:
        assert "trackers are slow" in said(tmp_path, tracked(mlflow="somewhere"))
    finally:
        released.set()


def test_a_tracker_whose_library_loads_slowly_is_waited_for(tmp_path, tracker, monkeypatch):
    def make(kind, target):
        time.sleep(1)
        return tracker

    monkeypatch.setattr(follower, "make_tracker", make)
    monkeypatch.setattr(follower, "QUIET_S", 0.3)
    assert run(tmp_path, ONE) == 0
    assert "slow" not in said(tmp_path, tracked(mlflow="somewhere"))
    assert len(tracker.calls) == MODELS


def test_a_missing_extra_is_said_and_stops_nothing(tmp_path, monkeypatch):
    def make(kind, target):
        raise ModuleNotFoundError("No module named 'mlflow'")

    monkeypatch.setattr(follower, "make_tracker", make)
    text = said(tmp_path, tracked(mlflow="somewhere"))
    assert "mlflow is not installed" in text
    assert "pip install 'prunegrid[mlflow]'" in text


def test_where_results_go_is_no_part_of_a_task(tmp_path):
    plain, other = parse_grid(ONE, source="a"), parse_grid(tracked(wandb="x"), source="a")
    assert (plain.track, other.track.wandb, other.track.mlflow) == (None, "x", None)
    assert list(expand(plain).tasks) == list(expand(other).tasks)
    with pytest.raises(GridError, match=r"track\.mlfow: unknown key: .* did you mean 'mlflow'"):
        parse_grid(f"{ONE}track: {{mlfow: x}}\n", source="a")
    with pytest.raises(GridError, match=r"track\.wandb: expected a text, got nothing"):
        parse_grid(f"{ONE}track: {{wandb: }}\n", source="a")


def test_a_costly_tracker_waits_for_whole_models(tmp_path, tracker, monkeypatch):
    monkeypatch.setattr(FakeTracker, "is_costly", True)
    monkeypatch.setattr(follower, "LOCAL_EVERY_S", 0.01)
    assert run(tmp_path, tracked(mlflow="somewhere")) == 0
    assert [len(model.cells) for model, _ in tracker.calls] == [4] * MODELS


# --------------------------------------------------------------------------- the real ones


@pytest.fixture
def patient(monkeypatch):
    """However busy the machine is, a run waits for its trackers."""
    monkeypatch.setattr(follower, "QUIET_S", 250.0)
    monkeypatch.setattr(follower, "END_S", 250.0)


def read_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric -> (step, value), as TensorBoard itself reads the folder; else as TensorFlow does."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return read_by_tensorflow(folder)
    reader = EventAccumulator(str(folder))
    reader.Reload()
    tags = reader.Tags()["scalars"]
    return {tag: [(one.step, one.value) for one in reader.Scalars(tag)] for tag in tags}


def read_by_tensorflow(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorflow.compat.v1.train import summary_iterator

    out: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        for event in summary_iterator(str(path)):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    out.setdefault(value.tag, []).append((event.step, value.simple_value))
    return out


@pytest.mark.tf
def test_tensorboard_reads_them_back(tmp_path, patient):
    assert run(tmp_path, ONE) == 0
    plant_curves(tmp_path)
    board = tmp_path / "board"
    assert run(tmp_path, tracked(tensorboard=board)) == 0
    more = ONE.replace("cw_l2: [1, 2]", "cw_l2: [0.5, 1, 2]")
    assert run(tmp_path, tracked(more, tensorboard=board)) == 0
    folders = sorted(board.iterdir())
    assert len(folders) == MODELS
    found = read_tensorboard(next(f for f in folders if "-rate-4-seed-0-" in f.name))
    assert found["curve/loss"] == [(1, 2.0), (2, 1.5)]
    assert found["curve/val_accuracy"] == [(1, 0.25)]
    assert len(found["accuracy"]) == 1
    for eps in ("0.5", "1", "2"):
        assert len(found[f"robust_accuracy/strict/cw_l2/{eps}"]) == 1


def test_a_full_disk_is_said_in_lines_and_stops_nothing(tmp_path, monkeypatch, patient, capfd):
    full = lambda folder: SimpleNamespace(free=1000)  # noqa: E731
    monkeypatch.setattr("shutil.disk_usage", full)
    text = said(tmp_path, tracked(tensorboard=tmp_path / "board"))
    assert "No space left on device" in text
    assert "nothing more goes to tensorboard" in text
    assert "Traceback" not in capfd.readouterr().err


def test_mlflow_reads_them_back(tmp_path, monkeypatch, patient):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    assert run(tmp_path, ONE) == 0
    plant_curves(tmp_path)
    uri = (tmp_path / "mlruns").as_uri()
    assert "refused" not in said(tmp_path, tracked(mlflow=uri))
    more = ONE.replace("cw_l2: [1, 2]", "cw_l2: [0.5, 1, 2]")
    assert "refused" not in said(tmp_path, tracked(more, mlflow=uri))
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == MODELS
    one = next(run for run in runs if run.data.params["rate"] == "4.0")
    assert one.info.status == "FINISHED"
    assert one.data.params["architecture"] == "cnn5"
    assert one.data.tags["prunegrid.model_id"].startswith("model-")
    curve = client.get_metric_history(one.info.run_id, "curve/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.5)]
    names = [name for name in one.data.metrics if name.startswith("robust_accuracy/")]
    assert len(names) == 5
    assert all(0 <= one.data.metrics[name] <= 1 for name in names)


def test_wandb_keeps_them_on_the_disk_offline(tmp_path, monkeypatch, patient):
    pytest.importorskip("wandb", reason="needs the extra wandb: pip install 'prunegrid[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert run(tmp_path, ONE) == 0
    plant_curves(tmp_path)
    text = ONE.replace("methods: [magnitude-global-unstructured, ", "methods: [")
    assert "refused" not in said(tmp_path, tracked(text, wandb="lab"))
    runs = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(runs) == MODELS // 2
    assert all(b"robust_accuracy/strict/pgd_linf/" in path.read_bytes() for path in runs)
