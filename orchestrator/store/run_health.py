"""What went wrong in the last run, for `status`, the dashboard, and whoever asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.workers.contract import FailureKind


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """Its attempts are used up: it does not run until the next `run` or `retry`."""

    key: str
    kind: str
    message: str  #: the last failure's
    advice: str


@dataclass(frozen=True, kw_only=True)
class RunHealth:
    """Since the last run began."""

    failures: Mapping[str, int] = field(
        default_factory=dict
    )  #: attempts by class, retried ones too
    failed: tuple[FailedTask, ...] = ()
    blocked: int = 0  #: tasks that rest on a failed one
    #: Node -> what the driver said of it; without exclusions that are over.
    excluded: Mapping[str, str] = field(default_factory=dict)
    waiting: str = ""  #: why nothing can run for now; "" where something can

    @classmethod
    def of(cls, history: RunHistory, now_s: float, *, alive: bool = True) -> RunHealth:
        """`now_s`: seconds since the epoch. `alive`: a driver runs; without one nothing waits."""
        failed = []
        for key, kind in history.given_up.items():
            last = history.last_attempt(key)
            message = last.message if last is not None else ""
            failed.append(FailedTask(key=key, kind=kind, message=message, advice=advice(kind)))
        excluded = {
            node: text for node, (until_s, text) in history.excluded.items() if until_s > now_s
        }
        return cls(
            failures=dict(history.failures),
            failed=tuple(failed),
            blocked=len(history.blocked),
            excluded=excluded,
            waiting=history.waiting if alive else "",
        )

    def to_json(self) -> dict[str, Any]:
        """As `status --json` has it."""
        return {
            "failures": dict(self.failures),
            "failed": tuple(asdict(one) for one in self.failed),
            "blocked": self.blocked,
            "fenced": dict(self.excluded),
            "waiting": self.waiting,
        }

    def lines(self) -> list[str]:
        """For people; none where all is well."""
        out = []
        if self.failures:
            parts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.failures.items()))
            out.append(f"failed attempts, all classes: {parts}")
        if self.failed:
            rest = f"; blocked by them: {self.blocked}" if self.blocked else ""
            out.append(f"failed tasks: {len(self.failed)}{rest}")
        out += self.excluded.values()
        if self.waiting:
            out.append(self.waiting)
        return out


def advice(kind: str) -> str:
    """What a person may do about a class of failure; "" for one that this version has not."""
    return POLICIES[FailureKind(kind)].advice if kind in set(FailureKind) else ""
