"""Attacks on the stored network, with its zeros, and on the shrunk one: what each model of a chain
takes in processor seconds.

    nice -n 10 python -m tests.bench.shrunk --architectures vgg11 [--images 8] [--out FILE]

Networks have random weights, pruned, and batch norm's statistics of random images, so that logits
depend on the image; an image's label is what the network says. Each is attacked in one process with
one thread as a task does it, first in one way and then in the other. The stored shape is compiled
once, with the dense network, as in a worker; each smaller one with its own attack, which counts.
Prints JSON with a record for each model and attack, and sums.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

from tests.attacks.conftest import settings, task
from tests.bench.output import tell
from tests.export.networks import images, logits, pruned

RACE = {"targets": 2, "steps": 20, "leads": 1, "walk": 10}
WAYS = ("stored", "shrunk")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--architectures", default="vgg11,resnet18")
    parser.add_argument("--methods", default="magnitude-local-filter,magnitude-global-filter")
    parser.add_argument("--rates", default="2,4,8,16,32,64", help="rate 1 is always there")
    parser.add_argument("--attacks", default="target_race_linf,target_race_l2")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--out", help="also write the JSON there")
    chosen = parser.parse_args(arguments)
    from prunegrid.workers.device import configure

    device = configure(1, None)
    runs: list[dict[str, Any]] = []
    architectures = chosen.architectures.split(",")
    for architecture in architectures:
        dense, _ = pruned(architecture, "magnitude-local-filter", 1)
        runs += _attacked(dense, architecture, "dense", 1.0, chosen, ways=("stored",))
        for method in chosen.methods.split(","):
            for rate in map(float, chosen.rates.split(",")):
                # The weights only: the dense network's object has all that is compiled.
                _take_over(dense, pruned(architecture, method, rate)[0])
                runs += _attacked(dense, architecture, method, rate, chosen, ways=WAYS)
    sums = [_sum(runs, architecture) for architecture in architectures]
    for each in sums:
        print(each["summary"], file=sys.stderr)
    tell({"device": device, "images": chosen.images, "sums": sums, "runs": runs}, chosen.out)


def _take_over(model: Any, other: Any) -> None:
    from prunegrid.workers.models.base import get_weights, set_weights

    set_weights(model, get_weights(other))


def _attacked(
    model: Any,
    architecture: str,
    method: str,
    rate: float,
    chosen: argparse.Namespace,
    *,
    ways: tuple[str, ...],
) -> list[dict[str, Any]]:
    from prunegrid.workers import model_cache
    from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard

    batch = images(model.input_shape[1:], chosen.images)
    labels = logits(model, batch).argmax(axis=1)
    runs = []
    for name in chosen.attacks.split(","):
        run: dict[str, Any] = {
            "architecture": architecture, "method": method, "rate": rate, "attack": name,
            "images": len(batch),
        }  # fmt: skip
        for way in ways:
            use = settings(name, "strict", options=RACE, network=way)
            began_s = time.process_time()
            small = model_cache.shrunk(model, use)
            columns, _ = attack_shard(
                model,
                ShardRequest(
                    task=task(use, 0, len(batch)),
                    images=batch,
                    labels=labels,
                    pool_images=None,
                    pool_labels=None,
                    model_accuracy=1.0,
                ),
                beat=lambda fraction, note: None,
                stop_requested=lambda: False,
                shrunk=small,
            )
            run[f"{way}_s"] = round(time.process_time() - began_s, 2)
            run[f"{way}_median"] = float(np.median(columns["distance"]))
            run[f"{way}_passes"] = float(np.mean(columns["queries"]))
            run["redone"] = columns["attacked_network"].count("redone")
        runs.append(run)
        print({key: value for key, value in run.items() if key != "images"}, file=sys.stderr)
    return runs


def _sum(runs: list[dict[str, Any]], architecture: str) -> dict[str, Any]:
    mine = [r for r in runs if r["architecture"] == architecture and r["rate"] > 1]
    stored, shrunk = (sum(r[f"{way}_s"] for r in mine) for way in WAYS)
    return {
        "architecture": architecture,
        "stored_s": stored,
        "shrunk_s": shrunk,
        "cheaper": stored / shrunk,
        "redone": sum(r["redone"] for r in mine),
        "summary": f"{architecture}, pruned: {stored:.0f} s stored, {shrunk:.0f} s shrunk, "
        f"{stored / shrunk:.1f} times cheaper",
    }


if __name__ == "__main__":
    main()
