"""HTML tables. Everything that comes from a store goes through `esc`."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.findings import name_of
from prunegrid.orchestrator.report.results import (
    Threat,
    attack_title,
    groups,
    method_order,
    records,
)
from prunegrid.orchestrator.report.statistics import SIGNIFICANT, Estimate, signed
from prunegrid.orchestrator.report.strategies import (
    ACCURACY,
    AVERAGE,
    LEAST_MARGIN,
    UNPRUNED,
    WORST_ATTACK,
    Strategy,
)

TEXT = ' class="text"'
NONE = '<td class="none" title="no result">–</td>'

NONE_BY_NATURE = '<td class="none" title="it is the unpruned model">0</td>'


def esc(value: object) -> str:
    return html.escape(str(value), quote=True)


def table(head: Sequence[str], rows: Iterable[str], *, words: Sequence[str] = ()) -> str:
    """`head`: texts, escaped here; `rows`: whole <tr> elements; `words`: heads of text columns."""
    cells = "".join(
        f'<th scope="col"{TEXT if text in words else ""}>{esc(text)}</th>' for text in head
    )
    body = "".join(rows)
    inner = f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{inner}</table></div>'


def row(head: str, cells: Iterable[str], *, first: bool = False) -> str:
    """`head` is escaped, `cells` are whole <td> elements."""
    mark = ' class="first"' if first else ""
    return f'<tr{mark}><th scope="row">{esc(head)}</th>{"".join(cells)}</tr>'


def text_cell(text: object) -> str:
    return f'<td class="text">{esc(text)}</td>'


def tooltip(n: int, mean: float, sd: float, half: float, *, unit: str = "%") -> str:
    """`n = 5, mean 86.21 %, SD 0.41, 95 % interval 85.70 to 86.72`."""
    text = f"n = {n}, mean {100 * mean:.2f} {unit}"
    if not math.isnan(half):
        text += f", SD {100 * sd:.2f}, 95 % interval "
        text += f"{100 * (mean - half):.2f} to {100 * (mean + half):.2f}"
    return text


def estimate_cell(e: Estimate, *, best: bool = False, hint: str = "") -> str:
    """`hint` follows n, mean, SD and interval where one hovers."""
    if e.n == 0 or math.isnan(e.mean):
        return NONE
    mean = f"{100 * e.mean:.2f}"
    half = "" if math.isnan(e.half) else f"<small>±{100 * e.half:.2f}</small>"
    shown = f"<b>{mean}</b>" if best else mean
    return f'<td title="{tooltip(e.n, e.mean, e.sd, e.half)}{hint}">{shown}{half}</td>'


def points(e: Estimate) -> str:
    """A difference in percentage points."""
    if e.n == 0 or math.isnan(e.mean):
        return NONE
    half = "" if math.isnan(e.half) else f"<small>±{100 * e.half:.1f}</small>"
    hint = tooltip(e.n, e.mean, e.sd, e.half, unit="points")
    return f'<td title="{hint}">{signed(e.mean)}{half}</td>'


def clean_html(clean: pd.DataFrame) -> str:
    """Table 1: methods by rates; the best rate of a method is bold."""
    rates = sorted(clean["rate"].unique())
    rows = []
    for method in method_order(clean["method"]):
        mine = clean[clean["method"] == method].set_index("rate")
        best = mine["mean"].max()
        cells = []
        for rate in rates:
            if rate not in mine.index:
                cells.append(NONE)
                continue
            e = _estimate(mine.loc[rate])
            hint = _margin_hint(mine.loc[rate])
            cells.append(estimate_cell(e, best=e.mean == best, hint=hint))
        rows.append(row(method, cells))
    return table(["method", *[f"{rate:g}" for rate in rates]], rows)


def _estimate(r: Any) -> Estimate:
    return Estimate(n=int(r["n"]), mean=float(r["mean"]), sd=float(r["sd"]), half=float(r["half"]))


def margins_html(clean: pd.DataFrame, cells: pd.DataFrame, rates: list[float]) -> str:
    """Table 2 for one method: clean and each threat by rates, with margins to the dense model."""
    blocks = [("clean", clean.set_index("rate"))]
    found = {
        Threat(str(a), str(n), float(e)): part.set_index("rate")
        for (a, n, e), part in groups(cells, ["attack", "norm", "eps"])
    }
    order = sorted(found, key=lambda t: (t.norm, t.attack, t.eps))
    blocks += [(threat.title, found[threat]) for threat in order]
    rows = []
    attack = ""
    for (title, part), threat in zip(blocks, [None, *order], strict=True):
        first = threat is not None and threat.attack != attack
        attack = threat.attack if threat else ""
        rows.append(
            row(
                title,
                [_margin_cell(part.loc[r]) if r in part.index else NONE for r in rates],
                first=first,
            )
        )
    return table(["", *[f"{rate:g}" for rate in rates]], rows)


def _margin_cell(r: Any) -> str:
    e = _estimate(r)
    if e.n == 0:
        return NONE
    hint = tooltip(e.n, e.mean, e.sd, e.half)
    margin = float(r["margin"])
    if math.isnan(margin):
        return f'<td title="{hint}">{100 * e.mean:.2f}</td>'
    p = float(r["p_holm"]) if "p_holm" in r.index else math.nan
    hint += _margin_hint(r)
    kind = "gain" if margin >= 0 else "loss"
    shown = " shown" if p < SIGNIFICANT else ""
    strength = min(45.0, 3 + 300 * abs(margin)) if abs(margin) > 5e-4 else 0
    return (
        f'<td class="{kind}{shown}" style="--m:{strength:.0f}" title="{hint}">'
        f"{100 * e.mean:.2f}<small>{signed(margin, 2)}</small></td>"
    )


def _margin_hint(r: Any) -> str:
    """`; margin +0.64 ± 0.52 points (SD 0.42, n = 5), corrected p = 0.03`; "" for an unpruned
    model."""
    margin, half, sd = (float(r[name]) for name in ("margin", "margin_half", "margin_sd"))
    if math.isnan(margin):
        return ""
    p = float(r["p_holm"]) if "p_holm" in r.index else math.nan
    spread = "" if math.isnan(half) else f" ± {100 * half:.2f}"
    deviation = "" if math.isnan(sd) else f"SD {100 * sd:.2f}, "
    tested = "" if math.isnan(p) else f", corrected p = {p:.2g}"
    sign = signed(margin, 2)
    return f"; margin {sign}{spread} points ({deviation}n = {r['margin_n']:g}){tested}"


def sweet_html(models: pd.DataFrame, *, limit: int = 12) -> str:
    """The pruned models that lose least, safest first."""
    rows = []
    for m in records(models.sort_values(["whole", "least"], ascending=False).head(limit)):
        threat = Threat(str(m.least_attack), str(m.least_norm), float(m.least_eps))
        far = not math.isclose(m.effective_rate, m.rate, rel_tol=0.1)
        effective = f"<small>({m.effective_rate:.3g})</small>" if far else ""
        rows.append(
            row(
                str(m.method),
                [
                    f'<td title="effective {m.effective_rate:.2f}">{m.rate:g}{effective}</td>',
                    _margin(m, "clean"),
                    _margin(m, "least"),
                    text_cell(threat.title if not math.isnan(m.least) else "–"),
                    _margin(m, "mean"),
                    f"<td>{m.sweet} of {m.wanted}</td><td>{m.better} / {m.worse}</td>",
                ],
            )
        )
    head = ["method", "rate", "clean", "least robust", "under", "mean robust", "sweet cells"]
    return table([*head, "gains / losses shown"], rows, words=["under"])


def _margin(m: Any, name: str) -> str:
    n, sd, half = (getattr(m, f"{name}_{v}") for v in ("n", "sd", "half"))
    mean = float(getattr(m, name))
    return points(Estimate(n=0 if math.isnan(n) else int(n), mean=mean, sd=sd, half=half))


_CRITERIA = {
    ACCURACY: "accuracy",
    AVERAGE: "average case",
    WORST_ATTACK: "worst attack at each strength",
    LEAST_MARGIN: "least regret",
}


def strategies_html(analysis: Analysis, strategies: Sequence[Strategy]) -> str:
    """One line per assumption; a dagger marks a suspiciously flat curve."""
    rows = []
    previous = ""
    for s in strategies:
        assumed = (
            s.assumption if not s.attack or s.eps == s.eps else f"{attack_title(s.attack)}, any ε"
        )
        name = name_of(s.method, s.rate, s.effective_rate)
        rivals = "–" if s.rivals < 0 else f"{s.rivals} of {s.candidates - 1}"
        score = points(s.score) if s.criterion == LEAST_MARGIN else estimate_cell(s.score)
        if s.criterion == LEAST_MARGIN and s.method == UNPRUNED:
            score = NONE_BY_NATURE
        rows.append(
            row(
                assumed,
                [
                    text_cell(_CRITERIA[s.criterion]),
                    text_cell(name + (" †" if analysis.flat_attacks(s) else "")),
                    score,
                    NONE_BY_NATURE if s.method == UNPRUNED else points(s.margin),
                    estimate_cell(s.clean),
                    f"<td>{rivals}</td>",
                ],
                first=s.knowledge != previous,
            )
        )
        previous = s.knowledge
    head = ["adversary", "judged by", "best choice", "score, %", "against unpruned", "clean, %"]
    body = table([*head, "not told apart"], rows, words=["judged by", "best choice"])
    return f'<div class="best">{body}</div>'
