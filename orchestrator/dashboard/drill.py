"""`api/cell.json`: one cell, model or task: why it is as it is, and who tried what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prunegrid.orchestrator.dashboard.failure_groups import (
    TAIL_CHARACTERS,
    host_of,
    recorded_failures,
)
from prunegrid.orchestrator.dashboard.heatmap import number
from prunegrid.orchestrator.dashboard.pictures import Sample, samples
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.grid.selection import UnknownNameError, one_name
from prunegrid.orchestrator.plan.dag import parent_of, parents_of
from prunegrid.orchestrator.plan.descriptions import describe
from prunegrid.orchestrator.plan.plan_index import STATES, PlanIndex
from prunegrid.orchestrator.store.failure_records import FailureRecord
from prunegrid.orchestrator.store.history import AttemptRecord, finite
from prunegrid.orchestrator.store.plan_progress import why_not_done
from prunegrid.workers import layout
from prunegrid.workers.contract import AttackTask, TransferTask
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files, StorageError

#: A longer history was not written by us.
_EPOCHS = 100_000
_SHORTEST_PREFIX = 3
#: Of a traceback, and of what a process printed.
_SHOWN_CHARACTERS = 4 * TAIL_CHARACTERS


def cell_payload(
    snapshot: Snapshot,
    attempts_of: Callable[[str], list[AttemptRecord]],
    files: Files,
    *,
    name: str,
    retry: str,
) -> dict[str, Any]:
    """`name`: a cell, model or task, or its first letters. `attempts_of`: a task's attempts,
    oldest first. `retry`: the command, without its arguments.

    Raises UnknownNameError, UsageError where several are meant.
    """
    index = snapshot.index
    if index is None:
        raise UnknownNameError("the store's plan can't be read")
    found = _find(index, name)
    place: dict[str, Any] = {}
    value, state = None, ""
    if found in index.cell_number:
        i = index.cell_number[found]
        cell = index.plan.cells[i]
        keys = cell.task_keys
        place = asdict(cell.place.model) | asdict(cell.place)
        del place["model"]
        value, state = number(snapshot.cell_value[i]), STATES[snapshot.cell_state[i]]
    elif found in index.model_number:
        i = index.model_number[found]
        keys = (index.plan.models[i].task_key,)
        place = asdict(index.plan.models[i].place)
        value, state = number(snapshot.model_value[i]), snapshot.state_of(keys[0]) or ""
    else:
        keys = (found,)
        state = snapshot.state_of(found) or ""
    chain = _with_ancestors(index, keys)
    failed = [key for key in chain if snapshot.state_of(key) == "failed"]
    unfinished = [key for key in keys if snapshot.state_of(key) != "done"]
    pictures = {key: some for key in keys if (some := _safely_samples(files, key))}
    pictured = next(iter(pictures), None)
    return {
        "id": found,
        "place": place,
        "state": state,
        "why": why(snapshot, keys, address=files.address),
        "value": value,
        "tasks": [_task(snapshot, attempts_of(key), files, key) for key in chain],
        "history": _history(files, index, keys[0]),
        "adversarials": len(pictures[pictured]) if pictured else 0,
        "adversarials_task": pictured,
        "adversarials_clean": pictured is not None and pictures[pictured][0].has_clean,
        "retry": f"{retry} {' '.join(failed or unfinished or keys)}",
    }


def why(snapshot: Snapshot, keys: Sequence[str], *, address: str) -> str:
    """Why a cell, model or task, which rests on these tasks, is as it is."""
    missing = [key for key in keys if snapshot.state_of(key) != "done"]
    text = why_not_done(snapshot, (missing or keys)[0], address=address)
    if missing and len(keys) > 1:
        return f"waits for {len(missing)} of {len(keys)} tasks; the first: {text}"
    return text


def _find(index: PlanIndex, name: str) -> str:
    names: tuple[Mapping[str, int], ...] = (index.cell_number, index.model_number, index.number)
    if any(name in known for known in names):
        return name
    of = "cell, model or task"
    if len(name) < _SHORTEST_PREFIX:
        raise UnknownNameError(f"{name!r} names no {of} of the store's grid")
    return one_name(name, [one for known in names for one in known], of=of)


def _with_ancestors(index: PlanIndex, keys: tuple[str, ...]) -> list[str]:
    """`keys`, then the first one's parent, and so on up to the dense network."""
    out = dict.fromkeys(keys)
    parent = parent_of(index.plan.tasks[keys[0]])
    while parent is not None and parent in index.number:
        out[parent] = None
        parent = parent_of(index.plan.tasks[parent])
    return list(out)


def _task(
    snapshot: Snapshot, attempts: list[AttemptRecord], files: Files, key: str
) -> dict[str, Any]:
    assert snapshot.index is not None
    task = snapshot.index.plan.tasks[key]
    failed = any(one.outcome == "failed" for one in attempts)
    records = recorded_failures(files, key) if failed else {}
    return {
        "key": key,
        "kind": task.kind.value,
        "state": snapshot.state_of(key),
        "name": describe(task),
        "attempts": [_attempt(one, records.get(one.number)) for one in attempts],
        "parents": list(parents_of(task)),
    }


def _attempt(one: AttemptRecord, record: FailureRecord | None) -> dict[str, Any]:
    shown = record if one.outcome == "failed" else None
    duration_s = None if one.end_s is None else round(one.end_s - one.start_s, 3)
    return {
        "number": one.number,
        "worker": one.worker,
        "host": host_of(one.worker) if one.worker else "",
        "started_s": round(one.start_s, 3),
        "duration_s": duration_s,
        "outcome": one.outcome,
        "class": one.kind,
        "message": one.message[:TAIL_CHARACTERS],
        "traceback": shown.traceback[-_SHOWN_CHARACTERS:] if shown else "",
        "log": shown.log[-_SHOWN_CHARACTERS:] if shown else "",
    }


def _history(files: Files, index: PlanIndex, key: str) -> dict[str, list[float | None]] | None:
    """By epoch, of the model or of the attacked one; None where it is missing or torn."""
    task = index.plan.tasks[key]
    model = task.parent_key if isinstance(task, AttackTask | TransferTask) else key
    try:
        raw = parse_json(files.read(layout.model_file(model, "history.json")))
    except (FileNotFoundError, StorageError, ValueError):
        return None
    if not isinstance(raw, list) or not all(isinstance(epoch, dict) for epoch in raw):
        return None
    names = {
        "loss": "train_loss",
        "val_loss": "validation_loss",
        "accuracy": "train_accuracy",
        "val_accuracy": "validation_accuracy",
        "learning_rate": "learning_rate",
    }
    epochs = raw[:_EPOCHS]
    out: dict[str, list[float | None]] = {"epoch": [i + 1 for i in range(len(epochs))]}
    for name, own in names.items():
        out[name] = [finite(epoch.get(own)) for epoch in epochs]  # diverged: NaN
    return out


def _safely_samples(files: Files, key: str) -> list[Sample]:
    try:
        return samples(files, key)
    except (StorageError, ValueError):
        return []
