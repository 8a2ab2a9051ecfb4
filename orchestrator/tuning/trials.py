"""Trials of a search: their scores, what passes between them and the search, and their rows.

A row of `results/tuning/` is a trial, or an attack on the held-out images. It names the tasks that
it rests on; their results are in the scratch store or among the grid's own. Rows are written as
updates come, and read back as what is known of the trials.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.study import AttackStudy, Study
from prunegrid.workers import layout
from prunegrid.workers.catalog import attack_entry
from prunegrid.workers.contract import WorkerSettings
from prunegrid.workers.decode import parse_json
from prunegrid.workers.image_rows import (
    PROVENANCE_FIELDS,
    SCHEMA_VERSION,
    parquet_bytes,
    provenance_columns,
    read_table,
)
from prunegrid.workers.keys import Scalar
from prunegrid.workers.records import Provenance
from prunegrid.workers.runner import Runner

TrialState = Literal["running", "complete", "stopped early", "over budget", "failed"]
TrialRole = Literal["search", "held-out tuned", "held-out cut", "held-out whole"]


@dataclass(frozen=True, kw_only=True)
class TrialScore:
    """How a trial stands at the end of a rung."""

    size: int
    value: float
    tie: float  #: tells trials of one value apart; smaller is better
    queries_mean: float | None
    test_accuracy: float | None
    task_keys: tuple[str, ...]
    provenance: Provenance  #: of the last task, with the duration of all


def latest(provenances: Sequence[Provenance]) -> Provenance:
    """The last one's, with the time of all."""
    last = max(provenances, key=lambda p: p.started_at)
    return dataclasses.replace(last, duration_s=sum(p.duration_s for p in provenances))


@dataclass(frozen=True, kw_only=True)
class TrialWork:
    """All that a trial needs to know."""

    study: Study
    settings: WorkerSettings
    runner: Runner


@dataclass(frozen=True, kw_only=True)
class TrialUpdate:
    """A trial's standing at the end of a rung, or its end."""

    trial: int
    score: TrialScore | None  #: None where it failed
    over_budget: bool
    ended: bool
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """What the store knows of a trial."""

    trial: int
    options: Mapping[str, Scalar]
    state: TrialState
    size: int
    value: float
    tie: float
    queries_mean: float | None
    test_accuracy: float | None

    @property
    def ended(self) -> bool:
        return self.state != "running"

    @property
    def rank(self) -> tuple[float, float]:
        return (self.value, self.tie)


def state_of(
    study: Study, score: TrialScore | None, *, over_budget: bool, ended: bool
) -> TrialState:
    if score is None:
        return "failed"
    if over_budget:
        return "over budget"
    if score.size >= study.edges[-1]:
        return "complete"
    return "stopped early" if ended else "running"


def write_trial(
    store: Store, study: Study, trial: int, score: TrialScore | None, state: TrialState
) -> TrialRow:
    """The row as `read_trials` would read it. Raises StoreError."""
    options = study.options(trial)
    content = row_bytes(study, score, trial=trial, options=options, state=state)
    store.write(row_path(study, "search", trial), content)
    return TrialRow(
        trial=trial,
        options=options,
        state=state,
        size=score.size if score else 0,
        value=score.value if score else math.inf,
        tie=score.tie if score else math.inf,
        queries_mean=score.queries_mean if score else None,
        test_accuracy=score.test_accuracy if score else None,
    )


def write_held_out(
    store: Store,
    study: Study,
    role: TrialRole,
    trial: int,
    options: Mapping[str, Scalar],
    score: TrialScore,
) -> None:
    """Raises StoreError."""
    content = row_bytes(study, score, trial=trial, options=options, state="complete", role=role)
    store.write(row_path(study, role, trial), content)


def read_trials(store: Store, study: Study) -> dict[int, TrialRow]:
    """By number; torn rows are left out, so that their trials count as not ended."""
    out = {}
    prefix = f"{layout.TUNING_ROWS}/{study.name}-t"
    for info in store.files.list(layout.TUNING_ROWS):
        if not info.path.startswith(prefix):
            continue
        try:
            row: dict[str, Any] = read_table(store.files.read(info.path)).to_pylist()[0]
            found = TrialRow(
                trial=int(row["trial"]),
                options=parse_json(row["settings"]),
                state=row["state"],
                size=int(row["size"]),
                value=_number(row["value"]),
                tie=_number(row["tie"]),
                queries_mean=row["queries_mean"],
                test_accuracy=row["test_accuracy"],
            )
        except (ValueError, KeyError, IndexError, TypeError, FileNotFoundError):
            continue
        out[found.trial] = found
    return out


def _number(value: float | None) -> float:
    return math.inf if value is None else float(value)


def best(trials: Mapping[int, TrialRow]) -> TrialRow | None:
    """Of those that went all the way; the earlier one of equals."""
    through = [trial for trial in trials.values() if trial.state == "complete"]
    return min(through, key=lambda t: (*t.rank, t.trial), default=None)


# --------------------------------------------------------------------------- row files

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


def row_path(study: Study, role: TrialRole, trial: int) -> str:
    name = f"t{trial:03d}" if role == "search" else role.replace(" ", "-")
    return f"{layout.TUNING_ROWS}/{study.name}-{name}.parquet"


def row_bytes(
    study: Study,
    score: TrialScore | None,
    *,
    trial: int,
    options: Mapping[str, Scalar],
    state: TrialState,
    role: TrialRole = "search",
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
