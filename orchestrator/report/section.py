"""What a section of the report is. Each is a module of `sections/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.curves import CurveGrid


class Section:
    """Its CSV files, its LaTeX tables and its piece of the page, from one analysis.

    The piece of the page is a jinja2 template, `template` or the file NAME.html beside the module
    NAME.py. It gets what `values` returns, `analysis`, and the macros of `macros.html` as `m`.
    Everything in it is escaped; captions and prose belong there.
    """

    order: ClassVar[int]  #: among all sections: 0 to 99 above the experiments, 900 and up below
    title: ClassVar[str] = ""  #: its heading
    link: ClassVar[str] = ""  #: its text in the list of contents; "": it is not there
    anchor: ClassVar[str] = ""  #: the heading's id, or its kind in `Part.anchor`
    template: ClassVar[str] = ""

    def frames(self, analysis: Analysis) -> Mapping[str, pd.DataFrame]:
        """By the stem of the CSV file."""
        return {}

    def latex(self, analysis: Analysis) -> Iterator[tuple[str, str]]:
        """(stem, text) of .tex files."""
        yield from ()

    def files(self, analysis: Analysis) -> Iterator[tuple[str, str]]:
        """(path in the report's folder, text) of further files."""
        yield from ()


class ReportSection(Section):
    """There once."""

    def values(self, analysis: Analysis) -> Mapping[str, object] | None:
        """For the template; None: the section is not on this page."""
        return {}


class ExperimentSection(Section):
    """There once for each experiment. `part` is the experiment."""

    def parts(self, experiment: Part) -> list[Part]:
        return [experiment]

    def figure(self, part: Part) -> CurveGrid | None:
        """Also written as PNG and SVG; the template's macro `figure` places it on the page."""
        return None

    def values(self, part: Part) -> Mapping[str, object] | None:
        """For the template, which gets `part` too; None: the section is not on this page."""
        return {}


class ProtocolSection(ExperimentSection):
    """There once for each experiment and protocol. Such sections that follow each other stand
    together, protocol by protocol."""

    def parts(self, experiment: Part) -> list[Part]:
        return experiment.by_protocol()
