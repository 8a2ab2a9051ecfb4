"""What each part of our own attacks brings.

    python -m tests.bench.ablation [--rates 1,8] [--methods magnitude-local-filter] [--images 64]
        [--norms l0,l2,linf] [--out FILE]

On the networks of `tests.bench.peers`: each attack as it is, and without or with more of one of
its parts. Prints JSON and, on standard error, Markdown tables of means over the networks. The best
known is the nearest of a table's own rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

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
}
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
            peers.judge(mine, norm)
            records += mine
            print(peers.tables(mine), file=sys.stderr, flush=True)
    tell({"settings": vars(chosen), "runs": records}, chosen.out)
    print(peers.tables(records), file=sys.stderr)


if __name__ == "__main__":
    main()
