from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from prunegrid.orchestrator.names import attack_title, eps_text
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.image_fates import lost_by_all
from prunegrid.orchestrator.report.results import groups, records
from prunegrid.orchestrator.report.section import ProtocolSection
from prunegrid.orchestrator.report.strategies import AVERAGE, NOTHING_KNOWN
from prunegrid.orchestrator.report.tables import DENSE, model_name

#: Images that are named, and models of the table of flips.
LIMIT = 12


class SingleImages(ProtocolSection):
    """Robust accuracy by class, and the images that pruning flips or that every model loses."""

    order = 355
    title = "By class and by image"

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        return {
            "classes": analysis.classes,
            "flips": analysis.flips,
            "images": analysis.images,
        }

    def values(self, part: Part) -> Mapping[str, object] | None:
        images = part.rows(part.analysis.images)
        if images.empty:
            return None
        classes = part.rows(part.analysis.classes)
        classes = classes[classes["attack"] == ""]
        name, pruned = _best_pruned(part, classes) if len(classes) else ("", classes)
        dense = classes[(classes["rate"] == DENSE) & classes["method"].isin(pruned["method"])]
        by_class = {r.label: r for r in records(dense)}
        return {
            "model": name,
            "classes": [(by_class.get(r.label), r) for r in records(pruned)],
            "flips": _flips(part.rows(part.analysis.flips)),
            "lost": [_lost(mine) for _, mine in groups(images, ["attack"])],
        }


def _best_pruned(part: Part, classes: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The pruned model that is most robust on average, of the least compression asked for above 1;
    else any that has classes."""
    for s in sorted(part.strategies, key=lambda s: s.least_rate):
        if (s.knowledge, s.criterion, s.unpruned) == (NOTHING_KNOWN, AVERAGE, False):
            mine = classes[(classes["method"] == s.method) & (classes["rate"] == s.rate)]
            if len(mine):
                return s.model, mine
    last = classes.sort_values(["rate", "method"]).iloc[-1]
    place = (classes["method"] == last["method"]) & (classes["rate"] == last["rate"])
    return model_name(str(last["method"]), float(last["rate"]), float(last["rate"])), classes[place]


def _flips(flips: pd.DataFrame) -> list[Any]:
    """Means over threats, the models that lose most first."""
    shares = ["lost", "lost_always", "gained", "gained_always"]
    means = flips.groupby(["method", "rate"], sort=False)[shares].mean().reset_index()
    return list(records(means.sort_values("lost", ascending=False).head(LIMIT)))


def _lost(images: pd.DataFrame) -> str:
    """What no model holds at an attack's weakest eps."""
    weakest = images[images["eps"] == images["eps"].min()]
    gone = sorted(lost_by_all(weakest)["image"])
    first = weakest.iloc[0]
    where = f"{attack_title(str(first['attack']))}, ε = "
    where += eps_text(str(first["norm"]), float(first["eps"]))
    if not gone:
        return f"{where}: each of {len(weakest)} images stands on some model"
    listed = ", ".join(map(str, gone[:LIMIT])) + (" ..." if len(gone) > LIMIT else "")
    return f"{where}: every model loses {len(gone)} of {len(weakest)} images: {listed}"


SECTION = SingleImages()
