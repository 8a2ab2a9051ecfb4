"""Which eps of different attacks are compared: the k-th of one with the k-th of another.

Distances in different norms can't be compared, so the paper pairs eps by their order (the rows of
Figures 1 to 3). A store may hold more eps of one attack than of another; then the paper's own are
taken where they are known.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.report.results import SETTING, groups

#: Axis titles of the paper's Figures 1 to 3: changed elements for L0, else pixels in [0, 1].
PAPER_EPS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "cnn5": {
        "bb_l0": (3, 6, 9, 12),
        "cw_l2": (1, 2, 3, 4),
        "pgd_linf": (4 / 255, 8 / 255, 16 / 255, 32 / 255),
    },
    "resnet8": {
        "bb_l0": (2, 4, 6, 8),
        "cw_l2": (2, 2.5, 3, 3.5),
        "pgd_linf": (0.25 / 255, 0.5 / 255, 1 / 255, 2 / 255),
    },
    "vgg11": {
        "bb_l0": (2, 6, 10, 14),
        "cw_l2": (1.5, 2.5, 3.5, 4.5),
        "pgd_linf": (0.125 / 255, 0.25 / 255, 0.5 / 255, 1 / 255),
    },
    "resnet18": {
        "bb_l0": (20, 70, 120, 170),
        "cw_l2": (10, 15, 20, 25),
        "pgd_linf": (0.25 / 255, 0.5 / 255, 1 / 255, 2 / 255),
    },
}


def _levels(architecture: str, norm: str, found: list[float], least: int) -> list[float]:
    """Of an attack's ascending eps, `least` that are compared with other attacks': the paper's,
    or else the highest."""
    if len(found) == least:
        return found
    known_by = PAPER_EPS.get(architecture, {}).items()
    paper = next((eps for attack, eps in known_by if attack.endswith(f"_{norm}")), ())
    known = [eps for eps in found if eps in paper]
    return known if len(known) == least else found[-least:]


def add_strength(cells: pd.DataFrame) -> pd.DataFrame:
    """`cells` with a column `strength`: 1, 2, ... for the eps levels of each setting, protocol
    and attack, from weak to strong; 0 for an eps that has no counterpart."""
    keys = [*SETTING, "protocol", "attack", "eps"]
    known = cells[[*keys, "norm"]].drop_duplicates(keys).sort_values(keys)
    parts = []
    for place, part in groups(known, [*SETTING, "protocol"]):
        eps = {str(a): list(map(float, f["eps"])) for (a,), f in groups(part, ["attack"])}
        least = min(map(len, eps.values()))
        norms = dict(zip(part["attack"], part["norm"], strict=True))
        chosen = {a: _levels(str(place[0]), norms[a], found, least) for a, found in eps.items()}
        ranks = [
            chosen[a].index(e) + 1 if e in chosen[a] else 0
            for a, e in zip(part["attack"], part["eps"], strict=True)
        ]
        parts.append(part[keys].assign(strength=ranks))
    if not parts:
        return cells.assign(strength=pd.Series(dtype=int))
    return cells.merge(pd.concat(parts), on=keys, how="left")


def with_counterparts(cells: pd.DataFrame) -> pd.DataFrame:
    """Those of `cells` whose eps is a level, with `strength`."""
    ranked = add_strength(cells)
    return ranked[ranked["strength"] > 0]
