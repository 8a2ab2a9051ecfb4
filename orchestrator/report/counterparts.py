"""Which attack of one protocol or store stands for which of another: the same label, or else the
same norm. Pure.

Protocols may name other attacks for one threat: the paper's C&W, and the strongest in L2. What is
compared is what an attack finds, adversarials within eps in a norm, so their cells stand beside
each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunegrid.orchestrator.names import attack_title

#: Between two labels that stand for each other.
BESIDE = " / "


def attacks_of(cells: pd.DataFrame) -> dict[str, str]:
    """Label to norm, the strongest first: that with the lowest mean robust accuracy."""
    means = cells.groupby(["attack", "norm"], sort=True)["robust_accuracy"].mean()
    order = means.sort_values(kind="stable", na_position="last").index
    return {str(attack): str(norm) for attack, norm in order}


def match_attacks(sides: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """Rows of side to label. `sides`: what `attacks_of` says of each.

    A label that several sides have is one row. Of those left, strongest first, each joins the first
    row of its norm in which its side has none.
    """
    count = [label for attacks in sides.values() for label in attacks]
    common = [label for label in dict.fromkeys(count) if count.count(label) > 1]
    rows = [
        {side: label for side, attacks in sides.items() if label in attacks} for label in common
    ]
    norms = [
        next(attacks[label] for attacks in sides.values() if label in attacks) for label in common
    ]
    for side, attacks in sides.items():
        for label, norm in attacks.items():
            if label in common:
                continue
            fits = (
                row for row, of in zip(rows, norms, strict=True) if of == norm and side not in row
            )
            row = next(fits, None)
            if row is None:
                rows.append({side: label})
                norms.append(norm)
            else:
                row[side] = label
    return rows


def title_of(attack: str) -> str:
    """Of a label, or of two that stand for each other."""
    return BESIDE.join(dict.fromkeys(map(attack_title, attack.split(BESIDE))))
