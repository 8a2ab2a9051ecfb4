"""Which cluster is joined, and what is said where none answers; what is seen of a silent one."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.engines.ray import nodes as nodes_module
from prunegrid.orchestrator.engines.ray import start
from prunegrid.orchestrator.engines.ray.nodes import Nodes
from prunegrid.orchestrator.engines.ray.start import EngineError, join
from prunegrid.orchestrator.store.lease import LEASE
from tests.commands.test_run import options


@contextmanager
def listener(answer: bytes | None) -> Iterator[str]:
    """The address of a server that says only this; None: nothing, and it keeps listening."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer or b"")

        if answer is not None:
            threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_cluster_that_is_gone_is_one_error_with_its_address_and_the_cause():
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(EngineError, match=f"at {address}: Connection refused; expected"):
        join(address)


def test_an_address_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(start, "JOIN_S", 0.5)
    with listener(None) as address, pytest.raises(EngineError, match=f"{address}: no answer with"):
        join(address)


def test_another_server_than_rays_is_named_so():
    with (
        listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(EngineError, match=f"{address}: what answers there is no Ray cluster"),
    ):
        join(address)


def test_a_host_that_nobody_knows_is_an_error():
    with pytest.raises(EngineError, match=r"head\.invalid"):
        join("head.invalid:6379")


def test_auto_without_a_cluster_says_so(monkeypatch):
    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda temp_dir: None)
    with pytest.raises(EngineError, match="auto: no Ray cluster runs on this machine; expected"):
        join("auto")


def test_a_run_says_what_it_joins_before_it_does(tmp_path, monkeypatch):
    def refuse(*_: object, **options: object) -> None:
        raise EngineError(f"can't join {options['address']}")

    monkeypatch.setattr("prunegrid.orchestrator.engines.ray.ray_engine.RayEngine", refuse)
    out = io.StringIO()
    with pytest.raises(EngineError):
        run_grid(options(tmp_path, engine="ray", address="10.0.0.7:6379"), Console(file=out))
    assert "joining the Ray cluster at 10.0.0.7:6379" in out.getvalue().replace("\n", " ")
    assert not (tmp_path / "store" / LEASE).exists()


# --------------------------------------------------------------------------- a silent cluster


class RpcError(Exception):
    pass


class Cluster:
    """As much of the `ray` module as `Nodes` asks: two nodes, this driver's and another."""

    exceptions = SimpleNamespace(RpcError=RpcError)

    def __init__(self) -> None:
        self.silent = False
        self.dead: set[str] = set()
        self.now_s = 0.0
        client = SimpleNamespace(get_all_node_info=self._infos)
        self._private = SimpleNamespace(
            worker=SimpleNamespace(global_worker=SimpleNamespace(gcs_client=client)),
            state=SimpleNamespace(state=SimpleNamespace(get_draining_nodes=dict)),
        )

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=b"here".hex)

    def _infos(self, timeout: float) -> dict[str, Any]:
        if self.silent:
            self.now_s += timeout
            raise RpcError("Timed out while waiting for GCS to become available.")
        return {
            name: SimpleNamespace(
                node_id=name.encode(),
                node_manager_hostname=name,
                resources_total={"CPU": 2.0},
                ALIVE=0,
                state=int(name in self.dead),
            )
            for name in ("here", "there")
        }


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(nodes_module, "time", SimpleNamespace(monotonic=lambda: made.now_s))
    return made


def look_for(nodes: Nodes, cluster: Cluster, seconds: float) -> list[str]:
    said, until_s = [], cluster.now_s + seconds
    while cluster.now_s < until_s:
        said += [notice.text for notice in nodes.look()]
        cluster.now_s += 0.25
    return said


def test_a_silent_cluster_is_waited_for_and_what_runs_goes_on(cluster):
    nodes = Nodes(cluster)
    look_for(nodes, cluster, 2)
    cluster.silent = True
    (said,) = look_for(nodes, cluster, 30)
    assert "does not answer (its GCS, on the head node): waiting 40 s" in said
    assert len(nodes.alive) == 2, "nothing is known to be gone"
    cluster.silent = False
    assert look_for(nodes, cluster, 3) == ["the Ray cluster answers again"]


def test_a_cluster_that_stays_silent_ends_the_run_before_ray_ends_its_process(cluster):
    nodes = Nodes(cluster)
    look_for(nodes, cluster, 2)
    began_s, cluster.silent = cluster.now_s, True
    with pytest.raises(EngineError, match=r"not answered for 40 s.* the same command resumes"):
        look_for(nodes, cluster, 100)
    assert cluster.now_s - began_s < 55


def test_the_death_of_the_drivers_own_node_ends_the_run(cluster):
    nodes = Nodes(cluster)
    look_for(nodes, cluster, 2)
    cluster.dead = {"there"}
    assert look_for(nodes, cluster, 2) == ["node there/74686572 is gone"]
    cluster.dead = {"here"}
    with pytest.raises(EngineError, match=r"this driver uses is dead.* the same command resumes"):
        look_for(nodes, cluster, 2)
