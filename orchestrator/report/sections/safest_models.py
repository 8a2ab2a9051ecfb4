from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.results import Threat, records
from prunegrid.orchestrator.report.section import ProtocolSection
from prunegrid.orchestrator.report.statistics import Estimate

#: Models in the table of the page.
LIMIT = 12


class SafestModels(ProtocolSection):
    """Sweet spots: the pruned models that lose least."""

    order = 320
    title = "Sweet spots"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {"sweet_cells": analysis.sweet, "sweet_models": analysis.sweet_models}

    def values(self, part: Part) -> Mapping[str, object]:
        models = part.rows(part.analysis.sweet_models)
        safest = models.sort_values(["whole", "least"], ascending=False).head(LIMIT)
        return {"rows": [_row(model) for model in records(safest)]}


def _row(model: Any) -> dict[str, object]:
    threat = Threat(str(model.least_attack), str(model.least_norm), float(model.least_eps))
    return {
        "model": model,
        "far": not math.isclose(model.effective_rate, model.rate, rel_tol=0.1),
        "clean": _margin(model, "clean"),
        "least": _margin(model, "least"),
        "mean": _margin(model, "mean"),
        "under": "–" if math.isnan(model.least) else threat.title,
    }


def _margin(model: Any, name: str) -> Estimate:
    n, sd, half = (getattr(model, f"{name}_{value}") for value in ("n", "sd", "half"))
    n = 0 if math.isnan(n) else int(n)
    return Estimate(n=n, mean=float(getattr(model, name)), sd=sd, half=half)


SECTION = SafestModels()
