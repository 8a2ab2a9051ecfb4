"""The Ray engine where an autoscaler brings nodes for the work there is, and takes them back."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.engines.ray import autoscaler, worker_pool
from prunegrid.orchestrator.engines.ray.autoscaler import Autoscaler
from prunegrid.orchestrator.engines.ray.node_resources import Need
from prunegrid.orchestrator.engines.ray.ray_engine import EngineError, RayEngine
from prunegrid.orchestrator.grid.grid import Resources
from tests.autoscaled import AutoscaledCluster
from tests.engines.test_engines import RUNNER, settings, task
from tests.grids import SMALL

pytestmark = pytest.mark.ray

HALF = Resources(cpus_per_task=1, gpus_per_task=0.5, threads=1, gpu_memory_mib=None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[AutoscaledCluster]:
    """No node but the head, and the promise of two with 2 CPUs and a GPU."""
    import ray

    ray.shutdown()
    with AutoscaledCluster(cpus=2, gpus=1, most=2, idle_s=1.0) as made:
        ray.init(address=made.address, log_to_driver=False)
        yield made
        ray.shutdown()


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """A grid that waits for nodes waits for ever, if need be."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done within {seconds} s; {nodes()} nodes")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def nodes() -> int:
    import ray

    return sum(node["Alive"] for node in ray.nodes()) - 1


def until(condition: Callable[[], bool], step: Callable[[], object] = lambda: None) -> None:
    limit_s = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < limit_s, f"it did not happen in time; {nodes()} nodes"
        step()
        time.sleep(0.1)


def test_nodes_come_for_a_grid_and_go_with_it(cluster: AutoscaledCluster, tmp_path: Path):
    grid, store = tmp_path / "grid.yaml", tmp_path / "store"
    grid.write_text(SMALL + "resources: {cpus_per_task: 1, gpus_per_task: 0.5}\n")
    options = RunOptions(grid=grid, store=str(store), address=cluster.address, runner=RUNNER)
    assert nodes() == 0
    with within(60):
        assert run_grid(options, Console(quiet=True)) == 0
    journal = "".join(path.read_text() for path in (store / "journal").iterdir())
    assert "joined: 2 CPU, 1 GPU" in journal
    until(lambda: nodes() == 0)


def with_demand(engine: RayEngine, tasks: int) -> Callable[[], object]:
    return lambda: (engine.demand(tasks), engine.poll(0))


@pytest.fixture
def engine(cluster, tmp_path, monkeypatch) -> Iterator[RayEngine]:
    monkeypatch.setattr(worker_pool, "SPARE_S", 0.5)
    made = RayEngine(settings(tmp_path), HALF, address=cluster.address, runner=RUNNER)
    yield made
    made.close()
    until(lambda: nodes() == 0)


@pytest.mark.parametrize("survivor", [0, 1])
def test_idle_workers_leave_their_node_to_the_autoscaler(engine, survivor):
    """Whichever node the last worker is on: the autoscaler would not always keep that one."""
    assert engine.slots == 0
    assert engine.prepare(task(1).data) is None, "there is no node to prepare it on yet"
    until(lambda: engine.slots == 4, with_demand(engine, 4))
    slots = engine._pool.slots
    first_come = list(dict.fromkeys(slot.node for slot in slots.values()))
    assert len(first_come) == nodes() == 2
    for number, slot in slots.items():  # the node that was used last stays
        since_s = slot.since_s - 100 * (slot.node != first_come[survivor])
        slots[number] = dataclasses.replace(slot, since_s=since_s)
    until(lambda: engine.slots == 1, with_demand(engine, 1))
    assert {slot.node for slot in slots.values()} == {first_come[survivor]}
    until(lambda: nodes() == 1, with_demand(engine, 1))
    assert engine.slots == 1
    until(lambda: engine.slots == 3, with_demand(engine, 3))
    until(lambda: nodes() == 0, with_demand(engine, 0))


@pytest.mark.parametrize("known", [True, False])
def test_more_tasks_than_slots_that_may_come(engine, known, monkeypatch):
    """Ray brings no node at all for a request that it can't fulfil whole."""
    if not known:  # as in KubeRay: its limits are found by asking
        monkeypatch.setattr(engine._autoscaler, "_offer", None)
    until(lambda: engine.slots == 4, with_demand(engine, 9))


def test_a_killed_driver_s_request_expires(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(autoscaler, "EXPIRES_S", 3.0)
    monkeypatch.setattr(autoscaler, "RENEW_EVERY_S", 1.0)
    engine = RayEngine(settings(tmp_path), HALF, address=cluster.address, runner=RUNNER)
    until(lambda: nodes() == 2, with_demand(engine, 9))
    engine._actors.close()  # Ray ends them with their driver
    until(lambda: nodes() == 0)


def test_what_no_node_type_offers_is_refused_with_what_they_offer(cluster, tmp_path):
    big = Resources(cpus_per_task=8, gpus_per_task=2, threads=1, gpu_memory_mib=None)
    with pytest.raises(EngineError, match=r"needs 8 CPU and 2 GPU.*autoscaler.* 2 CPU and 1 GPU"):
        RayEngine(settings(tmp_path), big, address=cluster.address, runner=RUNNER)


@pytest.mark.parametrize("inside", [True, False])
def test_in_kuberay_whoever_brings_nodes_is_out_of_sight(inside, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_KUBERAY_IN_USE", "1" if inside else "")
    elsewhere = SimpleNamespace(gcs_address="10.0.0.1:6379")
    there = Autoscaler(SimpleNamespace(get_runtime_context=lambda: elsewhere))
    assert there.offers(Need(cpus=4, gpus=1)) is inside
    assert there.offers_gpus is inside
