"""`prunegrid verify`: every claim of a store, checked again.

Needs no TensorFlow: files, keys, counts and ranges say enough. Each finding has a name, so that
a script can count them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from prunegrid.orchestrator.authors.rows import PREFIX as IMPORTED
from prunegrid.orchestrator.errors import PrunegridError, StoreError
from prunegrid.orchestrator.grid.coordinates import cell_id, model_id, place_of
from prunegrid.orchestrator.plan.dag import Plan, parent_of
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.rows import CELL_NEEDS, CELL_SCHEMA, MODEL_SCHEMA
from prunegrid.orchestrator.store.store import SCHEMAS, Store
from prunegrid.orchestrator.verify.attacked import image_doubts
from prunegrid.orchestrator.verify.derived import cell_row_doubts, model_row_doubts
from prunegrid.orchestrator.verify.doubts import Finding
from prunegrid.orchestrator.verify.imported import imported_findings
from prunegrid.orchestrator.verify.pruned import pruning_doubts
from prunegrid.workers import layout
from prunegrid.workers.contract import PruneTask
from prunegrid.workers.results import ModelRecord
from prunegrid.workers.tables import SCHEMA_VERSION, ImageRows

#: Columns that every row is asked for, be it there or not.
_ASKED = ("robust_accuracy", "task_key", "task_keys", "model_key", "eps", "rate", "seed")


class Verifier:
    """One pass over a store; `findings` yields as it goes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._models: dict[str, ModelRecord] = {}
        self._images: dict[str, ImageRows] = {}
        self._rows: dict[str, set[str]] = defaultdict(set)

    def findings(self) -> Iterator[Finding]:
        yield from self._check_folders()
        yield from self._check_models()
        yield from self._check_images()
        yield from self._check_rows(layout.MODEL_ROWS, MODEL_SCHEMA, self._model_row)
        yield from self._check_rows(layout.CELL_ROWS, CELL_SCHEMA, self._cell_row)
        yield from self._check_curves()
        yield from imported_findings(self._store)
        yield from self._check_plan()

    def _check_folders(self) -> Iterator[Finding]:
        """What plain readers of a folder stumble over."""
        for folder in SCHEMAS:
            for info in sorted(self._store.files.list(folder), key=lambda info: info.path):
                if not info.path.endswith(".parquet"):
                    message = "not a Parquet file; readers of the whole folder fail on it"
                    yield Finding(name="foreign-file", where=info.path, message=message)
                elif not info.size_bytes:
                    yield Finding(name="torn-file", where=info.path, message="it is empty")
            for name in sorted(self._store.twice(folder)):
                message = "its rows are in a merged file too; `prunegrid compact` merges them"
                where = f"{folder}/{name}.parquet"
                yield Finding(name="doubled-row", where=where, message=message)

    # ------------------------------------------------------------------ tasks' results

    def _check_models(self) -> Iterator[Finding]:
        for key in sorted(self._model_keys()):
            path = layout.model_record(key)
            try:
                record = self._store.model_record(key)
            except StoreError as error:
                yield Finding(name="torn-file", where=path, message=str(error))
                continue
            self._models[key] = record
            if record.task.key != key:
                message = f"the file's task has the key {record.task.key}"
                yield Finding(name="key-mismatch", where=path, message=message)
            yield from self._check_weights(key, record)
            result = record.result
            for name in ("accuracy", "validation_accuracy"):
                value = getattr(result, name)
                if not 0 <= value <= 1:
                    yield Finding(
                        name="out-of-range", where=path, message=f"{name} {value} is not in [0, 1]"
                    )
            yield from self._check_parent(key, record.task, path)

    def _check_weights(self, key: str, record: ModelRecord) -> Iterator[Finding]:
        """What the weights' file holds against what the record says of it."""
        from prunegrid.workers.weights import read_masks, read_weights, weights_sha256

        path = layout.model_file(key, "weights.npz")
        try:
            weights = read_weights(self._store.files, key)
            masks = read_masks(self._store.files, key)
        except (FileNotFoundError, ValueError, KeyError) as error:
            yield Finding(name="torn-file", where=path, message=f"not whole: {error}")
            return
        if weights_sha256(weights) != record.result.weights_sha256:
            yield Finding(name="weights-changed", where=path, message="not the SHA-256 recorded")
        for layer in record.result.layers:
            if not layer.prunable:
                continue
            mask, kernel = masks[layer.name], weights[f"{layer.name}/kernel"]
            if int(mask.sum()) != layer.left:
                message = f"{layer.name}: {int(mask.sum())} weights left, recorded {layer.left}"
                yield Finding(name="count-mismatch", where=path, message=message)
            if np.any(kernel[~mask]):
                message = f"{layer.name}: {np.count_nonzero(kernel[~mask])} pruned weights not 0"
                yield Finding(name="pruned-weight-alive", where=path, message=message)

        if isinstance(record.task, PruneTask):
            parent = self._masks_of(record.task)
            for where, message in pruning_doubts(record.task, masks, parent):
                text = f"{where}: {message}" if where else message
                yield Finding(name="not-pruned-as-claimed", where=path, message=text)

    def _masks_of(self, task: PruneTask) -> dict[str, np.ndarray] | None:
        """The parent's; None where they can't be read, which is a finding of its own."""
        from prunegrid.workers.weights import read_masks

        try:
            return read_masks(self._store.files, task.parent_key)
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def _check_parent(self, key: str, task: object, path: str) -> Iterator[Finding]:
        parent = parent_of(task)  # type: ignore[arg-type]
        if parent is not None and not self._store.files.exists(layout.model_record(parent)):
            yield Finding(name="parent-missing", where=path, message=f"{parent} has no result")

    def _check_images(self) -> Iterator[Finding]:
        for key in sorted(self._store.row_ids(layout.IMAGE_ROWS)):
            path = layout.image_rows(key)
            if key.startswith(IMPORTED):
                continue
            try:
                rows = self._store.image_rows(key)
            except StoreError as error:
                yield Finding(name="torn-file", where=path, message=str(error))
                continue
            # of a full grid the rest would be gigabytes
            self._images[key] = replace(rows, table=rows.table.select(list(CELL_NEEDS)))
            if rows.task.key != key:
                message = f"the file's task has the key {rows.task.key}"
                yield Finding(name="key-mismatch", where=path, message=message)
            yield from self._check_parent(key, rows.task, path)
            for name, message in image_doubts(rows):
                yield Finding(name=name, where=path, message=message)

    def _model_keys(self) -> set[str]:
        paths = [info.path for info in self._store.files.list(layout.MODELS)]
        return {path.split("/")[1] for path in paths if path.endswith("/result.json")}

    # ------------------------------------------------------------------ derived rows

    def _check_rows(
        self,
        folder: str,
        schema: pa.Schema,
        check: Callable[[str, dict[str, object]], Iterator[Finding]],
    ) -> Iterator[Finding]:
        for name in sorted(self._store.row_ids(folder)):
            path = f"{folder}/{name}.parquet"
            if name.startswith(IMPORTED):
                continue
            try:
                table = self._store.row(folder, name)
            except StoreError as error:
                yield Finding(name="torn-file", where=path, message=str(error))
                continue
            version = int((table.schema.metadata or {}).get(b"prunegrid.schema", b"0"))
            known = set(table.schema.names) <= set(schema.names)
            if not 0 < version <= SCHEMA_VERSION or not known or len(table) != 1:
                message = f"expected one row of schema {SCHEMA_VERSION}, got another"
                yield Finding(name="schema-mismatch", where=path, message=message)
                continue
            row = table.to_pylist()[0]
            place = place_of(name)
            if place in self._rows:
                yield Finding(name="doubled-row", where=path, message="its place has two rows")
            self._rows[place].add(name)
            yield from check(path, dict.fromkeys(_ASKED) | row)

    def _model_row(self, path: str, row: dict[str, object]) -> Iterator[Finding]:
        record = self._models.get(str(row["task_key"]))
        if record is None:
            message = f"{row['task_key']} has no result"
            yield Finding(name="task-missing", where=path, message=message)
            return
        for message in [*_named(path, row, "model_id"), *model_row_doubts(row, record)]:
            yield Finding(name="row-mismatch", where=path, message=message)

    def _cell_row(self, path: str, row: dict[str, object]) -> Iterator[Finding]:
        accuracy = row["robust_accuracy"]
        if not isinstance(accuracy, float) or not 0 <= accuracy <= 1:
            message = f"robust_accuracy {accuracy} is not in [0, 1]"
            yield Finding(name="out-of-range", where=path, message=message)
        keys = row["task_keys"]
        if not isinstance(keys, list) or not keys:
            message = f"task_keys: expected those of attacks, got {keys}"
            yield Finding(name="row-mismatch", where=path, message=message)
            return
        missing = [str(key) for key in keys if key not in self._images]
        if missing:
            yield Finding(
                name="task-missing", where=path, message=f"{', '.join(missing)} have no rows"
            )
            return
        shards, record = (
            [self._images[key] for key in keys],
            self._models.get(str(row["model_key"])),
        )
        for message in [*_named(path, row, "cell_id"), *cell_row_doubts(row, shards, record)]:
            yield Finding(name="row-mismatch", where=path, message=message)

    def _check_curves(self) -> Iterator[Finding]:
        """Robust accuracy never rises with eps where one run serves every eps."""
        from prunegrid.orchestrator.store.frames import read_rows

        cells = read_rows(self._store.files, layout.CELL_ROWS)
        if cells.empty:
            return
        nearest = cells[cells["finds"] == "minimum-norm"]
        for (model, protocol, attack), part in nearest.groupby(["model_id", "protocol", "attack"]):
            curve = part.sort_values("eps")["robust_accuracy"].to_numpy()
            if np.any(np.diff(curve) > 0):
                yield Finding(
                    name="not-monotone",
                    where=f"{model} {protocol} {attack}",
                    message="robust accuracy rises with eps",
                )

    def _check_plan(self) -> Iterator[Finding]:
        """Against the store's own grid: rows that finished tasks owe."""
        if self._store.read_text(layout.GRID) is None:
            return  # imported results, or nothing yet
        try:
            plan: Plan = load_plan(self._store)
        except PrunegridError as error:
            yield Finding(name="unreadable", where=layout.GRID, message=str(error))
            return
        finished = set(self._models) | set(self._images)
        present = {name for names in self._rows.values() for name in names}
        for model in plan.models:
            name = model_id(model.place, model.task_key)
            if model.task_key in finished and name not in present:
                message = f"{model.task_key} is done and has no model row; run the grid again"
                yield Finding(name="row-missing", where=name, message=message)
        for cell in plan.cells:
            name = cell_id(cell.place, cell.task_keys)
            if finished.issuperset(cell.task_keys) and name not in present:
                message = "all its tasks are done and it has no row; run the grid again"
                yield Finding(name="row-missing", where=name, message=message)


def _named(path: str, row: dict[str, object], name: str) -> Iterator[str]:
    """Whether a row's id is its file's name; the id itself is derived with the row."""
    if f"/{row[name]}.parquet" != path[path.rindex("/") :]:
        yield f"{name}: row {row[name]}, its file is named otherwise"
