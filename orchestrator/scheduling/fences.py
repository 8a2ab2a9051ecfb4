"""Nodes that fail task after task get no more for a while. Pure; time comes as an argument.

A node is fenced off after LIMIT failures in a row, of at least two tasks, while another node
succeeded meanwhile: where nothing succeeds anywhere it is not the node. Its term over, it is on
probation: the next failure fences it off again, for twice as long; a success clears it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.workers.contract import FailureKind

LIMIT = 4
TERM_S = 600.0
MAX_TERM_S = 6 * 3600.0


@dataclass(kw_only=True)
class _Record:
    failures: int = 0  #: in a row
    tasks: set[str] = field(default_factory=set)  #: that they were of
    since_s: float = 0.0  #: the first of them
    until_s: float = 0.0  #: fenced off until then
    term_s: float = TERM_S
    probation: bool = False


class Fences:
    """Not thread-safe; the engine owns it."""

    def __init__(self, *, limit: int = LIMIT, term_s: float = TERM_S) -> None:
        self._limit = limit
        self._term_s = term_s
        self._records: dict[str, _Record] = {}
        self._succeeded_s: dict[str, float] = {}  #: node -> its last success

    def succeeded(self, node: str, now_s: float) -> None:
        self._succeeded_s[node] = now_s
        self._records.pop(node, None)

    def failed(self, node: str, task: str, kind: FailureKind, now_s: float) -> str | None:
        """Note a failed attempt. Returns the reason where the node is fenced off by it."""
        if POLICIES[kind].blameless:
            return None
        record = self._records.setdefault(node, _Record(term_s=self._term_s))
        if not record.failures:
            record.since_s = now_s
        record.failures += 1
        record.tasks.add(task)
        elsewhere = max((s for n, s in self._succeeded_s.items() if n != node), default=-1e18)
        if now_s < record.until_s or elsewhere < record.since_s:
            return None
        if record.probation or (record.failures >= self._limit and len(record.tasks) > 1):
            return self._close(record, now_s, f"{record.failures} failures in a row")
        return None

    def exclude(self, node: str, now_s: float) -> None:
        """Fence a node off for another reason than failed tasks."""
        self._close(self._records.setdefault(node, _Record(term_s=self._term_s)), now_s, "")

    def is_fenced(self, node: str, now_s: float) -> bool:
        record = self._records.get(node)
        return record is not None and now_s < record.until_s

    def term_s(self, node: str, now_s: float) -> float:
        """Seconds left of its term."""
        record = self._records.get(node)
        return max(0.0, record.until_s - now_s) if record else 0.0

    def _close(self, record: _Record, now_s: float, reason: str) -> str:
        record.until_s = now_s + record.term_s
        record.term_s = min(record.term_s * 2, MAX_TERM_S)
        record.failures = 0
        record.tasks.clear()
        record.probation = True
        return reason
