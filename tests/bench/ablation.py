"""What each part of our own attacks brings.

    python -m tests.bench.ablation [--rates 1,8] [--methods magnitude-local-filter] [--images 64]
        [--norms l0,l2,linf] [--out FILE]

On the networks of `tests.bench.peers`: each attack as it is, and without or with more of one of
its parts; in L0 also what it is made of. Prints JSON and, on standard error, Markdown tables of
means over the networks. The best known is the nearest of a table's own rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any
from unittest import mock

import numpy as np

from prunegrid.workers.attacks.algorithms import element_exchange
from tests.bench import peers
from tests.bench.output import tell

RACE: Mapping[str, dict[str, Any]] = {
    "": {},
    "one target": {"targets": 1},
    "four targets": {"targets": 4},
    "one lead": {"leads": 1},
    "a walk of one step": {"walk": 1},
    "lean": {"targets": 4, "steps": 40, "leads": 1},
    "long": {"steps": 200, "leads": 9, "walk": 100},
}
EXCHANGE: Mapping[str, dict[str, Any]] = {
    "": {},
    "no targets": {"targets": 0},
    "500 passes": {"passes": 500},
    "500 passes, no targets": {"passes": 500, "targets": 0},
}


def _as_it_starts(network: Any, part: Any, start: np.ndarray, *others: Any) -> Any:
    """In place of the exchanges: nothing is exchanged."""
    return start, np.zeros((3, len(part)), np.int64)


#: Parts of `exchange_l0` that are no options: its module's names, as they are instead.
OF_THE_MODULE: Mapping[str, dict[str, Any]] = {
    "one start": {"STARTS": 1},
    "no walk from a start": {"PATIENCE": 0, "FLAT_PATIENCE": 0},
    "one lead": {"LEADS": 1},
    "no exchanges": {"exchange_elements": _as_it_starts},
}
#: What it is made of, and what it is measured by.
BESIDE: Mapping[str, dict[str, Any]] = {"bb_l0": {}, "bb_exchange_l0": {}, "sigma_zero_l0": {}}
VARIANTS = {
    "l0": ("exchange_l0", EXCHANGE),
    "l2": ("target_race_l2", RACE),
    "linf": ("target_race_linf", RACE),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rates", default="1,8", help="of the prunings; 1: the dense network")
    parser.add_argument("--methods", default="magnitude-local-filter,random-local-unstructured")
    parser.add_argument("--norms", default="l0,l2,linf")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="also write the JSON there")
    chosen = parser.parse_args(arguments)
    from prunegrid.workers.device import configure

    configure(1, None)
    records = []
    for network, model, images, labels in peers.networks(chosen):
        for norm in chosen.norms.split(","):
            attack, variants = VARIANTS[norm]
            mine = [
                peers.ours(network, model, images, labels, f"{attack} {name}".strip(), each)
                for name, each in variants.items()
            ]
            if norm == "l0":
                at = (network, model, images, labels)
                for name, values in OF_THE_MODULE.items():
                    with mock.patch.multiple(element_exchange, **values):
                        mine.append(peers.ours(*at, f"{attack} {name}", {}))
                mine += [peers.ours(*at, name, each) for name, each in BESIDE.items()]
            peers.judge(mine, norm)
            records += mine
            print(peers.tables(mine), file=sys.stderr, flush=True)
    tell({"settings": vars(chosen), "runs": records}, chosen.out)
    print(peers.tables(records), file=sys.stderr)


if __name__ == "__main__":
    main()
