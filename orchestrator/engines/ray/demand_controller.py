"""How many slots to request from an autoscaler. Pure: its answers in, a number out.

Ray's autoscaler starts no node at all for a request that it can't satisfy completely, and a grid
nearly always has more tasks than a cluster may have slots. So the request is the largest that the
autoscaler grants: known from its node types, or else found by binary search.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prunegrid.orchestrator.engines.ray.node_resources import Need, Node, capacity

FORGET_S = 600.0  #: a refusal counts for that long: the cluster's limits may be raised meanwhile


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """Nodes that an autoscaler may start."""

    node: Node  #: as if one were there
    most: int  #: how many there may be


def most_slots(types: Iterable[NodeType], need: Need, workers: int | None) -> int:
    """Slots on all nodes that may be started, at most `workers` in all (None: no such limit). An
    upper bound: the autoscaler chooses the types."""
    left, slots = workers, 0
    for each in sorted(types, key=lambda each: -capacity(each.node, need)):
        count = each.most if left is None else min(each.most, left)
        left = None if left is None else left - count
        slots += count * capacity(each.node, need)
    return slots


class DemandController:
    """Not thread-safe."""

    def __init__(self, bound: int) -> None:
        """`bound`: never request more."""
        self._bound = bound
        self._granted = 0
        self._refused: int | None = None  #: the smallest such request
        self._refused_s = 0.0

    def request(self, wanted: int, held: int, now_s: float) -> int:
        """The slots to request in all, including the `held` ones that exist. Never fewer than
        those, unless fewer are wanted."""
        if self._refused is not None and now_s - self._refused_s > FORGET_S:
            self._refused, self._granted = None, 0
        wanted = min(wanted, self._bound)
        if self._refused is None or wanted < self._refused:
            return wanted
        granted = max(self._granted, min(held, self._refused - 1))
        return granted + (self._refused - granted) // 2

    def granted(self, requested: int) -> None:
        self._granted = max(self._granted, requested)

    def refused(self, requested: int, now_s: float) -> None:
        if self._granted >= requested:
            self._granted = 0
        if self._refused is None or requested < self._refused:
            self._refused, self._refused_s = requested, now_s
