"""The real thing, small: train, prune and attack over Ray in processes of their own, killed and
resumed, against an undisturbed run in this process. Cells must be equal, value for value."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.slot_time import slot_time
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier

ROOT = Path(__file__).resolve().parent.parent
GRID = """\
seeds: [0]
rates: [1, 4]
methods: [random-local-filter]
dense_model: shared
architectures:
  cnn5:
    dataset: synthetic28
    attack_images: 20
    images_per_shard: 10
    training: {max_epochs: 3, batch_size: 32}
    eps: {bb_l0: [5, 20], cw_l2: [0.5, 1], pgd_linf: [8/255, 32/255]}
attacks:
  pgd_linf: {steps: 5, batch_size: 16}
  cw_l2: {binary_search_steps: 2, steps: 20, stepsize: 0.1, initial_const: 1, batch_size: 16}
  bb_l0: {binary_search_steps: 5, steps: 10, lr_num_decay: 5, batch_size: 16}
"""
COORDINATES = ["architecture", "variant", "method", "rate", "seed", "protocol", "attack", "eps"]
#: What may differ between two runs of the same work.
PROVENANCE = ["started_at", "duration_s", "host", "attempt"]


def rows(store: Path, kind: str, keys: list[str]) -> pd.DataFrame:
    frame = pd.read_parquet(store / "results" / kind).drop(columns=PROVENANCE)
    return frame.sort_values(keys).reset_index(drop=True)


def command(grid: Path, store: Path, data_dir: Path) -> list[str]:
    program = [sys.executable, str(ROOT / "orchestrator/main.py"), str(grid)]
    return [*program, "--store", str(store), "--data-dir", str(data_dir)]


def results(store: Path) -> list[Path]:
    return [*store.glob("models/*/result.json"), *store.glob("results/images/*.parquet")]


def every_second_is_told(store: Store, runs: int) -> None:
    history, tasks = read_history(store), load_plan(store).tasks
    spent = slot_time(history, tasks)
    assert (spent.runs, spent.undivided) == (runs, 0)
    assert sum(spent.parts.values()) == pytest.approx(spent.slots_s)
    assert spent.slots_s >= history.spent_s
    for part in (
        "starting the run",
        "starting tasks",
        "storage",
        "training",
        "attack cw_l2 (strict)",
    ):
        assert spent.parts[part] > 0, part
    attempts = [one for one in history.by_start if one.outcome == "done"]
    assert len(attempts) >= len(tasks) - 2, "a killed driver may not have seen its two last"
    for one in attempts:
        assert one.start_up_s + one.storage_s <= one.end_s - one.start_s + 0.01
    for cost in spent.attacks.values():
        assert cost.images == 10 * cost.tasks > 0
        assert cost.processor_images == cost.images
        assert cost.processor_s > 0


@pytest.mark.tf
@pytest.mark.ray
def test_a_killed_run_over_ray_ends_in_the_cells_of_an_undisturbed_one(
    tmp_path, data_dir, tensorflow
):
    grid, whole, broken = tmp_path / "grid.yaml", tmp_path / "whole", tmp_path / "broken"
    grid.write_text(GRID)
    options = RunOptions(grid=grid, store=str(whole), engine="inline", data_dir=str(data_dir))
    assert run_grid(options, Console(quiet=True)) == 0

    run = command(grid, broken, data_dir)
    driver = subprocess.Popen(run, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    limit = time.monotonic() + 120
    while len(results(broken)) < 3:
        assert time.monotonic() < limit
        assert driver.poll() is None, driver.communicate()[0].decode()
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    finished = {path: path.stat().st_mtime_ns for path in results(broken)}

    again = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "figures: " in again.stdout
    for path, written in finished.items():
        assert path.stat().st_mtime_ns == written, "a finished task ran again"
    for kind, keys in (("cells", COORDINATES), ("images", ["task_key", "image", "eps"])):
        pd.testing.assert_frame_equal(rows(broken, kind, keys), rows(whole, kind, keys))
    assert list(Verifier(Store.open(str(broken))).findings()) == []
    assert not list(broken.glob("checkpoints/*/*")), "a done task's checkpoint is gone"

    for store, runs in ((whole, 1), (broken, 2)):
        every_second_is_told(Store.open(str(store)), runs)

    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "all done" in done.stdout
    assert "starting Ray" not in done.stdout
