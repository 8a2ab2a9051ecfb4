"""What a store holds when a run begins: what is done, what earlier runs measured and tried."""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prunegrid.orchestrator.errors import StoreError, TornError
from prunegrid.orchestrator.grid.grid import cell_id, model_id
from prunegrid.orchestrator.plan.dag import Plan, parent_of
from prunegrid.orchestrator.plan.estimates import Durations
from prunegrid.orchestrator.store.forecast_inputs import model_here
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.adversarials import read_adversarials
from prunegrid.workers.artifacts import read_weights, weights_sha256
from prunegrid.workers.contract import TransferTask
from prunegrid.workers.files import StorageError


@dataclass(frozen=True, kw_only=True)
class StoreScan:
    done: set[str]  #: planned tasks with a whole result
    finished: set[str]  #: as `Store.finished` has it
    durations: Durations
    attempts: dict[str, int]  #: task -> the number of its last attempt


def scan_store(plan: Plan, store: Store, say: Callable[[str], None]) -> StoreScan:
    """Moves torn results aside, and says so. Raises StoreError."""
    for path in store.set_torn_aside(_rows_on(plan)):
        say(f"torn: {path} was not whole; moved to torn/, it is made anew")
    finished = store.finished()
    durations = Durations(model_here(plan))
    history = read_history(store)
    history.learn(durations, plan.tasks)
    return StoreScan(
        done=plan.done(finished),
        finished=finished,
        durations=durations,
        attempts={key: history.attempt_count(key) for key in plan.tasks if key in history.attempts},
    )


def _rows_on(plan: Plan) -> Callable[[str], list[str]]:
    """A task to the paths of the rows that rest on it."""

    @functools.cache
    def by_task() -> dict[str, list[str]]:
        out = defaultdict(list)
        for model in plan.models:
            out[model.task_key].append(layout.model_row(model_id(model.place, model.task_key)))
        for cell in plan.cells:
            path = layout.cell_row(cell_id(cell.place, cell.task_keys))
            for key in cell.task_keys:
                out[key].append(path)
        for transfer in plan.transfers:
            out[transfer.task_key].append(layout.transfer_row(transfer.name))
        return out

    return lambda key: by_task().get(key, [])


def set_torn_parents_aside(
    plan: Plan, store: Store, children: Iterable[str], say: Callable[[str], None]
) -> int:
    """Tasks said that what they rest on is torn: look at it whole, and where they are right have
    it made anew. Returns how many parents were set aside. Raises StoreError."""
    children = list(children)
    parents = {parent_of(plan.tasks[child]) for child in children} & set(plan.tasks)
    rows_on = _rows_on(plan)
    count = 0
    for parent in sorted(p for p in parents if p is not None):
        try:
            record = store.model_record(parent)
            found = weights_sha256(read_weights(store.files, parent))
            torn = found != record.result.weights_sha256
        except StorageError as error:
            raise StoreError(str(error)) from error
        except (TornError, FileNotFoundError, ValueError):
            torn = True
        if torn:
            with contextlib.suppress(StoreError):  # its record is gone: it is not done anyway
                store.set_aside(parent, rows_on(parent))
            say(f"torn: the weights of {parent} are not those of its record; it is made anew")
            count += 1
    sources = {
        key
        for child in children
        if isinstance(task := plan.tasks[child], TransferTask)
        for key in task.attack_keys
    }
    for key in sorted(sources):
        path = layout.all_adversarials(key)
        try:
            read_adversarials(store.files.read(path), key)
        except StorageError as error:
            raise StoreError(str(error)) from error
        except FileNotFoundError:
            count += 1
        except ValueError as error:
            store.set_aside(layout.adversarials_name(key))
            say(f"torn: {path}: {error}; it is made anew")
            count += 1
    return count
