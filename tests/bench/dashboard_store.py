"""A store as a long run leaves it, made in seconds: real rows of models and cells, and a journal.

Of the image rows there are only files' first and last bytes: the dashboard reads no more of them.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import cell_id, model_id
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell, expand
from prunegrid.orchestrator.store.lease import LEASE
from prunegrid.orchestrator.store.rows import CELL_SCHEMA, MODEL_SCHEMA
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout

SLOTS = 16
FAILS_EVERY = 50  #: tasks whose first attempt failed


@dataclass(frozen=True, kw_only=True)
class MadeStore:
    plan: Plan
    folder: Path
    left: list[str]  #: attack tasks without a result, whose model is there


def make(folder: Path, grid: str, *, done_frac: float) -> MadeStore:
    """Every model is done, and `done_frac` of the attacks."""
    store = Store.open_or_create(str(folder))
    store.set_grid(grid)
    store.set_selection({})
    plan = expand(parse_grid(grid, source="grid.yaml"))
    shards = list(dict.fromkeys(cell.task_keys for cell in plan.cells))
    random.Random(0).shuffle(shards)
    attacks = [key for keys in shards for key in keys]
    done = attacks[: round(done_frac * len(attacks))]
    models = [key for key in plan.tasks if not key.startswith("attack-")]
    for name in (layout.MODEL_ROWS, layout.CELL_ROWS, layout.IMAGE_ROWS, layout.JOURNAL):
        (folder / name).mkdir(parents=True)
    for key in models:
        (folder / layout.MODELS / key).mkdir(parents=True)
        (folder / layout.model_record(key)).write_text("{}")
    for model in plan.models:
        name = model_id(model.place, model.task_key)
        _row(folder / layout.model_row(name), MODEL_SCHEMA, model_id=name, accuracy=_value(name))
    finished = set(done)
    for cell in plan.cells:
        if finished.issuperset(cell.task_keys):
            cell_file(folder, cell)
    for key in done:
        (folder / layout.image_rows(key)).write_bytes(b"PAR1PAR1")
    _journal(folder, [*models, *done])
    beat(folder)
    return MadeStore(plan=plan, folder=folder, left=attacks[len(done) :])


def cell_file(folder: Path, cell: PlannedCell) -> None:
    name = cell_id(cell.place, cell.task_keys)
    _row(folder / layout.cell_row(name), CELL_SCHEMA, cell_id=name, robust_accuracy=_value(name))


def beat(folder: Path) -> None:
    holder = {"host": "elsewhere", "pid": 1, "process_start": "", "renewed_at_s": time.time()}
    aside = folder / f".{LEASE}.tmp"
    aside.write_text(json.dumps(holder))
    aside.replace(folder / LEASE)


def _value(name: str) -> float:
    return random.Random(name).random()


def _row(path: Path, schema: pa.Schema, **values: object) -> None:
    columns = [
        pa.array([values[field.name]], type=field.type) if field.name in values else null
        for field, null in zip(schema, _nulls(schema), strict=True)
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="snappy")


@functools.cache
def _nulls(schema: pa.Schema) -> list[pa.Array]:
    return [pa.nulls(1, field.type) for field in schema]


def _journal(folder: Path, keys: list[str]) -> None:
    """SLOTS workers without a pause, so that the last task ended now."""
    mean_s = 60.0
    now_s = time.time() - mean_s * len(keys) / SLOTS
    draw = random.Random(1)
    lines: list[dict[str, object]] = [{"at": now_s, "event": "run", "grid": "x"}]
    slots = itertools.cycle(range(SLOTS))
    for number, (key, slot) in enumerate(zip(keys, slots, strict=False)):
        now_s += mean_s / SLOTS
        seconds = mean_s * (0.5 + draw.random())
        worker = f"node-{slot // 4}/{slot % 4}"
        start = {"event": "start", "key": key, "attempt": 1}
        lines.append({"at": now_s - seconds, **start})
        if number % FAILS_EVERY == 0:
            failed = {"event": "failed", "key": key, "attempt": 1, "worker": worker}
            message = f"ResourceExhausted: allocating {number} bytes"
            lines.append({"at": now_s, **failed, "kind": "device-memory", "message": message})
            lines.append({"at": now_s, **start, "attempt": 2})
        ended = {"event": "done", "key": key, "attempt": 1, "worker": worker}
        lines.append({"at": now_s, **ended, "seconds": seconds})
    lines.sort(key=lambda line: float(str(line["at"])))
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (folder / layout.JOURNAL / "20260101T000000.000000Z-bench-1-0000.jsonl").write_text(text)
