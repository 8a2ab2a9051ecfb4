"""The rows of `results/transfers/`, derived from finished transfer tasks. Pure but for pyarrow.

A row is of a cell's adversarials, made on one model of a chain, and what another makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prunegrid.orchestrator.grid.grid import TransferCoordinates, model_id, transfer_id
from prunegrid.orchestrator.store.rows import (
    PLACE_COLUMNS,
    PROVENANCE_COLUMNS,
    WITHIN,
    AttackTraits,
    Column,
    RowSource,
    broken_at,
    by_column,
    one_row,
    schema_of,
)
from prunegrid.workers.catalog import attack_name
from prunegrid.workers.contract import TransferTask
from prunegrid.workers.image_rows import parquet_bytes
from prunegrid.workers.transfer_image_rows import TransferRows


@dataclass(frozen=True, kw_only=True)
class TransferSource(RowSource):
    """What a transfer's row is computed from; its model is the target."""

    place: TransferCoordinates
    traits: AttackTraits
    task: TransferTask
    summary: Mapping[str, object]  #: see `summarise_transfer`


def _summary(name: str, kind: pa.DataType) -> Column[TransferSource]:
    return Column(name, kind, lambda t: t.summary[name])


#: A new column is one line here (and a new SCHEMA_VERSION).
TRANSFER_COLUMNS: tuple[Column[TransferSource], ...] = (
    Column("transfer_id", pa.string(), lambda t: transfer_id(t.place, t.task.key)),
    Column("model_id", pa.string(), lambda t: model_id(t.model, t.task.parent_key)),
    Column("source_id", pa.string(), lambda t: model_id(t.place.source, t.task.source_key)),
    *PLACE_COLUMNS,
    Column("source_rate", pa.float64(), lambda t: t.place.source.rate),
    Column("protocol", pa.string(), lambda t: t.place.protocol),
    Column("attack", pa.string(), lambda t: t.place.attack),
    Column("algorithm", pa.string(), lambda t: attack_name(t.task.attack)),
    Column("engine", pa.string(), lambda t: t.task.attack.engine),
    Column("split", pa.string(), lambda t: t.task.split),
    Column("norm", pa.string(), lambda t: t.traits.norm),
    Column("finds", pa.string(), lambda t: t.traits.finds),
    Column("eps", pa.float64(), lambda t: t.place.eps),
    Column(
        "broken_at",
        pa.string(),
        lambda t: broken_at(t.place.protocol, minimum_norm=t.traits.finds == "minimum-norm"),
    ),
    Column("model_key", pa.string(), lambda t: t.task.parent_key),
    Column("source_key", pa.string(), lambda t: t.task.source_key),
    Column("task_key", pa.string(), lambda t: t.task.key),
    _summary("n_images", pa.int32()),
    _summary("n_skipped", pa.int32()),
    _summary("clean_accuracy", pa.float64()),
    _summary("n_adversarials", pa.int32()),
    _summary("n_transferred", pa.int32()),
    _summary("transfer_rate", pa.float64()),
    _summary("robust_accuracy", pa.float64()),
    *PROVENANCE_COLUMNS,
)
TRANSFER_SCHEMA = schema_of(TRANSFER_COLUMNS)

#: Of a transfer task's rows, all that a row is made of.
TRANSFER_NEEDS = (
    "eps",
    "label",
    "clean_prediction",
    "distance",
    "transferred",
    "skipped",
)


def transfer_row(place: TransferCoordinates, *, traits: AttackTraits, rows: TransferRows) -> bytes:
    """One transfer's Parquet file."""
    return parquet_bytes(transfer_table(place, traits=traits, rows=rows))


def transfer_table(
    place: TransferCoordinates, *, traits: AttackTraits, rows: TransferRows
) -> pa.Table:
    """One row of TRANSFER_SCHEMA. Raises ValueError where none of the rows is at its eps."""
    minimum = traits.finds == "minimum-norm"
    columns = {
        name: rows.table.column(name).to_numpy(zero_copy_only=False) for name in TRANSFER_NEEDS
    }
    if not minimum:
        at_eps = columns["eps"].astype(float) == place.eps
        columns = {name: column[at_eps] for name, column in columns.items()}
    rule = broken_at(place.protocol, minimum_norm=minimum)
    source = TransferSource(
        model=place.target,
        place=place,
        traits=traits,
        task=rows.task,
        summary=summarise_transfer(columns, eps=place.eps, within=rule == WITHIN),
        provenance=by_column(rows.provenance) | {"seed": place.target.seed},
    )
    return one_row(TRANSFER_COLUMNS, source, TRANSFER_SCHEMA)


def summarise_transfer(
    columns: Mapping[str, np.ndarray], *, eps: float, within: bool
) -> dict[str, Any]:
    """One row's numbers from its image rows (arrays of one length, at least one image).

    `within`: an adversarial at a distance of exactly eps counts. The transfer rate is over the
    images that the target classifies right and the source has an adversarial of; None where there
    is none. Robust accuracy is the share of all images that the target classifies right, and their
    adversarials too where there are some. A diverged target has neither.
    """
    n = len(columns["label"])
    if n == 0:
        raise ValueError(f"no image rows at eps {eps:g}")
    distance = columns["distance"].astype(float)
    skipped = columns["skipped"].astype(bool)
    near = np.isfinite(distance)
    if np.isnan(columns["eps"].astype(float)).all():  # else each was checked against its own eps
        near &= distance <= eps if within else distance < eps
    right = (columns["clean_prediction"] == columns["label"]) & ~skipped
    shown = right & near
    moved = shown & columns["transferred"].astype(bool)
    diverged = bool(np.all(skipped & (columns["clean_prediction"] == -1)))
    unknown = bool(skipped.all())
    return {
        "n_images": n,
        "n_skipped": int(skipped.sum()),
        "clean_accuracy": None if unknown else float(right.mean()),
        "n_adversarials": int(shown.sum()),
        "n_transferred": int(moved.sum()),
        "transfer_rate": float(moved.sum() / shown.sum()) if shown.any() else None,
        "robust_accuracy": None if diverged else float((right & ~moved).mean()),
    }
