"""Run by itself: what models say of kept adversarials, for `prunegrid verify`. Reads from its
standard input a store's address and cases, each a transfer task with the image and eps of some
adversarials; prints the logits of each, as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prunegrid.workers import layout
from prunegrid.workers.adversarials import read_adversarials
from prunegrid.workers.artifacts import load_weights
from prunegrid.workers.catalog import dataset_of
from prunegrid.workers.contract import TransferTask, task_from_dict
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files, open_files


def logits_of(
    files: Files, task: TransferTask, rows: Sequence[Mapping[str, Any]]
) -> list[list[float | None]]:
    """[rows, classes]; None: not finite. Raises FileNotFoundError, ValueError, StorageError."""
    from prunegrid.workers.models.base import build, set_weights
    from prunegrid.workers.models.network_files import local_file

    found: dict[tuple[int, float | None], np.ndarray] = {}
    for key in task.attack_keys:
        kept = read_adversarials(files.read(layout.all_adversarials(key)), key)
        for image, eps, pixels in zip(kept.image, kept.eps, kept.adversarial, strict=True):
            found[int(image), None if math.isnan(eps) else float(eps)] = pixels
    images = np.stack([found[row["image"], row["eps"]] for row in rows])
    entry, own = dataset_of(task.data), task.network
    file = None if own is None else local_file(own, files)
    model = build(task.architecture, entry.shape, entry.classes, seed=0, own=own, file=file)
    set_weights(model, load_weights(files, task.parent_key).weights)
    logits = np.asarray(model(images, training=False))
    return [[float(x) if math.isfinite(x) else None for x in row] for row in logits]


def main() -> None:
    asked = parse_json(sys.stdin.read())
    files = open_files(asked["store"])
    answers = []
    for case in asked["cases"]:
        task = task_from_dict(case["task"])
        assert isinstance(task, TransferTask)
        try:
            answers.append(logits_of(files, task, case["rows"]))
        except (FileNotFoundError, KeyError) as error:
            raise ValueError(f"{case['key']}: its adversarials are gone: {error}") from error
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
