"""From finished tasks to rows: writes `results/models/` and `results/cells/` as they become due."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.grid import cell_id, model_id
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell, PlannedModel, PlannedTransfer
from prunegrid.orchestrator.store.rows import AttackTraits, cell_row, model_row
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.store.transfer_rows import transfer_row
from prunegrid.workers import layout
from prunegrid.workers.catalog import attack_of
from prunegrid.workers.contract import AttackSettings


class Recorder:
    """Knows which rows of a plan rest on which tasks; owned by the driver's loop."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._store = store
        self._models: dict[str, list[PlannedModel]] = defaultdict(list)
        self._cells: dict[tuple[str, ...], list[PlannedCell]] = defaultdict(list)
        self._groups: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for model in plan.models:
            self._models[model.task_key].append(model)
        for cell in plan.cells:
            if cell.task_keys not in self._cells:
                for key in cell.task_keys:
                    self._groups[key].append(cell.task_keys)
            self._cells[cell.task_keys].append(cell)
        self._transfers: dict[str, list[PlannedTransfer]] = defaultdict(list)
        for transfer in plan.transfers:
            self._transfers[transfer.task_key].append(transfer)
        self._transfer_ids = {transfer.name for transfer in plan.transfers}
        self._done: set[str] = set()
        self._model_ids = {
            model_id(m.place, m.task_key) for models in self._models.values() for m in models
        }
        self._cell_ids = {
            cell_id(c.place, c.task_keys) for cells in self._cells.values() for c in cells
        }
        self._present: set[str] = set()

    def catch_up(self, finished: Iterable[str]) -> int:
        """Write the rows that finished tasks owe; rows of another work at a planned place step
        aside. Returns how many rows were written."""
        store = self._store
        self._done.clear()  # what was done in an earlier pass may have been set aside since
        models = store.row_ids(layout.MODEL_ROWS, whole=True)
        cells = store.row_ids(layout.CELL_ROWS, whole=True)
        store.supersede(layout.MODEL_ROWS, self._model_ids, models)
        store.supersede(layout.CELL_ROWS, self._cell_ids, cells)
        transfers = store.row_ids(layout.TRANSFER_ROWS, whole=True)
        store.supersede(layout.TRANSFER_ROWS, self._transfer_ids, transfers)
        self._present = models | cells | transfers
        return sum(self.task_done(key, anew=False) for key in finished)

    def task_done(self, key: str, *, anew: bool = True) -> int:
        """Note a finished task and write the rows that are now due; where it ended `anew` just
        now, also those that are there: they may tell of an earlier result. Returns how many.

        Raises TornError where a result that a row rests on is, StoreError where the store
        refuses; calling it again then writes what is still owed.
        """
        self._done.add(key)
        written = 0
        for model in self._models.get(key, ()):
            name = model_id(model.place, key)
            if anew or name not in self._present:
                record = self._store.model_record(key)
                self._write(name, layout.model_row(name), model_row(model.place, record))
                written += 1
        for shards in self._groups.get(key, ()):
            if all(shard in self._done for shard in shards):
                written += self._write_cells(shards, anew=anew)
        return written + self._write_transfers(key, anew=anew)

    def _write(self, name: str, path: str, content: bytes) -> None:
        if name in self._present:
            self._store.write_row(path, content)
        else:
            self._store.write(path, content)
            self._present.add(name)

    def _write_cells(self, shards: tuple[str, ...], *, anew: bool) -> int:
        due = [
            (name, cell)
            for cell in self._cells[shards]
            if (name := cell_id(cell.place, shards)) not in self._present or anew
        ]
        if not due:
            return 0
        rows = [self._store.image_rows(key) for key in shards]
        for name, cell in due:
            settings = cell.attack.settings
            traits = _traits(settings)
            content = cell_row(cell.place, settings=settings, traits=traits, shards=rows)
            self._write(name, layout.cell_row(name), content)
        return len(due)

    def _write_transfers(self, key: str, *, anew: bool) -> int:
        due = [t for t in self._transfers.get(key, ()) if t.name not in self._present or anew]
        rows = self._store.transfer_rows(key) if due else None
        for transfer in due:
            assert rows is not None
            traits = _traits(transfer.attack.settings)
            content = transfer_row(transfer.place, traits=traits, rows=rows)
            self._write(transfer.name, layout.transfer_row(transfer.name), content)
        return len(due)

    @property
    def missing_count(self) -> int:
        return len(self._cell_ids - self._present)

    def missing_cells(self) -> list[PlannedCell]:
        """Planned cells that have no row."""
        return [
            cell
            for shards, cells in self._cells.items()
            for cell in cells
            if cell_id(cell.place, shards) not in self._present
        ]


def _traits(settings: AttackSettings) -> AttackTraits:
    entry = attack_of(settings)
    if entry is None:
        raise StoreError(f"attack {settings.attack!r} is not in this version's catalog")
    return AttackTraits(norm=entry.norm, finds=entry.finds, gradients=entry.gradients)
