"""`prunegrid verify`: every claim of a store, checked again.

Needs no TensorFlow: it checks files, keys, counts and ranges. Each finding has a name, so that a
script can count them.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from prunegrid.orchestrator.authors.authors import PREFIX as IMPORTED
from prunegrid.orchestrator.errors import PrunegridError, StoreError, TornError
from prunegrid.orchestrator.grid.grid import cell_id, model_id, place_of
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.plan.dag import Plan, parents_of
from prunegrid.orchestrator.store.journal import bad_lines, mend_journal
from prunegrid.orchestrator.store.merged import has_types_of, is_merged
from prunegrid.orchestrator.store.mixed_provenance import (
    COLUMNS,
    MixedValues,
    mixed_values,
    planned_rows,
)
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.rows import CELL_NEEDS, CELL_SCHEMA, MODEL_SCHEMA
from prunegrid.orchestrator.store.store import SCHEMAS, TASK_ROWS, Store
from prunegrid.orchestrator.store.transfer_rows import TRANSFER_NEEDS, TRANSFER_SCHEMA
from prunegrid.orchestrator.verify.attacked import image_findings
from prunegrid.orchestrator.verify.derived import (
    cell_row_findings,
    model_row_findings,
    transfer_row_findings,
)
from prunegrid.orchestrator.verify.imported import imported_findings
from prunegrid.orchestrator.verify.pruned import pruning_findings
from prunegrid.orchestrator.verify.store_finding import StoreFinding
from prunegrid.orchestrator.verify.transfer_checks import (
    PREDICTING,
    adversarial_findings,
    differing_predictions,
    shown_rows,
    spread,
    transfer_findings,
)
from prunegrid.workers import layout
from prunegrid.workers.adversarials import read_adversarials
from prunegrid.workers.child_process import ask_child
from prunegrid.workers.contract import PruneTask, Task, task_to_dict, user_code_of
from prunegrid.workers.image_rows import IMAGE_SCHEMA, SCHEMA_VERSION, ImageRows
from prunegrid.workers.records import ModelRecord
from prunegrid.workers.transfer_image_rows import TRANSFER_IMAGE_SCHEMA, TransferRows

#: A finding's name and message, of the file that is being checked.
Problem: TypeAlias = tuple[str, str]

#: Columns that are looked up in every row, even where it lacks them.
_ASKED = ("robust_accuracy", "task_key", "task_keys", "model_key", "eps", "rate", "seed")


_DERIVED = (layout.MODEL_ROWS, layout.CELL_ROWS, layout.TRANSFER_ROWS)
#: Transfers of which a few adversarials are predicted again.
TRANSFERS = 4


class Verifier:
    """One pass over a store; `findings` yields as it goes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._models: dict[str, ModelRecord] = {}
        self._images: dict[str, ImageRows] = {}
        self._transfers: dict[str, TransferRows] = {}
        self.notes: list[str] = []  #: what could not be checked, once all findings were had
        self._rows: dict[str, set[str]] = defaultdict(set)
        self._made: list[Mapping[str, object]] = []  #: rows, for `mixed`
        self.mixed: tuple[MixedValues, ...] = ()  #: once all findings were had

    def set_aside(self) -> list[str]:
        """Move what is doubted to `torn/`, so that the next run makes it anew: the paths. What is
        only missing is left to that run. The caller holds the lease. Raises StoreError."""
        tasks: set[str] = set()
        rows: set[str] = set()
        moved = []
        planned = _planned(self._store)
        for finding in self.findings():
            path = PurePosixPath(finding.where)
            folder = str(path.parent)
            if is_merged(finding.where):  # `run` sets it aside whole
                continue
            if finding.name == "torn-journal":
                mend_journal(self._store, finding.where)
                moved.append(finding.where)
            elif finding.name == "foreign-file" or folder in _DERIVED:
                rows.add(finding.where)
            elif folder == layout.ALL_ADVERSARIALS:
                tasks.add(layout.adversarials_name(path.stem))
            elif folder in TASK_ROWS or path.parts[0] == layout.MODELS:
                key = path.stem if folder in TASK_ROWS else path.parts[1]
                if finding.name != "parent-missing" or key not in planned:
                    tasks.add(key)
        for name in sorted(rows | tasks):
            with contextlib.suppress(TornError):
                (self._store.set_row_aside if name in rows else self._store.set_aside)(name)
                moved.append(name)
        return moved

    def findings(self) -> Iterator[StoreFinding]:
        for place in self._store.in_the_way():
            message = "a file stands where a folder is needed"
            yield StoreFinding(name="foreign-file", where=place, message=message)
        for folder in SCHEMAS:
            yield from self._check_folder(folder)
        for key in sorted(self._model_keys()):
            yield from _at(layout.model_record(key), self._check_model(key))
            if key in self._models:
                weights = self._check_weights(key, self._models[key])
                yield from _at(layout.model_file(key, "weights.npz"), weights)
        for key in self._names(layout.IMAGE_ROWS):
            yield from _at(layout.image_rows(key), self._check_images(key))
            yield from _at(layout.all_adversarials(key), self._check_adversarials(key))
        for key in self._names(layout.TRANSFER_IMAGE_ROWS):
            yield from _at(layout.transfer_image_rows(key), self._check_transfer(key))
        yield from self._predict_again()
        for folder, schema, check in (
            (layout.MODEL_ROWS, MODEL_SCHEMA, self._model_row),
            (layout.CELL_ROWS, CELL_SCHEMA, self._cell_row),
            (layout.TRANSFER_ROWS, TRANSFER_SCHEMA, self._transfer_row),
        ):
            for name in self._names(folder):
                path = f"{folder}/{name}.parquet"
                yield from _at(path, self._check_row(folder, name, schema, check))
        yield from self._check_curves()
        yield from self._check_journal()
        yield from imported_findings(self._store)
        yield from self._check_plan()

    def _names(self, folder: str) -> list[str]:
        """Of the rows that tasks made; imported ones rest on no task."""
        ids = self._store.row_ids(folder)
        return sorted(name for name in ids if not name.startswith(IMPORTED))

    def _check_folder(self, folder: str) -> Iterator[StoreFinding]:
        """What plain readers of a folder stumble over."""
        for info in sorted(self._store.files.list(folder), key=lambda info: info.path):
            if not info.path.endswith(".parquet"):
                message = "not a Parquet file; readers of the whole folder fail on it"
                yield StoreFinding(name="foreign-file", where=info.path, message=message)
            elif not info.size_bytes:
                yield StoreFinding(name="torn-file", where=info.path, message="it is empty")
            elif is_merged(info.path) and not self._store.is_readable(info):
                message = "it can't be read; the next run makes its rows anew"
                yield StoreFinding(name="torn-file", where=info.path, message=message)
        for name in sorted(self._store.twice(folder)):
            message = "its rows are in a merged file too; `prunegrid compact` merges them"
            where = f"{folder}/{name}.parquet"
            yield StoreFinding(name="doubled-row", where=where, message=message)

    # ------------------------------------------------------------------ tasks' results

    def _check_model(self, key: str) -> Iterator[Problem]:
        try:
            record = self._store.model_record(key)
        except StoreError as error:
            yield "torn-file", str(error)
            return
        self._models[key] = record
        if record.task.key != key:
            yield "key-mismatch", f"the file's task has the key {record.task.key}"
        for name in ("accuracy", "validation_accuracy"):
            value = getattr(record.result, name)
            if not (0 <= value <= 1 or record.result.unusable):
                yield "out-of-range", f"{name} {value} is not in [0, 1]"
        yield from self._check_parent(record.task)

    def _check_weights(self, key: str, record: ModelRecord) -> Iterator[Problem]:
        """What the weights' file holds against what the record says of it."""
        from prunegrid.workers.artifacts import read_masks, read_weights, weights_sha256

        try:
            weights = read_weights(self._store.files, key)
            masks = read_masks(self._store.files, key)
        except (FileNotFoundError, ValueError, KeyError) as error:
            yield "torn-file", f"not whole: {error}"
            return
        if weights_sha256(weights) != record.result.weights_sha256:
            yield "weights-changed", "not the SHA-256 recorded"
        for layer in record.result.layers:
            if not layer.prunable:
                continue
            of_layer = f"{layer.name}/kernel"
            mask = masks[layer.name]
            kernel = weights[of_layer if of_layer in weights else layer.name]
            if (left := int(mask.sum())) != layer.left:
                yield "count-mismatch", f"{layer.name}: {left} weights left, recorded {layer.left}"
            if alive := np.count_nonzero(kernel[~mask]):
                yield "pruned-weight-alive", f"{layer.name}: {alive} pruned weights not 0"
        if isinstance(record.task, PruneTask):
            parent = self._masks_of(record.task)
            layers = record.result.layers
            kinds = {k.name: k.kind or ("conv" if len(k.shape) == 4 else "dense") for k in layers}
            for where, message in pruning_findings(record.task, masks, kinds, parent):
                yield "not-pruned-as-claimed", f"{where}: {message}" if where else message

    def _masks_of(self, task: PruneTask) -> dict[str, np.ndarray] | None:
        """The parent's; None where they can't be read, which is a finding of its own."""
        from prunegrid.workers.artifacts import read_masks

        try:
            return read_masks(self._store.files, task.parent_key)
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def _check_parent(self, task: Task) -> Iterator[Problem]:
        for parent in parents_of(task):
            if parent in self._models or parent in self._images:
                continue
            if not self._store.files.exists(layout.model_record(parent)):
                yield "parent-missing", f"{parent} has no result"

    def _check_images(self, key: str) -> Iterator[Problem]:
        try:
            rows = self._store.image_rows(key)
        except StoreError as error:
            yield "torn-file", str(error)
            return
        if not has_types_of(rows.table, IMAGE_SCHEMA):
            yield "schema-mismatch", f"expected columns of schema {SCHEMA_VERSION}, got others"
            return
        # of a full grid the rest would be gigabytes
        needed = [name for name in ("image", *CELL_NEEDS) if name in rows.table.schema.names]
        self._images[key] = replace(rows, table=rows.table.select(needed))
        if rows.task.key != key:
            yield "key-mismatch", f"the file's task has the key {rows.task.key}"
        yield from self._check_parent(rows.task)
        yield from image_findings(rows)

    def _check_adversarials(self, key: str) -> Iterator[Problem]:
        """What an attack kept against what its rows say; it may have kept none."""
        rows = self._images.get(key)
        try:
            content = self._store.files.read(layout.all_adversarials(key))
            found = read_adversarials(content, key)
        except FileNotFoundError:
            return
        except ValueError as error:
            yield "torn-file", str(error)
            return
        if rows is not None:
            yield from adversarial_findings(rows, found)

    def _check_transfer(self, key: str) -> Iterator[Problem]:
        try:
            rows = self._store.transfer_rows(key)
        except StoreError as error:
            yield "torn-file", str(error)
            return
        if not has_types_of(rows.table, TRANSFER_IMAGE_SCHEMA):
            yield "schema-mismatch", f"expected columns of schema {SCHEMA_VERSION}, got others"
            return
        needed = ("image", "prediction", *TRANSFER_NEEDS)
        self._transfers[key] = replace(rows, table=rows.table.select(needed))
        if rows.task.key != key:
            yield "key-mismatch", f"the file's task has the key {rows.task.key}"
        yield from self._check_parent(rows.task)
        yield from transfer_findings(rows)

    def _predict_again(self) -> Iterator[StoreFinding]:
        """A few adversarials of a few transfers are shown to their targets once more."""
        cases = [again for again in map(self._case, spread(self._transfers, TRANSFERS)) if again]
        if not cases:
            return
        try:
            answers = ask_child(PREDICTING, {"store": self._store.address, "cases": cases})
        except ValueError as error:
            self.notes.append(f"no transfer was predicted again: {error}")
            return
        for case, answer in zip(cases, answers, strict=True):
            for message in differing_predictions(case["rows"], answer):
                where = layout.transfer_image_rows(str(case["key"]))
                yield StoreFinding(name="prediction-differs", where=where, message=message)

    def _case(self, key: str) -> dict[str, Any] | None:
        """What to ask of a transfer; None where nothing may be, or nothing was shown. A network or
        data set that is a user's function is not called for a store's sake."""
        rows = self._transfers[key]
        if user_code_of(replace(rows.task, attack=replace(rows.task.attack, own=None))):
            return None
        kept = map(layout.all_adversarials, rows.task.attack_keys)
        if not all(self._store.files.exists(path) for path in kept):
            return None  # to save room, they may be deleted
        shown = shown_rows(rows)
        return {"key": key, "task": task_to_dict(rows.task), "rows": shown} if shown else None

    def _model_keys(self) -> set[str]:
        paths = [info.path for info in self._store.files.list(layout.MODELS)]
        return {path.split("/")[1] for path in paths if path.endswith("/result.json")}

    # ------------------------------------------------------------------ derived rows

    def _check_row(
        self,
        folder: str,
        name: str,
        schema: pa.Schema,
        check: Callable[[str, dict[str, object]], Iterator[Problem]],
    ) -> Iterator[Problem]:
        try:
            table = self._store.row(folder, name)
        except StoreError as error:
            yield "torn-file", str(error)
            return
        version = int((table.schema.metadata or {}).get(b"prunegrid.schema", b"0"))
        known = set(table.schema.names) <= set(schema.names) and has_types_of(table, schema)
        if not 0 < version <= SCHEMA_VERSION or not known or len(table) != 1:
            yield "schema-mismatch", f"expected one row of schema {SCHEMA_VERSION}, got another"
            return
        place = place_of(name)
        if place in self._rows:
            yield "doubled-row", "its place has two rows"
        self._rows[place].add(name)
        row = dict.fromkeys(_ASKED) | table.to_pylist()[0]
        self._made.append({key: row[key] for key in COLUMNS if key in row})
        yield from check(name, row)

    def _model_row(self, file: str, row: dict[str, object]) -> Iterator[Problem]:
        record = self._models.get(str(row["task_key"]))
        if record is None:
            yield "task-missing", f"{row['task_key']} has no result"
            return
        for message in [*_named(file, row, "model_id"), *model_row_findings(row, record)]:
            yield "row-mismatch", message

    def _cell_row(self, file: str, row: dict[str, object]) -> Iterator[Problem]:
        accuracy = row["robust_accuracy"]  # none of a diverged model, which is derived again
        if accuracy is not None and not (isinstance(accuracy, float) and 0 <= accuracy <= 1):
            yield "out-of-range", f"robust_accuracy {accuracy} is not in [0, 1]"
        keys = row["task_keys"]
        if not isinstance(keys, list) or not keys:
            yield "row-mismatch", f"task_keys: expected those of attacks, got {keys}"
            return
        missing = [str(key) for key in keys if key not in self._images]
        if missing:
            yield "task-missing", f"{', '.join(missing)} have no rows"
            return
        shards = [self._images[key] for key in keys]
        record = self._models.get(str(row["model_key"]))
        for message in [*_named(file, row, "cell_id"), *cell_row_findings(row, shards, record)]:
            yield "row-mismatch", message

    def _transfer_row(self, file: str, row: dict[str, object]) -> Iterator[Problem]:
        rows = self._transfers.get(str(row["task_key"]))
        if rows is None:
            yield "task-missing", f"{row['task_key']} has no rows"
            return
        for message in [*_named(file, row, "transfer_id"), *transfer_row_findings(row, rows)]:
            yield "row-mismatch", message

    def _check_curves(self) -> Iterator[StoreFinding]:
        """Robust accuracy never rises with eps where one run serves every eps."""
        from prunegrid.orchestrator.store.frames import read_rows

        cells = read_rows(self._store.files, layout.CELL_ROWS)
        if cells.empty:
            return
        nearest = cells[cells["finds"] == "minimum-norm"]
        for (model, protocol, attack), part in nearest.groupby(["model_id", "protocol", "attack"]):
            curve = part.sort_values("eps")["robust_accuracy"].to_numpy()
            if np.any(np.diff(curve) > 0):
                yield StoreFinding(
                    name="not-monotone",
                    where=f"{model} {protocol} {attack}",
                    message="robust accuracy rises with eps",
                )

    def _check_journal(self) -> Iterator[StoreFinding]:
        for path, count in sorted(bad_lines(self._store).items()):
            message = f"{counted(count, 'line')} can't be read; status and forecasts go without"
            yield StoreFinding(name="torn-journal", where=path, message=message, count=count)

    def _check_plan(self) -> Iterator[StoreFinding]:
        """Against the store's own grid: rows that finished tasks owe."""
        try:
            if self._store.read_text(layout.GRID) is None:
                return  # imported results, or nothing yet
            plan: Plan = load_plan(self._store)
        except PrunegridError as error:
            yield StoreFinding(name="unreadable", where=layout.GRID, message=str(error))
            return
        self.mixed = mixed_values(planned_rows(self._made, plan))
        finished = set(self._models) | set(self._images) | set(self._transfers)
        present = {name for names in self._rows.values() for name in names}
        for model in plan.models:
            name = model_id(model.place, model.task_key)
            if model.task_key in finished and name not in present:
                message = f"{model.task_key} is done and has no model row; run the grid again"
                yield StoreFinding(name="row-missing", where=name, message=message)
        for cell in plan.cells:
            name = cell_id(cell.place, cell.task_keys)
            if finished.issuperset(cell.task_keys) and name not in present:
                message = "all its tasks are done and it has no row; run the grid again"
                yield StoreFinding(name="row-missing", where=name, message=message)

        for transfer in plan.transfers:
            if transfer.task_key in finished and transfer.name not in present:
                message = f"{transfer.task_key} is done and has no row; run the grid again"
                yield StoreFinding(name="row-missing", where=transfer.name, message=message)


def _planned(store: Store) -> Collection[str]:
    try:
        return load_plan(store).tasks
    except PrunegridError:  # a finding of its own, or imported results
        return ()


def _named(file: str, row: dict[str, object], name: str) -> Iterator[str]:
    """Whether a row's id is its file's name; the id itself is derived with the row."""
    if row[name] != file:
        yield f"{name}: row {row[name]}, its file is named otherwise"


def _at(where: str, problems: Iterator[Problem]) -> Iterator[StoreFinding]:
    for name, message in problems:
        yield StoreFinding(name=name, where=where, message=message)
