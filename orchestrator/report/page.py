"""One self-contained page from all sections: plotly.js once, no network, every text escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import count, groupby
from typing import NamedTuple

import jinja2
import plotly.io as pio
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from prunegrid.orchestrator.names import attack_title, counted, eps_text
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.curves import CurveGrid
from prunegrid.orchestrator.report.plotly_figures import CONFIG, draw, least_width_px
from prunegrid.orchestrator.report.section import (
    ExperimentSection,
    ProtocolSection,
    ReportSection,
    Section,
)
from prunegrid.orchestrator.report.sections import SECTIONS
from prunegrid.orchestrator.report.statistics import SIGNIFICANT, signed


class Block(NamedTuple):
    """A heading, and what follows it up to the next one."""

    level: int  #: of the heading
    anchor: str
    title: str  #: "": no heading
    link: str  #: in the list of contents; "": none
    kind: str  #: the link's class in page.css
    html: Markup


class DrawnFigure(NamedTuple):
    name: str
    height: int  #: pixels
    width: int  #: pixels, at least
    data: Markup  #: plotly's JSON


def page(analysis: Analysis, *, title: str) -> str:
    """The whole HTML document."""
    templates = _templates()
    figures = count(1)
    blocks = [Block(1, "top", title, title, "top", Markup())]
    for of_report, group in groupby(SECTIONS, key=lambda s: isinstance(s, ReportSection)):
        mine = list(group)
        if of_report:
            blocks += [b for s in mine if isinstance(s, ReportSection) for b in _once(analysis, s)]
        else:
            for experiment in analysis.experiments():
                blocks += _experiment(experiment, mine, figures)
    script = _source("page.js").replace("CONFIG_JSON", json.dumps(CONFIG))
    return templates.get_template("page.html").render(
        title=title,
        blocks=blocks,
        style=Markup(_source("page.css")),
        plotly=Markup(get_plotlyjs()),
        script=Markup(script),
    )


def _once(analysis: Analysis, section: ReportSection) -> Iterator[Block]:
    values = section.values(analysis)
    if values is not None:
        html = _rendered(section, values, analysis=analysis)
        yield Block(2, section.anchor, section.title, section.link, "", html)


def _experiment(
    experiment: Part, sections: list[Section], figures: Iterator[int]
) -> Iterator[Block]:
    title = experiment.setting.title
    yield Block(2, experiment.anchor(), title, title, "top", Markup())
    ours = [s for s in sections if isinstance(s, ExperimentSection)]
    for _, group in groupby(ours, key=lambda s: isinstance(s, ProtocolSection)):
        together = list(group)
        for part in together[0].parts(experiment):
            for section in together:
                values = section.values(part)
                if values is None:
                    continue
                figure = _drawn(section.figure(part), figures)
                html = _rendered(section, values, analysis=part.analysis, part=part, figure=figure)
                under = f", protocol {part.protocol}" if part.protocol else ""
                link = section.link + (f", {part.protocol}" if part.protocol else "")
                anchor = part.anchor(section.anchor) if section.anchor else ""
                yield Block(
                    3, anchor, section.title + under, link if section.link else "", "sub", html
                )


def _drawn(grid: CurveGrid | None, figures: Iterator[int]) -> DrawnFigure | None:
    if grid is None or not grid.panels or not grid.panels[0]:
        return None
    figure = draw(grid)
    # "<" never ends a script element from inside a JSON string
    data = str(pio.to_json(figure, validate=False, engine="json")).replace("<", "\\u003c")
    return DrawnFigure(
        name=f"figure-{next(figures)}",
        height=figure.layout.height,
        width=least_width_px(grid),
        data=Markup(data),
    )


def _rendered(section: Section, values: Mapping[str, object], **more: object) -> Markup:
    templates = _templates()
    if section.template:
        template = templates.from_string(section.template)
    else:
        module = type(section).__module__.rpartition(".")[2]
        template = templates.get_template(f"sections/{module}.html")
    return Markup(template.render(**values, **more))


@cache
def _templates() -> jinja2.Environment:
    out = jinja2.Environment(
        loader=jinja2.PackageLoader("prunegrid.orchestrator.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    out.filters |= {
        "percent": lambda fraction, digits=2: f"{100 * fraction:.{digits}f}",
        "short": lambda number, digits=6: f"{number:.{digits}g}",
        "signed": signed,
        "attack_title": attack_title,
        "eps_text": lambda threat: eps_text(str(threat.norm), float(threat.eps)),
    }
    out.tests["nan"] = math.isnan
    out.globals |= {"significant": SIGNIFICANT, "counted": counted}
    out.globals["m"] = out.get_template("macros.html").module
    return out


def _source(name: str) -> str:
    templates = _templates()
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]
