"""What a claim of robustness or of compression must answer, answered from the store. Pure.

The questions are those of Carlini et al., On Evaluating Adversarial Robustness (2019); of Blalock
et al., What is the State of Neural Network Pruning? (MLSys 2020); and the warnings that AutoAttack
raises (Croce and Hein, ICML 2020), each in our words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from prunegrid.orchestrator.names import attack_title, eps_text
from prunegrid.orchestrator.report.analysis import Part
from prunegrid.orchestrator.report.results import threats
from prunegrid.orchestrator.report.tables import DENSE
from prunegrid.orchestrator.store.rows import SCORES_ALONE_STRONGER
from prunegrid.workers.catalog import CONTROL, attack_entry

CARLINI, BLALOCK, AUTOATTACK = "Carlini et al. 2019", "Blalock et al. 2020", "AutoAttack"

YES, NO, UNKNOWN = "yes", "no", "unknown"

#: Blalock et al. ask for so many pairs of architecture and data set, and so many rates.
LEAST_PAIRS, LEAST_RATES = 3, 5


@dataclass(frozen=True, kw_only=True)
class ChecklistItem:
    source: str  #: who asks
    question: str
    answer: str  #: YES, NO, UNKNOWN, or the number
    detail: str  #: what the store says; "" for nothing more
    to_run: str  #: what would have to run for a better answer; "" for nothing


def checklist(part: Part) -> list[ChecklistItem]:
    """Of an experiment under one protocol."""
    return [
        ChecklistItem(source=source, question=q, answer=a, detail=d, to_run="" if a == YES else r)
        for source, items in (
            (CARLINI, _robustness),
            (BLALOCK, _compression),
            (AUTOATTACK, _autoattack),
        )
        for q, a, d, r in items(part)
    ]


_Item = tuple[str, str, str, str]  # question, answer, detail, what would have to run


def _yes(fact: bool) -> str:
    return YES if fact else NO


def _count(of: int, total: int, what: str = "cells") -> str:
    return f"{of} of {total} {what}"


def _robustness(part: Part) -> Iterator[_Item]:
    rows = part.rows(part.analysis.results.cells)
    models = part.rows(part.analysis.results.models)
    listed = "; ".join(
        f"{attack_title(str(attack))} at {', '.join(eps_text(norm, e) for e in sorted(eps))}"
        for (attack, norm), eps in _levels(rows)
    )
    yield "Is the threat model stated: norms and ε?", YES, listed, ""
    own = set(models["task_key"].dropna())
    mine = int(rows["model_key"].isin(own).sum())
    yield (
        "Was each model attacked itself (white box, nothing transferred)?",
        _yes(mine == len(rows)),
        f"{_count(mine, len(rows))} rest on attacks of the model that they score",
        "the cells whose model is not in the store",
    )
    yield "How many attacks?", str(rows["attack"].nunique()), "", ""
    yield "In how many norms?", str(rows["norm"].nunique()), "", ""
    clean = int(rows["clean_accuracy"].notna().sum())
    yield (
        "Does clean accuracy of the same images stand beside robust accuracy?",
        _yes(clean == len(rows)),
        _count(clean, len(rows)),
        "rows of this version: remove results/cells, and run the grid again",
    )
    yield from _attack_strength(part, rows)
    worst = part.rows(part.analysis.worst_images)
    yield (
        "Is the worst case over attacks taken image by image?",
        _yes(len(worst) > 0),
        str(worst["attacks"].iloc[0]).replace("+", ", ") if len(worst) else "",
        "a second attack that leaves image rows",
    )
    unverified = int(rows["n_unverified"].fillna(0).sum())
    yield (
        "Was each adversarial image checked again?",
        UNKNOWN if rows["n_unverified"].isna().all() else _yes(not unverified),
        f"{unverified} broken images were not" if unverified else "",
        "the attacks, by this program",
    )
    splits = sorted(set(rows["split"].dropna()))
    yield (
        "Were the attacked images held out from training and from choosing settings?",
        _yes(splits == ["test"]) if splits else UNKNOWN,
        f"split: {', '.join(splits)}" if splits else "",
        "`attack_split: test`",
    )
    images = rows["n_images"].dropna()
    yield "How many images?", f"{images.min():.0f}" if len(images) else UNKNOWN, "at least", ""
    yield (
        "Were targeted attacks run?",
        NO,
        "",
        "no grid asks for them: untargeted ones are stronger",
    )
    yield (
        "Were attacks made on another model tried (transfer)?",
        NO,
        "",
        "no grid asks for them",
    )


def _attack_strength(part: Part, rows: pd.DataFrame) -> Iterator[_Item]:
    rises = _flagged(rows, "not-monotone")
    yield (
        "Does robust accuracy fall as ε grows?",
        _yes(not rises and part.rows(part.analysis.flat).empty),
        f"{_count(rises, len(rows))} rise; {len(part.rows(part.analysis.flat))} curves are flat",
        "these attacks with more steps and restarts",
    )
    weaker = _flagged(rows, "weaker-than-first-step")
    yield (
        "Do iterated attacks break what one step breaks?",
        _yes(not weaker),
        f"{_count(weaker, len(rows))} lost such an image",
        "these attacks with a smaller step",
    )
    unbroken, found = _unbroken(part)
    yield (
        "Do attacks without a bound on the distance break every image?",
        UNKNOWN if not found else _yes(unbroken == 0),
        f"{_count(unbroken, found, 'images of all models')} have no adversarial" if found else "",
        "a minimum-norm attack, with more steps",
    )
    convergence = part.rows(part.analysis.convergence)
    drop = 100 * convergence["largest_drop"].max() if len(convergence) else 0.0
    yield (
        "Have the attacks converged: do twice the steps break no more?",
        _yes(bool((convergence["converged"] == convergence["models"]).all()))
        if len(convergence)
        else UNKNOWN,
        f"up to {drop:.1f} points lower" if len(convergence) else "",
        "a second label of each attack with twice its steps",
    )
    free = rows["algorithm"].map(_without_gradients).astype(bool)
    yield (
        "Was an attack without gradients run?",
        _yes(bool(free.any())),
        ", ".join(sorted(set(rows.loc[free, "attack"]))),
        "an attack that needs scores or decisions alone",
    )


def _compression(part: Part) -> Iterator[_Item]:
    everything, models = part.analysis.results, part.rows(part.analysis.results.models)
    clean = part.rows(part.analysis.clean)
    pairs = everything.models[["architecture", "dataset"]].drop_duplicates()
    yield (
        f"Are there at least {LEAST_PAIRS} pairs of architecture and data set?",
        _yes(len(pairs) >= LEAST_PAIRS),
        f"{len(pairs)} in this store",
        "other architectures or data sets",
    )
    rates = sorted(set(clean.loc[clean["rate"] > DENSE, "rate"]))
    listed = ", ".join(f"{rate:g}" for rate in rates)
    yield (
        f"Are there at least {LEAST_RATES} compression rates?",
        _yes(len(rates) >= LEAST_RATES),
        listed,
        "more rates",
    )
    for column, what in (("effective_rate", "compression"), ("speedup", "theoretical speed-up")):
        known = int(clean[column].notna().sum())
        yield (
            f"Is the {what} that results given, by its definition?",
            _yes(known == len(clean)),
            _count(known, len(clean), "models"),
            "the pruning, by this program",
        )
    yield "Is accuracy itself given, not only its change?", YES, "Table 1 and Table 2", ""
    alone = clean[(clean["rate"] > DENSE) & ~(clean["margin_n"] > 0)]
    yield (
        "Does every pruned model have the unpruned model of the same chain beside it?",
        _yes(alone.empty),
        f"{len(alone)} have not" if len(alone) else "paired by seed",
        "rate 1 of these methods",
    )
    methods = set(clean["method"])
    for kind, *names in (
        ("random", "random-local", "random-matched"),
        ("global magnitude", "magnitude-global"),
        ("layerwise magnitude", "magnitude-local"),
    ):
        there = sorted(m for m in methods if m.startswith(tuple(names)))
        yield (
            f"Is {kind} pruning there to compare with?",
            _yes(bool(there)),
            ", ".join(there),
            f"the methods {names[0]}-*",
        )
    yield (
        "Is as much fine-tuning without pruning there to compare with?",
        _yes(CONTROL in methods),
        "",
        f"the method {CONTROL}",
    )
    seeds = models.groupby(["method", "rate"])["seed"].nunique()
    least = int(seeds.min()) if len(seeds) else 0
    yield "How many seeds?", str(least), "of each model, at least", ""
    yield (
        "Are means given with their spread over seeds?",
        _yes(least > 1),
        "",
        "a second seed",
    )
    mixed = part.analysis.mixed
    yield (
        "Were all models made by the same code and libraries?",
        _yes(not mixed),
        "; ".join(map(str, mixed)),
        "the grid in a new store, by one version",
    )


def _autoattack(part: Part) -> Iterator[_Item]:
    rows = part.rows(part.analysis.results.cells)
    yield (
        "Does the model answer alike twice (nothing random)?",
        YES,
        "dropout and batch statistics are off",
        "",
    )
    for flag, question, to_run in (
        (
            "softmax-outputs",
            "Do attacks see logits, not probabilities?",
            "a protocol with `outputs: logits`",
        ),
        (
            "zero-gradients",
            "Do gradients vanish on at most 1 % of the images?",
            "`strict` attacks, and one without gradients",
        ),
        (
            SCORES_ALONE_STRONGER,
            "Do gradient attacks break all that attacks without gradients break?",
            "gradient attacks with more steps and restarts",
        ),
    ):
        raised = _flagged(rows, flag)
        free = bool(rows["algorithm"].map(_without_gradients).any())
        untried = flag == SCORES_ALONE_STRONGER and not free
        yield (
            question,
            UNKNOWN if untried else _yes(not raised),
            "none was run" if untried else f"flag in {_count(raised, len(rows))}" if raised else "",
            "an attack without gradients" if untried else to_run,
        )


def _levels(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str], list[float]]]:
    found: dict[tuple[str, str], list[float]] = {}
    for t in threats(rows):
        found.setdefault((t.attack, t.norm), []).append(t.eps)
    yield from found.items()


def _flagged(rows: pd.DataFrame, flag: str) -> int:
    return int((rows["flags"].explode() == flag).sum())


def _without_gradients(algorithm: object) -> bool:
    entry = attack_entry(str(algorithm))
    return entry is not None and not entry.gradients


def _unbroken(part: Part) -> tuple[int, int]:
    """Of images of minimum-norm attacks: how many have no adversarial at any distance, and how many
    there are, each model counted."""
    fates = part.rows(part.analysis.unbroken)
    return int(fates["unbroken"].sum()), int(fates["images"].sum())
