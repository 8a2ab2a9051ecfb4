"""Whether the image rows of an attack task agree with the task and with each other. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from prunegrid.workers.contract import AttackTask
from prunegrid.workers.image_rows import ImageRows, task_columns


def image_findings(rows: ImageRows) -> Iterator[tuple[str, str]]:
    """(finding's name, message)."""
    task: AttackTask = rows.task
    table = rows.table
    columns = {n: table.column(n).to_numpy(zero_copy_only=False) for n in table.schema.names}
    for name, value in (task_columns(task) | {"seed": task.seed}).items():
        if set(columns[name]) - ({value, task.attack.attack} if name == "attack" else {value}):
            yield "key-mismatch", f"{name}: expected {value} in every row, as the file's task says"
    expected = Counter({i: len(task.attack.eps) or 1 for i in range(task.start, task.stop)})
    if Counter(columns["image"].tolist()) != expected:
        yield "images-missing", f"expected images {task.start}..{task.stop - 1}, once per eps"
    eps = columns["eps"].astype(float)
    fixed = ~np.isnan(eps)
    if {*eps[fixed]} != {*task.attack.eps} or (len(eps) and fixed.all() != bool(task.attack.eps)):
        yield "key-mismatch", f"eps: expected {task.attack.eps or 'none'}, as the task says"
    yield from _distances(columns, eps)


def _distances(columns: dict[str, np.ndarray], eps: np.ndarray) -> Iterator[tuple[str, str]]:
    distance = columns["distance"].astype(float)
    skipped, broken = columns["skipped"].astype(bool), columns["broken"].astype(bool)
    wrong = columns["label"] != columns["clean_prediction"]
    if np.any((distance == 0)[~skipped] != wrong[~skipped]):
        yield "distance-mismatch", "a distance is 0 without a misclassified image, or reversed"
    if np.any(distance < 0) or np.any(np.isnan(distance)):
        yield "out-of-range", "a distance is negative or not a number"
    over = ~np.isnan(eps) & broken & (distance > eps * (1 + 1e-6) + 1e-6)
    if np.any(over):
        yield "out-of-range", f"{int(over.sum())} broken images are farther away than eps"
    if np.any(broken & ~columns["verified"].astype(bool) & ~skipped):
        yield "unverified", "an image counts as broken that was not re-checked"
    attacked = ~skipped & ~wrong
    if np.any((broken != np.isfinite(distance))[attacked]):
        yield "distance-mismatch", "an image is broken at no distance, or stands at one"
    found = columns["adversarial_prediction"].astype(float)
    if np.any((np.isnan(found) | (found == columns["label"]))[attacked & broken]):
        yield "not-adversarial", "an image counts as broken whose class did not change"
