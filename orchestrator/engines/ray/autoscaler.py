"""Ray's autoscaler, where there is one: which nodes it could bring, and how many it is asked for.

Ray brings nodes for demand that it sees. Our tasks wait in the driver and our actors are bound to
nodes that are there, so nothing would ever be pending: the demand is told in so many words. It is
told only while slots are missing. An actor keeps its own node; the autoscaler, asked for as much as
there is, keeps nodes of its own choice, and the one that our last worker left may be among them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prunegrid.orchestrator.engines.ray.nodes import node_of
from prunegrid.orchestrator.engines.ray.wish import SAY_EVERY_S, Wisher
from prunegrid.orchestrator.scheduling.asking import Asking, NodeType, most_slots
from prunegrid.orchestrator.scheduling.room import Need, Node, capacity

ASK_EVERY_S = 1.0
SETTLED_S = 12.0  #: not refused within that time: granted. It looks every 5 s
MOST_SLOTS = 2000  #: each is a bundle that the autoscaler packs at every look
#: KubeRay's operator sets it in its pods, and runs its autoscaler beside the head, where Ray's own
#: process for it would be.
_IN_KUBERAY = "RAY_USAGE_STATS_KUBERAY_IN_USE"
_CONFIG = "--autoscaling-config="


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What an autoscaler may bring: `workers` nodes at most in all (None: no such limit)."""

    types: tuple[NodeType, ...]
    workers: int | None


class Autoscaler:
    """Not thread-safe."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._offer = _offer(ray)  #: None where an autoscaler runs that does not say
        self._wisher = Wisher(ray)
        self._asking: Asking | None = None
        self._asked = 0
        self._asked_s = self._said_s = self._looked_s = -1e9

    @property
    def node_types(self) -> Sequence[Node]:
        """Of nodes that may come, as if they were there."""
        return [each.node for each in self._offer.types] if self._offer else []

    @property
    def brings_gpus(self) -> bool:
        return self._offer is None or any(node.gpus for node in self.node_types)

    def promises(self, need: Need) -> bool:
        """Whether a node may come that holds a slot."""
        return self._offer is None or any(capacity(node, need) for node in self.node_types)

    def ask_for(self, need: Need, slots: int, *, held: int) -> None:
        """Room for so many slots in all, the `held` ones that are there included; 0 to ask for
        nothing. Cheap when called often."""
        now_s = time.monotonic()
        if now_s - self._looked_s < ASK_EVERY_S:
            return
        self._looked_s = now_s
        if self._asking is None:
            self._asking = Asking(self._bound(need))
        if self._asked and slots:
            self._hear(self._asking, now_s)
        slots = self._asking.ask(slots, held, now_s)
        if slots == self._asked and now_s - self._said_s < SAY_EVERY_S:
            return
        with contextlib.suppress(Exception):  # it is said again
            self._wisher.hold(_bundle(need), slots)
            self._asked_s = now_s if slots != self._asked else self._asked_s
            self._asked, self._said_s = slots, now_s

    def _bound(self, need: Need) -> int:
        if self._offer is None:
            return MOST_SLOTS
        coming = most_slots(self._offer.types, need, self._offer.workers)
        return min(MOST_SLOTS, coming + sum(capacity(node, need) for node in _head(self._ray)))

    def _hear(self, asking: Asking, now_s: float) -> None:
        """What became of the last request."""
        with contextlib.suppress(Exception):  # Ray has no public call for it
            if self._asked in _refused(self._ray):
                asking.refused(self._asked, now_s)
            elif now_s - self._asked_s > SETTLED_S:
                asking.granted(self._asked)

    def want_no_more(self, need: Need) -> None:
        with contextlib.suppress(Exception):  # what is left of the wish ends by itself
            self._wisher.drop(_bundle(need))


def _bundle(need: Need) -> dict[str, float]:
    return {"CPU": need.cpus} | ({"GPU": need.gpus} if need.gpus else {})


def _refused(ray: Any) -> list[int]:
    """The sizes of requests that the autoscaler says it can't fulfil."""
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

    client = ray._raylet.GcsClient(ray.get_runtime_context().gcs_address)
    reply = GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=2))
    refused = reply.autoscaling_state.infeasible_cluster_resource_constraints
    return [sum(bundle.count for bundle in each.resource_requests) for each in refused]


def _head(ray: Any) -> list[Node]:
    """The node of the driver, and of the autoscaler: no worker node, but it may hold slots."""
    here = ray.get_runtime_context().get_node_id()
    return [node_of(entry) for entry in ray.nodes() if entry["NodeID"] == here]


def _offer(ray: Any) -> Offer | None:
    monitors = list(_monitors(ray.get_runtime_context().gcs_address))
    if not monitors and os.environ.get(_IN_KUBERAY) == "1":
        return None
    types: list[NodeType] = []
    workers: list[int] = []
    for config in monitors:
        with contextlib.suppress(OSError, ValueError, AttributeError, yaml.YAMLError):
            raw = yaml.safe_load(Path(config).read_text())
            workers += [raw["max_workers"]] if "max_workers" in raw else []
            for name, kind in raw["available_node_types"].items():
                have, most = kind.get("resources") or {}, kind.get("max_workers", 0)
                if name != raw.get("head_node_type") and most > 0:
                    cpus, gpus = float(have.get("CPU", 0)), float(have.get("GPU", 0))
                    node = Node(id=name, host=name, cpus=cpus, gpus=gpus)
                    types.append(NodeType(node=node, most=most))
    return Offer(types=tuple(types), workers=min(workers, default=None))


def _monitors(gcs_address: str) -> Iterator[str]:
    """The configurations ("" for none) of this cluster's autoscalers on this host, from their
    command lines: Ray tells them to nobody. The driver runs on the head, and so do they."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            ours = f"--gcs-address={gcs_address}" in words
            if ours and any(word.endswith("/monitor.py") for word in words):
                yield next((w.removeprefix(_CONFIG) for w in words if w.startswith(_CONFIG)), "")
