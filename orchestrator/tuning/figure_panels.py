"""A search's figure, as data: which points in which panels. Pure; two renderers draw it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prunegrid.orchestrator.tuning.study import AttackStudy, Study
from prunegrid.orchestrator.tuning.trials import SearchOutcome, TrialRow
from prunegrid.orchestrator.tuning.wording import settings_text, varied

PointRole = Literal["complete", "stopped early", "grid", "best", "image"]


@dataclass(frozen=True, kw_only=True)
class Points:
    role: PointRole
    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    text: tuple[str, ...]  #: of each point, plain


@dataclass(frozen=True, kw_only=True)
class FigurePanel:
    title: str
    x: str
    y: str
    log_x: bool
    log_y: bool
    points: tuple[Points, ...]
    diagonal: bool = False  #: a line of equality


@dataclass(frozen=True, kw_only=True)
class FigurePanels:
    title: str
    panels: tuple[FigurePanel, ...]


def panels_of(outcome: SearchOutcome) -> FigurePanels:
    """A panel per option that was varied, and one per rival on the held-out images."""
    study = outcome.study
    out = [_option_panel(outcome, name) for name in varied(study)]
    if isinstance(study, AttackStudy) and study.eps is None:
        out += [panel for k in range(1, len(outcome.rivals)) if (panel := _paired(outcome, k))]
    where = f"{study.label}, {study.protocol}" if study.protocol else study.label
    budget = f", at most {study.budget:,} queries an image" if study.budget else ""
    return FigurePanels(
        title=f"{where}: {len(study.proposals)} trials{budget}; lower is better", panels=tuple(out)
    )


def axis_title(study: Study) -> str:
    if study.objective == "robust":
        return f"robust accuracy at {study.eps:.4g}, %"
    return "validation loss" if study.objective == "loss" else "median distance"


def _option_panel(outcome: SearchOutcome, name: str) -> FigurePanel:
    study = outcome.study
    scale = 100.0 if study.objective == "robust" else 1.0
    groups: dict[PointRole, list[TrialRow]] = {
        "stopped early": [],
        "complete": [],
        "grid": [],
        "best": [],
    }
    for trial in outcome.trials.values():
        if not math.isfinite(trial.value) or trial.state in ("failed", "over budget"):
            continue
        if not trial.options[name]:  # the grid's may be none, which no logarithmic axis shows
            continue
        if trial.trial == outcome.best.trial:
            groups["best"].append(trial)
        elif trial.trial == 0:
            groups["grid"].append(trial)
        else:
            groups["complete" if trial.state == "complete" else "stopped early"].append(trial)
    names = {
        "stopped early": "stopped early, so of fewer images" if study.budget else "stopped early",
        "complete": "went all the way",
        "grid": "the grid's settings" + (", cut to the budget" if study.budget else ""),
        "best": "the best",
    }
    points = tuple(
        Points(
            role=role,
            name=names[role],
            x=tuple(float(t.options[name] or 0) for t in trials),
            y=tuple(scale * t.value for t in trials),
            text=tuple(_trial_text(study, t) for t in trials),
        )
        for role, trials in groups.items()
        if trials
    )
    return FigurePanel(
        title=name, x=name, y=axis_title(study), log_x=True, log_y=scale == 1.0, points=points
    )


def _trial_text(study: Study, trial: TrialRow) -> str:
    """Lines of what a trial was: only what differs between trials."""
    unit = "images" if isinstance(study, AttackStudy) else "links"
    shown = [settings_text({name: trial.options[name]}) for name in varied(study)]
    return "\n".join([f"{trial.state}, {trial.size} {unit}", *shown])


def _paired(outcome: SearchOutcome, number: int) -> FigurePanel | None:
    ours, rival = outcome.rivals[0], outcome.rivals[number]
    a, b = ours.distances.ravel(), rival.distances.ravel()
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return None
    whose = "at the same budget" if rival.role == "held-out cut" else "at full cost"
    worse = known & (a > b * (1 + 1e-6))
    parts: list[Points] = []
    for role, name, mask in (
        ("image", "held-out image; below the line tuned is nearer", known & ~worse),
        ("stopped early", "held-out image, tuned weaker", worse),
    ):
        if mask.any():
            x, y = b[mask], a[mask]
            parts.append(
                Points(
                    role=role,  # type: ignore[arg-type]
                    name=name,
                    x=tuple(map(float, x)),
                    y=tuple(map(float, y)),
                    text=tuple(f"{v:.4g} against {u:.4g}" for u, v in zip(x, y, strict=True)),
                )
            )
    return FigurePanel(
        title="held-out images",
        x=f"distance, the grid's settings {whose}",
        y="distance, tuned",
        log_x=False,
        log_y=False,
        points=tuple(parts),
        diagonal=True,
    )
