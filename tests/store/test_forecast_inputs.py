"""What a forecast rests on: a file of speeds, this machine's cache, and a store's own rows."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from prunegrid.orchestrator.cli import app, guarded
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.cost_model import Habits
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.task_sizes import probes_of
from prunegrid.orchestrator.store import forecast_inputs
from prunegrid.orchestrator.store.forecast_inputs import (
    learn_habits,
    model_here,
    read_speeds,
    speeds_here,
    write_speeds,
)
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import cache
from prunegrid.workers.cache import save_speed
from prunegrid.workers.contract import AttackTask, TrainTask
from prunegrid.workers.device import device_without_tensorflow
from tests.fakes import RUNNER
from tests.grids import SMALL
from tests.plan.test_task_sizes import speed

GPU = "resources: {gpus_per_task: 1}\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def small(more: str = "") -> Plan:
    return expand(parse_grid(SMALL + more, source="test"))


def test_a_file_of_speeds_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "speeds.json"
    write_speeds(path, (speed(), speed("resnet8", scale=0.1)))
    assert read_speeds(path) == (speed(), speed("resnet8", scale=0.1))
    with pytest.raises(UsageError, match=r"--out .*nowhere"):
        write_speeds(tmp_path / "speeds.json" / "nowhere", (speed(),))


def run_plan(*arguments: str) -> int:
    try:
        return guarded(lambda: app(args=["plan", *arguments]))
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"passes_per_s": [1.0, "2", 3.0]}, "passes_per_s"),
        ({"sizes": [16, 32.5, 64]}, "sizes"),
        ({"sizes": [64, 32, 16]}, "ascending"),
        ({"forward_per_s": [1.0]}, "ascending"),
        ({"forward_per_s": []}, "no speed forward or of training for cnn5"),
        ({"trained_per_s": -1.0}, "at least 0"),
        ({"colour": "red"}, "unknown field"),
        ({"threads": None}, "threads"),
    ],
)
def test_what_is_no_file_of_speeds_is_refused_in_a_line(tmp_path, capsys, change, words):
    path, grid = tmp_path / "speeds.json", tmp_path / "grid.yaml"
    path.write_text(json.dumps({"speeds": [dataclasses.asdict(speed()) | change]}))
    grid.write_text(SMALL)
    assert run_plan(str(grid), "--speeds", str(path)) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "--speeds" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"speeds": 3}', "[" * 100_000])
def test_any_other_file_is_refused_too(tmp_path, text):
    path = tmp_path / "speeds.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="expected a file of 'prunegrid measure"):
        read_speeds(path)
    with pytest.raises(UsageError, match="No such file"):
        read_speeds(tmp_path / "none.json")


def here(plan: Plan, threads: int = 1) -> None:
    """Keep a speed of the plan's one network for this machine's CPU."""
    (probe,) = probes_of(plan)
    device = device_without_tensorflow(gpu=False)
    assert device is not None
    save_speed(dataclasses.replace(speed(), device=device, threads=threads), probe)


def test_what_was_measured_here_is_taken_by_itself():
    plan = small()
    assert speeds_here(plan) == ()
    here(plan)
    (found,) = speeds_here(plan)
    assert found.passes_per_s == speed().passes_per_s
    assert model_here(plan).measured


@pytest.mark.parametrize(
    "more",
    [
        "resources: {threads: 2}\n",
        "training: {batch_size: 64}\n",
        GPU,
    ],
)
def test_what_is_computed_otherwise_was_not_measured(more):
    here(small())
    text = SMALL.replace(", batch_size: 32", "") + more
    assert speeds_here(expand(parse_grid(text, source="test"))) == ()


def test_a_gpu_is_known_by_its_name(monkeypatch):
    plan = small(GPU)
    (probe,) = probes_of(plan)
    save_speed(dataclasses.replace(speed(), device="Some GPU"), probe)
    assert speeds_here(plan) == (), "there is none here"
    monkeypatch.setattr(
        forecast_inputs, "device_without_tensorflow", lambda *, gpu: "Some GPU" if gpu else "cpu"
    )
    assert [one.device for one in speeds_here(plan)] == ["Some GPU"]


def test_a_torn_file_of_the_cache_counts_as_none():
    plan = small()
    here(plan)
    (path,) = cache.cache_folder().iterdir()
    path.write_text(path.read_text()[:-20])
    assert speeds_here(plan) == ()


def said(capsys, *arguments: str) -> str:
    assert run_plan(*arguments) == 0
    return capsys.readouterr().out


def test_plan_says_what_it_rests_on(tmp_path, capsys):
    grid, path = tmp_path / "grid.yaml", tmp_path / "speeds.json"
    grid.write_text(SMALL)
    text = said(capsys, str(grid))
    assert "this rests on a CPU core as the tables have it, within 4 times" in text
    assert "for a better one: prunegrid measure GRID" in text
    write_speeds(path, (speed(scale=0.001),))
    slow = said(capsys, str(grid), "--speeds", str(path))
    assert "this rests on speeds measured on Fake 9000 (fake)" in slow
    assert "for a better one" not in slow
    assert hours(slow) > 20 * hours(text)
    here(small())
    assert "this rests on speeds measured on " in said(capsys, str(grid))
    assert run_plan(str(grid), "--device", "t4") == 2
    assert "expected with gpus_per_task" in capsys.readouterr().err


def hours(text: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith("to come: about "))
    return float(line.split()[3].replace(",", ""))


def test_a_named_gpu_is_assumed(tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL.replace("cnn5:", "vgg11:").replace("synthetic28", "synthetic32") + GPU)
    texts = {name: said(capsys, str(grid), "--device", name) for name in ("t4", "h100")}
    assert "this rests on a T4 as the tables have it, within 4 times" in texts["t4"]
    assert hours(texts["t4"]) > hours(texts["h100"])
    assert "this rests on an A100" in said(capsys, str(grid))
    assert run_plan(str(grid), "--device", "abacus") == 2
    assert "expected v100, a100" in capsys.readouterr().err


def test_a_stores_own_rows_say_what_attacks_and_trainings_took(tmp_path, monkeypatch):
    """The runner of tests makes 40 passes of each row that is right at first, 38 of them back."""
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL.replace("seeds: [0, 1]", "seeds: [0]"))
    address = str(tmp_path / "store")
    options = RunOptions(grid=grid, store=address, engine="inline", runner=RUNNER)
    assert run_grid(options, Console(file=io.StringIO())) == 0
    store, habits = Store.open(address), Habits()
    plan = load_plan(store, whole=True)
    read = learn_habits(habits, store, plan, store.finished())
    attacks = [task for task in plan.tasks.values() if isinstance(task, AttackTask)]
    assert read == len(plan.tasks)
    monkeypatch.setattr(forecast_inputs, "_MOST_READ", 3)
    assert learn_habits(Habits(), store, plan, store.finished()) == 2 + 3 + 2 * 3, "a few will do"
    for name, steps, rows in (("pgd_linf", 6, 2), ("cw_l2", 10, 1)):
        task = next(task for task in attacks if task.attack.attack == name)
        found = habits.of(task.attack)
        assert found.forward / found.backward == pytest.approx(2 / 38)
        assert 0.5 < found.backward * steps / (38 * rows) < 1, "but for misclassified images"
    dense = next(task for task in plan.tasks.values() if isinstance(task, TrainTask))
    took = store.model_record(dense.key).result.epochs
    assert habits.epochs(dense.training, dense=True) == min(took, dense.training.max_epochs)
