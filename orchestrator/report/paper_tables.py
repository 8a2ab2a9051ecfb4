"""The published Tables 1 and 2, as printed, and the numbers in them that contradict each other."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from prunegrid.orchestrator.names import attack_title, parse_number

PAPER = "Merkle, Samsinger, Schöttle: Pruning in the Face of Adversaries, arXiv:2108.08560 (2021)"

#: Printed to the second decimal of a percentage: half of its last digit, and float rounding.
ROUNDING = 0.005 + 1e-6


@dataclass(frozen=True, kw_only=True)
class PaperCell:
    """One printed number."""

    table: int
    method: str
    attack: str  #: "" for clean accuracy
    eps: float | None  #: as the label has it, in the norm's units
    rate: float
    accuracy: float  #: percent
    margin: float | None  #: percent, to the unpruned network of the same row

    @property
    def where(self) -> str:
        row = f"{attack_title(self.attack)} {self.label}" if self.attack else "clean"
        return f"Table {self.table}, {row}, rate {self.rate:g}"

    @property
    def row(self) -> str:
        """Its row's title; Table 1 has a row for each method."""
        if self.attack:
            return f"{attack_title(self.attack)} {self.label}"
        return "clean" if self.table == 2 else self.method

    @property
    def label(self) -> str:
        if self.eps is None:
            return ""
        if self.attack.endswith("linf"):
            return f"{round(255 * self.eps, 4):g}/255"
        return f"{self.eps:g}"


@dataclass(frozen=True, kw_only=True)
class Misprint:
    """A number that its row's dense accuracy and its own margin contradict."""

    cell: PaperCell
    implied: float  #: percent


@cache
def paper_cells() -> tuple[PaperCell, ...]:
    """Both tables, as printed."""
    text = Path(__file__).with_name("paper_tables.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(
        PaperCell(
            table=int(row["table"]),
            method=row["method"],
            attack=row["attack"],
            eps=_eps(row["eps"]),
            rate=float(row["rate"]),
            accuracy=float(row["accuracy"]),
            margin=float(row["margin"]) if row["margin"] else None,
        )
        for row in csv.DictReader(lines)
    )


def _eps(text: str) -> float | None:
    return float(parse_number(text)) if text else None


def find_misprints(cells: Sequence[PaperCell]) -> tuple[Misprint, ...]:
    """Numbers that differ from dense accuracy + margin by more than three roundings explain.

    Where every margin of a row disagrees, its dense accuracy is the misprint.
    """
    rows: dict[tuple[object, ...], list[PaperCell]] = defaultdict(list)
    for cell in cells:
        rows[cell.table, cell.method, cell.attack, cell.eps].append(cell)
    out = []
    for row in rows.values():
        dense = next((cell for cell in row if cell.rate == 1), None)
        pruned = [(cell, cell.margin) for cell in row if cell.margin is not None]
        if dense is None or not pruned:
            continue
        off = [(c, m) for c, m in pruned if abs(dense.accuracy + m - c.accuracy) > 3 * ROUNDING]
        if len(off) == len(pruned) > 1:
            implied = float(np.median([c.accuracy - m for c, m in off]))
            out.append(Misprint(cell=dense, implied=implied))
        else:
            out += [Misprint(cell=c, implied=dense.accuracy + m) for c, m in off]
    return tuple(out)
