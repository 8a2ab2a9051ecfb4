"""The Ray engine on a cluster of several nodes with fake GPUs: they come, go, drain and fail."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prunegrid.orchestrator.engines.engine import Engine
from prunegrid.orchestrator.engines.ray import worker_pool
from prunegrid.orchestrator.engines.ray.ray_engine import EngineError, RayEngine
from prunegrid.orchestrator.engines.ray.start import keep_to_ourselves
from prunegrid.orchestrator.grid.grid import Resources
from prunegrid.workers.contract import Attempt, FailureKind, Success, TrainTask
from tests.chaos.cluster import FakeCluster
from tests.engines.test_engines import RUNNER, collect, settings, task
from tests.fakes import CRAMPED, NODE_BOUND, SAVES, SLOW

pytestmark = pytest.mark.ray

HALF = Resources(cpus_per_task=1, gpus_per_task=0.5, threads=1, gpu_memory_mib=200)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    """Two nodes of two CPUs and one GPU: two slots each."""
    keep_to_ourselves()
    import ray

    ray.shutdown()
    with FakeCluster(2, cpus=2, watchful=True) as made:
        yield made


@pytest.fixture
def engine(cluster: FakeCluster, tmp_path: Path) -> Iterator[RayEngine]:
    cluster.fill()
    own = dataclasses.replace(settings(tmp_path), gpu_memory_mib=200)
    made = RayEngine(own, HALF, address=cluster.address, runner=RUNNER)
    yield made
    made.close()


def until(engine: Engine, condition: Callable[[], bool], timeout_s: float = 180.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        assert not engine.poll(0.05), "an attempt ended early"


def slow(number: int, seed: int = SLOW) -> TrainTask:
    """One of many tasks that run until they are stopped."""
    return dataclasses.replace(task(seed), salt=f"slow-{number}")


def test_nodes_that_join_get_work_and_a_lost_ones_tasks_come_back(cluster, engine, tmp_path):
    prepared = tmp_path / "store/prepared"
    prepared.mkdir(parents=True)
    assert engine.prepare(task(SLOW).data) is None
    until(engine, lambda: engine.slots == 4)
    assert "2 GPU" not in engine.description
    assert "4 slots (0.5 GPU each)" in engine.description
    cluster.add_node()
    until(engine, lambda: engine.slots == 6)
    joined = [n for n in engine.notices() if n.kind == "node-joined"]
    assert len(joined) == 1
    assert "2 CPU, 1 GPU" in joined[0].text
    by_node = [path.name.partition("-")[0] for path in prepared.iterdir()]
    raylets = [str(cluster.raylet_pid(node)) for node in cluster.nodes]
    assert sorted(by_node) == sorted(raylets), "once per node"
    for number in range(6):
        engine.submit(Attempt(task=slow(number), number=1))
    until(engine, lambda: len(engine.doing()) == 6)
    began_s = time.monotonic()
    cluster.kill_node(cluster.nodes[0])
    ended = collect(engine, 2)
    assert time.monotonic() - began_s < 15
    assert {e.outcome.kind for e in ended} == {FailureKind.LOST}
    left: list[str] = []
    until(engine, lambda: bool(left.extend(n.kind for n in engine.notices()) or left))
    assert left == ["node-left"]
    assert engine.slots == 4
    assert len(engine.doing()) == 4, "the other nodes' tasks go on"


def test_a_drain_notice_has_tasks_save_their_state_and_move(cluster, engine, tmp_path):
    until(engine, lambda: engine.slots == 4)
    for number in range(4):
        engine.submit(Attempt(task=slow(number, SAVES), number=1))
    until(engine, lambda: len(engine.doing()) == 4)
    node = cluster.nodes[0]
    assert cluster.drain(node, 60.0)
    ended = collect(engine, 2)
    assert {(e.outcome.kind, e.outcome.message) for e in ended} == {
        (FailureKind.LOST, "interrupted")
    }, "by their own word: they had time to save"
    saved = {path.parent.name for path in tmp_path.glob("store/checkpoints/*/state.npz")}
    assert saved == {e.outcome.key for e in ended}
    assert engine.slots == 2, "nothing new on a node that is to go away"
    assert [n.kind for n in engine.notices()] == ["node-draining"]
    engine.request_stop()
    collect(engine, 2)
    cluster.kill_node(node)


def test_a_node_that_fails_task_after_task_is_excluded(cluster, engine, tmp_path):
    until(engine, lambda: engine.slots == 4)
    (tmp_path / "store").mkdir()
    bad = cluster.raylet_pid(cluster.nodes[0])
    (tmp_path / "store/bad-node").write_text(str(bad))
    todo = [task(seed) for seed in NODE_BOUND]
    waiting = [Attempt(task=one, number=1) for one in todo]
    done: set[str] = set()
    failures = flying = 0
    excluded = ""
    limit = time.monotonic() + 180
    while len(done) < len(todo):
        assert time.monotonic() < limit
        while waiting and flying < engine.slots:
            engine.submit(waiting.pop())
            flying += 1
        for ended in engine.poll(0.2):
            flying -= 1
            if isinstance(ended.outcome, Success):
                done.add(ended.outcome.key)
            else:
                failures += 1
                again = next(one for one in todo if one.key == ended.outcome.key)
                assert ended.attempt == 1, "a retry goes to another node"
                waiting.append(Attempt(task=again, number=2))
        excluded += "".join(n.text for n in engine.notices() if n.kind == "node-fenced")
    assert 4 <= failures <= 12, "four in a row, and what ran beside them"
    assert "gets no more tasks for 10 min" in excluded
    assert "planted: no device" in excluded
    assert engine.slots == 2


def test_a_node_that_can_not_have_the_data_gets_no_tasks(cluster, engine, tmp_path):
    until(engine, lambda: engine.slots == 4)
    first = engine._pool.idle()[0].node
    (other,) = (node for node in cluster.nodes if node.node_id != first)
    (tmp_path / "store").mkdir()
    (tmp_path / "store/bad-node").write_text(str(cluster.raylet_pid(other)))
    assert engine.prepare(task(SLOW).data) is None
    said: list[str] = []
    until(engine, lambda: bool(said.extend(n.text for n in engine.notices()) or said))
    assert "its data can't be prepared: planted: no room" in said[0]
    assert engine.slots == 2


def test_a_task_that_lacks_memory_gets_more_of_a_gpu(cluster, engine):
    until(engine, lambda: engine.slots == 4)
    cramped = task(CRAMPED)
    engine.submit(Attempt(task=cramped, number=1))
    (ended,) = collect(engine, 1)
    assert ended.outcome.kind is FailureKind.DEVICE_MEMORY
    assert "OOM at 200 MiB" in ended.outcome.message
    engine.submit(Attempt(task=cramped, number=2, share=4))  # half a GPU four times is all of it
    (ended,) = collect(engine, 1)
    assert isinstance(ended.outcome, Success)
    until(engine, lambda: engine.slots == 4)


def test_what_ray_s_memory_monitor_kills_ran_out_of_host_memory(cluster, engine):
    """On a node that believes its memory to be full at its next look, whatever runs.

    It looks every 8 s, so that a worker has started between two looks on a busy machine too.
    """
    until(engine, lambda: engine.slots == 4)
    for number in range(4):
        engine.submit(Attempt(task=slow(number), number=1))
    greedy = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "8000"}
    node = cluster.add_node(env=greedy)
    until(engine, lambda: engine.slots > 4)
    engine.submit(Attempt(task=slow(4), number=1))
    (ended,) = collect(engine, 1)
    assert ended.outcome.kind is FailureKind.HOST_MEMORY, ended.outcome
    assert "OutOfMemoryError" in ended.outcome.message
    cluster.kill_node(node)
    engine.request_stop()
    collect(engine, 4)


def test_where_the_last_node_goes_the_engine_says_what_it_waits_for(cluster, engine, monkeypatch):
    monkeypatch.setattr(worker_pool, "CROWDED_S", 0.5)
    until(engine, lambda: engine.slots == 4)
    for node in cluster.nodes:
        cluster.kill_node(node)
    said: list[str] = []

    def told() -> bool:
        said.extend(n.text for n in engine.notices() if n.kind == "no-room")
        return any("needs 1 CPU and 0.5 GPU" in text for text in said)

    until(engine, told)
    assert "0 CPU and 0 GPU" in said[-1], "the head is left, and offers nothing"
    assert len(said) == len(set(said))
    assert engine.slots == 0
    cluster.fill()
    until(engine, lambda: engine.slots >= 2)


def test_more_than_any_node_has_is_refused_with_what_there_is(cluster, tmp_path):
    cluster.fill()
    big = Resources(cpus_per_task=8, gpus_per_task=2, threads=1, gpu_memory_mib=None)
    with pytest.raises(
        EngineError, match=r"needs 8 CPU and 2 GPU, the nodes offer 2 CPU and 1 GPU"
    ):
        RayEngine(settings(tmp_path), big, address=cluster.address, runner=RUNNER)
