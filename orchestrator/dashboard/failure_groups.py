"""`api/failures.json`: failed attempts, similar ones as a group."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.plan.descriptions import short
from prunegrid.orchestrator.store.failure_records import FailureRecord, read_failures
from prunegrid.orchestrator.store.history import AttemptRecord
from prunegrid.orchestrator.store.run_health import advice
from prunegrid.workers.contract import Task
from prunegrid.workers.files import Files, StorageError

GROUPS = 25  #: a page
TASKS = 100  #: of a group
TAIL_CHARACTERS = 4000
_MOST_ATTEMPTS = 20

#: What may differ between two failures of one cause, the most specific first.
_VARIES = (
    (re.compile(r"\b(train|prune|attack)-[0-9a-f]{6,}"), "<task>"),
    (re.compile(r"(?<![\w.])(/[\w.\-]+){2,}"), "<path>"),
    (re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b"), "<id>"),
    (re.compile(r"(?<!\w)\d+(\.\d+)?(e[+-]?\d+)?"), "<n>"),  # names keep their digits
)


def signature(kind: str, message: str) -> str:
    """`bug: ValueError: shapes (<n>, <n>) differ`: one line, equal for failures of one cause."""
    line = message.strip().split("\n", 1)[0][:300]
    for pattern, word in _VARIES:
        line = pattern.sub(word, line)
    return f"{kind or 'failed'}: {line}" if line else kind or "failed"


def failures_payload(
    attempts: Sequence[AttemptRecord],
    snapshot: Snapshot,
    *,
    page: int,
    kind: str | None = None,
    host: str | None = None,
    traceback_of: Callable[[str], str],
    retry: str,
) -> dict[str, Any]:
    """Groups with tasks that have no result yet come first, then the latest. `attempts`: all of
    the tasks that the filter lets through; those of tasks that are no longer in the grid are left
    out: nothing tries them again. `kind`, `host`: only groups of these; "by_class" and
    "by_host" count all. `traceback_of`: of a task's last failed attempt. `retry`: the command that
    tries tasks again, without its arguments."""
    planned = snapshot.index.plan.tasks if snapshot.index else {}
    attempts = [one for one in attempts if one.key in planned]
    attempt_counts = Counter(one.key for one in attempts)
    failed = [one for one in attempts if one.outcome == "failed"]
    by_class = Counter(bar.kind or "failed" for bar in failed)
    by_host = Counter(host_of(bar.worker) for bar in failed)
    if kind:
        failed = [bar for bar in failed if (bar.kind or "failed") == kind]
    if host:
        failed = [bar for bar in failed if host_of(bar.worker) == host]
    alike: dict[str, list[AttemptRecord]] = defaultdict(list)
    for bar in failed:
        alike[signature(bar.kind, bar.message)].append(bar)
    open_tasks = {
        name: len({b.key for b in own if snapshot.state_of(b.key) != "done"})
        for name, own in alike.items()
    }
    order = sorted(
        alike, key=lambda name: (open_tasks[name] > 0, _last_s(alike[name])), reverse=True
    )
    shown = order[page * GROUPS : (page + 1) * GROUPS]
    return {
        "groups": [
            {
                **_group(name, alike[name], snapshot, planned, attempt_counts, open_tasks[name]),
                "traceback_tail": traceback_of(_newest(alike[name]).key)[-TAIL_CHARACTERS:],
                "retry": " ".join([retry, *_tasks(alike[name], snapshot)[: open_tasks[name]][:20]]),
            }
            for name in shown
        ],
        "page": page,
        "pages": -(-len(order) // GROUPS),
        "attempts": len(failed),
        "by_class": dict(by_class.most_common()),
        "by_host": dict(by_host.most_common(TASKS)),
    }


def recorded_failures(files: Files, key: str) -> dict[int, FailureRecord]:
    """By attempt of a task, oldest first; empty where the store can't be read."""
    try:
        return {one.attempt: one for one in read_failures(files, key, last=_MOST_ATTEMPTS)}
    except StorageError:
        return {}


def host_of(worker: str) -> str:
    return worker.partition("/")[0] or "unknown"


def _newest(bars: Sequence[AttemptRecord]) -> AttemptRecord:
    return max(bars, key=lambda bar: bar.end_s or 0.0)


def _last_s(bars: Sequence[AttemptRecord]) -> float:
    return _newest(bars).end_s or 0.0


def _tasks(bars: Sequence[AttemptRecord], snapshot: Snapshot) -> list[str]:
    """Each task once: first those without a result, then the latest."""
    latest = sorted(bars, key=lambda bar: bar.end_s or 0.0, reverse=True)
    keys = list(dict.fromkeys(bar.key for bar in latest))
    return sorted(keys, key=lambda key: snapshot.state_of(key) == "done")


def _group(
    name: str,
    bars: Sequence[AttemptRecord],
    snapshot: Snapshot,
    planned: Mapping[str, Task],
    attempt_counts: Mapping[str, int],
    open_tasks: int,
) -> dict[str, Any]:
    keys = _tasks(bars, snapshot)
    latest = _newest(bars)
    return {
        "signature": name,
        "class": latest.kind or "failed",
        "advice": advice(latest.kind),
        "message": latest.message[:TAIL_CHARACTERS],
        "count": len(bars),
        "open": open_tasks,
        "first_s": min(bar.end_s or 0.0 for bar in bars),
        "last_s": _last_s(bars),
        "hosts": dict(Counter(host_of(bar.worker) for bar in bars).most_common(TASKS)),
        "tasks": [
            {
                "key": key,
                "name": short(planned[key]),
                "attempts": attempt_counts[key],
                "state": snapshot.state_of(key),
            }
            for key in keys[:TASKS]
        ],
        "more": max(0, len(keys) - TASKS),
    }
