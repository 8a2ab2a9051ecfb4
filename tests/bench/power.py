"""How often each test of the report calls a difference, with data made like a store's.

`python -m tests.bench.power`: JSON, a row per number of seeds and images: the share of cells called
at p < 5 % where nothing differs (false positives), and where robust accuracy truly falls by three
points (power), one test at a time and after each correction over a family of cells.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prunegrid.orchestrator.report.crossed import crossed_t
from prunegrid.orchestrator.report.moderated import false_discovery, moderated_t
from prunegrid.orchestrator.report.statistics import SIGNIFICANT, Floats, holm, paired_p

CELLS = 60  #: of a family
POINTS = 0.03  #: the true change
_SLOPE = 0.18  #: of accuracy by logit, averaged over images like these


def make_differences(
    rng: np.random.Generator,
    *,
    cells: int,
    seeds: int,
    images: int,
    change: float,
    lasting: float = 0.0,
) -> NDArray[np.float64]:
    """Robust on the pruned side less robust on the dense side, [cells, seeds, images], in -1, 0, 1.

    An image's outcome is a draw by its logit: the image's own difficulty, shared by all, the cell's
    level, the seed's part shared by all cells (its training), the seed's part in this cell, and the
    change. Draws of both sides agree for 7 images of 10, as those of two related networks do.
    `lasting`: SD of what one side finds hard about an image with every seed.
    """
    difficulty = rng.normal(0, 1.2, images)
    shared = rng.normal(0, 0.08, seeds)
    own = rng.normal(0, lasting, (2, images)) if lasting else np.zeros((2, images))
    out = np.empty((cells, seeds, images))
    for cell in range(cells):
        level = 0.3 + difficulty + rng.normal(0, 0.3)
        for seed in range(seeds):
            common = shared[seed] + rng.normal(0, 0.06)
            draws = rng.random(images)
            others = np.where(rng.random(images) < 0.7, draws, rng.random(images))
            pruned = level + common + rng.normal(0, 0.08) + change / _SLOPE
            sides = ((others, pruned + own[0]), (draws, level + own[1]))
            robust = [d < 1 / (1 + np.exp(-z)) for d, z in sides]
            out[cell, seed] = robust[0].astype(float) - robust[1]
    return out


def p_values(differences: NDArray[np.float64]) -> dict[str, Floats]:
    """By test, of each cell."""
    n_cells, n_seeds, _ = differences.shape
    by_seed = differences.mean(axis=2)
    n = np.full(n_cells, float(n_seeds))
    mean, sd = by_seed.mean(axis=1), by_seed.std(axis=1, ddof=1)
    return {
        "paired t": paired_p(n, mean, sd),
        "moderated t": moderated_t(n, mean, sd).p,
        "crossed t": crossed_t(list(differences)).p,
    }


def rates(*, seeds: int, images: int, change: float, repeats: int) -> dict[str, dict[str, float]]:
    """Share of all cells called, by test and correction."""
    called: dict[str, dict[str, list[float]]] = {}
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, seeds, images])
        made = make_differences(rng, cells=CELLS, seeds=seeds, images=images, change=change)
        for test, p in p_values(made).items():
            corrected = {"alone": p, "Holm": holm(p), "Benjamini-Hochberg": false_discovery(p)}
            for name, values in corrected.items():
                share = float((values < SIGNIFICANT).mean())
                called.setdefault(test, {}).setdefault(name, []).append(share)
    return {
        test: {name: round(float(np.mean(shares)), 3) for name, shares in by.items()}
        for test, by in called.items()
    }


def table(repeats: int) -> Iterator[dict[str, object]]:
    for seeds in (2, 3, 5):
        for images in (128, 512):
            for change in (0.0, -POINTS):
                found = rates(seeds=seeds, images=images, change=change, repeats=repeats)
                yield {"seeds": seeds, "images": images, "change": change, "called": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40, help="families of cells for each row")
    print(json.dumps(list(table(parser.parse_args().repeats)), indent=1))
