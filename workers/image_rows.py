"""The rows of `results/images/`: one per attacked image, and per eps where the attack has any.

A file holds one attack task's rows. Its Parquet metadata repeats the task and its provenance as
JSON, so that `verify` can recompute the key from the file alone.
"""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.workers.catalog import attack_name
from prunegrid.workers.contract import AttackTask, Task, task_from_dict, task_to_dict
from prunegrid.workers.decode import from_dict, parse_json
from prunegrid.workers.records import Provenance

#: Raise it with every change of a schema; readers refuse versions newer than their own.
SCHEMA_VERSION = 5

PROVENANCE_FIELDS = [
    ("seed", pa.int64()),
    ("git_revision", pa.string()),
    ("versions", pa.string()),  # JSON object
    ("device", pa.string()),
    ("threads", pa.int16()),
    ("host", pa.string()),
    ("started_at", pa.string()),
    ("duration_s", pa.float64()),
    ("attempt", pa.int16()),
    ("code_digest", pa.string()),  # of the Python files of workers/
    ("arithmetic", pa.string()),  # what else a result's last bits depend on
    ("user_sources", pa.string()),  # of the user's functions that took part; null: of none
]

IMAGE_SCHEMA = pa.schema(
    [
        ("task_key", pa.string()),
        ("model_key", pa.string()),  # the attacked model's train or prune task
        ("attack", pa.string()),
        ("engine", pa.string()),
        ("outputs", pa.string()),  # "logits" or "softmax"
        ("split", pa.string()),
        ("image", pa.int32()),  # index in the split
        ("eps", pa.float64()),  # null for a minimum-norm attack
        ("label", pa.int16()),
        ("clean_prediction", pa.int16()),  # -1: the logits are not finite; null: not computed
        ("adversarial_prediction", pa.int16()),  # null where none was found
        ("distance", pa.float64()),  # in the attack's norm; 0 if misclassified, inf if not found
        ("distance_loose", pa.float64()),  # L0 alone: elements with |delta| > 1e-4; else null
        ("distance_pixels", pa.float64()),  # L0 alone: pixels with a changed element; else null
        ("broken", pa.bool_()),  # misclassified, or a re-checked adversarial was found (within eps)
        ("verified", pa.bool_()),  # class, box and norm of the returned image were re-checked
        ("skipped", pa.bool_()),  # the attack did not run: too low an accuracy, or diverged
        ("queries", pa.int32()),  # forward passes of this image, those with a gradient included
        ("backward_passes", pa.int32()),  # null: not counted, as in rows of schema 1 and 2
        ("flat_passes", pa.int32()),  # passes at which the attack's own loss had no slope, so that
        # it followed another; null: not counted
        ("compute_batch", pa.int16()),  # images per model call: strict's padded shape, halved under
        # memory pressure, or the size of Foolbox's batch; 0 where nothing ran
        ("zero_gradient", pa.bool_()),  # the gradient that the attack follows is all zero at the
        # clean image
        ("broken_first_step", pa.bool_()),  # PGD alone: its first step already broke it; else null
        ("broken_by", pa.string()),  # the part of the attack that broke it; null where it has none
        ("attacked_network", pa.string()),  # "stored": with its zeros; "shrunk": without the
        # channels that carry nothing; "redone": shrunk, then stored, as the two differed on this
        # image; null where it was not attacked, and in rows before schema 5
        *PROVENANCE_FIELDS,
    ]
)


def provenance_columns(provenance: Provenance, rows: int) -> dict[str, list[Any]]:
    values: dict[str, Any] = dataclasses.asdict(provenance)
    values["versions"] = json.dumps(dict(provenance.versions), sort_keys=True)
    return {name: [values[name]] * rows for name, _ in PROVENANCE_FIELDS}


_LARGE = 2**20  #: bytes


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy")  # zstd: no smaller, reads three times as long
    return sink.getvalue()


def images_to_parquet(
    columns: dict[str, Any], *, task: AttackTask, provenance: Provenance
) -> bytes:
    """`columns`: one sequence per IMAGE_SCHEMA field that varies by image.

    Raises ValueError where a column is missing, unknown, or of another length.
    """
    rows = len(columns["image"])
    full = {name: [value] * rows for name, value in task_columns(task).items()}
    full |= provenance_columns(provenance, rows)
    full |= columns
    if set(full) != set(IMAGE_SCHEMA.names):
        wrong = sorted(set(full) ^ set(IMAGE_SCHEMA.names))
        raise ValueError(f"image rows: missing or unknown columns {wrong}")
    if lengths := {name: len(full[name]) for name in full if len(full[name]) != rows}:
        raise ValueError(f"image rows: expected {rows} values in each column, got {lengths}")
    schema = IMAGE_SCHEMA.with_metadata(
        {
            "prunegrid.schema": str(SCHEMA_VERSION),
            "prunegrid.task": json.dumps(task_to_dict(task), sort_keys=True),
            "prunegrid.provenance": json.dumps(dataclasses.asdict(provenance), sort_keys=True),
        }
    )
    return parquet_bytes(pa.table([full[name] for name in schema.names], schema=schema))


def judged_otherwise(there: ImageRows, columns: dict[str, Any]) -> bool:
    """Whether rows tell other distances than a task's new `columns`."""
    known = there.table.column("distance").to_pylist()
    return bool(known != list(columns["distance"]))


def task_columns(task: AttackTask) -> dict[str, Any]:
    """The columns of IMAGE_SCHEMA that are the same in all rows of a task."""
    return {
        "task_key": task.key,
        "model_key": task.parent_key,
        "attack": attack_name(task.attack),
        "engine": task.attack.engine,
        "outputs": task.attack.outputs,
        "split": task.split,
    }


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    task: AttackTask
    provenance: Provenance
    table: pa.Table  #: IMAGE_SCHEMA


def read_table(content: bytes) -> pa.Table:
    """Raises ValueError where the content is not a whole Parquet file."""
    large = len(content) > _LARGE  # without threads a small file takes a third of the time
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=large)
        table.validate(full=True)  # text that is none fails whoever asks for it, much later
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a whole Parquet file: {error}") from error
    return table


def read_images(content: bytes) -> ImageRows:
    """Raises ValueError where the content is not a whole file of image rows."""
    return images_of(read_table(content))


def images_of(table: pa.Table) -> ImageRows:
    """One attack task's rows, described by the table's metadata. Raises ValueError."""
    task, provenance = described(table)
    if not isinstance(task, AttackTask):
        raise ValueError(f"image rows of a {task.kind} task, expected an attack")
    return ImageRows(task=task, provenance=provenance, table=table)


def described(table: pa.Table) -> tuple[Task, Provenance]:
    """What made a task's rows, by their table's metadata. Raises ValueError."""
    metadata = table.schema.metadata or {}
    if b"prunegrid.task" not in metadata:
        raise ValueError("Parquet file without prunegrid's metadata")
    version = int(metadata.get(b"prunegrid.schema", b"0"))
    if version > SCHEMA_VERSION:
        raise ValueError(f"schema version {version} is newer than this program's {SCHEMA_VERSION}")
    task = task_from_dict(parse_json(metadata[b"prunegrid.task"]))
    return task, from_dict(Provenance, parse_json(metadata[b"prunegrid.provenance"]))
