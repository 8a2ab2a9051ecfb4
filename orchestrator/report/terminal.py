"""The report for a terminal: tables, findings, comparisons."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.names import eps_text
from prunegrid.orchestrator.output import plain, print_table
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.findings import ReportFinding, Topic, findings_of
from prunegrid.orchestrator.report.results import (
    Threat,
    diverged_texts,
    records,
    sampling_text,
    seeds_text,
    threats,
)
from prunegrid.orchestrator.report.statistics import INTERVAL, Estimate, interval_text
from prunegrid.orchestrator.report.style import method_order
from prunegrid.orchestrator.report.tables import UNPRUNED

#: Models of one experiment that still get a line each.
FEW = 24
#: Of `(97.2–99.5)`: an interval stands below its mean where there is no room beside it.
_INTERVAL_WIDTH = 11
#: From this width on a matrix has its intervals.
WIDE = 112


def print_report(console: Console, analysis: Analysis) -> None:
    """Tables, the findings that one acts on, and the comparison that was asked for."""
    experiments = analysis.experiments()
    small = max(len(experiment.rows(analysis.clean)) for experiment in experiments) <= FEW
    for experiment in experiments:
        wide = console.width >= WIDE
        made = summary_tables if small else matrices
        for table in made(experiment, wide=wide):
            print_table(console, table, keys=2 if small else 1)
    for part in analysis.parts():
        shown = [finding for finding in findings_of(part) if _is_for_all(finding)]
        if shown:
            say(console, f"{part.title} (robust: over all attacks and ε):")
        for finding in shown:
            say(console, f"  {finding.topic}. {finding.text}")
        images = sampling_text(part.rows(analysis.results.cells)["n_images"])
        say(console, f"  Intervals of accuracies: {INTERVAL}. {images}")
    for experiment in experiments:
        for text in diverged_texts(experiment.rows(analysis.results.models)):
            say(console, f"{experiment.title}: {text}.")
    for line in comparison_lines(analysis):
        say(console, line, hang=6)
    for mixed in analysis.mixed:
        say(console, f"warning: {mixed}")


def _is_for_all(finding: ReportFinding) -> bool:
    """Whether it holds whatever the adversary does: what one acts on first."""
    if finding.topic in (Topic.DEPLOY, Topic.HOW_FAR):
        return not finding.lead.partition(",")[0].endswith(" known")
    return finding.topic is Topic.LOSSES


def say(console: Console, text: str, *, hang: int = 4) -> None:
    """A paragraph, wrapped at words; its later lines start at column `hang`."""
    wrapped = textwrap.wrap(
        text,
        max(console.width, 40),
        subsequent_indent=" " * hang,
        break_on_hyphens=False,
        break_long_words=False,
    )
    say_whole(console, "\n".join(wrapped))


def say_whole(console: Console, text: str) -> None:
    """As it is: a path must stay in one piece."""
    plain(console)(text)


def comparison_lines(analysis: Analysis) -> Iterator[str]:
    """The comparison with the paper or another store in plain words; empty without one."""
    for paper in analysis.paper or ():
        yield f"{paper.setting.title}, protocol {paper.protocol or '–'}:"
        yield from (f"  {line}" for line in paper.sentences())
    if analysis.paper == ():
        yield "no ResNet18 results to put beside the paper's"
    for side in analysis.stores or ():
        yield f"{side.architecture} on {side.dataset}: a = {side.a}, b = {side.b}"
        yield from (f"  {line}" for line in side.sentences())
    if analysis.stores == ():
        yield "nothing to compare: no architecture and data set, or no second protocol, in common"


def matrices(experiment: Part, *, wide: bool) -> Iterator[Table]:
    """Methods by rates: clean accuracy, and for each protocol the average robust accuracy."""
    from prunegrid.orchestrator.report.curves import average_robustness

    shown = {"clean accuracy": experiment.rows(experiment.analysis.clean)}
    for part in experiment.by_protocol():
        shown[f"average robust accuracy, protocol {part.protocol}"] = average_robustness(part)
    for name, rows in shown.items():
        if len(rows):
            title = f"{experiment.title}: {name}, %, mean over {seeds_text(rows['n'])}"
            yield _matrix(title + (", 95 % intervals" if wide else ""), rows, wide=wide)


def _matrix(title: str, rows: pd.DataFrame, *, wide: bool) -> Table:
    table = Table(title=title, box=None, title_justify="left", header_style="bold", padding=(0, 1))
    rates = sorted(rows["rate"].unique())
    found = {
        (m.method, m.rate): f"{100 * m.mean:.1f}"
        + (f"\n{interval_text(m.n, m.low, m.high)}" if wide else "")
        for m in records(rows.dropna(subset="mean"))
    }
    table.add_column("method \\ rate", no_wrap=True)
    for rate in rates:
        table.add_column(f"{rate:g}", justify="right", no_wrap=True)
    for method in method_order(rows["method"]):
        table.add_row(method, *(found.get((method, rate), "–") for rate in rates))
    return table


def summary_tables(experiment: Part, *, wide: bool) -> Iterator[Table]:
    """One for each protocol: clean accuracy, and robust accuracy at each attack's middle eps;
    means over seeds, %."""
    for part in experiment.by_protocol() or [experiment]:
        yield _summary_table(part, wide=wide)


def _summary_table(part: Part, *, wide: bool) -> Table:
    table = Table(
        title=_summary_title(part),
        box=None,
        title_justify="left",
        header_style="bold",
        padding=(0, 1),
    )
    table.add_column("method", no_wrap=True, min_width=12)
    for name in ("rate", "eff."):
        table.add_column(name, justify="right", no_wrap=True, min_width=4)
    table.add_column("clean", justify="right", min_width=_INTERVAL_WIDTH)
    cells = part.rows(part.analysis.cells)
    columns = _middle_threats(cells[cells["n"] > 0])
    for threat in columns:
        name = "\n".join(_wrapped(threat.attack, "_", _INTERVAL_WIDTH))
        head = f"{name}\n{eps_text(threat.norm, threat.eps)}"
        table.add_column(head, justify="right", min_width=_INTERVAL_WIDTH)
    robust = {(c.method, c.rate, Threat(c.attack, c.norm, c.eps)): _text(c) for c in records(cells)}
    attacked = {(c.method, c.rate): c for c in records(part.rows(part.analysis.attacked))}
    clean = records(part.rows(part.analysis.clean))
    sections: dict[str, list[list[str]]] = {}
    for row in clean:
        values = [robust.get((row.method, row.rate, threat), "–") for threat in columns]
        beside = attacked.get((row.method, row.rate), row)
        shown = _text(beside) if row.n or not row.diverged else "diverged"
        numbers = [f"{row.rate:g}", f"{row.effective_rate:.2f}", shown]
        sections.setdefault(str(row.method), []).append([*numbers, *values])
    for method, rows in _shared_once(sections).items():
        table.add_section()
        below = not wide and any("(" in text for text in rows[0])  # intervals: two lines each
        names = _in_lines(method, len(rows) * (1 + below))
        for number, texts in enumerate(rows):
            lines = names[number * (1 + below) : (number + 1) * (1 + below)]
            table.add_row("\n".join(lines), *texts)
    return table


def _shared_once(sections: dict[str, list[list[str]]]) -> dict[str, list[list[str]]]:
    """Where all methods begin with the same unpruned models, these stand once, before them."""
    firsts = [rows[0] for rows in sections.values()]
    if len(firsts) < 2 or firsts[0][0] != "1" or any(first != firsts[0] for first in firsts):
        return sections
    rest = {method: rows[1:] for method, rows in sections.items() if rows[1:]}
    return {UNPRUNED: firsts[:1], **rest}


def _summary_title(part: Part) -> str:
    own = part.rows(part.analysis.attacked)
    clean = "whole test split" if own.empty else "attacked images"
    cells = part.rows(part.analysis.cells)
    several = len(threats(cells)) > len(_middle_threats(cells))
    robust = "; robust: at one ε of several, all in the report" if several else ""
    what = f"accuracy, % (clean: of the {clean}{robust})"
    return f"{part.title}: {what}, mean over seeds, 95 % interval"


def _text(row: Any) -> str:
    return Estimate(n=row.n, mean=row.mean, sd=row.sd, half=row.half).text()


def _in_lines(method: str, most: int) -> list[str]:
    """A method's name over at most so many lines, as narrow as that allows, so that numbers keep
    their room."""
    for width in range(max(map(len, method.split("-"))), len(method)):
        lines = _wrapped(method, "-", width)
        if len(lines) <= most:
            return lines
    return [method]


def _wrapped(name: str, separator: str, width: int) -> list[str]:
    """A name in lines of at most so many characters where its words allow it; each line but the
    last ends on the separator."""
    *firsts, last = name.split(separator)
    lines = [""]
    for word in [*(first + separator for first in firsts), last]:
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return lines


def _middle_threats(cells: pd.DataFrame) -> list[Threat]:
    """One eps per attack: the upper middle one."""
    by_attack = groupby(threats(cells), key=lambda threat: threat.attack)
    levels = [list(mine) for _, mine in by_attack]
    return [mine[len(mine) // 2] for mine in levels]
