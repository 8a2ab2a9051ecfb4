"""The rows of a transfer task: one for each image and eps, or for each image where the attack
minimises a norm. NumPy and pyarrow alone."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prunegrid.workers.catalog import attack_name
from prunegrid.workers.contract import TransferTask, task_to_dict
from prunegrid.workers.image_rows import (
    PROVENANCE_FIELDS,
    SCHEMA_VERSION,
    described,
    parquet_bytes,
    provenance_columns,
    read_table,
)
from prunegrid.workers.records import Provenance

TRANSFER_IMAGE_SCHEMA = pa.schema(
    [
        ("task_key", pa.string()),
        ("source_key", pa.string()),  # the attacked model's train or prune task
        ("model_key", pa.string()),  # the target's
        ("attack", pa.string()),
        ("engine", pa.string()),
        ("split", pa.string()),
        ("image", pa.int32()),  # index in the split
        ("eps", pa.float64()),  # null for a minimum-norm attack
        ("label", pa.int16()),
        ("clean_prediction", pa.int16()),  # the target's; -1: the logits are not finite; null: not
        # computed
        ("distance", pa.float64()),  # of the source's adversarial from the image; inf: it has none
        ("prediction", pa.int16()),  # the target's class of it; -1: not finite; null: not computed
        ("transferred", pa.bool_()),  # the target classified the image right and this one wrong
        ("skipped", pa.bool_()),  # nothing ran: the target's accuracy is too low, or it diverged
        *PROVENANCE_FIELDS,
    ]
)


@dataclass(frozen=True, kw_only=True)
class TransferRows:
    task: TransferTask
    provenance: Provenance
    table: pa.Table  #: TRANSFER_IMAGE_SCHEMA


def transfers_to_parquet(
    columns: dict[str, Any], *, task: TransferTask, provenance: Provenance
) -> bytes:
    """`columns`: one sequence per field of TRANSFER_IMAGE_SCHEMA that varies by image."""
    rows = len(columns["image"])
    full = {name: [value] * rows for name, value in transfer_columns(task).items()}
    full |= provenance_columns(provenance, rows) | columns
    schema = TRANSFER_IMAGE_SCHEMA.with_metadata(
        {
            "prunegrid.schema": str(SCHEMA_VERSION),
            "prunegrid.task": json.dumps(task_to_dict(task), sort_keys=True),
            "prunegrid.provenance": json.dumps(dataclasses.asdict(provenance), sort_keys=True),
        }
    )
    return parquet_bytes(pa.table([full[name] for name in schema.names], schema=schema))


def transfer_columns(task: TransferTask) -> dict[str, Any]:
    """The columns that are the same in all rows of a task."""
    return {
        "task_key": task.key,
        "source_key": task.source_key,
        "model_key": task.parent_key,
        "attack": attack_name(task.attack),
        "engine": task.attack.engine,
        "split": task.split,
    }


def read_transfers(content: bytes) -> TransferRows:
    """Raises ValueError where the content is not a whole file of such rows."""
    return transfers_of(read_table(content))


def transfers_of(table: pa.Table) -> TransferRows:
    """One task's rows, described by the table's metadata. Raises ValueError."""
    task, provenance = described(table)
    if not isinstance(task, TransferTask):
        raise ValueError(f"rows of a {task.kind} task, expected a transfer")
    return TransferRows(task=task, provenance=provenance, table=table)
