"""The page's comparison with the paper or with another store."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from prunegrid.orchestrator.report.comparison import CLEAN, SideComparison
from prunegrid.orchestrator.report.html_tables import NONE, esc, row, table, text_cell, tooltip
from prunegrid.orchestrator.report.paper import PaperComparison, Verdict
from prunegrid.orchestrator.report.paper_tables import PAPER
from prunegrid.orchestrator.report.results import attack_title, eps_text, records
from prunegrid.orchestrator.report.statistics import signed


def paper_html(comparisons: Sequence[PaperComparison]) -> str:
    parts = [f'<h2 id="against">Beside the published tables</h2><p class="dim">{esc(PAPER)}</p>']
    if not comparisons:
        parts.append("<p>This store has no ResNet18 results to put beside the paper's.</p>")
    for c in comparisons:
        parts.append(f"<h3>{esc(c.setting.title)}, protocol {esc(c.protocol or '–')}</h3>")
        parts.append("<ul>" + "".join(f"<li>{esc(line)}</li>" for line in c.sentences()) + "</ul>")
        for number in (1, 2):
            parts.append(
                f"<details><summary>Table {number}, cell by cell</summary>{_paper_table(c, number)}"
                "</details>"
            )
    return "\n".join(parts)


def _paper_table(c: PaperComparison, number: int) -> str:
    rows = []
    for found in (f for f in c.cells if f.cell.table == number):
        cell = found.cell
        name = cell.method if not cell.attack else f"{attack_title(cell.attack)} {cell.label}"
        if cell.table == 2 and not cell.attack:
            name = "clean"
        ours = found.ours
        mean = NONE
        if ours.n:
            hint = tooltip(ours.n, ours.mean, ours.sd, ours.half)
            mean = f'<td title="{hint}">{100 * ours.mean:.2f}</td>'
        gap = (
            NONE
            if math.isnan(found.difference)
            else f"<td>{signed(found.difference / 100, 2)}</td>"
        )
        verdict = found.verdict.value
        if found.verdict is Verdict.MISPRINT:
            verdict += f": its margin implies {found.implied:.2f}"
        at = (
            "" if found.eps is None or cell.eps is None else eps_text(_norm(cell.attack), found.eps)
        )
        rows.append(
            row(
                name,
                [
                    f"<td>{cell.rate:g}</td><td>{cell.accuracy:.2f}</td>",
                    mean,
                    f"<td>{ours.n}</td>",
                    gap,
                    text_cell(verdict),
                    text_cell(at),
                ],
            )
        )
    head = ["as printed", "rate", "printed", "here", "n", "difference", "verdict", "here at ε"]
    return table(head, rows, words=["verdict", "here at ε"])


def _norm(attack: str) -> str:
    return attack.rpartition("_")[2]


def stores_html(comparisons: Sequence[SideComparison], *, limit: int = 400) -> str:
    parts = ['<h2 id="against">Side by side</h2>']
    if not comparisons:
        parts.append("<p>The two have no architecture and data set in common.</p>")
    for c in comparisons:
        parts.append(f"<h3>{esc(c.architecture)} on {esc(c.dataset)}</h3>")
        parts.append(f"<p>a: <code>{esc(c.a)}</code><br>b: <code>{esc(c.b)}</code></p>")
        parts.append("<ul>" + "".join(f"<li>{esc(line)}</li>" for line in c.sentences()) + "</ul>")
        parts.append(_side_table(c.table, limit))
    return "\n".join(parts)


def _side_table(frame: pd.DataFrame, limit: int) -> str:
    rows = []
    for r in records(frame.head(limit)):
        threat = "clean" if r.attack == CLEAN else f"{attack_title(str(r.attack))}, "
        threat += "" if r.attack == CLEAN else eps_text(str(r.norm), float(r.eps))
        cells = [f"<td>{r.rate:g}</td>", text_cell(threat)]
        for n, mean, half in ((r.n_a, r.mean_a, r.half_a), (r.n_b, r.mean_b, r.half_b)):
            spread = "" if math.isnan(half) else f"<small>±{100 * half:.2f}</small>"
            cells.append(NONE if not n else f'<td title="n = {n}">{100 * mean:.2f}{spread}</td>')
        spread = "" if math.isnan(r.half) else f"<small>±{100 * r.half:.2f}</small>"
        gap = NONE if math.isnan(r.difference) else f"<td>{signed(r.difference, 2)}{spread}</td>"
        rows.append(row(str(r.method), [*cells, gap, text_cell(r.verdict)]))
    more = ""
    if len(frame) > limit:
        more = f'<p class="note">The first {limit} of {len(frame)} cells; the CSV has all.</p>'
    head = ["method", "rate", "attack", "a, %", "b, %", "a − b, points", "verdict"]
    body = table(head, rows, words=["attack", "verdict"]) + more
    return f"<details><summary>Cell by cell</summary>{body}</details>"
