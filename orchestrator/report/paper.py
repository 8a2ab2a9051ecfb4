"""The published tables beside a store's results: what agrees, what does not, and by how much.

`paper_tables.csv` holds Tables 1 and 2 as printed. Two kinds of defects are detected, not assumed:
a number contradicted by its printed margin is a misprint; labels of eps are shifted where the
results at other eps agree much better.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from prunegrid.orchestrator.names import attack_title, eps_text
from prunegrid.orchestrator.report.counterparts import attacks_of, match_attacks
from prunegrid.orchestrator.report.paper_tables import (
    ROUNDING,
    PaperCell,
    find_misprints,
    paper_cells,
)
from prunegrid.orchestrator.report.results import Results, Setting, groups
from prunegrid.orchestrator.report.statistics import Estimate, estimate

ARCHITECTURE = "resnet18"

#: Labels are called shifted where the mean difference shrinks to this share of what it is.
SHIFT_GAIN = 0.7


class PaperVerdict(StrEnum):
    AGREES = "agrees"
    MISPRINT = "misprint"  #: differs as printed, agrees with what the printed margin implies
    DIFFERS = "differs"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class ComparedCell:
    cell: PaperCell
    eps: float | None  #: of the results, once a shift of labels is undone
    ours: Estimate  #: fraction
    verdict: PaperVerdict
    implied: float | None  #: percent, for a misprinted number

    @property
    def difference(self) -> float:
        """Ours minus printed, in percentage points; NaN where ours is missing."""
        return 100 * self.ours.mean - self.cell.accuracy

    @property
    def label(self) -> str:
        """`eps` as tables show it; "" for clean accuracy."""
        return "" if self.eps is None else eps_text(self.cell.attack.rpartition("_")[2], self.eps)


@dataclass(frozen=True, kw_only=True)
class LabelShift:
    """The rows of an attack carry labels of other eps than they were run at."""

    attack: str
    printed: tuple[str, ...]
    found: tuple[str, ...]
    agree_as_printed: int
    agree_shifted: int
    mean_as_printed: float  #: mean absolute difference, percentage points; NaN: not comparable
    mean_shifted: float
    cells: int

    @property
    def text(self) -> str:
        return (
            f"{attack_title(self.attack)}: the rows printed as {', '.join(self.printed)} are "
            f"results at {', '.join(self.found)}: {self.agree_shifted} of {self.cells} cells agree "
            f"so, {self.agree_as_printed} as printed (mean difference {self.mean_shifted:.2f} "
            f"against {self.mean_as_printed:.2f} points)"
        )


@dataclass(frozen=True, kw_only=True)
class PaperComparison:
    """One experiment under one protocol beside the paper."""

    setting: Setting
    protocol: str
    cells: tuple[ComparedCell, ...]
    shifts: tuple[LabelShift, ...]
    #: The paper's attack and that of this protocol in its norm, where it is another.
    others: tuple[tuple[str, str], ...] = ()

    def count(self, table: int) -> Counter[PaperVerdict]:
        return Counter(c.verdict for c in self.cells if c.cell.table == table)

    @property
    def misprints(self) -> list[ComparedCell]:
        return [c for c in self.cells if c.implied is not None]

    def sentences(self) -> list[str]:
        """The outcome in plain words, a line each."""
        out = []
        for table in (1, 2):
            count = self.count(table)
            total = sum(count.values())
            parts = [f"{count[v]} {text}" for v, text in _VERDICT_TEXT.items() if count[v]]
            line = (
                f"Table {table}: {count[PaperVerdict.AGREES]} of {total} cells agree to the second"
            )
            out.append(f"{line} decimal" + (f"; {', '.join(parts)}" if parts else ""))
        for found in self.misprints:
            cell = found.cell
            ours = "–" if math.isnan(found.ours.mean) else f"{100 * found.ours.mean:.2f}"
            out.append(
                f"Misprint in {cell.where}: printed {cell.accuracy:.2f} with a margin of "
                f"{cell.margin:+.2f}, which implies {found.implied:.2f}; here {ours}"
            )
        out += [
            f"{attack_title(paper)} in the tables, {attack_title(here)} here: of one norm"
            for paper, here in self.others
        ]
        return out + [f"Shifted labels: {shift.text}" for shift in self.shifts]


_VERDICT_TEXT = {
    PaperVerdict.MISPRINT: "are misprints that agree with their own printed margin",
    PaperVerdict.DIFFERS: "differ",
    PaperVerdict.MISSING: "have no result here",
}


def compare_with_paper(results: Results) -> tuple[PaperComparison, ...]:
    """Every ResNet18 experiment and protocol of a store beside the published tables; none where
    the store has no ResNet18. Missing cells are said to be missing."""
    out = []
    for setting in results.settings:
        if setting.architecture == ARCHITECTURE:
            protocols = results.protocols(setting) or [""]
            out += [_compare(results, setting, protocol) for protocol in protocols]
    return tuple(out)


_Key = tuple[str, str, float, float]  # method, attack, rate, eps; clean: "" and NaN


def _compare(results: Results, setting: Setting, protocol: str) -> PaperComparison:
    models = setting.rows(results.models)
    cells = setting.rows(results.cells)
    cells = cells[cells["protocol"] == protocol]
    clean = {
        (str(method), float(rate)): estimate(part["accuracy"].tolist())
        for (method, rate), part in groups(models, ["method", "rate"])
    }
    attacks = sorted({c.attack for c in paper_cells() if c.attack})
    theirs = {attack: attack.rpartition("_")[2] for attack in attacks}
    others = [
        (row["paper"], row["here"])
        for row in match_attacks({"paper": theirs, "here": attacks_of(cells)})
        if len({*row.values()}) == 2
    ]
    robust = _Robust(cells.assign(attack=cells["attack"].replace({b: a for a, b in others})))
    implied = {misprint.cell: misprint.implied for misprint in find_misprints(paper_cells())}
    shifts = {attack: _shift(attack, robust, implied) for attack in attacks}
    compared = []
    for cell in paper_cells():
        eps = cell.eps
        if eps is None:
            ours = clean.get((cell.method, cell.rate), estimate([]))
        else:
            factor = shifts[cell.attack][0]
            eps *= factor
            ours = robust.at(cell, factor)
        compared.append(_judge(cell, eps, ours, implied.get(cell)))
    return PaperComparison(
        setting=setting,
        protocol=protocol,
        cells=tuple(compared),
        shifts=tuple(shift for _, shift in shifts.values() if shift is not None),
        others=tuple(others),
    )


def _judge(
    cell: PaperCell, eps: float | None, ours: Estimate, implied: float | None
) -> ComparedCell:
    if ours.n == 0:
        verdict = PaperVerdict.MISSING
    elif _agree(ours, cell.accuracy):
        verdict = PaperVerdict.AGREES
    elif implied is not None and abs(100 * ours.mean - implied) <= 3 * ROUNDING:
        verdict = PaperVerdict.MISPRINT
    else:
        verdict = PaperVerdict.DIFFERS
    return ComparedCell(cell=cell, eps=eps, ours=ours, verdict=verdict, implied=implied)


def _agree(ours: Estimate, printed: float) -> bool:
    return abs(100 * ours.mean - printed) <= ROUNDING


class _Robust:
    """Robust accuracies of one experiment and protocol, by coordinates."""

    def __init__(self, cells: pd.DataFrame) -> None:
        keys = ["method", "attack", "rate", "eps"]
        self._found: dict[tuple[str, str, float], list[tuple[float, Estimate]]] = defaultdict(list)
        for (method, attack, rate, eps), part in groups(cells, keys):
            self._found[str(method), str(attack), float(rate)].append(
                (float(eps), estimate(part["robust_accuracy"].tolist()))
            )

    def at(self, cell: PaperCell, factor: float) -> Estimate:
        assert cell.eps is not None
        for eps, found in self._found.get((cell.method, cell.attack, cell.rate), []):
            if eps == cell.eps if factor == 1 else _factor(eps, cell.eps) == factor:
                return found
        return estimate([])

    def eps(self, attack: str) -> list[float]:
        found = {e for key, part in self._found.items() if key[1] == attack for e, _ in part}
        return sorted(found)


def _factor(eps: float, label: float) -> float:
    """Rounded: labels are printed in few digits."""
    return round(eps / label, 6)


def _shift(
    attack: str, robust: _Robust, implied: Mapping[PaperCell, float]
) -> tuple[float, LabelShift | None]:
    """The factor between printed labels and the results' eps; 1 unless another is far better."""
    cells = [cell for cell in paper_cells() if cell.attack == attack]
    labels = sorted({cell.eps for cell in cells if cell.eps is not None})
    factors = {1.0} | {
        _factor(eps, label)
        for eps in robust.eps(attack)
        for label in labels
        if all(
            any(math.isclose(e, eps / label * other, rel_tol=1e-4) for e in robust.eps(attack))
            for other in labels
        )
    }
    scores = {}
    for factor in factors:
        pairs = [(robust.at(cell, factor), implied.get(cell, cell.accuracy)) for cell in cells]
        known = [(ours, printed) for ours, printed in pairs if ours.n]
        agree = sum(abs(100 * ours.mean - printed) <= 3 * ROUNDING for ours, printed in known)
        gaps = [abs(100 * ours.mean - printed) for ours, printed in known]
        scores[factor] = (agree, float(np.mean(gaps)) if gaps else math.nan)
    best = min(scores, key=lambda f: (-scores[f][0], scores[f][1], abs(f - 1)))
    plain, shifted = scores[1.0], scores[best]
    if best == 1.0 or not (shifted[1] < SHIFT_GAIN * plain[1] or math.isnan(plain[1])):
        return 1.0, None
    text = [(cell.label, _relabel(cell, best)) for cell in cells if cell.rate == 1]
    return best, LabelShift(
        attack=attack,
        printed=tuple(label for label, _ in text),
        found=tuple(label for _, label in text),
        agree_as_printed=plain[0],
        agree_shifted=shifted[0],
        mean_as_printed=plain[1],
        mean_shifted=shifted[1],
        cells=len(cells),
    )


def _relabel(cell: PaperCell, factor: float) -> str:
    assert cell.eps is not None
    return PaperCell(**{**cell.__dict__, "eps": factor * cell.eps}).label
