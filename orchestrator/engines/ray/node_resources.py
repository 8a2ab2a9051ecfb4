"""What nodes offer, what a slot needs, how many slots fit, and how many to request. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from prunegrid.orchestrator.grid.grid import Resources

FORGET_S = 600.0  #: a refusal counts for that long: the cluster's limits may be raised meanwhile
_EPSILON = 1e-9  #: Ray counts in units of 1e-4; three times 0.3333 is one GPU


@dataclass(frozen=True, kw_only=True)
class Node:
    id: str
    host: str
    cpus: float
    gpus: float
    draining: bool = False  #: it will go away: no new work

    @property
    def label(self) -> str:
        """Host and the first letters of Ray's id: two nodes may share a host."""
        return f"{self.host}/{self.id[:8]}"


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one slot takes."""

    cpus: float
    gpus: float

    def times(self, share: int) -> Need:
        """The need of a slot as large as `share` slots. A part of a GPU grows up to a whole one;
        whole GPUs stay as many, since a task computes on one device."""
        gpus = min(self.gpus * share, 1.0) if self.gpus < 1 else self.gpus
        return Need(cpus=self.cpus * share, gpus=gpus)

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")


def need_of(resources: Resources, *, gpus: bool) -> Need:
    """`gpus`: False if there is none: tasks then take CPUs alone."""
    return Need(cpus=float(resources.cpus_per_task), gpus=resources.gpus_per_task if gpus else 0.0)


def capacity(node: Node, need: Need) -> int:
    """How many slots a node can hold. A part of a GPU is a part of one GPU."""
    fits = math.floor(node.cpus / need.cpus + _EPSILON)
    if need.gpus >= 1:
        fits = min(fits, math.floor(node.gpus / need.gpus + _EPSILON))
    elif need.gpus > 0:
        per_gpu = math.floor(1 / need.gpus + _EPSILON)
        fits = min(fits, math.floor(node.gpus + _EPSILON) * per_gpu)
    return fits


def largest_share(nodes: Iterable[Node], need: Need, wanted: int) -> int:
    """The largest share up to `wanted` that some node can hold. Beyond a whole GPU a larger share
    gains nothing."""
    nodes = list(nodes)
    best = 1
    for share in range(2, wanted + 1):
        if 0 < need.gpus < 1 and need.gpus * (share - 1) >= 1 - _EPSILON:
            break
        if any(capacity(node, need.times(share)) for node in nodes):
            best = share
    return best


def describe_shortage(nodes: Iterable[Node], need: Need, startable: Iterable[Node] = ()) -> str:
    """Why no slot fits on any node: the need, and what each node offers; `startable`: nodes that
    an autoscaler could start."""
    offers = _offers(nodes)
    if not offers:
        return f"a task needs {need}; the cluster has no node alive"
    text = f"no node can hold a task: it needs {need}, the nodes offer {offers}"
    if new := _offers(startable):
        text += f"; the autoscaler's, were they there, {new}"
    return text


def _offers(nodes: Iterable[Node]) -> str:
    offers = sorted({(node.cpus, node.gpus) for node in nodes}, reverse=True)
    each = "; ".join(f"{cpus:g} CPU and {gpus:g} GPU" for cpus, gpus in offers[:4])
    more = f" and {len(offers) - 4} other sizes" if len(offers) > 4 else ""
    return each + more


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
    """How many slots to request from an autoscaler: its answers in, a number out. Not thread-safe.

    Ray's autoscaler starts no node at all for a request that it can't satisfy completely, and a
    grid nearly always has more tasks than a cluster may have slots. So the request is the largest
    that the autoscaler grants: known from its node types, or else found by binary search.
    """

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
