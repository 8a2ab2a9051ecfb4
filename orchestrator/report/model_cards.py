"""A card of each model that the report recommends: what it is, what it withstands, and how that is
known. Pure; accuracies are fractions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from prunegrid.orchestrator.names import eps_text
from prunegrid.orchestrator.report.analysis import Part
from prunegrid.orchestrator.report.results import records
from prunegrid.orchestrator.report.statistics import INTERVAL, Estimate
from prunegrid.orchestrator.report.strategies import AVERAGE, NOTHING_KNOWN, Strategy
from prunegrid.orchestrator.report.tables import DENSE, UNPRUNED
from prunegrid.workers.catalog import ARCHITECTURES

_ATTACK = ["attack", "algorithm", "engine", "outputs", "split", "broken_at"]
_PROVENANCE = ("git_revision", "code_digest", "versions", "device", "arithmetic")


def cards(part: Part) -> Iterator[dict[str, Any]]:
    """Of the best choices for an unknown adversary, on average, at every compression asked for."""
    assumed = [s for s in part.strategies if (s.knowledge, s.criterion) == (NOTHING_KNOWN, AVERAGE)]
    for s in {(s.method, s.rate): s for s in assumed}.values():
        yield _card(part, s)


def _card(part: Part, s: Strategy) -> dict[str, Any]:
    models = _of(part.rows(part.analysis.results.models), s)
    rows = _of(part.rows(part.analysis.results.cells), s)
    cells = _of(part.rows(part.analysis.cells), s)
    worst = _of(part.rows(part.analysis.worst), s)
    entry = ARCHITECTURES.get(part.setting.architecture)
    best_for = [
        f"weights at least {other.least_rate:g} times fewer" if other.least_rate > 1 else "any"
        for other in part.strategies
        if (other.knowledge, other.criterion, other.method, other.rate)
        == (NOTHING_KNOWN, AVERAGE, s.method, s.rate)
    ]
    return {
        "model": s.model,
        "best_for": best_for,
        "architecture": {
            "name": part.setting.architecture,
            "title": entry.title if entry else None,
        },
        "data": part.setting.dataset,
        "variant": part.setting.variant,
        "pruning": {
            "method": s.method,
            "nominal_rate": s.rate,
            "effective_rate": _number(s.effective_rate),
            "theoretical_speedup": _mean(models, "speedup"),
            "weights_left": _mean(models, "params_left"),
            "weights_total": _mean(models, "params_total"),
        },
        "clean_accuracy": {
            "test_split": _estimate(s.clean),
            "attacked_images": _estimate(s.attacked),
        },
        "robust_accuracy": {
            "mean": _estimate(s.score),
            "mean_against_unpruned": _difference(s.margin),
            "by_threat": [_threat(cell) for cell in records(cells)] if s.method != UNPRUNED else [],
            "worst_attack_by_strength": [
                {"strength": int(w.strength)} | _values(w) for w in records(worst)
            ]
            if s.method != UNPRUNED
            else [],
        },
        "interval": f"95 %, over seeds; of accuracies {INTERVAL}, of differences Student's t",
        "attacks": [
            {name: _known(getattr(r, name)) for name in _ATTACK}
            | {"queries_of_an_image": _number(r.queries_mean)}
            for r in records(_attacks(rows))
        ],
        "protocol": part.protocol,
        "images": _number(rows["n_images"].min()),
        "seeds": sorted(map(int, models["seed"].unique())),
        "signs_of_masked_gradients": sorted(set(rows["flags"].explode().dropna())),
        "not_told_apart": {"rivals": s.rivals, "of": s.candidates - 1},
        "weights_sha256": sorted(set(models["weights_sha256"].dropna())),
        "made_by": {
            name: sorted({str(v) for v in models[name].dropna() if v != ""}) for name in _PROVENANCE
        },
        "store": part.analysis.results.address,
    }


def _of(frame: pd.DataFrame, s: Strategy) -> pd.DataFrame:
    """The rows of the chosen models; dense models of all methods are one choice."""
    if s.method == UNPRUNED:
        return frame[frame["rate"] == DENSE]
    return frame[(frame["method"] == s.method) & (frame["rate"] == s.rate)]


def _attacks(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby(_ATTACK, dropna=False)["queries_mean"].mean().reset_index()


def _known(value: object) -> str | None:
    """None where a row lacks it."""
    return value if isinstance(value, str) else None


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) or math.isinf(value) else float(value)


def _mean(frame: pd.DataFrame, column: str) -> float | None:
    return _number(float(frame[column].mean()))


def _estimate(e: Estimate) -> dict[str, Any] | None:
    return _values(e) if e.n else None


def _values(e: Any) -> dict[str, Any]:
    return {"n": int(e.n)} | {name: _number(getattr(e, name)) for name in ("mean", "low", "high")}


def _difference(e: Estimate) -> dict[str, Any] | None:
    return {"n": e.n, "mean": _number(e.mean), "half": _number(e.half)} if e.n else None


def _threat(cell: Any) -> dict[str, Any]:
    threat = {"attack": cell.attack, "norm": cell.norm, "eps": float(cell.eps)}
    named = threat | {"eps_text": eps_text(str(cell.norm), float(cell.eps))}
    margin = {"mean": _number(cell.margin), "half": _number(cell.margin_half)}
    return named | _values(cell) | {"against_unpruned": margin}


def as_json(card: dict[str, Any]) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_markdown(card: dict[str, Any]) -> str:
    """The same for a reader: a heading, a list and a table."""
    pruning, clean, robust = card["pruning"], card["clean_accuracy"], card["robust_accuracy"]
    title = card["architecture"]["title"] or card["architecture"]["name"]
    effective, faster = pruning["effective_rate"], pruning["theoretical_speedup"]
    lines = [
        f"# {title}: {card['model']}",
        "",
        f"- Data: {card['data']}; variant {card['variant']}; seeds {_listed(card['seeds'])}.",
        f"- Pruning: {pruning['method']}, nominal rate {pruning['nominal_rate']:g}, effective "
        f"{_text(effective, '{:.3g}')}, theoretical speed-up {_text(faster, '{:.3g}')}.",
        f"- Clean accuracy: {_percent(clean['test_split'])} on the test split, "
        f"{_percent(clean['attacked_images'])} on the attacked images.",
        f"- Robust accuracy, mean over attacks and ε: {_percent(robust['mean'])}, protocol "
        f"{card['protocol']}, {_text(card['images'], '{:.0f}')} images.",
        f"- Chosen from {card['not_told_apart']['of'] + 1} candidates; no test tells it from "
        f"{max(card['not_told_apart']['rivals'], 0)}."
        if card["not_told_apart"]["rivals"] >= 0
        else "- With one seed no test tells it from its rivals.",
        f"- Signs of masked gradients: {_listed(card['signs_of_masked_gradients']) or 'none'}.",
        "",
    ]
    if robust["by_threat"]:
        lines += [
            "| attack | ε | robust accuracy | against unpruned, points |",
            "|---|---|---|---|",
        ]
        for t in robust["by_threat"]:
            margin = t["against_unpruned"]
            points = _text(margin["mean"] and 100 * margin["mean"], "{:+.1f}")
            if margin["half"] is not None:
                points += f" ± {100 * margin['half']:.1f}"
            lines.append(f"| {t['attack']} | {t['eps_text']} | {_percent(t)} | {points} |")
        lines.append("")
    lines.append(f"Intervals: {card['interval']}. Store: `{card['store']}`.")
    return "\n".join(lines) + "\n"


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))


def _text(value: float | None, form: str) -> str:
    return "not recorded" if value is None else form.format(value)


def _percent(e: dict[str, Any] | None) -> str:
    if e is None or e["mean"] is None:
        return "not recorded"
    between = "" if e["low"] is None else f" ({100 * e['low']:.1f}–{100 * e['high']:.1f})"
    return f"{100 * e['mean']:.1f}{between} %, n = {e['n']}"
