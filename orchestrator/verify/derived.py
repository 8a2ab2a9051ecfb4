"""Whether a row of `results/models` or `results/cells` follows from its tasks' results: the row is
derived again, and every column compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from prunegrid.orchestrator.grid.grid import (
    CellCoordinates,
    ModelCoordinates,
    TransferCoordinates,
)
from prunegrid.orchestrator.store.rows import AttackTraits, cell_table, model_table
from prunegrid.orchestrator.store.transfer_rows import transfer_table
from prunegrid.workers.catalog import attack_name, attack_of
from prunegrid.workers.contract import PruneTask
from prunegrid.workers.image_rows import ImageRows
from prunegrid.workers.records import ModelRecord
from prunegrid.workers.transfer_image_rows import TransferRows

Row = Mapping[str, object]


def model_row_findings(row: Row, record: ModelRecord) -> Iterator[str]:
    place = _model_place(row)
    if place is None:
        yield "its coordinates in a grid are incomplete"
        return
    yield from _place_findings(place, record)
    yield from _differences(row, model_table(place, record), "recorded")


def cell_row_findings(
    row: Row, shards: Sequence[ImageRows], record: ModelRecord | None
) -> Iterator[str]:
    """`record`: of the attacked model, None where it has no result."""
    model, eps = _model_place(row), row["eps"]
    if model is None or not isinstance(eps, float):
        yield "its coordinates in a grid are incomplete"
        return
    if record is not None:
        yield from _place_findings(model, record)
    settings = shards[0].task.attack
    if row["algorithm"] == settings.attack:  # a row of before, by the first name
        row = {**row, "algorithm": attack_name(settings)}
    entry = attack_of(settings)
    if entry is None:  # another installation's: by what its rows say of it
        traits = AttackTraits(norm=str(row["norm"]), finds=str(row["finds"]), gradients=True)
        row = {name: value for name, value in row.items() if name != "flags"}
    else:
        traits = AttackTraits(norm=entry.norm, finds=entry.finds, gradients=entry.gradients)
    place = CellCoordinates(
        model=model, protocol=str(row["protocol"]), attack=str(row["attack"]), eps=eps
    )
    try:
        again = cell_table(
            place,
            settings=settings,
            traits=traits,
            shards=shards,
            unrecorded=row.get("broken_at") is None,
        )
    except ValueError as error:
        yield str(error)
        return
    yield from _differences(row, again, "its images say")


def transfer_row_findings(row: Row, rows: TransferRows) -> Iterator[str]:
    target, source = _model_place(row), _model_place({**row, "rate": row["source_rate"]})
    eps = row["eps"]
    if target is None or source is None or not isinstance(eps, float):
        yield "its coordinates in a grid are incomplete"
        return
    entry = attack_of(rows.task.attack)
    if entry is None:  # another installation's: by what its rows say of it
        traits = AttackTraits(norm=str(row["norm"]), finds=str(row["finds"]), gradients=True)
    else:
        traits = AttackTraits(norm=entry.norm, finds=entry.finds, gradients=entry.gradients)
    place = TransferCoordinates(
        source=source,
        target=target,
        protocol=str(row["protocol"]),
        attack=str(row["attack"]),
        eps=eps,
    )
    try:
        again = transfer_table(place, traits=traits, rows=rows)
    except ValueError as error:
        yield str(error)
        return
    yield from _differences(row, again, "its images say")


def _model_place(row: Row) -> ModelCoordinates | None:
    rate, seed = row["rate"], row["seed"]
    names = {name: row[name] for name in ("architecture", "dataset", "variant", "method")}
    if not isinstance(rate, float) or not isinstance(seed, int) or None in names.values():
        return None
    texts = {name: str(value) for name, value in names.items()}
    return ModelCoordinates(rate=rate, seed=seed, **texts)


def _place_findings(place: ModelCoordinates, record: ModelRecord) -> Iterator[str]:
    """Compares the coordinates that the model's task has; a dense model serves every method."""
    task = record.task
    known: dict[str, object] = {"seed": task.seed, "rate": 1.0}
    if task.network is None:  # else the grid's label, of which one network may have several
        known["architecture"] = task.architecture
    if isinstance(task, PruneTask):
        known["rate"] = task.pruning.rate
        if task.pruning.own is None:  # else the grid's name, of which one method may have several
            known["method"] = task.pruning.method
    for name, value in known.items():
        if getattr(place, name) != value:
            yield f"{name}: row {getattr(place, name)}, its model's task says {value}"


def _differences(row: Row, again: pa.Table, source: str) -> Iterator[str]:
    for name, value in again.to_pylist()[0].items():
        if name in row and not _same(row[name], value):
            yield f"{name}: row {row[name]}, {source} {value}"


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return one == other
