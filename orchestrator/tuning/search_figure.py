"""A search's figure: its points by panel, as a page that needs no network, as PNG and as SVG."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prunegrid.orchestrator.report.matplotlib_figures import drawn, styled
from prunegrid.orchestrator.report.plotly_figures import CONFIG as _REPORT
from prunegrid.orchestrator.report.style import REFERENCE
from prunegrid.orchestrator.tuning.study import AttackStudy, Study
from prunegrid.orchestrator.tuning.trials import SearchOutcome, TrialRow
from prunegrid.orchestrator.tuning.wording import settings_text, varied

_CONFIG = {name: value for name, value in _REPORT.items() if name != "showEditInChartStudio"}
#: Okabe and Ito's colours; plotly's and matplotlib's marker, size.
_LOOKS: dict[str, tuple[str, str, str, float]] = {
    "complete": ("#0072B2", "circle", "o", 8),
    "stopped early": ("#a3a9b3", "circle-open", "o", 7),
    "grid": ("#D55E00", "diamond", "D", 10),
    "best": ("#009E73", "star", "*", 14),
    "image": ("#0072B2", "circle", "o", 6),
}
_COLUMNS = 3

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
    x: str  #: titles of the axes
    y: str
    points: tuple[Points, ...]
    log_y: bool = False
    diagonal: bool = False  #: a line of equality, between linear axes; else x is logarithmic

    @property
    def span(self) -> tuple[float, float]:
        values = [v for points in self.points for v in (*points.x, *points.y)]
        return min(values), max(values)


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


def _axis_title(study: Study) -> str:
    if study.objective == "robust":
        return f"robust accuracy at {study.eps:.4g}, %"
    return "validation loss" if study.objective == "loss" else "median distance"


def _option_panel(outcome: SearchOutcome, name: str) -> FigurePanel:
    study = outcome.study
    scale = 100.0 if study.objective == "robust" else 1.0
    names: dict[PointRole, str] = {
        "stopped early": "stopped early, so of fewer images" if study.budget else "stopped early",
        "complete": "went all the way",
        "grid": "the grid's settings" + (", cut to the budget" if study.budget else ""),
        "best": "the best",
    }
    groups: dict[PointRole, list[TrialRow]] = {role: [] for role in names}
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
    return FigurePanel(x=name, y=_axis_title(study), log_y=scale == 1.0, points=points)


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

    def points(role: PointRole, name: str, mask: Any) -> Points:
        x, y = tuple(b[mask].tolist()), tuple(a[mask].tolist())
        text = tuple(f"{v:.4g} against {u:.4g}" for u, v in zip(x, y, strict=True))
        return Points(role=role, name=name, x=x, y=y, text=text)

    parts = (
        points("image", "held-out image; below the line tuned is nearer", known & ~worse),
        points("stopped early", "held-out image, tuned weaker", worse),
    )
    return FigurePanel(
        x=f"distance, the grid's settings {whose}",
        y="distance, tuned",
        points=tuple(part for part in parts if part.x),
        diagonal=True,
    )


# --------------------------------------------------------------------------- renderers


def figures(outcome: SearchOutcome) -> dict[str, bytes]:
    """File name to content: figure.html, figure.png, figure.svg, figure.pdf."""
    panels = panels_of(outcome)
    return {"figure.html": page(panels).encode(), **static(panels)}


def page(panels: FigurePanels) -> str:
    """The whole document."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    columns = min(_COLUMNS, len(panels.panels))
    rows = math.ceil(len(panels.panels) / columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        horizontal_spacing=0.09,
        vertical_spacing=min(0.17, 0.4 / rows),
    )
    seen: set[str] = set()
    for k, panel in enumerate(panels.panels):
        row, column = k // columns + 1, k % columns + 1
        for points in panel.points:
            colour, symbol, _, size = _LOOKS[points.role]
            figure.add_trace(
                go.Scatter(
                    x=[float(f"{v:.6g}") for v in points.x],
                    y=[float(f"{v:.6g}") for v in points.y],
                    mode="markers",
                    name=html.escape(points.name),
                    legendgroup=points.name,
                    showlegend=points.name not in seen,
                    marker={"color": colour, "symbol": symbol, "size": size, "opacity": 0.85},
                    customdata=[html.escape(t).replace("\n", "<br>") for t in points.text],
                    hovertemplate=html.escape(panel.y)
                    + " %{y:.4g}<br>%{customdata}<extra></extra>",
                ),
                row=row,
                col=column,
            )
            seen.add(points.name)
        if panel.diagonal:
            low, high = panel.span
            line = {"color": REFERENCE, "width": 1.2, "dash": "dot"}
            where = {"x0": low, "y0": low, "x1": high, "y1": high}
            figure.add_shape(type="line", **where, line=line, row=row, col=column)
        x, y = html.escape(panel.x), html.escape(panel.y)
        across = _axis([v for points in panel.points for v in points.x], not panel.diagonal)
        up = _axis([v for points in panel.points for v in points.y], panel.log_y)
        figure.update_xaxes(title_text=x, **across, row=row, col=column)
        figure.update_yaxes(title_text=y, **up, row=row, col=column)
    figure.update_layout(
        template="none",
        title={
            "text": html.escape(panels.title),
            "x": 0.01,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 18},
            "font": {"size": 16},
        },
        height=340 * rows + 120,
        margin={"l": 64, "r": 16, "t": 96, "b": 56},
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#374151"},
        legend={"orientation": "h", "y": 1 + 0.03 / rows, "yanchor": "bottom", "x": 0},
        hoverlabel={"align": "left"},
    )
    grid = {"gridcolor": "rgba(128,128,128,0.22)", "zeroline": False, "title_standoff": 6}
    figure.update_xaxes(**grid)
    figure.update_yaxes(**grid)
    whole = str(figure.to_html(include_plotlyjs=True, full_html=True, config=_CONFIG))
    head = f"<html lang='en'><head><title>{html.escape(panels.title)}</title>"
    return re.sub(r"<html>\s*<head>", lambda _: head, whole, count=1)


def _axis(values: Sequence[float], log: bool) -> dict[str, Any]:
    """Plotly's scale and ticks: plotly's own leave a short logarithmic axis half without any."""
    if not log or not values:
        return {"type": "linear"}
    ticks = log_ticks(min(values), max(values))
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


#: Of a logarithmic axis's ticks, by the ratio that it spans at least.
_MANTISSAS = {
    300: (1.0,),
    15: (1.0, 2.0, 5.0),
    4: (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    0: (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0),
}


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from about `low` to about `high`, above 0."""
    mantissas = next(m for ratio, m in _MANTISSAS.items() if high / low > ratio)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    every = [float(f"{m * 10.0**d:.6g}") for d in decades for m in mantissas]
    return [tick for tick in every if low / 1.1 <= tick <= high * 1.1]


def static(panels: FigurePanels) -> dict[str, bytes]:
    """The same panels: figure.png (200 dpi), figure.svg and figure.pdf."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(panels.panels))
    rows = math.ceil(len(panels.panels) / columns)
    with styled():
        figure = Figure(figsize=(3.1 * columns, 2.5 * rows + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        for k, axis in enumerate(axes.flat):
            if k >= len(panels.panels):
                axis.set_visible(False)
                continue
            panel = panels.panels[k]
            for points in panel.points:
                handles.setdefault(points.name, _scatter(axis, points))
            if panel.diagonal:
                low, high = panel.span
                axis.plot([low, high], [low, high], color=REFERENCE, linewidth=0.8, linestyle=":")
            axis.set_xscale("linear" if panel.diagonal else "log")
            axis.set_yscale("log" if panel.log_y else "linear")
            axis.set_xlabel(panel.x)
            axis.set_ylabel(panel.y)
            _plain(axis)
        figure.suptitle(panels.title, fontsize=10, x=0.01, ha="left")
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower left", ncols=max(1, columns),
            frameon=False, fontsize=8,
        )  # fmt: skip
        return {f"figure.{kind}": content for kind, content in drawn(figure).items()}


def _scatter(axis: Any, points: Points) -> Any:
    colour, symbol, marker, size = _LOOKS[points.role]
    hollow = symbol.endswith("-open")
    return axis.scatter(
        points.x,
        points.y,
        s=(0.6 * size) ** 2,
        marker=marker,
        facecolors="none" if hollow else colour,
        edgecolors=colour,
        linewidths=0.9 if hollow else 0,
        alpha=0.9,
        zorder=3 if points.role in ("best", "grid") else 2,
    )


def _plain(axis: Any) -> None:
    """Numbers as one reads them, also where a logarithmic axis spans less than a decade."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for side, scale, limits in (
        (axis.xaxis, axis.get_xscale(), axis.get_xlim()),
        (axis.yaxis, axis.get_yscale(), axis.get_ylim()),
    ):
        if scale == "log":
            inside = [tick for tick in log_ticks(*limits) if limits[0] <= tick <= limits[1]]
            side.set_major_locator(FixedLocator(inside))
            side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            side.set_minor_locator(NullLocator())
