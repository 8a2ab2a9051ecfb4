"""`prunegrid tune` through Ray Tune itself, on a landscape whose best setting is known."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.console import Console

from prunegrid.orchestrator.commands.tune import tune
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.engines.ray.node_resources import Need
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.lease import Lease, SupersededError
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.search import set_ray_switches
from prunegrid.orchestrator.tuning.search_plan import SearchOptions
from tests.grids import with_seeds
from tests.tuning import landscape
from tests.tuning.landscape import BEST_RATE, FAILS, QUERIES, factor

set_ray_switches()
from prunegrid.orchestrator.tuning import ray_search  # noqa: E402

GRID = with_seeds(0).replace("attack_images: 24", "attack_images: 128")
TRIALS = 16


def options(folder: Path, **wish) -> tuple[RunOptions, SearchOptions]:
    grid = folder / "grid.yaml"
    grid.write_text(GRID)
    values = {"attack": "cw_l2", "budget": "400", "trials": TRIALS, "vary": ("stepsize",)}
    given = RunOptions(
        grid=grid,
        store=str(folder / "store"),
        data_dir=str(folder / "data"),
        runner=landscape.RUNNER,
    )
    return given, SearchOptions(**({"slots": 2} | values | wish))


def run(given: RunOptions, asked: SearchOptions) -> tuple[int, str]:
    sink = io.StringIO()
    return tune(given, asked, Console(file=sink, width=200)), sink.getvalue()


def runs_of(folder: Path) -> Counter[str]:
    """Task key -> how often it was run aside."""
    return Counter(p.name.rsplit("-", 2)[0] for p in (folder / "store/log-aside").iterdir())


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.ray
def test_an_interrupted_search_is_restored_and_finds_the_best(ray_session, tmp_path, monkeypatch):
    restored = []
    restore = ray_search.tune.Tuner.restore

    def noted(path, **more):
        restored.append(path)
        return restore(path, **more)

    monkeypatch.setattr(ray_search.tune.Tuner, "restore", staticmethod(noted))
    given, asked = options(tmp_path, vary=("stepsize=0.001..4",))
    Store.open_or_create(given.store)
    (tmp_path / "store/interrupt").write_text(f"9 {os.getpid()}")
    code, said = run(given, asked)
    assert code == 130, said
    assert "the same command resumes" in said
    done = pd.read_parquet(tmp_path / "store/results/tuning")
    assert 0 < (done["state"] != "running").sum() < TRIALS
    assert not list((tmp_path / "store/tuning").glob("*/piece.yaml"))
    assert not restored

    code, said = run(given, asked)
    assert code == 0, said
    assert len(restored) == 1
    rows = pd.read_parquet(tmp_path / "store/results/tuning")
    trials = rows[rows.role == "search"].set_index("trial")
    assert sorted(trials.index) == list(range(TRIALS))
    settings = trials["settings"].map(json.loads)
    stepsize = settings.map(lambda s: s["stepsize"])
    assert set(trials.state) == {"complete", "stopped early", "failed"}
    assert (trials.state[stepsize > FAILS] == "failed").all()
    assert (trials["size"][trials.state == "complete"] == 64).all()
    assert (trials["size"][trials.state == "stopped early"] < 64).all()
    assert (trials["size"][trials.state == "stopped early"] >= 16).all()

    # Nothing that had its result ran again, and hopeless trials cost less than others.
    ran = runs_of(tmp_path)
    keys = {key for row in rows["task_keys"] for key in row}
    assert {ran[key] for key in keys} == {1}
    assert len(keys) < 3 * TRIALS

    # The best is the nearest to the landscape's.
    through = trials[trials.state == "complete"]
    best = through["value"].idxmin()
    assert factor(stepsize[best]) == min(factor(s) for s in stepsize)
    (folder,) = (tmp_path / "store/tuning").glob("cw_l2-*")
    piece = yaml.safe_load((folder / "piece.yaml").read_text())
    assert piece["attacks"]["cw_l2"]["stepsize"] == stepsize[best]
    found = json.loads((folder / "summary.json").read_text())
    assert found["best"]["trial"] == best
    tuned, cut = found["held_out"]
    assert tuned["queries_mean"] == QUERIES
    ratio = factor(stepsize[best]) / factor(stepsize[0])
    assert cut["effect"] == pytest.approx(ratio, rel=1e-5)
    assert cut["low"] == pytest.approx(ratio, rel=1e-5)
    assert cut["at_least"] == cut["pairs"] > 50
    held = rows[rows.role != "search"]
    assert set(held["size"]) == {64}
    searched = {key for row in trials["task_keys"] for key in row}
    assert not searched & {key for row in held["task_keys"] for key in row}
    page = (folder / "figure.html").read_text()
    assert "Plotly.newPlot" in page
    assert '<script src="http' not in page
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figure.svg").read_text().startswith("<?xml")
    assert f"stepsize {stepsize[best]}" in said

    # All is there: a third time computes nothing, and says the same.
    before = runs_of(tmp_path)
    code, again = run(given, asked)
    assert code == 0
    assert f"all {TRIALS} trials have their results" in again
    assert again.split("\n\n", 1)[1] == said.split("\n\n", 1)[1]
    assert runs_of(tmp_path) == before


@pytest.mark.ray
def test_a_superseded_search_stops_and_leaves_the_rows_to_its_successor(
    ray_session, tmp_path, monkeypatch
):
    given, asked = options(tmp_path, trials=4)
    checked = []

    def check(self: Lease) -> None:
        checked.extend([self] * self._path.startswith("tuning/"))
        if len(checked) >= 2:
            raise SupersededError("the store is another driver's now")

    monkeypatch.setattr(Lease, "check", check)
    with pytest.raises(SupersededError, match="another driver's now"):
        run(given, asked)
    rows = list((tmp_path / "store/results/tuning").glob("*.parquet"))
    assert len(rows) == 1


REFUSED = [
    (["--attack", "cw_l3"], "did you mean 'cw_l2'?"),
    (["--attack", "cw_l2", "--vary", "stepsise"], "did you mean 'stepsize'?"),
    (["--attack", "cw_l2", "--vary", "stepsize=9..1"], "LOW at most HIGH"),
    (["--attack", "cw_l2", "--budget", "3"], "too small"),
    (["--attack", "cw_l2", "--trials", "1"], "at least 2"),
    (["--attack", "cw_l2", "--select", "rate=2"], "no rate but 1"),
    (["--attack", "pgd_linf"], "expected --eps E"),
    (["--attack", "cw_l2", "--training"], "expected one of --attack LABEL and --training"),
    ([], "expected one of --attack LABEL and --training"),
    (["--training", "--budget", "1/2"], "not with --training"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_bad_input_is_refused_before_anything_starts(
    arguments, words, tmp_path, monkeypatch, capsys
):
    from prunegrid.orchestrator.cli import app, guarded

    def never(*_, **__):
        raise AssertionError("started")

    monkeypatch.setattr(ray_search, "connected", never)
    grid, store = tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text(GRID)
    command = ["tune", str(grid), "--store", str(store), *arguments]
    code = guarded(lambda: app(command, standalone_mode=False))
    said = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert words in said
    assert not store.exists()


def test_a_store_of_another_grid_without_the_dense_models_is_refused(tmp_path):
    Store.open_or_create(str(tmp_path / "store")).set_grid(GRID + "# another\n")
    with pytest.raises(StoreError, match=r"1 tasks have no result here.*--select rate=1"):
        run(*options(tmp_path))
    assert not (tmp_path / "store/log-aside").exists()


@pytest.mark.ray
def test_training_of_chains_is_searched_beside_a_run_and_gives_way_to_it(ray_session, tmp_path):
    given, asked = options(
        tmp_path, attack=None, budget=None, trials=6, vary=("learning_rate",), slots=None
    )
    store = Store.open_or_create(given.store)
    lease = Lease.take(store)
    try:
        code, said = run(given, asked)
    finally:
        lease.release()
    assert code == 0, said
    assert "at most 1 at once (a share: others are at work)" in said
    log = list((tmp_path / "store/log-aside").iterdir())
    assert {path.name.rsplit("-", 2)[1] for path in log} == {str(ray_search.NICE)}
    trials = pd.read_parquet(tmp_path / "store/results/tuning").set_index("trial")
    rates = trials["settings"].map(lambda text: json.loads(text)["learning_rate"])
    assert set(trials.state) == {"complete", "stopped early"}
    best = min(rates.index, key=lambda n: abs(math.log(rates[n] / BEST_RATE)))
    assert trials["state"][best] == "complete"
    assert trials["value"].idxmin() == best
    (folder,) = (tmp_path / "store/tuning").glob("training-*")
    piece = yaml.safe_load((folder / "piece.yaml").read_text())
    assert piece["architectures"]["cnn5"]["training"] == {"learning_rate": rates[best]}
    assert not list((tmp_path / "store/models").glob("*")), "the grid's own models are untouched"


@pytest.mark.ray
def test_a_full_cluster_is_told_of(ray_session):
    import ray

    @ray.remote(num_cpus=2)
    class Grid:
        def ready(self) -> None:
            pass

    need = Need(cpus=1.0, gpus=0.0)
    others = Grid.remote()
    ray.get(others.ready.remote())
    wait_for(lambda: ray_search.is_full(need))
    ray.kill(others)
    wait_for(lambda: not ray_search.is_full(need))


def wait_for(state) -> None:
    """Ray's count of what is free follows within a second or so."""
    limit_s = time.monotonic() + 60
    while not state():
        assert time.monotonic() < limit_s
        time.sleep(0.1)
