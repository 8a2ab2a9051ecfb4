"""The cluster's nodes as Ray sees them: which are alive, and which are draining."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from prunegrid.orchestrator.engines.engine import Notice
from prunegrid.orchestrator.engines.ray.node_resources import Node

LOOK_EVERY_S = 1.0


class Nodes:
    """A view of the cluster that is at most LOOK_EVERY_S old. Not thread-safe."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._looked_s = -1e9
        self._known: dict[str, Node] = {}
        self._first = True

    @property
    def alive(self) -> dict[str, Node]:
        """By id, as last seen."""
        return self._known

    def look(self, *, anew: bool = False) -> list[Notice]:
        """Which nodes joined, left, or began to drain since the last look. Cheap when called often,
        unless `anew`."""
        if not anew and time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return []
        self._looked_s = time.monotonic()
        draining = self._draining()
        seen = {}
        for entry in self._ray.nodes():
            if entry["Alive"]:
                name = entry["NodeID"]
                seen[name] = node_of(entry, draining=name in draining)
        before, self._known = self._known, seen
        first, self._first = self._first, False
        return [] if first else list(_changes(before, seen))

    def is_gone(self, node: str) -> bool:
        """Asks Ray anew: it has only said that an actor there does not answer."""
        self._looked_s = -1e9
        return any(e["NodeID"] == node and not e["Alive"] for e in self._ray.nodes())

    def _draining(self) -> dict[str, int]:
        """Ids of nodes with a drain notice. Ray has no public call for it; without it a node is
        lost without warning."""
        with contextlib.suppress(Exception):
            found: dict[str, int] = self._ray._private.state.state.get_draining_nodes()
            return found
        return {}


def node_of(entry: Mapping[str, Any], *, draining: bool = False) -> Node:
    """From an entry of `ray.nodes()`."""
    have = entry["Resources"]
    return Node(
        id=entry["NodeID"],
        host=entry["NodeManagerHostname"],
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
