"""The report's files: one page, and the same as CSV, LaTeX, PNG and SVG."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from prunegrid.orchestrator.errors import StoreError, UsageError, expected
from prunegrid.orchestrator.grid.coordinates import CellCoordinates
from prunegrid.orchestrator.report.analysis import Against, Analysis, analyse
from prunegrid.orchestrator.report.evidence import NO_EVIDENCE, Evidence
from prunegrid.orchestrator.report.exports import frames
from prunegrid.orchestrator.report.latex import clean_latex, margins_latex, strategies_latex
from prunegrid.orchestrator.report.results import Results, Setting
from prunegrid.workers.files import write_aside

#: In a folder of ours: which files are ours to replace.
MARKER = ".prunegrid-report.json"
#: What an index.html of ours says in its head.
_GENERATOR = '<meta name="generator" content="prunegrid">'

FORMATS = ("html", "csv", "latex", "figures")


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    folder: Path
    page: Path | None  #: index.html
    files: tuple[Path, ...]  #: all that was written
    lines: tuple[str, ...]  #: the comparison in plain words; empty without one
    analysis: Analysis


def write_report(
    results: Results,
    out: Path,
    *,
    planned: Collection[CellCoordinates] | None = None,
    against: Against | None = None,
    evidence: Evidence = NO_EVIDENCE,
    title: str | None = None,
    formats: Collection[str] = FORMATS,
) -> ReportPaths:
    """Write a report of `results` into the folder `out`.

    `planned`: the cells that a grid asks for, so that cells never begun are missing too;
    `evidence`: image rows and doubled steps, for the worst case per image and convergence;
    `against`: "paper", or another store's results; `formats`: some of FORMATS ("html" alone takes
    a second; "figures" draws PNG and SVG with matplotlib).

    Raises StoreError where `out` is neither absent, empty nor a report of ours, or can't be
    written; UsageError for an unknown format.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"report format: {expected(FORMATS, name)}")
    old = _claim(out)
    analysis = analyse(results, planned=planned, against=against, evidence=evidence)
    name = title or f"prunegrid: {Path(results.address).name or 'report'}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        # the marker comes first and goes last: a folder that a crash left half written is ours
        written: list[str] = []
        write_aside(out / MARKER, json.dumps({"files": old}).encode())
        for path, content in _contents(analysis, name, formats):
            write_aside(out / path, content)
            written.append(path)
        for path in set(old) - set(written):
            _remove(out, path)
        write_aside(out / MARKER, json.dumps({"files": written}, indent=1).encode())
    except OSError as error:
        raise StoreError(f"can't write {out}: {error.strerror or error}") from error
    return ReportPaths(
        folder=out,
        page=out / "index.html" if "index.html" in written else None,
        files=tuple(out / path for path in written),
        lines=tuple(_comparison_lines(analysis)),
        analysis=analysis,
    )


def _claim(out: Path) -> list[str]:
    """The files of our former report in `out`. Raises StoreError where it is somebody else's."""
    try:
        names = sorted(path.name for path in out.iterdir()) if out.exists() else []
        if MARKER in names:
            raw = json.loads((out / MARKER).read_text(encoding="utf-8"))
            return [str(path) for path in raw["files"]]
        if (
            names == ["index.html"]
            and _GENERATOR
            in (out / "index.html").read_text(encoding="utf-8", errors="replace")[:1000]
        ):
            return names
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{out / MARKER}: torn: {error}; choose another folder") from error
    except OSError as error:
        raise StoreError(f"{out}: can't be read: {error.strerror or error}") from error
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise StoreError(
            f"{out}: not a report of ours, it is left as it is: it holds {shown}; expected a new "
            "or empty folder or an earlier report"
        )
    return []


def _remove(out: Path, path: str) -> None:
    """A stale file of ours, never one outside of the folder."""
    target = (out / path).resolve()
    if out.resolve() in target.parents:
        target.unlink(missing_ok=True)


def _contents(
    analysis: Analysis, title: str, formats: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    if "csv" in formats:
        for name, frame in frames(analysis).items():
            yield f"csv/{name}.csv", frame.to_csv(index=False).encode()
    if "latex" in formats:
        yield "latex/table1.tex", clean_latex(analysis).encode()
        yield "latex/strategies.tex", strategies_latex(analysis).encode()
        for setting, protocol in _sides(analysis):
            text = margins_latex(analysis, setting, protocol)
            yield f"latex/table2-{_slug(*setting, protocol)}.tex", text.encode()
    if "figures" in formats:
        yield from _static(analysis)
    if "html" in formats:
        from prunegrid.orchestrator.report.html import page

        yield "index.html", page(analysis, title=title).encode()


def _sides(analysis: Analysis) -> Iterator[tuple[Setting, str]]:
    for setting in analysis.results.settings:
        for protocol in analysis.results.protocols(setting):
            yield setting, protocol


def _slug(*names: str) -> str:
    """A file name out of names that may hold anything."""
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "_", name)[:40] or "_" for name in names)


def _static(analysis: Analysis) -> Iterator[tuple[str, bytes]]:
    from prunegrid.orchestrator.report.curves import (
        compression_grid,
        protocol_grid,
        security_grid,
        worst_grid,
    )
    from prunegrid.orchestrator.report.static import render

    grids = []
    for setting, protocol in _sides(analysis):
        for make in (security_grid, compression_grid, worst_grid):
            grid = make(analysis, setting, protocol)
            place = f"{setting.title}, protocol {protocol}"
            grids.append((grid, place, _slug(*setting, protocol)))
    for setting in analysis.results.settings:
        if len(analysis.results.protocols(setting)) > 1:
            grids.append((protocol_grid(analysis, setting), setting.title, _slug(*setting)))
    for grid, place, slug in grids:
        if grid.panels and grid.panels[0]:
            for kind, content in render(grid, place).items():
                yield f"figures/{slug}-{grid.name}.{kind}", content


def _comparison_lines(analysis: Analysis) -> Iterator[str]:
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
