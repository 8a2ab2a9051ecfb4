"""Ray's autoscaler, where there is one: which nodes it could bring, and how many it is asked for.

Ray brings nodes for demand that it sees. Our tasks wait in the driver and our actors are bound to
nodes that are there, so nothing would ever be pending: the demand is told in so many words.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from orchestrator.engines.ray.wish import SAY_EVERY_S, Wisher
from orchestrator.scheduling.room import Need, Node, capacity

ASK_EVERY_S = 1.0
MOST_SLOTS = 2000  #: each is a bundle that the autoscaler packs at every look
#: KubeRay's operator sets it in its pods, and runs its autoscaler beside the head, where Ray's own
#: process for it would be.
_IN_KUBERAY = "RAY_USAGE_STATS_KUBERAY_IN_USE"
_CONFIG = "--autoscaling-config="


class Autoscaler:
    """`node_types`: of nodes that may come, as if they were there; None where an autoscaler runs
    that does not say. Not thread-safe."""

    def __init__(self, ray: Any) -> None:
        self.node_types = _node_types(ray)
        self._wisher = Wisher(ray)
        self._asked: int | None = None
        self._asked_s = -1e9

    @property
    def brings_gpus(self) -> bool:
        return self.node_types is None or any(node.gpus for node in self.node_types)

    def promises(self, need: Need) -> bool:
        """Whether a node may come that holds a slot."""
        if self.node_types is None:
            return True
        return any(capacity(node, need) for node in self.node_types)

    def ask_for(self, need: Need, slots: int) -> None:
        """Room for so many slots in all, those that are there included. Cheap when called often."""
        slots, since_s = min(slots, MOST_SLOTS), time.monotonic() - self._asked_s
        if since_s < ASK_EVERY_S or (slots == self._asked and since_s < SAY_EVERY_S):
            return
        self._asked_s = time.monotonic()
        with contextlib.suppress(Exception):  # it is said again
            self._wisher.hold(_bundle(need), slots)
            self._asked = slots

    def want_no_more(self, need: Need) -> None:
        with contextlib.suppress(Exception):  # what is left of the wish ends by itself
            self._wisher.drop(_bundle(need))


def _bundle(need: Need) -> dict[str, float]:
    return {"CPU": need.cpus} | ({"GPU": need.gpus} if need.gpus else {})


def _node_types(ray: Any) -> list[Node] | None:
    monitors = list(_monitors(ray.get_runtime_context().gcs_address))
    if not monitors and os.environ.get(_IN_KUBERAY) == "1":
        return None
    out: list[Node] = []
    for config in monitors:
        with contextlib.suppress(OSError, ValueError, AttributeError, yaml.YAMLError):
            raw = yaml.safe_load(Path(config).read_text())
            for name, kind in raw["available_node_types"].items():
                have = kind.get("resources") or {}
                if name != raw.get("head_node_type") and kind.get("max_workers", 0) > 0:
                    cpus, gpus = float(have.get("CPU", 0)), float(have.get("GPU", 0))
                    out.append(Node(id=name, host=name, cpus=cpus, gpus=gpus))
    return out


def _monitors(gcs_address: str) -> Iterator[str]:
    """The configurations ("" for none) of this cluster's autoscalers on this host, from their
    command lines: Ray tells them to nobody. The driver runs on the head, and so do they."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            ours = f"--gcs-address={gcs_address}" in words
            if ours and any(word.endswith("/monitor.py") for word in words):
                yield next((w.removeprefix(_CONFIG) for w in words if w.startswith(_CONFIG)), "")
