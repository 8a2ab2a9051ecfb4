"""How far a setting's numbers can be trusted, in plain words: seeds, gaps, masked gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from prunegrid.orchestrator.names import attack_title, eps_text
from prunegrid.orchestrator.report.analysis import Part
from prunegrid.orchestrator.report.eps_levels import add_strength
from prunegrid.orchestrator.report.missing import missing_text
from prunegrid.orchestrator.report.results import diverged_texts, groups, records, sampling_text
from prunegrid.orchestrator.report.statistics import INTERVAL, NO_SPREAD, half_width
from prunegrid.orchestrator.store.rows import AUTHORS_COUNT, BELOW, ZERO_GRADIENT_FRAC


def trust(part: Part) -> Iterator[str]:
    analysis = part.analysis
    cells, rows = part.rows(analysis.cells), part.rows(analysis.results.cells)
    low, high = int(cells["n"].min()), int(cells["n"].max())
    seeds = f"{low}" if low == high else f"{low} to {high}"
    text = f"{seeds} seed{'s' if high > 1 else ''} per cell, {_images(rows)} images each"
    if high < 2:
        text += ": no interval and no test is possible; read every difference as noise"
    elif not math.isnan(typical := 100 * (cells["high"] - cells["low"]).median()):
        text += f"; the 95 % interval ({INTERVAL}) of a typical cell is {typical:.1f} points wide"
        if high < 4:
            factor = half_width(np.array([float(high)]), np.array([1.0]))[0]
            text += f" ({factor:.1f} SDs each way: with so few seeds, few differences can be shown)"
    yield f"{text}."
    if flat := int(((cells["n"] > 1) & cells["half"].isna()).sum()):
        which = f"all {flat}" if flat == len(cells) else f"{flat} of {len(cells)}"
        yield f"Untestable: {which} cells have the same value with every seed ({NO_SPREAD})."
    yield sampling_text(rows["n_images"])
    yield (
        "A best choice is best on these very seeds, so its score is somewhat flattering; rivals "
        "that can't be told from it may be better on new ones."
    )
    yield from _left_out(rows)
    yield from (f"{text}." for text in diverged_texts(part.rows(analysis.results.models)))
    gone = part.rows(analysis.missing)
    if len(gone):
        text = _sentence(missing_text(gone, len(gone) + len(rows)))
        yield f"{text}. A model that lacks cells is not chosen."
    if skipped := int((rows["n_skipped"].fillna(0) > 0).sum()):
        yield f"{skipped} cells were not attacked for low clean accuracy and score 0."
    yield from _uncounted(rows)
    yield from _flat(part.rows(analysis.flat))
    yield from _masking(rows)
    yield from _convergence(part.rows(analysis.convergence))


def _left_out(rows: pd.DataFrame) -> Iterator[str]:
    ranked = add_strength(rows)
    for (attack,), part in groups(ranked[ranked["strength"] == 0], ["attack"]):
        norm = str(part["norm"].iloc[0])
        listed = ", ".join(eps_text(norm, float(e)) for e in sorted(part["eps"].unique()))
        yield (
            f"{attack_title(str(attack))} at {listed} has no counterpart among the other attacks: "
            "it counts in no average and no worst case."
        )


def _uncounted(rows: pd.DataFrame) -> Iterator[str]:
    """Rows of schema 1 that a run of today would count otherwise."""
    counted_within = ~rows["protocol"].isin(AUTHORS_COUNT)
    if old := int((counted_within & (rows["broken_at"] == BELOW)).sum()):
        yield (
            f"{old} of {len(rows)} cells are of an earlier version, which counted a distance of "
            "exactly ε as robust: their robust accuracies may be too high, most of all in L0. "
            "Remove results/cells and run the grid again: the rows are derived anew from the "
            "images', and nothing is attacked again."
        )


def _images(rows: pd.DataFrame) -> str:
    known = rows["n_images"].dropna()
    if known.empty:
        return "an unknown number of"
    low, high = int(known.min()), int(known.max())
    return f"{low}" if low == high else f"{low} to {high}"


_FLAG_TEXT = {
    "softmax-outputs": "attacks differentiate through softmax probabilities, which can hide "
    "gradients: robust accuracy may be overestimated",
    "zero-gradients": f"the loss gradient is zero on more than {ZERO_GRADIENT_FRAC:.0%} of the "
    "images: a gradient attack may have had nothing to follow",
    "flat-loss": f"the attack's own loss had no slope at more than {ZERO_GRADIENT_FRAC:.0%} of the "
    "images, where it followed another one",
    "unverified": "adversarial images were not checked again",
    "not-monotone": "robust accuracy rises with ε, which no true one can",
    "gradient-free-stronger": "an attack without gradients breaks more than the gradient ones",
    "weaker-than-first-step": "the attack lost images that its own first step had broken",
    "no-clean-accuracy": "the model gets no attacked image right",
}


#: Flags of a cell whose robust accuracy may mean nothing; the others are of all cells alike.
DOUBTS = frozenset(_FLAG_TEXT) - {"softmax-outputs"}


def _flat(flat: pd.DataFrame) -> Iterator[str]:
    for (attack,), part in groups(flat, ["attack"]):
        listed = ", ".join(
            f"{m.method} at rate {m.rate:g} ({100 * m.weakest:.0f} % to {100 * m.strongest:.0f} %)"
            for m in records(part.head(4))
        )
        more = f" and {len(part) - 4} more" if len(part) > 4 else ""
        yield (
            f"{attack_title(str(attack))} hardly gains with ε on {listed}{more}, where it breaks "
            "most images of unpruned models: rather a failing attack than a robust model."
        )


def _masking(rows: pd.DataFrame) -> Iterator[str]:
    raised = rows["flags"].explode().dropna()
    for flag, count in raised.value_counts().items():
        text = _FLAG_TEXT.get(str(flag), "see the cells")
        where = "every cell" if count == len(rows) else f"{count} of {len(rows)} cells"
        yield f"Flag {flag} in {where}: {text}."
    if raised.empty and len(rows):
        yield "No cell shows a sign of masked gradients."


def _convergence(found: pd.DataFrame) -> Iterator[str]:
    for (attack, steps), part in groups(found, ["attack", "steps"]):
        models, drop = int(part["models"].max()), 100 * part["largest_drop"].max()
        short = int((part["models"] - part["converged"]).max())
        name = f"{attack_title(str(attack))} with {2 * steps} steps instead of {steps}"
        yield (
            f"{name} breaks no more on {models} models: it has converged."
            if not short
            else f"{name} still breaks more on {short} of {models} models, by up to {drop:.1f} "
            "points: its robust accuracies are upper bounds."
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
