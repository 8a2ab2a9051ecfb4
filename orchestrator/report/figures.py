"""Plotly figures: security curves as the paper draws them, accuracy against real compression.

One style for all: the structure is the colour (Okabe and Ito's, safe for colour-blind eyes), the
criterion and scope are the dash and the marker.
"""

from __future__ import annotations

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.report.tables import Attacked, SummaryRow, eps_text

_COLOURS = {"unstructured": "#0072B2", "kernel": "#009E73", "filter": "#D55E00"}
_DASHES = {
    "magnitude-local": ("solid", "circle"),
    "magnitude-global": ("dash", "square"),
    "random-local": ("dot", "diamond"),
    "random-matched": ("dashdot", "x"),
}
CONFIG = {"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": "", "responsive": True}


def method_style(method: str) -> dict[str, object]:
    """Line and marker of a method by its name, `criterion-scope-structure`."""
    selection, _, structure = method.rpartition("-")
    dash, symbol = _DASHES.get(selection, ("solid", "circle"))
    colour = _COLOURS.get(structure, "#666666")
    return {
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"color": colour, "symbol": symbol, "size": 7},
    }


def _layout(figure: go.Figure, *, height: int) -> go.Figure:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 60, "r": 20, "t": 90, "b": 55},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#808080"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yref": "container", "y": 0.99, "x": 0, "yanchor": "top"},
        hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#808080", "activecolor": "#0072B2"},
    )
    figure.update_annotations(font_size=13)
    grid = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False, "linecolor": "#808080"}
    figure.update_xaxes(**grid)
    figure.update_yaxes(**grid)
    return figure


def security_curves(rows: list[SummaryRow], protocol: str) -> go.Figure:
    """Robust accuracy against the nominal rate: attacks by column, eps by row, one line per
    method. `rows` are of one architecture and variant."""
    columns = [c for c in rows[0].robust if c.protocol == protocol]
    attacks = list(dict.fromkeys(c.attack for c in columns))
    by_attack: dict[str, list[Attacked]] = {
        a: [c for c in columns if c.attack == a] for a in attacks
    }
    deepest = max(len(part) for part in by_attack.values())
    titles = [
        f"{a}, ε = {eps_text(by_attack[a][r].norm, by_attack[a][r].eps)}"
        if r < len(by_attack[a])
        else ""
        for r in range(deepest)
        for a in attacks
    ]
    figure = make_subplots(
        rows=deepest,
        cols=len(attacks),
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=titles,
        vertical_spacing=0.3 / max(deepest, 2) / 2,
        horizontal_spacing=0.03,
    )
    for column, attack in enumerate(attacks, start=1):
        for row, attacked in enumerate(by_attack[attack], start=1):
            for trace in _curves(rows, attacked, legend=column == row == 1):
                figure.add_trace(trace, row=row, col=column)
    rates = sorted({row.rate for row in rows})
    figure.update_xaxes(type="log", tickvals=rates, ticktext=[f"{r:g}" for r in rates])
    figure.update_xaxes(title_text="compression rate (nominal)", title_standoff=6, row=deepest)
    figure.update_yaxes(range=[-2, 102])
    figure.update_yaxes(title_text="robust accuracy, %", col=1)
    return _layout(figure, height=190 * deepest + 170)


def _curves(rows: list[SummaryRow], attacked: Attacked, *, legend: bool) -> list[go.Scatter]:
    traces = []
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method and row.robust[attacked].n]
        found = [row.robust[attacked] for row in mine]
        traces.append(
            go.Scatter(
                x=[row.rate for row in mine],
                y=[100 * e.mean for e in found],
                error_y=_bars([e.half for e in found]),
                customdata=[
                    [e.n, e.text(), row.effective_rate] for e, row in zip(found, mine, strict=True)
                ],
                name=method,
                legendgroup=method,
                showlegend=legend,
                mode="lines+markers",
                hovertemplate="%{fullData.name}<br>rate %{x:g} (effective %{customdata[2]:.1f})"
                "<br>%{customdata[1]} % over %{customdata[0]} seeds<extra></extra>",
                **method_style(method),
            )
        )
    return traces


def _bars(halves: list[float]) -> dict[str, object]:
    """95 % intervals; none where one seed says nothing about spread."""
    return {
        "type": "data",
        "array": [0 if math.isnan(h) else 100 * h for h in halves],
        "thickness": 1,
        "width": 2,
        "color": "rgba(128,128,128,0.45)",
    }


def clean_curves(rows: list[SummaryRow]) -> go.Figure:
    """Clean accuracy against the nominal and against the effective rate, side by side."""
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=["nominal compression rate", "effective compression rate"],
    )
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method and math.isfinite(row.effective_rate)]
        for column, x in (
            (1, [row.rate for row in mine]),
            (2, [row.effective_rate for row in mine]),
        ):
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=[100 * row.clean.mean for row in mine],
                    error_y=_bars([row.clean.half for row in mine]),
                    name=method,
                    legendgroup=method,
                    showlegend=column == 1,
                    mode="lines+markers",
                    hovertemplate="%{fullData.name}<br>rate %{x:.3g}: %{y:.2f} %<extra></extra>",
                    **method_style(method),
                ),
                row=1,
                col=column,
            )
    rates = sorted({row.rate for row in rows})
    figure.update_xaxes(type="log", tickvals=rates, ticktext=[f"{r:g}" for r in rates])
    figure.update_yaxes(title_text="clean accuracy, %", col=1)
    return _layout(figure, height=420)
