"""A grid of curves as a plotly figure. Nothing of it needs a network."""

from __future__ import annotations

import html
import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from prunegrid.orchestrator.report.curves import CurveGrid, CurvePanel
from prunegrid.orchestrator.report.results import records
from prunegrid.orchestrator.report.statistics import NO_SPREAD
from prunegrid.orchestrator.report.style import REFERENCE, Look, look_of

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "showEditInChartStudio": False,
    "plotlyServerURL": "",
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}

_ROW_PX, _TOP_PX, _LEGEND_ROW_PX, _BOTTOM_PX = 190, 24, 22, 56
_COLUMN_PX, _LEGEND_PX, _LEGEND_COLUMNS = 250, 245, 3
#: Of the panels' width, for a name: three fit into a row, a fourth never does.
_LEGEND_FRACTION = 0.32


def least_width_px(grid: CurveGrid) -> int:
    """Below it titles and legend would run into each other; a narrow window scrolls."""
    return max(_COLUMN_PX * len(grid.panels[0]), _LEGEND_COLUMNS * _LEGEND_PX + 95)


def draw(grid: CurveGrid) -> go.Figure:
    """One line per method in every panel; the legend switches a method in all of them."""
    rows, columns = len(grid.panels), len(grid.panels[0])
    legend_rows = math.ceil(len(grid.methods) / _LEGEND_COLUMNS)
    above = _TOP_PX + _LEGEND_ROW_PX * legend_rows + 24
    height = max(rows * _ROW_PX, 260) + above + _BOTTOM_PX
    titled = any(panel and panel.title for row in grid.panels for panel in row)
    inner = height - above - _BOTTOM_PX
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes=True,
        subplot_titles=[
            html.escape(panel.title) if panel else "" for row in grid.panels for panel in row
        ],
        vertical_spacing=min((44 if titled else 60) / inner, 0.9 / max(rows - 1, 1) / 2),
        horizontal_spacing=0.03,
    )
    seen: set[str] = set()
    for r, row in enumerate(grid.panels, start=1):
        for c, panel in enumerate(row, start=1):
            if panel is None:
                figure.update_xaxes(visible=False, row=r, col=c)
                figure.update_yaxes(visible=False, row=r, col=c)
                continue
            _fill(figure, panel, grid.methods, seen, (r, c))
            top = grid.top(r - 1)
            figure.update_yaxes(range=[-0.03 * top, top], row=r, col=c)
            below = grid.panels[r][c - 1] if r < rows else None
            if below is None or below.x != panel.x or not titled:
                figure.update_xaxes(title_text=panel.x, row=r, col=c)
            if all(other is None for other in row[: c - 1]):
                figure.update_yaxes(
                    title_text=panel.y_in_lines("<br>"), showticklabels=True, row=r, col=c
                )
    return _dressed(figure, height=height, top=above)


def _fill(
    figure: go.Figure, panel: CurvePanel, methods: list[str], seen: set[str], place: tuple[int, int]
) -> None:
    r, c = place
    for method in methods:
        rows = panel.rows[panel.rows["method"] == method]
        if len(rows):
            line = _line(method, rows, look_of(method, methods), legend=method not in seen)
            figure.add_trace(line, row=r, col=c)
            seen.add(method)
    if not math.isnan(panel.reference):  # after the lines: plotly leaves empty panels without it
        line = {"color": REFERENCE, "width": 1.2, "dash": "dot"}
        figure.add_hline(y=100 * panel.reference, line=line, row=r, col=c)
    if len(panel.lost):
        figure.add_trace(_lost(panel.lost), row=r, col=c)
    if not panel.compression:
        return
    ticks = sorted({round(float(v), 6) for v in panel.rows["rate"]})
    figure.update_xaxes(
        type="log", tickvals=ticks, ticktext=[f"{v:g}" for v in ticks], row=r, col=c
    )


def _line(method: str, rows: pd.DataFrame, look: Look, *, legend: bool) -> go.Scatter:
    name = html.escape(method)
    return go.Scatter(
        x=[_known(float(v), 5) for v in rows["x"]],
        y=[_known(100 * float(v), 4) for v in rows["mean"]],
        error_y={
            "type": "data",
            "array": [_bar(length) for length in rows["high"] - rows["mean"]],
            "arrayminus": [_bar(length) for length in rows["mean"] - rows["low"]],
            "symmetric": False,
            "thickness": 1,
            "width": 0,
            "color": look.faded(0.35),
        },
        customdata=[_hover(row) for row in records(rows)],
        name=name,
        legendgroup=name,
        showlegend=legend,
        mode="lines+markers",
        line={"color": look.colour, "dash": look.dash, "width": 1.8},
        marker={"color": look.colour, "symbol": look.symbol, "size": 6},
        hovertemplate=f"<b>{name}</b><br>%{{customdata[0]}}<br>%{{customdata[1]}}<extra></extra>",
    )


def _lost(rows: pd.DataFrame) -> go.Scatter:
    """A cross at 0 % for each model that diverged."""
    return go.Scatter(
        x=rows["x"].tolist(),
        y=[0.0] * len(rows),
        text=[
            f"<b>{html.escape(method)}</b><br>rate {rate:g}: {text}"
            for method, rate, text in records(rows[["method", "rate", "text"]])
        ],
        mode="markers",
        marker={"color": REFERENCE, "symbol": "x", "size": 7},
        showlegend=False,
        hovertemplate="%{text}<extra></extra>",
    )


def _known(value: float, digits: int) -> float | None:
    """None leaves a gap in a line."""
    return None if math.isnan(value) else round(value, digits)


def _bar(length: float) -> float:
    """Percent; none where there is no interval."""
    return 0.0 if math.isnan(length) else round(100 * length, 4)


def _hover(row: Any) -> list[str]:
    """Two lines: which model, and its n, mean and interval."""
    if math.isnan(row.mean):
        return ["", ""]  # nothing to hover over
    effective = "" if math.isnan(row.effective_rate) else f", effective {row.effective_rate:.3g}"
    mean = f"{100 * row.mean:.2f} %"
    if not math.isnan(row.low):
        mean += f", 95 % interval {100 * row.low:.2f} to {100 * row.high:.2f}"
    elif row.n > 1:
        mean += f", {NO_SPREAD}"
    return [f"rate {row.rate:g}{effective}", f"{mean}, n = {row.n:g}"]


def _dressed(figure: go.Figure, *, height: int, top: int) -> go.Figure:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 62, "r": 12, "t": top, "b": _BOTTOM_PX},
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#6b7280"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "x": 0,
            "entrywidthmode": "fraction",
            "entrywidth": _LEGEND_FRACTION,
            "font": {"size": 12},
        },
        hovermode="closest",
        hoverlabel={"font": {"family": "system-ui, sans-serif", "size": 13}, "align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#9aa0aa", "activecolor": "#0072B2"},
    )
    figure.update_annotations(font_size=12.5)
    grid = {"gridcolor": "rgba(128,128,128,0.22)", "zeroline": False, "showline": False}
    figure.update_xaxes(title_standoff=4, title_font_size=12, **grid)
    figure.update_yaxes(title_standoff=6, title_font_size=12, **grid)
    return figure
