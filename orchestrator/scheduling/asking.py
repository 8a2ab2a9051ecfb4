"""How many slots to ask an autoscaler for. Pure: what it granted and refused in, a number out.

Ray's autoscaler brings nothing at all for a request that it can't fulfil whole, and a grid has
nearly always more tasks than a cluster may have slots. So the most that it grants is asked for:
known from its node types, or else found by halves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prunegrid.orchestrator.scheduling.room import Need, Node, capacity

FORGET_S = 600.0  #: a refusal holds so long; the cluster's limits may be raised meanwhile


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """`node`: as if one were there; `most`: how many there may be."""

    node: Node
    most: int


def most_slots(types: Iterable[NodeType], need: Need, workers: int | None) -> int:
    """Slots on all nodes that may come, `workers` at most in all (None: no such limit). An upper
    bound: which types the autoscaler takes is its own affair."""
    left, slots = workers, 0
    for each in sorted(types, key=lambda each: -capacity(each.node, need)):
        count = each.most if left is None else min(each.most, left)
        left = None if left is None else left - count
        slots += count * capacity(each.node, need)
    return slots


class Asking:
    """`bound`: more is not worth asking for."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._granted = 0
        self._refused: int | None = None  #: the smallest such request
        self._refused_s = 0.0

    def ask(self, wanted: int, held: int, now_s: float) -> int:
        """What to ask for in all, where `held` slots are there. Never less than those, unless
        fewer are wanted."""
        if self._refused is not None and now_s - self._refused_s > FORGET_S:
            self._refused, self._granted = None, 0
        wanted = min(wanted, self._bound)
        if self._refused is None or wanted < self._refused:
            return wanted
        granted = max(self._granted, min(held, self._refused - 1))
        return granted + (self._refused - granted) // 2

    def granted(self, asked: int) -> None:
        self._granted = max(self._granted, asked)

    def refused(self, asked: int, now_s: float) -> None:
        if self._granted >= asked:
            self._granted = 0
        if self._refused is None or asked < self._refused:
            self._refused, self._refused_s = asked, now_s
