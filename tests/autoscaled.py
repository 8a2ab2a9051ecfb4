"""A Ray cluster on this machine with a true autoscaler, which brings and ends nodes that are
processes. (`ray.cluster_utils.AutoscalingCluster` needs a file that Ray's wheel has not, and runs
`ray stop --force`.)"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from prunegrid.orchestrator.engines.ray.start import keep_to_ourselves
from tests.test_loopback import family

_HEAD_ID = "f" * 51 + "00000"
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_OBJECTS = 80 * 2**20
STARTS_WITHIN_S = 60.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class AutoscaledCluster:
    """A head without slots, and up to `most` nodes of `cpus` CPUs and `gpus` fake GPUs, none at
    first; an idle one goes after `idle_s`. Use it as a context manager."""

    def __init__(self, *, cpus: int, gpus: int, most: int, idle_s: float) -> None:
        self.address = f"127.0.0.1:{_free_port()}"
        resources = {"CPU": cpus, "GPU": gpus, "object_store_memory": _OBJECTS}
        self._config = {
            "cluster_name": "autoscaled",
            "max_workers": most,
            "idle_timeout_minutes": idle_s / 60,
            "upscaling_speed": 100,
            "auth": {},
            "cluster_synced_files": [],
            "file_mounts": {},
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "worker": {"resources": resources, "node_config": {}, "max_workers": most},
            },
            "provider": {
                "type": "external",
                "module": _PROVIDER,
                "launch_multiple": True,
                "head_node_id": _HEAD_ID,
                "gcs_address": self.address,
            },
        }
        for name in ("initialization", "setup", "head_setup", "worker_setup"):
            self._config[f"{name}_commands"] = []
        for name in ("head", "worker"):
            self._config[f"{name}_start_ray_commands"] = []

    def __enter__(self) -> AutoscaledCluster:
        keep_to_ourselves()
        self._temp = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # socket paths must be short
        config = self._temp / "autoscaling.yaml"
        config.write_text(yaml.safe_dump(self._config))
        environment = os.environ | {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
        command = [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
            *("--node-ip-address=127.0.0.1", f"--port={self.address.rpartition(':')[2]}"),
            *("--num-cpus=0", f"--object-store-memory={_OBJECTS}", "--include-dashboard=false"),
            *(f"--temp-dir={self._temp}", f"--autoscaling-config={config}"),
        ]
        self._log = (self._temp / "head.log").open("wb")
        self._head = subprocess.Popen(
            command, env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        limit_s = time.monotonic() + STARTS_WITHIN_S
        while b"will now block forever" not in self._said():
            assert self._head.poll() is None, self._said().decode(errors="replace")
            assert time.monotonic() < limit_s, "the head does not start"
            time.sleep(0.1)

    def _said(self) -> bytes:
        return (self._temp / "head.log").read_bytes()

    def __exit__(self, *_: object) -> None:
        processes = family(self._head.pid)
        self._head.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._head.wait(timeout=90)
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._head.wait()
        self._log.close()
        shutil.rmtree(self._temp, ignore_errors=True)
