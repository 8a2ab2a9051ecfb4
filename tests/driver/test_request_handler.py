"""A running driver takes up what is asked: retry, pause, resume; junk and a store that refuses
harm no run. An in-process engine; the clock moves by two seconds with each look."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prunegrid.orchestrator.driver.driver import Driver
from prunegrid.orchestrator.driver.run_view import RunResult
from prunegrid.orchestrator.engines.engine import InlineEngine
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.journal import read_journal
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.requests import (
    Pause,
    Request,
    read_pause,
    read_requests,
    set_paused,
)
from prunegrid.orchestrator.store.requests import write_request as write
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.files import StorageError
from tests.fakes import BROKEN, CAUSE, RUNNER, attempts_of
from tests.grids import with_seeds

#: 15 tasks per seed: a train, two prune steps, four attack shards for each of the three models.
METHODS = "methods: [magnitude-global-unstructured, random-local-filter]"


def tiny(*seeds: int) -> str:
    return with_seeds(*seeds).replace(METHODS, "methods: [random-local-filter]")


PAUSE, RESUME = Request(kind="pause", by="cli"), Request(kind="resume", by="dashboard")


class Scene:
    """One driver over the fake runner. `at` maps the number of a look at the engine to what
    happens just before it."""

    def __init__(self, root: Path, text: str = tiny(0)) -> None:
        self.root = root
        self.store = Store.open_or_create(str(root))
        self.plan = expand(parse_grid(text, source="test"))
        self.said: list[str] = []
        self.looks = 0
        self.now_s = 1e9
        self.at: dict[int, Callable[[], object]] = {}
        self.stopped = False

    def clock(self) -> float:
        return self.now_s

    def show(self, view) -> None:
        self.view = view

    def say(self, line: str) -> None:
        self.said.append(line)

    def ran(self) -> int:
        return sum(attempts_of(self.root).values())

    def run(self) -> RunResult:
        scene = self
        settings = WorkerSettings(
            store=str(self.root), data_dir=None, threads=1, gpu_memory_mib=None
        )

        class Engine(InlineEngine):
            def poll(self, timeout_s):
                scene.looks += 1
                assert scene.looks < 500, "it never ends"
                scene.now_s += 2.0
                scene.at.get(scene.looks, lambda: None)()
                return super().poll(0.0)

        with Lease.take(self.store) as lease:
            return Driver(
                self.plan,
                self.store,
                Engine(settings, runner=RUNNER),
                self,
                lease=lease,
                clock=self.clock,
                wall=self.clock,
                stop_requested=lambda: self.stopped,
            ).run()

    def told(self, event: str) -> list[dict]:
        return [e for e in read_journal(self.store) if e["event"] == event]


@pytest.fixture
def scene(tmp_path) -> Scene:
    return Scene(tmp_path / "s")


def test_a_pause_holds_new_tasks_until_the_resume(scene):
    seen = {}
    scene.at = {
        5: lambda: write(scene.store.files, PAUSE),
        8: lambda: seen.update(early=scene.ran(), paused=read_pause(scene.store.files)),
        14: lambda: (seen.update(late=scene.ran()), write(scene.store.files, RESUME)),
    }
    result = scene.run()
    assert seen["early"] == seen["late"] > 0
    assert seen["paused"] == Pause(since_s=pytest.approx(1e9 + 12, abs=4), by="cli")
    assert not result.missing
    assert not result.interrupted
    assert read_pause(scene.store.files) is None
    assert [e["kind"] for e in scene.told("request")] == ["pause", "resume"]
    assert len(scene.told("pause")) == len(scene.told("resume")) == 1
    assert read_requests(scene.store.files) == []
    assert len(list((scene.root / "requests/done").iterdir())) == 2
    assert any("paused, asked by cli" in line for line in scene.said)
    assert "resumed, asked by dashboard" in scene.said


def test_a_pause_outlives_its_driver(scene):
    set_paused(scene.store.files, Pause(since_s=1.0, by="cli"))
    seen = {}
    scene.at = {
        9: lambda: (
            seen.update(ran=scene.ran(), view=scene.view.paused),
            write(scene.store.files, RESUME),
        )
    }
    assert not scene.run().missing
    assert seen == {"ran": 0, "view": True}


def test_a_pause_asked_before_any_driver_holds_the_first_one(scene):
    write(scene.store.files, PAUSE)
    scene.at = {6: lambda: setattr(scene, "stopped", True)}
    result = scene.run()
    assert result.interrupted
    assert scene.ran() == 0
    assert read_pause(scene.store.files) is not None, "the stop did not end the pause"


def test_a_retry_gives_a_whole_budget_and_unblocks_what_waits(tmp_path):
    scene = Scene(tmp_path / "s", tiny(0, BROKEN))
    cause = scene.root / CAUSE
    cause.touch()
    request = Request(kind="retry", by="dashboard", failed=True)
    seen = {}
    scene.at = {
        10: lambda: (
            seen.update(given_up=len(scene.told("given-up")), view=scene.view.given_up),
            cause.unlink(),
            write(scene.store.files, request),
        )
    }
    result = scene.run()
    assert seen["given_up"] == 1, "the dense model"
    assert not result.missing
    assert result.given_up == ()
    assert result.blocked == {}
    (line,) = scene.told("request")
    assert (line["kind"], line["by"], line["reopened"]) == ("retry", "dashboard", 1)
    assert line["unblocked"] == 2 + 3 * 4, "two prune steps, four shards of each model"
    assert len(scene.told("reopened")) == 1 + line["unblocked"]
    assert sorted(attempts_of(scene.root).values())[-1] == 3
    assert any("1 task is tried again, 14 that rest on it" in text for text in scene.said)


def test_a_retry_of_some_leaves_the_others_given_up(tmp_path):
    scene = Scene(tmp_path / "s", with_seeds(0, BROKEN))
    (scene.root / CAUSE).touch()
    select = {"method": ("random-local-filter",), "attack": ("cw_l2",)}
    scene.at = {
        20: lambda: (
            (scene.root / CAUSE).unlink(),
            write(scene.store.files, Request(kind="retry", by="cli", select=select)),
        )
    }
    result = scene.run()
    (left,) = result.given_up
    task = scene.plan.tasks[left.key]
    assert (task.seed, task.salt) == (BROKEN, "magnitude-global-unstructured")
    assert len(result.missing) == 12, "its 3 rates, 2 attacks, 2 eps"


def test_a_retry_of_what_the_plan_has_not_is_said_and_passed_over(scene):
    bad = Request(kind="retry", by="dashboard", select={"seed": ("77",)})
    scene.at = {3: lambda: write(scene.store.files, bad)}
    assert not scene.run().missing
    assert any("seed=77" in line for line in scene.said)
    assert "seed=77" in scene.told("request")[0]["refused"]
    assert read_requests(scene.store.files) == []


def test_junk_is_moved_aside_and_the_run_goes_on(scene):
    scene.at = {3: lambda: scene.store.files.write("requests/1.json", b'{"version": 1}')}
    assert not scene.run().missing
    assert (scene.root / "requests/refused/1.json").read_bytes() == b'{"version": 1}'
    assert any("requests/1.json is no request" in line for line in scene.said)


def test_a_store_that_refuses_requests_is_said_once_and_asked_again(scene, monkeypatch):
    listed = scene.store.files.list
    refusing = {"now": False}

    def refuse(prefix):
        if prefix == "requests" and refusing["now"]:
            raise StorageError("planted")
        return listed(prefix)

    monkeypatch.setattr(scene.store.files, "list", refuse)
    seen = {}
    scene.at = {
        2: lambda: (refusing.update(now=True), write(scene.store.files, PAUSE)),
        9: lambda: refusing.update(now=False),
        15: lambda: (seen.update(paused=scene.view.paused), write(scene.store.files, RESUME)),
    }
    assert not scene.run().missing
    assert seen == {"paused": True}
    assert sum("planted" in line for line in scene.said) == 1


def test_a_request_that_cannot_be_moved_is_acted_upon_once(tmp_path, monkeypatch):
    scene = Scene(tmp_path / "s", tiny(0, BROKEN))
    (scene.root / CAUSE).touch()

    def refuse(source, target):
        raise StorageError("planted")

    scene.at = {
        10: lambda: (
            write(scene.store.files, Request(kind="retry", by="cli", failed=True)),
            monkeypatch.setattr(scene.store.files, "rename", refuse),
        )
    }
    assert len(scene.run().given_up) == 1, "the cause is still there"
    assert len(scene.told("request")) == 1
    assert sorted(attempts_of(scene.root).values())[-1] == 4
    (name, _) = read_requests(scene.store.files)[0]
    assert json.loads((scene.root / "requests" / name).read_text())["failed"] is True


def test_a_pause_holds_what_a_second_pass_makes_anew(scene):
    seen = {}

    def tear() -> None:
        victim = sorted((scene.root / "results/images").glob("*.parquet"))[0]
        victim.write_bytes(victim.read_bytes()[:-20])

    scene.at = {
        14: lambda: write(scene.store.files, PAUSE),
        15: tear,  # the last task runs already
        20: lambda: (seen.update(ran=scene.ran()), write(scene.store.files, RESUME)),
    }
    assert not scene.run().missing
    assert seen == {"ran": 15}
    assert scene.ran() == 16
