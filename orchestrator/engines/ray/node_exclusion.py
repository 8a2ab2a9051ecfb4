"""Nodes that fail task after task get none for a while. Pure; time comes as an argument.

A node is excluded after LIMIT failures in a row, of at least two tasks, if another node succeeded
since the first of them: where every node fails, the node is not the cause. When its term is over
it is on probation: the next failure excludes it again, for twice as long. A success clears it.
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
    tasks: set[str] = field(default_factory=set)  #: that failed
    since_s: float = 0.0  #: the first of them
    until_s: float = 0.0  #: excluded until then
    term_s: float = TERM_S
    probation: bool = False


class NodeExclusion:
    """Not thread-safe; the worker pool owns it."""

    def __init__(self, *, limit: int = LIMIT, term_s: float = TERM_S) -> None:
        self._limit = limit
        self._term_s = term_s
        self._records: dict[str, _Record] = {}
        self._succeeded_s: dict[str, float] = {}  #: node -> its last success

    def succeeded(self, node: str, now_s: float) -> None:
        self._succeeded_s[node] = now_s
        self._records.pop(node, None)

    def failed(self, node: str, task: str, kind: FailureKind, now_s: float) -> str | None:
        """Note a failed attempt. Returns the reason if it excludes the node."""
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
            reason = f"{record.failures} failures in a row"
            self._exclude(record, now_s)
            return reason
        return None

    def exclude(self, node: str, now_s: float) -> None:
        """For another reason than failed tasks."""
        self._exclude(self._records.setdefault(node, _Record(term_s=self._term_s)), now_s)

    def is_excluded(self, node: str, now_s: float) -> bool:
        record = self._records.get(node)
        return record is not None and now_s < record.until_s

    def term_s(self, node: str, now_s: float) -> float:
        """Seconds left of its term."""
        record = self._records.get(node)
        return max(0.0, record.until_s - now_s) if record else 0.0

    def _exclude(self, record: _Record, now_s: float) -> None:
        record.until_s = now_s + record.term_s
        record.term_s = min(record.term_s * 2, MAX_TERM_S)
        record.failures = 0
        record.tasks.clear()
        record.probation = True
