"""The registry of sections: each file of the report has one owner, and a new section is a file."""

from __future__ import annotations

import dataclasses

import jinja2
import numpy as np
import pandas as pd
import pytest

from prunegrid.orchestrator.report import page, sections, write
from prunegrid.orchestrator.report.analysis import Analysis, analyse
from prunegrid.orchestrator.report.section import ExperimentSection, ProtocolSection, ReportSection
from prunegrid.orchestrator.report.sections import SECTIONS
from tests.report.synthetic import METHODS, synthetic


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    results = synthetic(protocols=("paper", "strict"), methods=METHODS[:1], rates=(1.0, 4.0))
    return analyse(results, against="paper")


def test_sections_stand_in_an_order_that_each_declares():
    orders = [section.order for section in SECTIONS]
    assert orders == sorted(set(orders))
    for section in SECTIONS:
        about_all = isinstance(section, ReportSection)
        assert about_all != isinstance(section, ExperimentSection)
        assert about_all == (section.order < 100 or section.order >= 900), section


def test_every_file_has_one_section(analysis):
    names = [f"{stem}.csv" for section in SECTIONS for stem in section.frames(analysis)]
    names += [f"{stem}.tex" for section in SECTIONS for stem, _ in section.latex(analysis)]
    assert len(names) == len(set(names))
    assert {"clean.csv", "cells.csv", "findings.csv", "against_paper.csv", "table1.tex"} <= {*names}


def test_a_section_is_a_heading_a_link_a_table_and_a_csv_file(analysis, monkeypatch):
    class Seeds(ProtocolSection):
        order = 365
        title = "Seeds"
        link = "seeds"
        anchor = "z"
        template = '{% call(r) m.table(["<n>"], rows) %}<td>{{ r }}</td>{% endcall %}'

        def frames(self, analysis):
            return {"seeds": pd.DataFrame({"norm": ["linf"], "eps": [8 / 255]})}

        def values(self, part):
            return {"rows": ["<b>1</b>"]} if part.protocol == "strict" else None

    there = tuple(sorted((*SECTIONS, Seeds()), key=lambda section: section.order))
    for module in (page, write, sections):
        monkeypatch.setattr(module, "SECTIONS", there)
    text = page.page(analysis, title="t")
    assert text.count('<h3 id="s1z2">Seeds, protocol strict</h3>') == 1
    assert '<a class="sub" href="#s1z2">seeds, strict</a>' in text
    assert "<td>&lt;b&gt;1&lt;/b&gt;</td>" in text
    assert '<th scope="col">&lt;n&gt;</th>' in text
    assert "Seeds, protocol paper" not in text, "no values, no section"
    assert write.frames(analysis)["seeds"]["eps_label"].tolist() == ["8/255"]


def test_a_template_that_names_what_is_not_there_fails(analysis, monkeypatch):
    class Wrong(ReportSection):
        order = 5
        template = "{{ nobody }}"

    monkeypatch.setattr(page, "SECTIONS", (Wrong(),))
    with pytest.raises(jinja2.UndefinedError, match="nobody"):
        page.page(analysis, title="t")


def test_a_number_keeps_its_tooltip(analysis):
    text = page.page(analysis, title="t")
    row = analysis.clean[analysis.clean.rate == 4].iloc[0]
    low, high = (100 * (row["mean"] + side * row.half) for side in (-1, 1))
    found = f"n = 2, mean {100 * row['mean']:.2f} %, SD {100 * row.sd:.2f}, 95 % interval "
    found += f"{low:.2f} to {high:.2f}; margin {100 * row.margin:+.2f}".replace(
        "margin -", "margin −"
    )
    assert f'<td title="{found}' in text


def test_passes_are_a_table_where_rows_count_them(analysis):
    from prunegrid.orchestrator.report.sections.attack_passes import SECTION

    assert SECTION.frames(analysis) == {}, "rows of schema 2"
    results = synthetic(methods=METHODS[:1], rates=(1.0, 4.0))
    half = results.cells["attack"] == "cw_l2"
    counted = results.cells.assign(queries_mean=30.0, backward_mean=np.where(half, 20.0, np.nan))
    counted["flat_loss_frac"] = np.where(results.cells["rate"] == 4, 0.5, 0.0)
    found = analyse(dataclasses.replace(results, cells=counted))
    passes = SECTION.frames(found)["attack_passes"]
    assert passes[["attack", "engine", "forward", "backward", "flat"]].values.tolist() == [
        ["cw_l2", "strict", 30.0, 20.0, 0.25]
    ]
    text = page.page(found, title="t")
    assert "Passes of the attacks" in text
    assert "<td>30</td><td>20</td>" in text
    assert "<td>25.0</td>" in text
