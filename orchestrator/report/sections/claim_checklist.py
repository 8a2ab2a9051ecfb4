from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from itertools import groupby

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.checklist import NO, UNKNOWN, YES, checklist
from prunegrid.orchestrator.report.model_cards import as_json, as_markdown, cards
from prunegrid.orchestrator.report.results import SETTING
from prunegrid.orchestrator.report.section import ProtocolSection


class ClaimChecklist(ProtocolSection):
    """What a claim must answer, answered from the store; and the cards of the best models."""

    order = 380
    title = "Claim checklist"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"checklist": pd.DataFrame(_rows(analysis))}

    def values(self, part: Part) -> Mapping[str, object]:
        items = checklist(part)
        by_source = groupby(items, key=lambda item: item.source)
        counts = {answer: sum(i.answer == answer for i in items) for answer in (YES, NO, UNKNOWN)}
        return {"sources": [(source, list(mine)) for source, mine in by_source], "counts": counts}

    def files(self, analysis: Analysis) -> Iterator[tuple[str, str]]:
        yield "checklist.json", json.dumps(_rows(analysis), indent=1, ensure_ascii=False) + "\n"
        for part in analysis.parts():
            for k, card in enumerate(cards(part), start=1):
                folder = f"cards/{part.slug}-{k}"
                yield f"{folder}/card.json", as_json(card)
                yield f"{folder}/card.md", as_markdown(card)


def _rows(analysis: Analysis) -> list[dict[str, object]]:
    return [
        dict(zip(SETTING, part.setting, strict=True))
        | {"protocol": part.protocol}
        | dataclasses.asdict(item)
        for part in analysis.parts()
        for item in checklist(part)
    ]


SECTION = ClaimChecklist()
