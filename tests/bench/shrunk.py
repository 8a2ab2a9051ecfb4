"""Attacks on the stored network, with its zeros, and on the shrunk one: what each model of a chain
takes in processor seconds, compilation included.

    nice -n 10 python -m tests.bench.shrunk [--architectures vgg11,resnet18] [--out FILE]

A chain is trained on synthetic 32x32 images and pruned step by step. Each model is attacked as
tasks do it, in one process with one thread, first in one way and then in the other, on the first
images that it classifies correctly. Prints JSON with a record for each model and attack, and sums.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.output import tell
from tests.science import context, data, prune_task, train_task, training

ATTACKS = {
    "target_race_linf": {"targets": 2, "steps": 20, "leads": 1, "walk": 10},
    "target_race_l2": {"targets": 2, "steps": 20, "leads": 1, "walk": 10},
}
WAYS = ("stored", "shrunk")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--architectures", default="vgg11,resnet18")
    parser.add_argument("--methods", default="magnitude-local-filter,magnitude-global-filter")
    parser.add_argument("--rates", default="2,4,8,16,32,64", help="rate 1 is always there")
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--train-images", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3, help="of the dense network")
    parser.add_argument("--out", help="also write the JSON there")
    chosen = parser.parse_args(arguments)
    from prunegrid.workers.device import configure

    device = configure(1, None)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for architecture in chosen.architectures.split(","):
            runs += _chain(architecture, chosen, Path(folder))
    sums = [
        _sum(runs, architecture, pruned=pruned)
        for architecture in chosen.architectures.split(",")
        for pruned in (False, True)
    ]
    for each in sums:
        print(each["summary"], file=sys.stderr)
    tell({"device": device, "images": chosen.images, "sums": sums, "runs": runs}, chosen.out)


def _chain(architecture: str, chosen: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from prunegrid.workers.stages import prune, train

    where = context(folder / architecture, folder / "data")
    one = training(batch_size=20, max_epochs=1, learning_rate=0.001)
    dense = train_task(
        architecture=architecture,
        data=data("synthetic32", chosen.train_images),
        training=dataclasses.replace(one, max_epochs=chosen.epochs),
    )
    train(dense, where)
    runs = _attacked(dense, "dense", 1.0, where, chosen)
    for method in chosen.methods.split(","):
        parent: Any = dense
        for rate in map(float, chosen.rates.split(",")):
            parent = prune_task(parent, method=method, rate=rate, training=one)
            prune(parent, where)
            runs += _attacked(parent, method, rate, where, chosen)
    return runs


def _attacked(
    model_task: Any, method: str, rate: float, where: Any, chosen: argparse.Namespace
) -> list[dict[str, Any]]:
    from prunegrid.workers import model_cache
    from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard
    from prunegrid.workers.data.base import load
    from prunegrid.workers.models.base import set_weights

    stored = model_cache.stored(where, model_task.key)
    model = model_cache.network(model_task, where)
    set_weights(model, stored.weights)
    split = load(model_task.data, where.settings.data_dir).split("test")
    images, labels = split.floats(0, len(split)), split.labels
    right = np.flatnonzero(np.asarray(model(images, training=False)).argmax(axis=1) == labels)
    use = right[: chosen.images]
    runs = []
    for name in chosen.attacks.split(","):
        run: dict[str, Any] = {
            "architecture": model_task.architecture,
            "method": method,
            "rate": rate,
            "attack": name,
            "accuracy": stored.record.result.accuracy,
            "images": len(use),
        }
        for way in WAYS:
            began_s = time.process_time()
            task = _task(name, model_task, len(use), way)
            small = model_cache.shrunk(model, task.attack)
            columns, _ = attack_shard(
                model,
                ShardRequest(
                    task=task,
                    images=images[use],
                    labels=labels[use],
                    pool_images=images[:64],
                    pool_labels=labels[:64],
                    model_accuracy=stored.record.result.accuracy,
                ),
                beat=lambda fraction, note: None,
                stop_requested=lambda: False,
                shrunk=small,
            )
            run[f"{way}_s"] = time.process_time() - began_s
            run[f"{way}_median"] = float(np.median(columns["distance"])) if len(use) else None
        run["is_shrunk"] = small is not None
        run["redone"] = columns["attacked_network"].count("redone")
        runs.append(run)
        print(
            f"{run['architecture']} {method} {rate:g} {name}: {run['stored_s']:.1f} s stored, "
            f"{run['shrunk_s']:.1f} s shrunk, {len(use)} images, {run['redone']} redone",
            file=sys.stderr,
        )
    return runs


def _task(name: str, model_task: Any, images: int, network: Any) -> Any:
    from prunegrid.workers.contract import AttackSettings, AttackTask

    return AttackTask(
        architecture=model_task.architecture,
        data=model_task.data,
        attack=AttackSettings(
            attack=name,
            engine="strict",
            outputs="logits",
            options=tuple(sorted(ATTACKS[name].items())),
            eps=(),
            batch_size=16,
            skip_at_or_below_accuracy=None,
            network=network,
        ),
        split="test",
        start=0,
        stop=images,
        seed=0,
        parent_key=model_task.key,
    )


def _sum(runs: list[dict[str, Any]], architecture: str, *, pruned: bool) -> dict[str, Any]:
    mine = [r for r in runs if r["architecture"] == architecture and (r["rate"] > 1) == pruned]
    stored, shrunk = (sum(r[f"{way}_s"] for r in mine) for way in WAYS)
    what = "pruned" if pruned else "dense"
    return {
        "architecture": architecture,
        "models": what,
        "stored_s": stored,
        "shrunk_s": shrunk,
        "cheaper": stored / shrunk,
        "summary": f"{architecture}, {what}: {stored:.0f} s stored, {shrunk:.0f} s shrunk, "
        f"{stored / shrunk:.1f} times cheaper",
    }


if __name__ == "__main__":
    main()
