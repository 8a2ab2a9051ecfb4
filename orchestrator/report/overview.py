"""The page's first table, and its last: what is best at a glance, and where the rows come from."""

from __future__ import annotations

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.findings import name_of
from prunegrid.orchestrator.report.html_tables import (
    NONE,
    NONE_BY_NATURE,
    esc,
    estimate_cell,
    points,
    row,
    table,
    text_cell,
)
from prunegrid.orchestrator.report.limits import TOLERANCE
from prunegrid.orchestrator.report.results import Setting
from prunegrid.orchestrator.report.strategies import AVERAGE, NOTHING_KNOWN, UNPRUNED, Strategy

#: Of the table at the top.
_BEST = "best on average"

_MOST = f"most pruned, losing under {100 * TOLERANCE:g} points"

_PROVENANCE = {
    "git revision": "git_revision",
    "versions": "versions",
    "device": "device",
    "threads": "threads",
    "host": "host",
}


def glance_html(a: Analysis) -> str:
    """One line per setting and protocol."""
    rows = []
    for number, setting in enumerate(a.results.settings, start=1):
        for k, protocol in enumerate(a.results.protocols(setting), start=1):
            cells = setting.rows(a.cells)
            cells = cells[cells["protocol"] == protocol]
            gone = setting.rows(a.missing)
            best = next(
                (
                    s
                    for s in a.strategies
                    if (s.setting, s.protocol, s.least_rate) == (setting, protocol, 1)
                    and (s.knowledge, s.criterion) == (NOTHING_KNOWN, AVERAGE)
                ),
                None,
            )
            link = f'<td class="text"><a href="#s{number}p{k}">{esc(protocol)}</a></td>'
            score = NONE if best is None else estimate_cell(best.score)
            name = "–" if best is None else name_of(best.method, best.rate, best.effective_rate)
            rows.append(
                row(
                    setting.title,
                    [
                        link,
                        f"<td>{int(cells['n'].max())}</td>",
                        f"<td>{int((gone['protocol'] == protocol).sum())}</td>",
                        text_cell(name),
                        score,
                        _margin(best),
                        text_cell(_most_pruned(a, setting, protocol)),
                    ],
                )
            )
    head = ["experiment", "protocol", "seeds", "cells missing", _BEST, "robust, %", "margin", _MOST]
    body = table(head, rows, words=["protocol", _BEST, _MOST])
    return (
        f'<div class="glance">{body}</div><p class="note">Adversary unknown: robust accuracy is '
        "the average over attacks and ε, the margin is to the unpruned models. The findings below "
        "give the other cases.</p>"
    )


def _margin(best: Strategy | None) -> str:
    if best is None:
        return NONE
    return NONE_BY_NATURE if best.method == UNPRUNED else points(best.margin)


def _most_pruned(a: Analysis, setting: Setting, protocol: str) -> str:
    for found in a.limits:
        if (found.setting, found.protocol, found.attack) == (setting, protocol, ""):
            if (t := found.shown or found.by_means) is None:
                return "none"
            name = name_of(t.method, t.rate, t.effective_rate)
            return name if found.shown else f"{name}, by means alone"
    return "–"


def footer_html(a: Analysis) -> str:
    """Where the rows come from."""
    models, cells = a.results.models, a.results.cells
    rows = []
    for title, column in _PROVENANCE.items():
        values = pd.concat([models[column], cells[column]]).dropna().astype(str)
        values = values[values != ""]
        shown = [f"{value} ({n})" for value, n in values.value_counts().head(6).items()]
        rest = values.nunique() - len(shown)
        text = ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
        rows.append(row(title, [text_cell(text or "not recorded")]))
    how = cells[["attack", "protocol", "engine", "outputs", "split"]].drop_duplicates()
    for attack, protocol, engine, outputs, split in how.itertuples(index=False, name=None):
        text = f"{engine} engine, through {outputs}, on {split} images"
        rows.append(row(f"{attack}, {protocol}", [text_cell(text)]))
    rendered = table(["", "rows"], rows, words=["rows"])
    source = f"<p>Store: <code>{esc(a.results.address)}</code></p>"
    return f"<footer><h4>Provenance</h4>{source}{rendered}</footer>"
