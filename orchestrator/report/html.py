"""One self-contained page: plotly.js once, no network, everything from the store escaped."""

from __future__ import annotations

import json
from itertools import count, groupby
from pathlib import Path

import plotly.io as pio
from plotly.offline import get_plotlyjs

from prunegrid.orchestrator.report.against_html import paper_html, stores_html
from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.curves import (
    Grid,
    compression_grid,
    protocol_grid,
    security_grid,
    worst_grid,
)
from prunegrid.orchestrator.report.figures import CONFIG, draw, least_width_px
from prunegrid.orchestrator.report.findings import Finding, Topic, findings
from prunegrid.orchestrator.report.html_tables import (
    clean_html,
    esc,
    margins_html,
    strategies_html,
    sweet_html,
)
from prunegrid.orchestrator.report.missing import missing_text
from prunegrid.orchestrator.report.overview import footer_html, glance_html
from prunegrid.orchestrator.report.results import Setting, method_order
from prunegrid.orchestrator.report.worst_html import convergence_html, per_image_text


class Page:
    """Builds one document; figures get numbers as they come."""

    def __init__(self, analysis: Analysis, title: str) -> None:
        self._analysis = analysis
        self._title = title
        self._numbers = count(1)
        self._links: list[tuple[str, str, str]] = []  # class, anchor, text

    def html(self) -> str:
        body = self._body()
        links = "".join(f'<a class="{c}" href="#{a}">{esc(text)}</a>' for c, a, text in self._links)
        style, script = (_beside(f"page.{kind}") for kind in ("css", "js"))
        script = script.replace("CONFIG_JSON", json.dumps(CONFIG))
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="generator" content="prunegrid">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{esc(self._title)}</title><link rel="icon" href="data:,">'
            f"<style>{style}</style></head><body><nav>{links}</nav><main>{body}</main>"
            f"<script>{get_plotlyjs()}</script><script>{script}</script></body></html>\n"
        )

    # ------------------------------------------------------------------ parts

    def _body(self) -> str:
        a = self._analysis
        self._links.append(("top", "top", self._title))
        parts = [self._head()]
        if a.paper is not None or a.stores is not None:
            self._links.append(("", "against", "Side by side"))
            parts.append(
                paper_html(a.paper) if a.paper is not None else stores_html(a.stores or ())
            )
        told = {
            (setting, protocol): list(part)
            for (setting, protocol), part in groupby(findings(a), lambda f: (f.setting, f.protocol))
        }
        for number, setting in enumerate(a.results.settings, start=1):
            parts.append(self._setting(setting, f"s{number}", told))
        parts.append(footer_html(a))
        return "\n".join(parts)

    def _head(self) -> str:
        a = self._analysis
        results = a.results
        lead = (
            f"{len(results.models)} models and {len(results.cells)} cells; "
            f"{missing_text(a.missing, a.wanted)}."
        )
        return (
            f'<h1 id="top">{esc(self._title)}</h1><p class="lead">{esc(lead)}</p>'
            '<p class="note">Robust accuracy is the share of attacked images that stay correctly '
            "classified. Every number is a mean over seeds; ± is the half width of its 95 % t "
            "interval, – a cell without a result. Hover over a number for its n, sample SD and "
            "interval; the CSV files hold all of them.</p>" + glance_html(a)
        )

    def _setting(
        self, setting: Setting, anchor: str, told: dict[tuple[Setting, str], list[Finding]]
    ) -> str:
        a = self._analysis
        self._links.append(("top", anchor, setting.title))
        protocols = a.results.protocols(setting)
        parts = [f'<h2 id="{anchor}">{esc(setting.title)}</h2>']
        for number, protocol in enumerate(protocols, start=1):
            mine = told.get((setting, protocol), [])
            name = f"{anchor}f{number}"
            self._links.append(("sub", name, f"findings, {protocol}"))
            parts.append(f'<h3 id="{name}">Findings, protocol {esc(protocol)}</h3>')
            parts.append(_findings_html(mine))
        self._links.append(("sub", f"{anchor}c", "clean accuracy"))
        parts.append(f'<h3 id="{anchor}c">Clean accuracy by nominal compression rate</h3>')
        parts.append(clean_html(setting.rows(a.clean)))
        parts.append(
            '<p class="note">In percent, on the whole test split; the best rate of each method is '
            "bold.</p>"
        )
        for number, protocol in enumerate(protocols, start=1):
            parts.append(self._protocol(setting, protocol, f"{anchor}p{number}"))
        if len(protocols) > 1:
            caption = (
                "The same trained models under each protocol: what differs is how they were "
                "attacked."
            )
            parts.append("<h3>Protocols side by side</h3>")
            parts.append(self._figure(protocol_grid(a, setting), caption))
        return "\n".join(parts)

    def _protocol(self, setting: Setting, protocol: str, anchor: str) -> str:
        a = self._analysis
        self._links.append(("sub", anchor, f"curves and tables, {protocol}"))
        name = esc(protocol)
        parts = [f'<h3 id="{anchor}">Security curves, protocol {name}</h3>']
        parts.append(
            self._figure(
                security_grid(a, setting, protocol),
                "Robust accuracy against the nominal compression rate: attacks by column, ε "
                "growing downwards (an ε that has no counterpart among the other attacks' comes "
                "last). Colour is the structure that is pruned, dash and marker the "
                "criterion and its scope; bars are 95 % intervals, the dotted line is the mean of "
                "the unpruned models, a gap in a line is a cell without a result. Click on a "
                "method to hide it, twice to see it alone.",
            )
        )
        parts.append(f"<h3>Best strategy by what is known of the adversary, protocol {name}</h3>")
        mine = [s for s in a.strategies if s.setting == setting and s.protocol == protocol]
        rates = sorted({s.least_rate for s in mine})
        for rate in rates:
            chosen = [s for s in mine if s.least_rate == rate]
            if rate == rates[0]:
                parts.append(strategies_html(a, chosen))
            else:
                parts.append(
                    f"<details><summary>Weights at least {rate:g} times fewer (effective)"
                    f"</summary>{strategies_html(a, chosen)}</details>"
                )
        parts.append(
            '<p class="note">Unpruned: the unpruned models of all methods together. Averages and '
            "worst attacks are over the ε that all attacks have counterparts of, the k-th beside "
            "the k-th. Least regret: the smallest mean margin to the unpruned models, over "
            "the attacks and ε in question. Not told apart: rivals whose paired difference from "
            "the best is not significant (Holm, 5 %). †: a suspiciously flat curve, see "
            "the findings.</p>"
        )
        parts.append(f"<h3>Sweet spots, protocol {name}</h3>")
        sweet = setting.rows(a.sweet_models)
        parts.append(sweet_html(sweet[sweet["protocol"] == protocol]))
        parts.append(
            '<p class="note">Margins in percentage points to the unpruned models of the same '
            "chains, safest first. Sweet: neither clean nor robust accuracy is lower, by its mean. "
            "Gains and losses of robustness are shown where a paired t test over seeds, corrected "
            "for all cells of this protocol (Holm, 5 %), says so.</p>"
        )
        parts.append(self._margins(setting, protocol))
        parts.append(f"<h3>What compression buys, protocol {name}</h3>")
        parts.append(
            self._figure(
                compression_grid(a, setting, protocol),
                "The same accuracies against what was asked for (nominal), what the weights "
                "count (effective) and, where recorded, the theoretical speed-up.",
            )
        )
        parts.append(f"<h3>Worst case over attacks, protocol {name}</h3>")
        parts.append(
            self._figure(
                worst_grid(a, setting, protocol),
                "Per seed the least robust accuracy of all attacks at their k-th ε. "
                + per_image_text(a, setting, protocol),
            )
        )
        parts.append(convergence_html(a, setting, protocol))
        return "\n".join(parts)

    def _margins(self, setting: Setting, protocol: str) -> str:
        a = self._analysis
        clean, cells = setting.rows(a.clean), setting.rows(a.cells)
        cells = cells[cells["protocol"] == protocol]
        rates = sorted({*clean["rate"], *cells["rate"]})
        parts = [
            f"<h3>Accuracy and margin to the unpruned model, protocol {esc(protocol)}</h3>",
            '<p class="note key">By nominal rate; small numbers are margins in points.'
            '<i style="background:var(--gain)"></i>gain<i style="background:var(--loss)"></i>loss; '
            "underlined: significant after correction.</p>",
        ]
        for number, method in enumerate(method_order(cells["method"])):
            body = margins_html(
                clean[clean["method"] == method], cells[cells["method"] == method], rates
            )
            state = " open" if number == 0 else ""
            parts.append(f"<details{state}><summary>{esc(method)}</summary>{body}</details>")
        return "\n".join(parts)

    def _figure(self, grid: Grid, caption: str) -> str:
        if not grid.panels or not grid.panels[0]:
            return '<p class="note">No cell has a result yet.</p>'
        figure = draw(grid)
        name = f"figure-{next(self._numbers)}"
        # "<" never ends a script element from inside a JSON string
        data = str(pio.to_json(figure, validate=False, engine="json")).replace("<", "\\u003c")
        return (
            f'<figure><div class="wide"><div class="plot" id="{name}" style="min-height:'
            f'{figure.layout.height}px;min-width:{least_width_px(grid)}px"></div></div>'
            f'<script type="application/json" id="{name}-data">{data}</script>'
            f"<figcaption>{caption}</figcaption></figure>"
        )


def _beside(name: str) -> str:
    """A text file of this package."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _findings_html(told: list[Finding]) -> str:
    parts = []
    for topic in Topic:
        mine = [_sentence(finding) for finding in told if finding.topic is topic]
        if mine:
            parts.append(f"<dt>{esc(topic.value)}</dt>")
            parts += [f"<dd>{text}</dd>" for text in mine]
    return f"<dl>{''.join(parts)}</dl>"


def _sentence(finding: Finding) -> str:
    rest = finding.text.removeprefix(finding.lead)
    return (f"<b>{esc(finding.lead)}</b>" if finding.lead else "") + esc(rest)


def page(analysis: Analysis, *, title: str) -> str:
    """The whole HTML document."""
    return Page(analysis, title).html()
