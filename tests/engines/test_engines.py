"""One contract over every engine: what is submitted comes back once, as an outcome."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from prunegrid.orchestrator.engines.engine import Ended, Engine, InlineEngine
from prunegrid.orchestrator.engines.ray.ray_engine import EngineError, RayEngine
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import Resources
from prunegrid.orchestrator.plan.dag import expand, parent_of
from prunegrid.workers import user_code
from prunegrid.workers.contract import (
    Attempt,
    FailureKind,
    PruneTask,
    Success,
    Task,
    TrainTask,
    WorkerSettings,
)
from prunegrid.workers.data.description import describe
from prunegrid.workers.entry import REAL_RUNNER
from tests.fakes import BUG, DIES, DIES_ONCE, RUNNER, SLOW
from tests.grids import with_seeds

ROOT = Path(__file__).resolve().parent.parent.parent
ONE_CPU = Resources(cpus_per_task=1, gpus_per_task=0, threads=1, gpu_memory_mib=None)
Make = Callable[[], Engine]


def settings(folder: Path) -> WorkerSettings:
    return WorkerSettings(
        store=str(folder / "store"), data_dir=None, threads=1, gpu_memory_mib=None
    )


@pytest.fixture(params=["inline", pytest.param("ray", marks=pytest.mark.ray)])
def engine(request, tmp_path) -> Iterator[Engine]:
    if request.param == "inline":
        made: Engine = InlineEngine(settings(tmp_path), runner=RUNNER)
    else:
        request.getfixturevalue("ray_session")
        made = RayEngine(settings(tmp_path), ONE_CPU, runner=RUNNER)
    yield made
    made.close()
    made.close()


@pytest.fixture
def ray_engine(ray_session, tmp_path) -> Iterator[RayEngine]:
    made = RayEngine(settings(tmp_path), ONE_CPU, runner=RUNNER)
    yield made
    made.close()


def task(seed: int) -> TrainTask:
    plan = expand(parse_grid(with_seeds(seed), source="test"))
    return next(t for t in plan.tasks.values() if isinstance(t, TrainTask))


def collect(engine: Engine, count: int, timeout_s: float = 180.0) -> list[Ended]:
    ended: list[Ended] = []
    limit = time.monotonic() + timeout_s
    while len(ended) < count:
        assert time.monotonic() < limit, f"{len(ended)} of {count} came back"
        ended += engine.poll(0.2)
    assert not engine.poll(0.05), "more came back than was submitted"
    return ended


def test_every_attempt_comes_back_once_with_its_number(engine):
    for seed in (1, 2, 3, 4):
        engine.submit(Attempt(task=task(seed), number=seed))
    ended = collect(engine, 4)
    assert {e.outcome.key for e in ended} == {task(seed).key for seed in (1, 2, 3, 4)}
    assert all(isinstance(e.outcome, Success) for e in ended)
    assert {e.outcome.key: e.attempt for e in ended}[task(3).key] == 3


def test_a_failure_comes_back_as_data_with_its_traceback(engine):
    engine.submit(Attempt(task=task(BUG), number=1))
    (ended,) = collect(engine, 1)
    assert ended.outcome.kind is FailureKind.BUG
    assert ended.outcome.message == "ValueError: planted"
    assert "Traceback" in ended.outcome.traceback


def test_poll_without_work_returns_nothing_and_soon(engine):
    began_s = time.monotonic()
    assert list(engine.poll(0.1)) == []
    assert time.monotonic() - began_s < 5
    assert engine.slots >= 1
    engine.demand(3)
    assert list(engine.notices()) == [], "nothing happened"
    assert engine.doing() == [] or not [d for d in engine.doing() if d.key]


def test_data_is_prepared_or_the_reason_told(engine):
    assert engine.prepare(task(1).data) is None


def test_a_stop_ends_what_runs_as_lost(engine):
    if isinstance(engine, InlineEngine):
        engine.request_stop()
        engine.submit(Attempt(task=task(SLOW), number=1))
    else:
        engine.submit(Attempt(task=task(SLOW), number=1))
        engine.poll(1.0)
        engine.request_stop()
    (ended,) = collect(engine, 1)
    assert ended.outcome.kind is FailureKind.LOST


# --------------------------------------------------------------------------- Ray alone


@pytest.mark.ray
def test_a_dead_worker_is_a_crash_and_its_slot_comes_back(ray_engine):
    slots = ray_engine.slots
    ray_engine.submit(Attempt(task=task(DIES), number=1))
    (ended,) = collect(ray_engine, 1)
    assert ended.outcome.kind is FailureKind.CRASHED
    assert "said by native code" in ended.outcome.log
    limit = time.monotonic() + 120
    while ray_engine.slots < slots:
        assert time.monotonic() < limit, "no new worker came"
        assert not ray_engine.poll(0.05)
    ray_engine.submit(Attempt(task=task(DIES_ONCE), number=2))
    (ended,) = collect(ray_engine, 1)
    assert isinstance(ended.outcome, Success)


@pytest.mark.ray
def test_more_attempts_than_slots_wait_their_turn(ray_engine):
    for seed in range(10, 20):
        ray_engine.submit(Attempt(task=task(seed), number=1))
    assert len(collect(ray_engine, 10)) == 10


@pytest.mark.ray
def test_a_chain_goes_on_where_its_weights_are_warm(ray_engine):
    limit = time.monotonic() + 120
    while ray_engine.slots < 2:
        assert time.monotonic() < limit
        ray_engine.poll(0.05)

    def workers(tasks: list[Task]) -> list[str]:
        out = []
        for one in tasks:
            ray_engine.submit(Attempt(task=one, number=1))
            out += [ended.worker for ended in collect(ray_engine, 1)]
        return out

    plan = expand(parse_grid(with_seeds(1), source="test"))
    chain: list[Task] = [next(t for t in plan.tasks.values() if isinstance(t, TrainTask))]
    for _ in range(2):
        below = [t for t in plan.tasks.values() if parent_of(t) == chain[-1].key]
        chain.append(next(t for t in below if isinstance(t, PruneTask)))
    chain.append(next(t for t in plan.tasks.values() if parent_of(t) == chain[-1].key))
    assert len(set(workers(chain))) == 1
    assert len(set(workers([task(seed) for seed in (21, 22)]))) == 2, "others are shared out"


@pytest.mark.ray
def test_a_running_task_says_how_far_it_is(ray_engine):
    ray_engine.submit(Attempt(task=task(SLOW), number=1))
    limit = time.monotonic() + 120
    while not any(d.key == task(SLOW).key for d in ray_engine.doing()):
        assert time.monotonic() < limit
        ray_engine.poll(0.1)
    ray_engine.request_stop()
    collect(ray_engine, 1)


@pytest.mark.ray
def test_resources_that_no_node_has_are_reported_at_once(ray_session, tmp_path):
    huge = Resources(cpus_per_task=64, gpus_per_task=0, threads=1, gpu_memory_mib=None)
    with pytest.raises(EngineError, match="64 CPU"):
        RayEngine(settings(tmp_path), huge, runner=RUNNER)


def test_the_fakes_really_die(tmp_path):
    """The test above would pass as well if DIES raised; here is proof that it does not."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.fakes import DIES, run_attempt\n"
        "from tests.engines.test_engines import settings, task\n"
        "from prunegrid.workers.contract import Attempt\n"
        "attempt = Attempt(task=task(DIES), number=1)\n"
        "run_attempt(attempt, settings(Path(sys.argv[1])), lambda *_: None, lambda: False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.ray
def test_a_users_module_reaches_rays_workers_and_what_lacks_is_told(ray_session, tmp_path):
    """Which have it from nowhere else: its folder is gone before they are asked."""
    home, store = tmp_path / "home", tmp_path / "store"
    (home / "ray_data_test").mkdir(parents=True)
    (home / "ray_data_test/__init__.py").write_text("COUNT = 4\n")
    (home / "ray_data_test/load.py").write_text(
        "import numpy as np\nfrom ray_data_test import COUNT\n"
        "def load(level):\n"
        "    x, y = np.full((COUNT, 3, 2, 1), level, np.uint8), np.arange(COUNT) % 2\n"
        "    return x, y, x, y\n"
    )
    reader = user_code.UserCode(target="ray_data_test.load:load", options=(("level", 7),))
    with user_code.beside(home / "grid.yaml"):
        code = user_code.collect([reader.target])
        code.install()
        entry = describe("grey", reader, tmp_path / "driver")
    shutil.rmtree(home)
    store.mkdir()
    (store / "grid.yaml").write_text("")
    mine = replace(settings(tmp_path), data_dir=str(tmp_path / "node"), user_code=code)
    data = replace(task(1).data, dataset="grey", fingerprint=entry.fingerprint, own=entry)
    gone = user_code.UserCode(
        target="prunegrid.workers.data.own_sources:read_npz", options=(("path", "/none.npz"),)
    )
    lost = replace(entry, reader=gone, fingerprint="arrays:other")
    engine = RayEngine(mine, ONE_CPU, runner=REAL_RUNNER)
    try:
        assert engine.prepare(data) is None
        assert [f.name for f in (tmp_path / "node").glob("arrays_*")]
        said = engine.prepare(replace(data, fingerprint="arrays:other", own=lost))
    finally:
        engine.close()
    assert said is not None
    assert "/none.npz" in said
    assert "expected it where every node sees it, or the folder arrays_other" in said
    lacks = replace(mine, user_code=user_code.TravellingCode(targets=("no_such_lab:net",)))
    engine = RayEngine(lacks, ONE_CPU, runner=REAL_RUNNER)
    try:
        assert "has no module 'no_such_lab'" in str(engine.prepare(data))
    finally:
        engine.close()
