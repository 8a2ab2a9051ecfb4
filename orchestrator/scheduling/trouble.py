"""What went wrong in the last run, from the journal: for `status`, and for whoever asks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.workers.contract import FailureKind


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A task that was given up: nothing of it runs until the next `run` or `retry`."""

    key: str
    kind: str
    message: str  #: the last failure's
    advice: str


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Since the last run began."""

    failures: Mapping[str, int]  #: failed attempts by class, retried ones included
    quarantined: tuple[Quarantined, ...]
    blocked: int  #: tasks that rest on a quarantined one
    fenced: Mapping[str, str]  #: node -> what was said as it was fenced off; over terms are out
    waiting: str  #: why nothing can run for now; "" where something can


def find_trouble(entries: Iterable[Mapping[str, Any]], now_s: float) -> Trouble:
    """`entries`: the journal's, oldest first; `now_s`: seconds since the epoch."""
    failures: Counter[str] = Counter()
    quarantined: dict[str, Quarantined] = {}
    messages: dict[str, str] = {}
    blocked: set[str] = set()
    fenced: dict[str, tuple[float, str]] = {}
    waiting = ""
    for entry in entries:
        key, kind = str(entry.get("key", "")), str(entry.get("kind", ""))
        match entry.get("event"):
            case "run":
                if int(entry.get("number", 1)) == 1:  # a later pass of the same run keeps these
                    failures.clear()
                    fenced.clear()
                quarantined.clear()
                blocked.clear()
                waiting = ""
            case "failed":
                failures[kind] += 1
                messages[key] = str(entry.get("message", ""))
            case "given-up":
                quarantined[key] = Quarantined(
                    key=key, kind=kind, message=messages.get(key, ""), advice=advice(kind)
                )
            case "blocked":
                blocked.add(key)
            case "reopened":
                quarantined.pop(key, None)
                blocked.discard(key)
            case "start" | "done":
                waiting = ""
            case "notice" if kind == "node-fenced":
                until_s = float(entry.get("at", 0)) + float(entry.get("for_s", 0))
                fenced[str(entry.get("node"))] = (until_s, str(entry.get("text", "")))
            case "notice" if kind == "no-room":
                waiting = str(entry.get("text", ""))
    return Trouble(
        failures=dict(failures),
        quarantined=tuple(quarantined.values()),
        blocked=len(blocked),
        fenced={node: text for node, (until_s, text) in fenced.items() if until_s > now_s},
        waiting=waiting,
    )


def advice(kind: str) -> str:
    """What a person may do about a class of failure; "" for one that this version has not."""
    return POLICIES[FailureKind(kind)].advice if kind in set(FailureKind) else ""


def lines(trouble: Trouble) -> list[str]:
    """For people; none where all is well."""
    out = []
    if trouble.failures:
        parts = ", ".join(f"{count} {kind}" for kind, count in sorted(trouble.failures.items()))
        out.append(f"failed attempts, all classes: {parts}")
    if trouble.quarantined:
        rest = f"; {trouble.blocked} tasks that rest on them are blocked" if trouble.blocked else ""
        out.append(f"{len(trouble.quarantined)} tasks quarantined{rest}")
    out += trouble.fenced.values()
    if trouble.waiting:
        out.append(trouble.waiting)
    return out
