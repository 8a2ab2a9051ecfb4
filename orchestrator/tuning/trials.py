"""Trials of a search: their scores, their rows, and what a search finds by them.

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

import numpy as np
import pyarrow as pa

from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.objective import (
    Comparison,
    Floats,
    geometric_mean,
    median_distance,
    robust_accuracy,
)
from prunegrid.orchestrator.tuning.space import TrialOptions
from prunegrid.orchestrator.tuning.study import AttackStudy, Study, TrainingStudy
from prunegrid.workers import layout
from prunegrid.workers.catalog import attack_of
from prunegrid.workers.contract import AttackTask
from prunegrid.workers.decode import parse_json
from prunegrid.workers.image_rows import (
    PROVENANCE_FIELDS,
    SCHEMA_VERSION,
    ImageRows,
    parquet_bytes,
    provenance_columns,
    read_table,
)
from prunegrid.workers.keys import Scalar
from prunegrid.workers.records import Provenance
from prunegrid.workers.scratch import find_images, find_record

TrialState = Literal["running", "complete", "stopped early", "over budget", "failed"]
TrialRole = Literal["search", "held-out tuned", "held-out cut", "held-out whole"]


@dataclass(frozen=True, kw_only=True)
class TrialStanding:
    """How far a trial came, and how well."""

    size: int = 0
    value: float = math.inf
    tie: float = math.inf  #: tells trials of one value apart; smaller is better
    queries_mean: float | None = None
    test_accuracy: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        return (self.value, self.tie)


_STANDING = tuple(field.name for field in dataclasses.fields(TrialStanding))


@dataclass(frozen=True, kw_only=True)
class TrialScore(TrialStanding):
    """At the end of a rung, by the results of these tasks."""

    task_keys: tuple[str, ...]
    provenance: Provenance  #: of the last task, with the duration of all


def latest(provenances: Sequence[Provenance]) -> Provenance:
    """The last one's, with the time of all."""
    last = max(provenances, key=lambda p: p.started_at)
    return dataclasses.replace(last, duration_s=sum(p.duration_s for p in provenances))


@dataclass(frozen=True, kw_only=True)
class TrialUpdate:
    """A trial's standing at the end of a rung, or its end."""

    trial: int
    score: TrialScore | None  #: None where it failed
    ended: bool
    over_budget: bool = False
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialRow(TrialStanding):
    """What the store knows of a trial."""

    trial: int
    options: Mapping[str, Scalar]
    state: TrialState

    @property
    def ended(self) -> bool:
        return self.state != "running"


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
    standing = score or TrialStanding()
    known = {name: getattr(standing, name) for name in _STANDING}
    return TrialRow(trial=trial, options=options, state=state, **known)


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
            known = {name: row[name] for name in _STANDING if row[name] is not None}
            trial, options = int(row["trial"]), parse_json(row["settings"])
            out[trial] = TrialRow(trial=trial, options=options, state=row["state"], **known)
        except (ValueError, KeyError, IndexError, TypeError, FileNotFoundError):
            continue
    return out


def best(trials: Mapping[int, TrialRow]) -> TrialRow | None:
    """Of those that went all the way; the earlier one of equals."""
    through = [trial for trial in trials.values() if trial.state == "complete"]
    return min(through, key=lambda t: (*t.rank, t.trial), default=None)


@dataclass(frozen=True, kw_only=True)
class Rival:
    """Settings on the held-out images, beside the tuned ones."""

    role: TrialRole
    options: Mapping[str, Scalar]
    queries_mean: float
    distances: Floats  #: [models, images]
    comparison: Comparison | None  #: of the tuned ones against these; None for themselves


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    study: Study
    trials: Mapping[int, TrialRow]
    best: TrialRow
    rivals: tuple[Rival, ...] = ()  #: the tuned ones first; none for training


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
        entry = attack_of(study.base)
        values |= {
            "algorithm": entry.name if entry else study.base.attack,
            "engine": study.base.engine,
            "outputs": study.base.outputs,
            "model_keys": [model.task_key for model in study.models],
        }
        if role != "search":
            values["size_max"] = study.stop - study.edges[-1]
    if score is not None:
        values |= {name: getattr(score, name) for name in _STANDING}
        values["task_keys"] = list(score.task_keys)
        values |= {k: v[0] for k, v in provenance_columns(score.provenance, 1).items()}
        values["seed"] = study.seed
    row = {name: [values[name]] for name in TUNING_SCHEMA.names}
    return parquet_bytes(pa.table(row, schema=TUNING_SCHEMA))


# --------------------------------------------------------------------------- scores


def score(study: Study, options: TrialOptions, rung: int, store: str) -> TrialScore:
    """After rung `rung`, whose tasks must have their results. Raises FileNotFoundError,
    ValueError, StorageError."""
    if isinstance(study, TrainingStudy):
        return _score_training(study, options, rung, store)
    tasks = [task for r in range(rung + 1) for task in study.tasks(options, r)]
    return score_attack(study, tasks, store)


def score_attack(study: AttackStudy, tasks: Sequence[AttackTask], store: str) -> TrialScore:
    """Of all the tasks' images together."""
    parts = [find_images(task, store) for task in tasks]
    distances = distances_of(study, parts)
    if study.eps is None:
        value, tie = median_distance(distances), geometric_mean(distances)
    else:
        value, tie = robust_accuracy(distances, study.eps), 0.0
    queries = np.concatenate([attacked_queries(part) for part in parts])
    return TrialScore(
        size=distances.shape[1],
        value=value,
        tie=tie,
        queries_mean=float(queries.mean()) if len(queries) else 0.0,
        test_accuracy=None,
        task_keys=tuple(task.key for task in tasks),
        provenance=latest([part.provenance for part in parts]),
    )


def distances_of(study: AttackStudy, parts: Sequence[ImageRows]) -> Floats:
    """[models, images], as `objective` wants them. A fixed-eps attack knows no distance: 0 where
    it broke the image within eps, else infinite."""
    rows: dict[str, list[Floats]] = {model.task_key: [] for model in study.models}
    for part in sorted(parts, key=lambda part: part.task.start):
        rows[part.task.parent_key].append(_distances(part))
    return np.stack([np.concatenate(found) for found in rows.values()])


def distances_in(parts: Sequence[ImageRows]) -> Floats:
    """Of every image of the parts, one after another."""
    return np.concatenate([_distances(part) for part in parts])


def _distances(part: ImageRows) -> Floats:
    columns = {
        name: part.table.column(name).to_numpy(zero_copy_only=False)
        for name in ("label", "clean_prediction", "distance", "broken")
    }
    wrong = columns["label"] != columns["clean_prediction"]
    distance = columns["distance"].astype(float)
    if part.task.attack.eps:
        distance = np.where(columns["broken"].astype(bool), 0.0, np.inf)
    return np.where(wrong, np.nan, distance)


def attacked_queries(part: ImageRows) -> Floats:
    """Of the images that were attacked: not of those that were wrong to begin with."""
    queries = part.table.column("queries").to_numpy(zero_copy_only=False).astype(float)
    counts = ~np.isnan(_distances(part))
    return np.asarray(queries[counts], dtype=float)


def _score_training(
    study: TrainingStudy, options: TrialOptions, rung: int, store: str
) -> TrialScore:
    """The mean validation loss of all links so far, over all chains."""
    tasks = [task for r in range(rung + 1) for task in study.tasks(options, r)]
    records = [find_record(task, store) for task in tasks]
    lost = any(record.result.unusable for record in records)
    loss = math.fsum(record.result.validation_loss for record in records) / len(records)
    return TrialScore(
        size=rung + 1,
        value=loss if math.isfinite(loss) else math.inf,
        tie=math.inf if lost else -math.fsum(r.result.validation_accuracy for r in records),
        queries_mean=None,
        test_accuracy=None
        if lost
        else math.fsum(r.result.accuracy for r in records) / len(records),
        task_keys=tuple(task.key for task in tasks),
        provenance=latest([record.provenance for record in records]),
    )
