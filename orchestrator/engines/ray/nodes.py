"""The cluster's nodes as Ray sees them: which are alive, and which are draining."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from prunegrid.orchestrator.engines.engine import Notice
from prunegrid.orchestrator.engines.ray.node_resources import Node
from prunegrid.orchestrator.engines.ray.start import EngineError

LOOK_EVERY_S = 1.0
ANSWER_S = 3.0  #: the GCS answers within that time, or is silent
#: Ray ends the driver's process 60 s after it lost the GCS: the run stops in order before that.
SILENCE_S = 40.0


class Nodes:
    """A view of the cluster that is at most LOOK_EVERY_S old. Not thread-safe."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._looked_s = -1e9
        self._known: dict[str, Node] = {}
        self._first = True
        self._silent_s: float | None = None  #: since when the GCS does not answer

    @property
    def alive(self) -> dict[str, Node]:
        """By id, as last seen."""
        return self._known

    @property
    def is_silent(self) -> bool:
        """The GCS did not answer the last look: what asks it would wait."""
        return self._silent_s is not None

    def look(self, *, anew: bool = False) -> list[Notice]:
        """Which nodes joined, left, or began to drain since the last look. Cheap when called often,
        unless `anew`. Raises EngineError where the GCS is silent for SILENCE_S."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S and (self.is_silent or not anew):
            return []
        infos = self._infos()
        self._looked_s = time.monotonic()
        if infos is None:
            return self._note_silence(now_s)
        self._check_own(infos)
        draining = self._draining()
        seen = {
            info.node_id.hex(): node_of(info, draining=info.node_id.hex() in draining)
            for info in infos
            if _is_alive(info)
        }
        before, self._known = self._known, seen
        first, self._first = self._first, False
        notices = [] if first else list(_changes(before, seen))
        if self.is_silent:
            self._silent_s = None
            text = "the Ray cluster answers again"
            notices.append(Notice(kind="node-joined", node="", text=text))
        return notices

    def _note_silence(self, now_s: float) -> list[Notice]:
        if self._silent_s is not None:
            if time.monotonic() - self._silent_s >= SILENCE_S:
                raise EngineError(
                    f"the Ray cluster has not answered for {SILENCE_S:.0f} s: see whether its head "
                    "node lives; once it does, the same command resumes"
                )
            return []
        self._silent_s = now_s
        text = (
            f"the Ray cluster does not answer (its GCS, on the head node): waiting {SILENCE_S:.0f} "
            "s for it; what runs goes on"
        )
        return [Notice(kind="no-room", node="", text=text)]

    def _check_own(self, infos: list[Any]) -> None:
        here = self._ray.get_runtime_context().get_node_id()
        if any(info.node_id.hex() == here and not _is_alive(info) for info in infos):
            raise EngineError(
                "the Ray node that this driver uses is dead (its raylet has ended): start it "
                "again, then the same command resumes"
            )

    def is_gone(self, node: str) -> bool:
        """Asks Ray anew: it has only said that an actor there does not answer."""
        self._looked_s = -1e9
        infos = self._infos() or ()
        return any(info.node_id.hex() == node and not _is_alive(info) for info in infos)

    def answers(self) -> bool:
        """Whether the GCS does, now."""
        return self._infos() is not None

    def _infos(self) -> list[Any] | None:
        """None where the GCS does not answer."""
        try:
            return node_infos(self._ray)
        except self._ray.exceptions.RpcError:
            return None

    def _draining(self) -> dict[str, int]:
        """Ids of nodes with a drain notice. Ray has no public call for it; without it a node is
        lost without warning."""
        with contextlib.suppress(Exception):
            found: dict[str, int] = self._ray._private.state.state.get_draining_nodes()
            return found
        return {}


def node_infos(ray: Any) -> list[Any]:
    """What the GCS knows of each node, dead ones included. `ray.nodes()` is the same, but waits
    without limit. Raises RpcError after ANSWER_S."""
    return list(_gcs(ray).get_all_node_info(timeout=ANSWER_S).values())


def _gcs(ray: Any) -> Any:
    return ray._private.worker.global_worker.gcs_client


def _is_alive(info: Any) -> bool:
    return bool(info.state == info.ALIVE)


def node_of(info: Any, *, draining: bool = False) -> Node:
    """From one of `node_infos`."""
    have = info.resources_total
    return Node(
        id=info.node_id.hex(),
        host=info.node_manager_hostname,
        cpus=have.get("CPU", 0.0),
        gpus=have.get("GPU", 0.0),
        draining=draining,
    )


def _changes(before: dict[str, Node], after: dict[str, Node]) -> list[Notice]:
    out = []
    for name, node in after.items():
        if name not in before:
            text = f"node {node.label} joined: {node.cpus:g} CPU, {node.gpus:g} GPU"
            out.append(Notice(kind="node-joined", node=node.label, text=text))
        if node.draining and not (name in before and before[name].draining):
            text = f"node {node.label} is draining: its tasks save their state and move"
            out.append(Notice(kind="node-draining", node=node.label, text=text))
    for name, node in before.items():
        if name not in after:
            text = f"node {node.label} is gone"
            out.append(Notice(kind="node-left", node=node.label, text=text))
    return out
