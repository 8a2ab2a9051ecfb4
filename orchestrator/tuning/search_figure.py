"""A search's figure: one HTML page that needs no network, and PNG and SVG by matplotlib."""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

from prunegrid.orchestrator.report.matplotlib_figures import SETTINGS
from prunegrid.orchestrator.report.plotly_figures import CONFIG as _REPORT
from prunegrid.orchestrator.report.style import REFERENCE
from prunegrid.orchestrator.tuning.figure_panels import FigurePanel, FigurePanels, Points, panels_of
from prunegrid.orchestrator.tuning.trials import SearchOutcome

CONFIG = {name: value for name, value in _REPORT.items() if name != "showEditInChartStudio"}
#: Okabe and Ito's colours; plotly's and matplotlib's marker, size.
_LOOKS: dict[str, tuple[str, str, str, float]] = {
    "complete": ("#0072B2", "circle", "o", 8),
    "stopped early": ("#a3a9b3", "circle-open", "o", 7),
    "grid": ("#D55E00", "diamond", "D", 10),
    "best": ("#009E73", "star", "*", 14),
    "image": ("#0072B2", "circle", "o", 6),
}
_COLUMNS = 3


def figures(outcome: SearchOutcome) -> dict[str, bytes]:
    """File name to content: figure.html, figure.png, figure.svg."""
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
            low, high = _span(panel)
            line = {"color": REFERENCE, "width": 1.2, "dash": "dot"}
            figure.add_trace(
                go.Scatter(
                    x=[low, high], y=[low, high], mode="lines", line=line,
                    showlegend=False, hoverinfo="skip",
                ),
                row=row,
                col=column,
            )  # fmt: skip
        x, y = html.escape(panel.x), html.escape(panel.y)
        across = _axis([v for points in panel.points for v in points.x], panel.log_x)
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
    whole = str(figure.to_html(include_plotlyjs=True, full_html=True, config=CONFIG))
    head = f"<html lang='en'><head><title>{html.escape(panels.title)}</title>"
    return re.sub(r"<html>\s*<head>", lambda _: head, whole, count=1)


def _axis(values: Sequence[float], log: bool) -> dict[str, Any]:
    """Plotly's scale and ticks: plotly's own leave a short logarithmic axis half without any."""
    if not log or not values:
        return {"type": "linear"}
    ticks = log_ticks(min(values), max(values))
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from about `low` to about `high`, above 0."""
    mantissas = _mantissas(high / low)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    every = [float(f"{m * 10.0**d:.6g}") for d in decades for m in mantissas]
    return [tick for tick in every if low / 1.1 <= tick <= high * 1.1]


def _mantissas(ratio: float) -> tuple[float, ...]:
    """Of the ticks of a logarithmic axis that spans a ratio."""
    if ratio > 300:
        return (1.0,)
    if ratio > 15:
        return (1.0, 2.0, 5.0)
    return (
        (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
        if ratio > 4
        else (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)
    )


def static(panels: FigurePanels) -> dict[str, bytes]:
    """The same panels: figure.png (200 dpi) and figure.svg."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(panels.panels))
    rows = math.ceil(len(panels.panels) / columns)
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
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
                low, high = _span(panel)
                axis.plot([low, high], [low, high], color=REFERENCE, linewidth=0.8, linestyle=":")
            axis.set_xscale("log" if panel.log_x else "linear")
            axis.set_yscale("log" if panel.log_y else "linear")
            axis.set_xlabel(panel.x)
            axis.set_ylabel(panel.y)
            _plain(axis)
        figure.suptitle(panels.title, fontsize=10, x=0.01, ha="left")
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower left", ncols=max(1, columns),
            frameon=False, fontsize=8,
        )  # fmt: skip
        out = {}
        for kind, options in (
            ("png", {"dpi": 200}),
            ("svg", {"metadata": {"Date": None, "Creator": "prunegrid"}}),
        ):
            sink = io.BytesIO()
            figure.savefig(sink, format=kind, **options)
            out[f"figure.{kind}"] = sink.getvalue()
    return out


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


def _span(panel: FigurePanel) -> tuple[float, float]:
    values = [v for points in panel.points for v in (*points.x, *points.y)]
    return min(values), max(values)
