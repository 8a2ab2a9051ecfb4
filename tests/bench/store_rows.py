"""Results as workers would leave them, made in milliseconds: real keys, real schemas, real files.

Model records and image rows; weights are left out, their size says nothing about the store.
"""

from __future__ import annotations

import numpy as np

from prunegrid.workers import layout
from prunegrid.workers.contract import AttackTask, Task
from prunegrid.workers.image_rows import images_to_parquet
from prunegrid.workers.keys import digest
from tests.fakes import fake_model, provenance

CLASSES = 10


def result_file(task: Task) -> tuple[str, bytes]:
    """Path and content of what makes the task done."""
    if isinstance(task, AttackTask):
        return layout.image_rows(task.key), image_rows(task)
    return layout.model_record(task.key), fake_model(task).to_json().encode()


def image_rows(task: AttackTask) -> bytes:
    """One row per image and eps. Distances are drawn by the attacked model, so that its eps and
    shards agree; as floats of full precision they compress as badly as measured ones."""
    draw = np.random.default_rng(int(digest(task.parent_key, length=8), 16))
    distance = draw.exponential(2.0, size=task.stop)[task.start :]
    image = np.arange(task.start, task.stop)
    label = image % CLASSES
    wrong = draw.random(task.stop)[task.start :] < 0.05
    distance[wrong] = 0.0
    n_eps = len(task.attack.eps) or 1
    eps = np.tile(np.array(task.attack.eps, float), len(image)) if task.attack.eps else None
    image, label, wrong, distance = (np.repeat(x, n_eps) for x in (image, label, wrong, distance))
    broken = np.ones(len(image), bool) if eps is None else distance < eps
    rows = len(image)
    columns = {
        "image": image,
        "eps": [None] * rows if eps is None else eps,
        "label": label,
        "clean_prediction": (label + wrong) % CLASSES,
        "adversarial_prediction": np.ma.masked_array((label + 1) % CLASSES, ~broken),
        "distance": np.where(broken, distance, np.inf),
        "distance_loose": [None] * rows,
        "distance_pixels": [None] * rows,
        "broken": broken,
        "verified": np.ones(rows, bool),
        "skipped": np.zeros(rows, bool),
        "queries": np.where(wrong, 0, 40),
        "compute_batch": np.full(rows, task.attack.batch_size),
        "zero_gradient": np.zeros(rows, bool),
        "broken_first_step": [None] * rows,
        "backward_passes": np.where(wrong, 0, 38),
        "flat_passes": np.zeros(rows, int),
        "broken_by": [None] * rows,
        "attacked_network": ["stored"] * rows,
    }
    return images_to_parquet(columns, task=task, provenance=provenance(task, attempt=1))
