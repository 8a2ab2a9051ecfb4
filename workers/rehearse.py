"""A grid tried out in small, before anything trains: each data set loaded, each network built and
pruned by every method, two images sent through every attack.

Run as a module it answers the driver, which imports no TensorFlow: see `rehearse`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard
from prunegrid.workers.catalog import dataset_of, method_of
from prunegrid.workers.child_process import limited
from prunegrid.workers.context import Interrupted
from prunegrid.workers.contract import AttackTask, PruneTask, TrainTask
from prunegrid.workers.data.base import Dataset, load
from prunegrid.workers.decode import from_dict
from prunegrid.workers.device import configure
from prunegrid.workers.entry import describe
from prunegrid.workers.models.base import build, get_weights, set_weights
from prunegrid.workers.models.kernels import prunable
from prunegrid.workers.pruning.step import prune_step
from prunegrid.workers.pruning.trained_network import TrainedNetwork
from prunegrid.workers.rehearsal import IMAGES, Rehearsal, RehearsedPart
from prunegrid.workers.user_code import cause

#: An attack that goes well for so many seconds is left.
ENOUGH_S = 60.0
#: Of the test images, to say how good a trained network is.
JUDGED_IMAGES = 256


def rehearse(asked: Rehearsal) -> Iterator[RehearsedPart]:
    """Each part in turn; what rests on one that failed is left out."""
    label, data = asked.label, asked.dense.data
    place = ("datasets", data.dataset) if data.own else ("architectures", label, "dataset")
    part, dataset = _try(place, data.dataset, lambda: load(data, asked.data_dir))
    yield part
    part, model = _try(("architectures", label), label, lambda: _built(asked.dense))
    yield part if model is None else dataclasses.replace(part, parameters=model.count_params())
    if dataset is None or model is None:
        return
    if asked.dense.network is not None and asked.dense.network.trained:
        what = f"{label} as it is trained"
        part, note = _try(("architectures", label), what, lambda: _judged(model, dataset))
        yield part if note is None else dataclasses.replace(part, note=note)
    start = get_weights(model)
    for prune in asked.pruned:
        what = f"{prune.pruning.method} to {prune.pruning.rate:g} on {label}"
        yield _try(("methods",), what, functools.partial(_prune, prune, model, dataset))[0]
    set_weights(model, start)
    for name, task in asked.attacked:
        what = f"{name} on {label} ({task.attack.engine})"
        yield _try(("attacks", name), what, functools.partial(_attack, task, model, dataset))[0]


def _try(where: tuple[str, ...], what: str, action: Callable[[], Any]) -> tuple[RehearsedPart, Any]:
    began_s, result, error = time.monotonic(), None, ""
    try:
        with limited(what):
            result = action()
    except SystemExit as problem:  # a user's code ends the process
        error = cause(problem)
    except Exception as problem:
        error = describe(problem).removeprefix("UserCodeError: ")
    took_s = round(time.monotonic() - began_s, 3)
    return RehearsedPart(where=where, what=what, took_s=took_s, error=error), result


def _built(task: TrainTask) -> keras.Model:
    entry, own = dataset_of(task.data), task.network
    file = Path(own.file_path) if own is not None and own.file_path else None
    seed = None if own is not None and own.trained else task.seed
    model = build(task.architecture, entry.shape, entry.classes, seed=seed, own=own, file=file)
    prunable(model, task.prune_except)  # refused now
    return model


def _judged(model: keras.Model, dataset: Dataset) -> str:
    """How often a trained network is right, and what may be wrong where that is like guessing."""
    split = dataset.test
    count = min(len(split), JUDGED_IMAGES)
    found = np.asarray(model(split.floats(0, count), training=False)).argmax(axis=1)
    labels = np.asarray(split.labels[:count])
    share, guess = float((found == labels).mean()), np.bincount(labels).max() / count
    said = f"right on {share:.1%} of {count} test images"
    if share > guess + 3 * math.sqrt(guess * (1 - guess) / count):
        return said
    return (
        f"{said}, hardly more than the {guess:.1%} of their most frequent class: images come as "
        "float32 in [0, 1], so a network that learned another scale needs a layer for it, such as "
        "Rescaling; labels are numbered as in the data set"
    )


def _prune(task: PruneTask, model: keras.Model, dataset: Dataset) -> None:
    method = method_of(task.pruning)
    if method is None:
        raise ValueError(f"unknown pruning method {task.pruning.method!r}")
    layers, weights = prunable(model, task.prune_except), get_weights(model)
    prune_step(
        {layer.name: weights[layer.path] for layer in layers},
        {layer.name: np.ones(layer.shape, dtype=bool) for layer in layers},
        {layer.name: layer.kind for layer in layers},
        method=method,
        rate=task.pruning.rate,
        parent_rate=1.0,
        seed=task.seed,
        network=TrainedNetwork(
            model, {layer.name: layer.path for layer in layers}, dataset.train, task.seed
        ),
    )


def _attack(task: AttackTask, model: keras.Model, dataset: Dataset) -> None:
    until_s = time.monotonic() + ENOUGH_S
    split = dataset.split(task.split)
    pool = min(len(split), 32)
    images = split.floats(0, pool)
    # What a network that is not trained says: images that it has wrong are not attacked.
    labels = np.asarray(model(images, training=False)).argmax(axis=1)
    try:
        attack_shard(
            model,
            ShardRequest(
                task=dataclasses.replace(task, start=0, stop=IMAGES),
                images=images[:IMAGES],
                labels=labels[:IMAGES],
                pool_images=images,
                pool_labels=labels,
                model_accuracy=math.inf,  # no threshold skips it
            ),
            beat=lambda fraction, note: None,
            stop_requested=lambda: time.monotonic() > until_s,
        )
    except Interrupted:
        return


def main() -> None:
    """[Rehearsal] to [RehearsedPart], as JSON."""
    configure(1, None)
    parts = [
        dataclasses.asdict(part)
        for raw in json.load(sys.stdin)
        for part in rehearse(from_dict(Rehearsal, raw))
    ]
    print()  # what a user's code printed may have no end of line
    print(json.dumps(parts))


if __name__ == "__main__":
    main()
