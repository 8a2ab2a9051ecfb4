"""One self-contained page: no network, plotly.js once, everything from the store escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from orchestrator.report.figures import CONFIG, clean_curves, security_curves
from orchestrator.report.tables import SummaryRow, attacked_columns

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #5b6470; --line: #d9dee5; --paper: #fff;
  --soft: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --dim: #9aa4b1; --line: #333a44;
  --paper: #14171b; --soft: #1c2026; } }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; } h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .25rem; } p { max-width: 46rem; }
.dim, figcaption, footer { color: var(--dim); } figure { margin: 1rem 0 2rem; }
figcaption { font-size: .9rem; max-width: 46rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: var(--dim); } td:first-child, th:first-child { text-align: left; }
tr.first td { border-top: 2px solid var(--line); } tbody tr:hover { background: var(--soft); }
nav a { margin-right: 1.2rem; } a { color: inherit; }
footer { margin-top: 4rem; font-size: .85rem; border-top: 1px solid var(--line); }
"""


def page(title: str, rows: list[SummaryRow], models: pd.DataFrame, cells: pd.DataFrame) -> str:
    """The whole HTML document."""
    parts = [_head(title, rows, models, cells)]
    for place in dict.fromkeys((row.architecture, row.variant) for row in rows):
        mine = [row for row in rows if (row.architecture, row.variant) == place]
        parts.append(_section(place, mine, cells))
    parts.append(_footer(models, cells))
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_esc(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{body}</body></html>\n"
    )


def _esc(value: object) -> str:
    return html.escape(str(value), quote=True)


def _anchor(place: Sequence[str]) -> str:
    return _esc("-".join(place))


def _name(place: tuple[str, str]) -> str:
    return place[0] if place[1] == "standard" else f"{place[0]}, {place[1]}"


def _head(title: str, rows: list[SummaryRow], models: pd.DataFrame, cells: pd.DataFrame) -> str:
    seeds = models["seed"].nunique() if not models.empty else 0
    places = list(dict.fromkeys((row.architecture, row.variant) for row in rows))
    links = "".join(f'<a href="#{_anchor(p)}">{_esc(_name(p))}</a>' for p in places)
    return (
        f"<h1>{_esc(title)}</h1>"
        f'<p class="dim">{len(models)} models and {len(cells)} cells over {seeds} seeds. Every '
        "number is a mean over seeds with its 95 % t interval; – marks a cell that has no result "
        "yet.</p>"
        f"<nav>{links}</nav>"
    )


def _section(place: tuple[str, str], rows: list[SummaryRow], cells: pd.DataFrame) -> str:
    parts = [f'<h2 id="{_anchor(place)}">{_esc(_name(place))}</h2>']
    caption = (
        "Clean accuracy on the whole test split. A nominal rate is what the grid asked for; the "
        "effective one is what a reader counts in the weights: structured methods leave dense "
        "layers alone."
    )
    parts.append(_figure(clean_curves(rows), caption))
    for protocol in dict.fromkeys(c.protocol for c in rows[0].robust):
        flags = _flags(cells, place, protocol)
        caption = (
            f"Protocol {_esc(protocol)}: robust accuracy, the share of attacked images that stay "
            f"correctly classified. {flags}"
        )
        parts.append(f"<h3>Security curves, protocol {_esc(protocol)}</h3>")
        parts.append(_figure(security_curves(rows, protocol), caption))
        parts.append(_table(rows, protocol))
    return "\n".join(parts)


def _flags(cells: pd.DataFrame, place: tuple[str, str], protocol: str) -> str:
    mine = cells[
        (cells["architecture"] == place[0])
        & (cells["variant"] == place[1])
        & (cells["protocol"] == protocol)
    ]
    counts = mine["flags"].explode().dropna().value_counts()
    if counts.empty:
        return "No sign of masked gradients."
    listed = ", ".join(f"{_esc(name)} in {count} cells" for name, count in counts.items())
    return f"Signs of masked gradients: {listed}."


def _figure(figure: go.Figure, caption: str) -> str:
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG)
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"


def _table(rows: list[SummaryRow], protocol: str) -> str:
    columns = [c for c in rows[0].robust if c.protocol == protocol]
    head = "".join(f"<th>{_esc(c.title)}</th>" for c in columns)
    body = []
    previous = ""
    for row in rows:
        first = ' class="first"' if row.method != previous else ""
        previous = row.method
        cells = "".join(f"<td>{_esc(row.robust[c].text())}</td>" for c in columns)
        body.append(
            f"<tr{first}><td>{_esc(row.method)}</td><td>{row.rate:g}</td>"
            f"<td>{row.effective_rate:.2f}</td><td>{_esc(row.clean.text())}</td>{cells}</tr>"
        )
    return (
        '<div class="wide"><table><thead><tr><th>method</th><th>rate</th><th>effective</th>'
        f"<th>clean</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _footer(models: pd.DataFrame, cells: pd.DataFrame) -> str:
    if models.empty:
        return ""
    facts = []
    for name in ("git_revision", "device", "threads", "host", "versions"):
        values = ", ".join(_esc(v) for v in sorted({str(v) for v in models[name]})[:4])
        facts.append(f"{name.replace('_', ' ')}: {values or 'unknown'}")
    if not cells.empty:
        engines = sorted(
            {f"{a} ({e})" for a, e in zip(cells["algorithm"], cells["engine"], strict=True)}
        )
        facts.append("attacks: " + ", ".join(_esc(e) for e in engines))
        facts.append(f"columns: {len(attacked_columns(cells))}")
    return f"<footer><p>{'<br>'.join(facts)}</p></footer>"
