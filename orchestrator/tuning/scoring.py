"""How a trial stands, from its tasks' stored results."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from prunegrid.orchestrator.tuning.objective import (
    Floats,
    geometric_mean,
    median_distance,
    robust_accuracy,
)
from prunegrid.orchestrator.tuning.study import AttackStudy, Study, TrainingStudy, TrialOptions
from prunegrid.orchestrator.tuning.trials import TrialScore, latest
from prunegrid.workers.contract import AttackTask
from prunegrid.workers.image_rows import ImageRows
from prunegrid.workers.scratch import find_images, find_record


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
