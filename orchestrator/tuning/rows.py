"""The rows of `results/tuning/`: one per trial of a search, and per attack on its held-out images.

A row names the tasks that it rests on; their results are in `tuning/`, or in the grid's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from prunegrid.orchestrator.tuning.study import AttackStudy, Study
from prunegrid.workers import layout
from prunegrid.workers.catalog import attack_entry
from prunegrid.workers.image_rows import (
    PROVENANCE_FIELDS,
    SCHEMA_VERSION,
    parquet_bytes,
    provenance_columns,
)
from prunegrid.workers.keys import Scalar
from prunegrid.workers.records import Provenance

State = Literal["running", "complete", "stopped early", "over budget", "failed"]
Role = Literal["search", "held-out tuned", "held-out cut", "held-out whole"]

TUNING_SCHEMA = pa.schema(
    [
        ("study", pa.string()),
        ("role", pa.string()),  # "search", or which attack on the held-out images
        ("trial", pa.int32()),  # 0 has the grid's own settings, cut to the budget
        ("label", pa.string()),  # the grid's name for the attack, or architecture and variant
        ("protocol", pa.string()),
        ("algorithm", pa.string()),  # null for training
        ("engine", pa.string()),
        ("outputs", pa.string()),
        ("objective", pa.string()),  # "median", "robust" (at eps) or "loss" (of validation)
        ("eps", pa.float64()),
        ("budget", pa.int64()),
        ("settings", pa.string()),  # JSON object
        ("state", pa.string()),
        ("size", pa.int32()),  # images of a model, or links of a chain, that it reached
        ("size_max", pa.int32()),
        ("value", pa.float64()),  # of the objective; infinite where the attack mostly fails
        ("tie", pa.float64()),  # ranks trials of one value: the geometric mean of the distances
        ("queries_mean", pa.float64()),  # measured, an image
        ("test_accuracy", pa.float64()),  # training alone
        ("model_keys", pa.list_(pa.string())),
        ("task_keys", pa.list_(pa.string())),
        *PROVENANCE_FIELDS,
    ],
    metadata={"prunegrid.schema": str(SCHEMA_VERSION)},
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a trial stands at the end of a rung."""

    size: int
    value: float
    tie: float  #: tells trials of one value apart; smaller is better
    queries_mean: float | None
    test_accuracy: float | None
    task_keys: tuple[str, ...]
    provenance: Provenance  #: of the last task, with the duration of all


def row_path(study: Study, role: Role, trial: int) -> str:
    name = f"t{trial:03d}" if role == "search" else role.replace(" ", "-")
    return f"{layout.TUNING_ROWS}/{study.name}-{name}.parquet"


def row_bytes(
    study: Study,
    score: Score | None,
    *,
    trial: int,
    options: Mapping[str, Scalar],
    state: State,
    role: Role = "search",
) -> bytes:
    """`score`: None where a trial failed before its first rung's end."""
    values: dict[str, Any] = dict.fromkeys(TUNING_SCHEMA.names)
    values |= {
        "study": study.name,
        "role": role,
        "trial": trial,
        "label": study.label,
        "protocol": study.protocol,
        "objective": study.objective,
        "eps": study.eps,
        "budget": study.budget or None,
        "settings": json.dumps(dict(sorted(options.items()))),
        "state": state,
        "size": 0,
        "size_max": study.edges[-1],
        "task_keys": [],
        "model_keys": [],
    }
    if isinstance(study, AttackStudy):
        entry = attack_entry(study.base.attack)
        values |= {
            "algorithm": entry.name if entry else study.base.attack,
            "engine": study.base.engine,
            "outputs": study.base.outputs,
            "model_keys": [model.task_key for model in study.models],
        }
        if role != "search":
            values["size_max"] = study.stop - study.edges[-1]
    if score is not None:
        values |= {name: getattr(score, name) for name in _FROM_SCORE}
        values["task_keys"] = list(score.task_keys)
        values |= {k: v[0] for k, v in provenance_columns(score.provenance, 1).items()}
        values["seed"] = study.seed
    row = {name: [values[name]] for name in TUNING_SCHEMA.names}
    return parquet_bytes(pa.table(row, schema=TUNING_SCHEMA))


_FROM_SCORE = ("size", "value", "tie", "queries_mean", "test_accuracy")


def latest(provenances: Sequence[Provenance]) -> Provenance:
    """The last one's, with the time of all."""
    last = max(provenances, key=lambda p: p.started_at)
    return dataclasses.replace(last, duration_s=sum(p.duration_s for p in provenances))
