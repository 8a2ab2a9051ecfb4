"""The report's files: one page, and the same as CSV, LaTeX, PNG, SVG and PDF."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prunegrid.orchestrator.errors import UsageError, expected
from prunegrid.orchestrator.grid.grid import CellCoordinates
from prunegrid.orchestrator.names import eps_text
from prunegrid.orchestrator.output import OwnFolder
from prunegrid.orchestrator.report.analysis import Against, Analysis, analyse
from prunegrid.orchestrator.report.evidence import NO_EVIDENCE, Evidence
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.report.section import ExperimentSection
from prunegrid.orchestrator.report.sections import SECTIONS

#: In a folder of ours: which files are ours to replace.
MARKER = ".prunegrid-report.json"
#: What an index.html of ours says in its head.
_GENERATOR = '<meta name="generator" content="prunegrid">'

FORMATS = ("html", "csv", "latex", "figures", "cards")


@dataclass(frozen=True, kw_only=True)
class ReportPaths:
    folder: Path
    page: Path | None  #: index.html
    files: tuple[Path, ...]  #: all that was written
    analysis: Analysis


# Parameters: what a report is of, beside what, and which files; each has a default of its own.
def write_report(
    results: Results,
    out: Path,
    *,
    planned: Collection[CellCoordinates] | None = None,
    against: Against | None = None,
    contrast: tuple[str, str] | None = None,
    evidence: Evidence = NO_EVIDENCE,
    title: str | None = None,
    formats: Collection[str] = FORMATS,
) -> ReportPaths:
    """Write a report of `results` into the folder `out`.

    `planned`: the cells that a grid asks for, so that cells never begun are missing too;
    `evidence`: image rows and doubled steps, for the worst case per image and convergence;
    `against`: "paper", or another store's results; `contrast`: two methods; `formats`: some of
    FORMATS ("html" alone takes a second; "figures" draws PNG, SVG and PDF with matplotlib; "cards"
    are the claim checklist and the model cards, as JSON and Markdown).

    Raises NotOursError as `report_folder` does, StoreError where `out` can't be written;
    UsageError for an unknown format or method.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"report format: {expected(FORMATS, name)}")
    folder = report_folder(out)
    analysis = analyse(
        results, planned=planned, against=against, contrast=contrast, evidence=evidence
    )
    title = title or f"prunegrid: {Path(results.address).name or 'report'}"
    files = dict(_contents(analysis, title, formats))
    folder.replace(files)
    return ReportPaths(
        folder=out,
        page=out / "index.html" if "index.html" in files else None,
        files=tuple(out / path for path in files),
        analysis=analysis,
    )


def report_folder(out: Path) -> OwnFolder:
    """Raises NotOursError where it is neither absent, empty nor a report of ours."""
    return OwnFolder(out, marker=MARKER, what="report", generator=_GENERATOR)


def _contents(
    analysis: Analysis, title: str, formats: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """(path in the folder, content) of every file."""
    if "csv" in formats:
        for stem, frame in frames(analysis).items():
            yield f"csv/{stem}.csv", frame.to_csv(index=False).encode()
    for section in SECTIONS:
        if "latex" in formats:
            for stem, text in section.latex(analysis):
                yield f"latex/{stem}.tex", text.encode()
        if "cards" in formats:
            for path, text in section.files(analysis):
                yield path, text.encode()
        if "figures" in formats and isinstance(section, ExperimentSection):
            yield from _pictures(analysis, section)
    if "html" in formats:
        from prunegrid.orchestrator.report.page import page

        yield "index.html", page(analysis, title=title).encode()


def frames(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """What the CSV files hold, by stem; accuracies and margins are fractions."""
    found = [section.frames(analysis) for section in SECTIONS]
    return {stem: _labelled(frame) for part in found for stem, frame in part.items()}


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """With a column `eps_label` where it has norm and eps: `8/255`."""
    if not {"norm", "eps"} <= set(frame.columns):
        return frame
    places = zip(frame["norm"], frame["eps"], strict=True)
    labels = ["" if pd.isna(eps) else eps_text(str(norm), float(eps)) for norm, eps in places]
    return frame.assign(eps_label=labels)


def _pictures(analysis: Analysis, section: ExperimentSection) -> Iterator[tuple[str, bytes]]:
    from prunegrid.orchestrator.report.matplotlib_figures import render

    for experiment in analysis.experiments():
        for part in section.parts(experiment):
            grid = section.figure(part)
            if grid is not None and grid.panels and grid.panels[0]:
                for kind, content in render(grid, part.title).items():
                    yield f"figures/{part.slug}-{grid.name}.{kind}", content
