from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from prunegrid.orchestrator.names import attack_title
from prunegrid.orchestrator.report import latex
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.curves import CurveGrid, transfer_grid
from prunegrid.orchestrator.report.results import records
from prunegrid.orchestrator.report.section import ProtocolSection
from prunegrid.orchestrator.report.transfers import (
    has_transfers,
    pooled_transfers,
    transfer_sentences,
    transfer_table,
)


class Transferred(ProtocolSection):
    """Adversarials of one model of a chain, shown to another."""

    order = 352
    title = "Transfer between dense and pruned models"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        if not has_transfers(analysis):
            return {}
        results = analysis.results
        return {
            "transfers": transfer_table(results),
            "transfers_pooled": pooled_transfers(results),
        }

    def latex(self, analysis: Analysis) -> Iterator[tuple[str, str]]:
        for part in analysis.parts() if has_transfers(analysis) else ():
            rows = _rows(part)
            if not rows:
                continue
            lines = [
                [
                    *map(latex.escape, (r.method, f"{r.pruned_rate:g}", _attack(r))),
                    *(_percent(r, name) for name in ("to_pruned", "to_dense")),
                ]
                for r in rows
            ]
            caption = (
                f"{part.setting.title}, protocol {part.protocol}: of the images that a model "
                "classifies right and another has adversarials of, the share that these fool, in "
                "percent; in brackets, of all images that it classifies right, what they break and "
                "what the attacks on the model itself do. Means over seeds and all eps."
            )
            head = ["method", "rate", "attack", "dense to pruned", "pruned to dense"]
            text = latex.table(head, lines, caption=caption, left=3)
            yield f"transfer-{part.slug}", latex.document([text])

    def figure(self, part: Part) -> CurveGrid | None:
        return transfer_grid(part) if _rows(part) else None

    def values(self, part: Part) -> Mapping[str, object] | None:
        rows = _rows(part)
        return {"rows": rows, "sentences": transfer_sentences(part)} if rows else None


def _rows(part: Part) -> list[Any]:
    """All attacks together first."""
    frame = part.rows(pooled_transfers(part.analysis.results))
    return list(records(frame.sort_values(["attack", "method", "pruned_rate"])))


def _attack(row: Any) -> str:
    return attack_title(row.attack) if row.attack else "all"


def _percent(row: Any, name: str) -> str:
    columns = (f"{name}_{column}" for column in ("mean", "broken", "white_box"))
    mean, broken, own = (
        "--" if pd.isna(value) else f"{100 * value:.1f}"
        for value in (getattr(row, column) for column in columns)
    )
    return f"{mean} ({broken}, {own})"


SECTION = Transferred()
