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

#: An attack that goes well for so many seconds is left.
ENOUGH_S = 60.0


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
        result = action()
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
    print(json.dumps(parts))


if __name__ == "__main__":
    main()
