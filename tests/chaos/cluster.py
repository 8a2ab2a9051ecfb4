"""A Ray cluster of several nodes with fake GPUs on this machine, on loopback, to be harmed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from prunegrid.orchestrator.engines.ray.start import keep_to_ourselves
from tests.test_loopback import family

NODES = 4
CPUS, GPUS = 1, 1
ROOT = Path(__file__).resolve().parents[2]


class FakeCluster:
    """A head without slots and some nodes; use it as a context manager."""

    def __init__(
        self, nodes: int = NODES, *, cpus: int = CPUS, gpus: int = GPUS, watchful: bool = False
    ) -> None:
        """`watchful`: Ray declares a lost node dead after 2 s, not after its usual 14."""
        self._wanted = nodes
        often = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        self._system = often if watchful else None
        self._size = {"num_cpus": cpus, "num_gpus": gpus}

    def __enter__(self) -> FakeCluster:
        keep_to_ourselves()
        import ray
        from ray.cluster_utils import Cluster

        ray._private.utils.write_ray_address = lambda *_: None  # nobody else is to join it
        self._ray = ray
        self._temp = tempfile.mkdtemp(prefix="pg", dir="/tmp")  # socket paths must be short
        self._cluster: Any = Cluster()
        self._add(num_cpus=0, _system_config=self._system)
        for _ in range(self._wanted):
            self.add_node(wait=False)
        self._cluster.wait_for_nodes()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._cluster.shutdown()
        shutil.rmtree(self._temp, ignore_errors=True)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def nodes(self) -> list[Any]:
        """Without the head."""
        return sorted(self._cluster.worker_nodes, key=lambda node: node.node_id)

    def _add(self, *, wait: bool = True, **options: Any) -> Any:
        common = {
            "include_dashboard": False,
            "node_ip_address": "127.0.0.1",
            "object_store_memory": 80 * 2**20,
            "temp_dir": self._temp,
        }
        return self._cluster.add_node(wait=wait, **common, **options)

    def add_node(self, *, wait: bool = True, env: dict[str, str] | None = None) -> Any:
        """`env`: of the node's processes, beside this one's."""
        return self._add(wait=wait, **self._size, env_vars=env)

    def fill(self) -> None:
        """As many nodes as at first."""
        missing = self._wanted - len(self.nodes)
        for _ in range(missing):
            self.add_node(wait=False)
        if missing > 0:
            self._cluster.wait_for_nodes()

    @staticmethod
    def raylet_pid(node: Any) -> int:
        return int(node.all_processes["raylet"][0].process.pid)

    def kill_node(self, node: Any) -> None:
        self._cluster.remove_node(node, allow_graceful=False)

    def drain(self, node: Any, seconds: float) -> bool:
        """A spot notice: the node is to go away in so long. Whether Ray took it."""
        from ray.core.generated import autoscaler_pb2

        client = self._ray._raylet.GcsClient(address=self.address)
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = int((time.time() + seconds) * 1000)
        accepted, _ = client.drain_node(node.node_id, reason, "planted", deadline_ms)
        return bool(accepted)

    @staticmethod
    def workers() -> list[int]:
        """Processes of this cluster that run an actor of ours."""
        found = []
        for pid in family(os.getpid()):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Worker"):
                    found.append(pid)
        return sorted(found)


def end(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
