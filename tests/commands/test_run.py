"""`prunegrid run` with a fake runner over the real store: resume, failures, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.driver import DataError
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.driver.run_view import RunResult
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.lease import LEASE, Holder
from prunegrid.orchestrator.store.store import Store, this_host
from prunegrid.workers.process_id import process_place, process_start
from tests.fakes import BUG, DATA, RUNNER, SLOW, attempts_of
from tests.grids import SMALL, with_seeds

ROOT = Path(__file__).resolve().parent.parent.parent
COORDINATES = ["architecture", "variant", "method", "rate", "seed", "protocol", "attack", "eps"]
PROVENANCE = ["started_at", "duration_s", "host", "attempt", "git_revision", "versions"]


def options(folder: Path, text: str = SMALL, **more) -> RunOptions:
    grid = folder / "grid.yaml"
    grid.write_text(text)
    defaults = {"store": str(folder / "store"), "engine": "inline", "runner": RUNNER}
    return RunOptions(grid=grid, **(defaults | more))


def run(folder: Path, text: str = SMALL, **more) -> int:
    return run_grid(options(folder, text, **more), Console(quiet=True))


def cells(folder: Path) -> pd.DataFrame:
    frame = pd.read_parquet(folder / "store/results/cells")
    return frame.sort_values(COORDINATES).reset_index(drop=True).drop(columns=PROVENANCE)


@pytest.mark.usefixtures("reported")
def test_every_cell_has_exactly_one_row_and_every_task_ran_once(tmp_path):
    assert run(tmp_path) == 0
    frame = cells(tmp_path)
    assert len(frame) == 2 * 3 * 2 * 4
    assert not frame.duplicated(COORDINATES).any()
    assert set(frame["n_images"]) == {24}
    assert frame["robust_accuracy"].between(0, 1).all()
    models = pd.read_parquet(tmp_path / "store/results/models")
    assert len(models) == 12
    assert set(attempts_of(tmp_path / "store").values()) == {1}
    assert len(attempts_of(tmp_path / "store")) == 4 + 8 + 12 * 4


def test_running_again_runs_nothing(tmp_path):
    assert run(tmp_path) == 0
    before = cells(tmp_path)
    assert run(tmp_path) == 0
    assert set(attempts_of(tmp_path / "store").values()) == {1}
    pd.testing.assert_frame_equal(cells(tmp_path), before)


def test_a_shared_dense_model_is_trained_once_for_all_methods(tmp_path):
    assert run(tmp_path, SMALL + "dense_model: shared\n") == 0
    keys = attempts_of(tmp_path / "store")
    assert sum(key.startswith("train-") for key in keys) == 2
    assert len(cells(tmp_path)) == 48
    models = pd.read_parquet(tmp_path / "store/results/models")
    assert models[models.rate == 1].groupby("seed")["task_key"].nunique().tolist() == [1, 1]


def test_a_new_eps_of_a_minimum_norm_attack_runs_no_attack(tmp_path):
    assert run(tmp_path) == 0
    before = set(attempts_of(tmp_path / "store"))
    assert run(tmp_path, SMALL.replace("cw_l2: [1, 2]", "cw_l2: [0.5, 1, 2]")) == 0
    assert set(attempts_of(tmp_path / "store")) == before
    assert len(cells(tmp_path)) == 48 + 12


def test_a_changed_attack_supersedes_its_cells_and_no_cell_counts_twice(tmp_path):
    assert run(tmp_path) == 0
    assert run(tmp_path, SMALL.replace("{steps: 3}", "{steps: 4}")) == 0
    frame = cells(tmp_path)
    assert len(frame) == 48
    assert not frame.duplicated(COORDINATES).any()
    aside = list((tmp_path / "store/superseded/results/cells").glob("*.parquet"))
    assert len(aside) == 24
    assert len(list((tmp_path / "store/history").glob("grid-*.yaml"))) == 1


@pytest.mark.usefixtures("reported")
def test_a_bug_blocks_its_descendants_and_all_else_goes_on(tmp_path):
    assert run(tmp_path, with_seeds(0, BUG)) == 1
    frame = cells(tmp_path)
    assert set(frame["seed"]) == {0}
    assert len(frame) == 24
    tries = attempts_of(tmp_path / "store")
    assert sorted(tries.values())[-2:] == [2, 2], "the two dense trainings with the bug, twice each"
    records = list((tmp_path / "store/failures").glob("*/*.json"))
    assert len(records) == 4
    assert "planted" in json.loads(records[0].read_text())["traceback"]


def test_a_data_set_that_fails_is_not_tried_again(tmp_path):
    assert run(tmp_path, with_seeds(DATA)) == 1
    assert set(attempts_of(tmp_path / "store").values()) == {1}


def test_missing_data_is_one_error_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_NO_DATA", "1")
    with pytest.raises(DataError, match="synthetic28 can't be had: planted"):
        run(tmp_path)
    assert attempts_of(tmp_path / "store") == {}


def test_a_torn_result_runs_again_and_is_kept_aside(tmp_path):
    assert run(tmp_path) == 0
    before = cells(tmp_path)
    victim = sorted((tmp_path / "store/results/images").glob("*.parquet"))[0]
    victim.write_bytes(victim.read_bytes()[:-20])
    assert run(tmp_path) == 0
    assert attempts_of(tmp_path / "store")[victim.stem] == 2
    names = sorted(path.name.partition("-")[0] for path in (tmp_path / "store/torn").iterdir())
    assert names == ["attack", "cell", "cell"], "with the rows that rested on it"
    pd.testing.assert_frame_equal(cells(tmp_path), before)


def test_slices_finish_one_point_of_a_curve_before_the_next_is_begun(tmp_path):
    """The first: the first method's dense models, under both attacks, all seeds."""
    plan = expand(parse_grid(SMALL, source="test"))
    method = "magnitude-global-unstructured"
    first = {
        key
        for cell in plan.cells
        if (cell.place.model.method, cell.place.model.rate) == (method, 1)
        for key in cell.task_keys
    }
    began = {}
    for name, slices in (("usual", False), ("sliced", True)):
        (tmp_path / name).mkdir()
        assert run(tmp_path / name, slices=slices) == 0
        journal = read_journal(Store.open(str(tmp_path / name / "store")))
        keys = [entry["key"] for entry in journal if entry["event"] == "start"]
        pruned = next(i for i, key in enumerate(keys) if key.startswith("prune"))
        began[name] = first & set(keys[:pruned])
    assert began["sliced"] == first
    early = [plan.tasks[key] for key in began["usual"]]  # one of each attack, to learn its time
    assert len({task.attack for task in early}) == len(early) < len(first)


@pytest.mark.usefixtures("reported")
def test_selecting_a_part_runs_that_part_and_the_rest_later(tmp_path):
    assert run(tmp_path, select=("seed=0", "attack=cw_l2")) == 0
    assert len(cells(tmp_path)) == 12
    assert run(tmp_path) == 0
    assert len(cells(tmp_path)) == 48
    assert set(attempts_of(tmp_path / "store").values()) == {1}


def test_a_store_held_by_a_living_driver_is_refused(tmp_path):
    assert run(tmp_path) == 0
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        holder = Holder(
            host=this_host(),
            pid=other.pid,
            process_start=process_start(other.pid),
            renewed_at_s=time.time(),
            place=process_place(),
        )
        lease = tmp_path / "store" / LEASE
        lease.write_text(json.dumps(holder.__dict__))
        with pytest.raises(StoreError, match=f"pid {other.pid}"):
            run(tmp_path)
        other.kill()
        other.wait()
        assert run(tmp_path) == 0, "its process is gone: the store is free"
    finally:
        other.kill()
        other.wait()


# --------------------------------------------------------------------------- whole processes


def spawn(
    folder: Path,
    text: str,
    engine: str = "inline",
    stdout: int = subprocess.PIPE,
    before: str = "",
    ignored: Collection[signal.Signals] = (),
    reported: bool = False,
) -> subprocess.Popen:
    """A driver in a session of its own, which ignores these signals. `before`: code that runs in
    that process first. `reported`: it writes its report."""
    (folder / "grid.yaml").write_text(text)
    code = before + (
        "import signal, sys; from pathlib import Path; from rich.console import Console;"
        f"[signal.signal(n, signal.SIG_IGN) for n in {[int(number) for number in ignored]}];"
        "from prunegrid.orchestrator.driver.launch import RunOptions;"
        "from prunegrid.orchestrator.commands import run;"
        "from tests.fakes import RUNNER;"
        f"{'' if reported else 'run._report = lambda *_: None;'}"
        "sys.exit(run.run_grid(RunOptions(grid=Path(sys.argv[1]), store=sys.argv[2],"
        f"engine={engine!r}, runner=RUNNER), Console()))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "grid.yaml"), str(folder / "store")],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, timeout_s: float = 90.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


def test_a_killed_driver_resumes_to_the_same_cells(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert run(whole) == 0
    for wanted in (3, 20, 45):  # kill -9 early, midway, late
        driver = spawn(broken, SMALL)
        wait_for(lambda n=wanted: len(attempts_of(broken / "store")) >= n)
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
    finished = {p.stem for p in (broken / "store/results/images").glob("*.parquet")}
    tries = attempts_of(broken / "store")
    assert run(broken) == 0
    again = attempts_of(broken / "store")
    assert all(again[key] == tries[key] for key in finished), "a finished task was run again"
    pd.testing.assert_frame_equal(cells(broken), cells(whole))


@pytest.mark.parametrize("interrupted", [True, False])
def test_an_interrupted_run_ends_without_a_report(tmp_path, monkeypatch, interrupted):
    """A report takes long, and Slurm waits for the end before it kills."""
    result = RunResult(
        missing=(), given_up=(), blocked={}, interrupted=interrupted, ran=1, reused=0, elapsed_s=1.0
    )
    ran = SimpleNamespace(plan=SimpleNamespace(cells=()), store=None, result=result)
    reports = []
    monkeypatch.setattr("prunegrid.orchestrator.commands.run.run_options", lambda *_, **__: ran)
    monkeypatch.setattr("prunegrid.orchestrator.commands.run._report", lambda *a: reports.append(a))
    assert run(tmp_path) == (130 if interrupted else 0)
    assert len(reports) == (not interrupted)


def test_ctrl_c_stops_in_order_and_the_same_command_resumes(tmp_path):
    driver = spawn(tmp_path, with_seeds(SLOW), reported=True)
    wait_for(lambda: attempts_of(tmp_path / "store"))
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=90)
    assert driver.returncode == 130, output
    assert "interrupted" in output
    assert not (tmp_path / "store" / LEASE).exists()
    assert not (tmp_path / "store/failures").exists(), "an interruption is no failure"
