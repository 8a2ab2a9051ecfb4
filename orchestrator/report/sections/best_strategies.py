from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import groupby

import pandas as pd

from prunegrid.orchestrator.report import latex
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.results import SETTING
from prunegrid.orchestrator.report.section import ProtocolSection
from prunegrid.orchestrator.report.statistics import INTERVAL
from prunegrid.orchestrator.report.strategies import (
    ACCURACY,
    AVERAGE,
    LEAST_MARGIN,
    WORST_ATTACK,
    Strategy,
)

_JUDGED_BY = {
    ACCURACY: "accuracy",
    AVERAGE: "average case",
    WORST_ATTACK: "worst attack at each strength",
    LEAST_MARGIN: "least regret",
}


class BestStrategies(ProtocolSection):
    """Method and rate under each state of knowledge (the paper's section 4)."""

    order = 310
    title = "Best strategy by what is known of the adversary"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"strategies": pd.DataFrame(map(_flat, analysis.strategies))}

    def values(self, part: Part) -> Mapping[str, object]:
        tables = []
        by_rate = sorted(part.strategies, key=lambda s: s.least_rate)
        for rate, chosen in groupby(by_rate, key=lambda s: s.least_rate):
            rows: list[dict[str, object]] = []
            knowledge = ""
            for s in chosen:
                rows.append(
                    {
                        "s": s,
                        "first": s.knowledge != knowledge,
                        "judged_by": _JUDGED_BY[s.criterion],
                        "of_margins": s.criterion == LEAST_MARGIN,
                        "flat": bool(part.flat_attacks(s)),
                    }
                )
                knowledge = s.knowledge
            tables.append((rate, rows))
        return {"tables": tables}

    def latex(self, analysis: Analysis) -> Iterator[tuple[str, str]]:
        """The best choices without a bound on compression."""
        tables = []
        for part in analysis.parts():
            rows = [
                [s.adversary, s.criterion, s.model, _score(s), s.margin.points()]
                for s in part.strategies
                if s.least_rate == 1
            ]
            caption = (
                f"{part.title}: best strategy by what is known of the adversary; percent with 95 % "
            )
            caption += f"intervals ({INTERVAL}), and points against the unpruned models."
            head = ["adversary", "judged by", "best choice", "score", "margin"]
            escaped = [[latex.escape(text) for text in row] for row in rows]
            tables.append(latex.table(head, escaped, caption=caption, left=3))
        yield "strategies", latex.document(tables)


def _score(s: Strategy) -> str:
    return s.score.points() if s.criterion == LEAST_MARGIN else s.score.text()


def _flat(s: Strategy) -> dict[str, object]:
    """A column for each number of an estimate."""
    row = {f.name: getattr(s, f.name) for f in dataclasses.fields(s) if f.name != "setting"}
    for name in ("clean", "attacked", "score", "margin", "control"):
        estimate = dataclasses.asdict(row.pop(name))
        row |= {f"{name}_{key}": value for key, value in estimate.items()}
    return dict(zip(SETTING, s.setting, strict=True)) | row


SECTION = BestStrategies()
