"""The tables for a paper: LaTeX with booktabs, no other package."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.findings import name_of
from prunegrid.orchestrator.report.results import (
    Setting,
    attack_title,
    eps_text,
    method_order,
    threats,
)
from prunegrid.orchestrator.report.strategies import Strategy

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def escape(text: object) -> str:
    return "".join(_SPECIAL.get(c, c) for c in str(text))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, left: int) -> str:
    """`head` and `caption` are escaped here, `rows` come escaped; `left` columns hold text."""
    columns = "l" * left + "r" * (len(head) - left)
    body = "\n".join(" & ".join(row) + r" \\" for row in rows)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{escape(caption)}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        + " & ".join(map(escape, head))
        + f" \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def clean_latex(analysis: Analysis) -> str:
    """Table 1 of every setting: methods by rates, mean and 95 % half width, best rate bold."""
    out = []
    for setting in analysis.results.settings:
        clean = setting.rows(analysis.clean)
        rates = sorted(clean["rate"].unique())
        rows = []
        for method in method_order(clean["method"]):
            mine = clean[clean["method"] == method].set_index("rate")
            best = mine["mean"].max()
            found = [mine.loc[r] if r in mine.index else None for r in rates]
            rows.append([escape(method), *[_accuracy(f, best) for f in found]])
        caption = f"{setting.title}: clean accuracy in percent by nominal compression rate, "
        caption += f"mean ± 95 % interval over {_seeds(clean)}."
        out.append(_table(["method", *[f"{r:g}" for r in rates]], rows, caption=caption, left=1))
    return _PREAMBLE + "\n".join(out)


def _accuracy(found: Any, best: float) -> str:
    if found is None or not found["n"]:
        return "--"
    mean = f"{100 * found['mean']:.2f}"
    if found["mean"] == best:
        mean = f"\\textbf{{{mean}}}"
    return mean if math.isnan(found["half"]) else f"{mean} $\\pm$ {100 * found['half']:.2f}"


def margins_latex(analysis: Analysis, setting: Setting, protocol: str) -> str:
    """Table 2 of every method: accuracy, and in brackets the margin to the unpruned model;
    increases are bold, as in the paper."""
    clean, cells = setting.rows(analysis.clean), setting.rows(analysis.cells)
    cells = cells[cells["protocol"] == protocol]
    rates = sorted(cells["rate"].unique())
    out = []
    for method in method_order(cells["method"]):
        blocks = [("clean", clean[clean["method"] == method])]
        mine = cells[cells["method"] == method]
        for t in threats(mine):
            part = mine[(mine["attack"] == t.attack) & (mine["eps"] == t.eps)]
            blocks.append((f"{attack_title(t.attack)}, ε = {eps_text(t.norm, t.eps)}", part))
        rows = []
        for title, part in blocks:
            by_rate = part.set_index("rate")
            found = [by_rate.loc[r] if r in by_rate.index else None for r in rates]
            rows.append([escape(title), *map(_with_margin, found)])
        caption = f"{setting.title}, {method}, protocol {protocol}: accuracy in percent and margin "
        caption += f"to the unpruned model in points; means over {_seeds(mine)}."
        out.append(_table(["", *[f"{r:g}" for r in rates]], rows, caption=caption, left=1))
    return _PREAMBLE + "\n".join(out)


def _with_margin(found: Any) -> str:
    if found is None or not found["n"]:
        return "--"
    mean = f"{100 * found['mean']:.2f}"
    if math.isnan(found["margin"]):
        return mean
    text = f"{mean} (${100 * found['margin']:+.2f}$)"
    return f"\\textbf{{{text}}}" if found["margin"] > 0 else text


def strategies_latex(analysis: Analysis) -> str:
    """The best choice under each assumption, without a bound on compression."""
    out = []
    for setting in analysis.results.settings:
        for protocol in analysis.results.protocols(setting):
            mine = [
                s
                for s in analysis.strategies
                if (s.setting, s.protocol, s.least_rate) == (setting, protocol, 1)
            ]
            caption = f"{setting.title}, protocol {protocol}: best strategy by what is known of "
            caption += "the adversary; percent, and points against the unpruned models."
            head = ["adversary", "judged by", "best choice", "score", "margin"]
            out.append(_table(head, map(_strategy, mine), caption=caption, left=3))
    return _PREAMBLE + "\n".join(out)


def _strategy(s: Strategy) -> list[str]:
    who = s.assumption
    if s.attack and math.isnan(s.eps):
        who = f"{attack_title(s.attack)}, any ε"
    name = name_of(s.method, s.rate, s.effective_rate)
    return [escape(text) for text in (who, s.criterion, name, s.score.text(), s.margin.text())]


def _seeds(frame: Any) -> str:
    low, high = int(frame["n"].min()), int(frame["n"].max())
    return f"{low} seeds" if low == high else f"{low} to {high} seeds"


_PREAMBLE = "% needs \\usepackage{booktabs}\n"
