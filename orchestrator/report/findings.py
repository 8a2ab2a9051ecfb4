"""What the numbers say, in plain words: what to deploy under which threat, and how sure that is.
Pure; every sentence is built from the analysis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from prunegrid.orchestrator.names import attack_title
from prunegrid.orchestrator.report.analysis import Analysis, Part
from prunegrid.orchestrator.report.losses import shown_losses
from prunegrid.orchestrator.report.non_inferiority import TOLERANCE, NonInferiorModel
from prunegrid.orchestrator.report.results import Setting, Threat, groups, records
from prunegrid.orchestrator.report.statistics import SIGNIFICANT, Estimate, signed
from prunegrid.orchestrator.report.strategies import (
    ATTACK_KNOWN,
    AVERAGE,
    LEAST_MARGIN,
    NOTHING_KNOWN,
    RATE_TOLERANCE,
    WORST_ATTACK,
    Strategy,
)
from prunegrid.orchestrator.report.tables import (
    COMPRESSION_TOLERANCE,
    UNPRUNED,
    model_name,
    pruned_nothing,
)
from prunegrid.orchestrator.report.trust import DOUBTS, trust
from prunegrid.workers.catalog import CONTROL, DATASETS

#: Times the accuracy of a constant answer, where classes are of one size.
_NEAR_CHANCE = 1.5


class Topic(StrEnum):
    DEPLOY = "What to deploy"
    LOSSES = "What pruning costs"
    HOW_FAR = "How far to prune"
    SWEET_SPOTS = "Sweet spots"
    COMPRESSION = "Compression"
    TRUST = "How far to trust this"


@dataclass(frozen=True, kw_only=True)
class ReportFinding:
    setting: Setting
    protocol: str
    topic: Topic
    text: str  #: a sentence, or `lead: sentence`

    @property
    def lead(self) -> str:
        """The assumption that a sentence on what to deploy begins with; "" for another topic."""
        with_lead = self.topic in (Topic.DEPLOY, Topic.HOW_FAR)
        return self.text.partition(": ")[0] if with_lead else ""

    @property
    def rest(self) -> str:
        return self.text.removeprefix(self.lead)


def findings(analysis: Analysis) -> list[ReportFinding]:
    """Of each experiment under each protocol, by topic."""
    return [finding for part in analysis.parts() for finding in findings_of(part)]


def findings_of(part: Part) -> list[ReportFinding]:
    return [
        ReportFinding(setting=part.setting, protocol=part.protocol, topic=topic, text=text)
        for topic, write in _WRITERS.items()
        for text in write(part)
    ]


# --------------------------------------------------------------------------- what to deploy

_CRITERIA = {
    AVERAGE: "average case",
    WORST_ATTACK: "worst attack at each strength",
    LEAST_MARGIN: "least regret at any attack and ε",
}


def _deploy(part: Part) -> Iterator[str]:
    mine = part.strategies
    free = {(s.knowledge, s.attack, s.criterion): s for s in mine if s.least_rate == 1}
    unknown = [
        (lead, strategy)
        for criterion, lead in _CRITERIA.items()
        if (strategy := free.get((NOTHING_KNOWN, "", criterion))) is not None
    ]
    while unknown:
        lead, first = unknown[0]
        text = f"Adversary unknown, {lead}: {_choice(part, first)}."
        others = [(name, s) for name, s in unknown[1:] if _model(s) == _model(first)]
        for name, other in others:
            by = "Under the" if other.criterion == WORST_ATTACK else "By"
            text += f" {by} {name} the same: {_briefly(first, other)}."
        yield text
        unknown = [(name, s) for name, s in unknown if _model(s) != _model(first)]
    for strategy in free.values():
        if strategy.knowledge == ATTACK_KNOWN and strategy.criterion == AVERAGE:
            lead = f"{attack_title(strategy.attack)} known, ε unknown"
            yield f"{lead}: {_choice(part, strategy)}."
    average = free.get((NOTHING_KNOWN, "", AVERAGE))
    before = _model(average) if average else None
    for rate in sorted({s.least_rate for s in mine if s.least_rate > 1}):
        found = next(
            (
                s
                for s in mine
                if (s.least_rate, s.knowledge, s.criterion) == (rate, NOTHING_KNOWN, AVERAGE)
            ),
            None,
        )
        if found is None:
            share = f"{RATE_TOLERANCE:.0%}"
            yield f"Weights at least {rate:g} times fewer: no method reaches {share} of that."
        elif rate in _shown_rates(mine) and _model(found) != before:
            lead = f"Weights at least {rate:g} times fewer, average case"
            yield f"{lead}: {_choice(part, found)}."
            before = _model(found)


def _model(s: Strategy) -> tuple[str, float]:
    return s.method, s.rate


def _shown_rates(mine: list[Strategy]) -> list[float]:
    """A mild, a middle and the highest demand that can be met."""
    rates = sorted({s.least_rate for s in mine if s.least_rate > 1})
    return sorted({rates[0], rates[len(rates) // 2], rates[-1]}) if rates else []


def _choice(part: Part, s: Strategy) -> str:
    text = f"{s.model}. {_score(s)}. {_rivals(s)}"
    data = DATASETS.get(part.setting.dataset)
    if data is not None and s.clean.mean * data.classes < _NEAR_CHANCE:
        text += f". Beware: with {data.classes} classes its clean accuracy is little above chance"
    if flat := part.flat_attacks(s):
        names = ", ".join(attack_title(attack) for attack in flat)
        text += f". Beware: its curve under {names} is suspiciously flat (see below)"
    if flags := sorted(_flags(part, s) & DOUBTS):
        text += f". Beware: flagged {', '.join(flags)} (see '{Topic.TRUST}' in the report)"
    return text


def _flags(part: Part, s: Strategy) -> set[str]:
    """Of the chosen models' cells."""
    cells = part.rows(part.analysis.results.cells)
    mine = cells["rate"] == s.rate
    if s.method != UNPRUNED:
        mine &= cells["method"] == s.method
    return set(cells.loc[mine, "flags"].explode().dropna())


def _score(s: Strategy) -> str:
    clean = f"clean {s.clean.text()} %"
    if s.attacked.n:
        clean = f"clean {s.attacked.text()} % on the same images, {s.clean.text()} % on the whole "
        clean += "test split"
    clean += f", n = {s.score.n}"
    if s.criterion == LEAST_MARGIN:
        if s.method == UNPRUNED:
            lead = "Beside the unpruned models of all methods together, every pruned one loses"
            return f"{lead} somewhere; {clean}"
        return f"{_against(s.score)} under its least favourable threat; {clean}"
    what = "Robust under the worst attack" if s.criterion == WORST_ATTACK else "Robust"
    text = f"{what} {s.score.text()} %, {clean}"
    if s.method == UNPRUNED:
        return text
    text += f"; robust {_against(s.margin)}"
    if s.control.n:
        text += f", {_against(s.control, 'as much fine-tuning without pruning')}"
    return text


def _briefly(first: Strategy, other: Strategy) -> str:
    """What another criterion says of the same model, without what `first` says of both."""
    if other.criterion == LEAST_MARGIN and other.method == UNPRUNED:
        text = "every pruned model loses somewhere"
    elif other.criterion == LEAST_MARGIN:
        text = f"{_against(other.score)} under its least favourable threat"
    else:
        text = f"robust {other.score.text()} %"
        if other.method != UNPRUNED:
            text += f", {_against(other.margin)}"
    same = (other.rivals, other.candidates) == (first.rivals, first.candidates)
    return text if same else f"{text}. {_rivals(other)}"


def _against(e: Estimate, other: str = "unpruned") -> str:
    """`+1.5 ± 2.2 points against unpruned (no gain shown)`."""
    text = f"{e.points()} against {other}"
    if math.isnan(e.half):
        return f"{text} (untestable)" if e.n > 1 else f"{text} (one seed: untestable)"
    unsure = abs(e.mean) < e.half
    return text + (f" (no {'gain' if e.mean >= 0 else 'loss'} shown)" if unsure else "")


def _rivals(s: Strategy) -> str:
    others = s.candidates - 1
    if others == 0:
        return "It is the only candidate"
    rivals = "its one rival" if others == 1 else f"its {others} rivals"
    if s.rivals == -1:
        return f"With one seed, nothing tells it from {rivals}"
    if s.rivals == 0:
        return f"Tests tell it from {rivals}"
    if s.rivals == others:
        return f"No test tells it from {rivals}"
    return f"Tests can't tell it from {s.rivals} of {rivals}"


# --------------------------------------------------------------------------- how far


def _how_far(part: Part) -> Iterator[str]:
    few = f"{100 * TOLERANCE:g} points"
    mine = part.non_inferiority
    alike = [found for found in mine[1:] if found.models == mine[0].models]
    for found in mine:
        if found in alike:
            continue  # said of the first: the average case
        lead = f"{attack_title(found.attack)} known" if found.attack else "Adversary unknown"
        lead += ", worst attack" if found.criterion == WORST_ATTACK else ", average case"
        shown, mean = found.shown, found.by_means
        text = f"no pruned model is shown to lose less than {few}"
        if shown is not None:
            text = f"up to {_with_margins(shown)}: shown to lose less than {few} of either"
        if mean is None:
            text += f"; by means, every one loses more than {few}"
        elif shown is None or mean.effective_rate > shown.effective_rate:
            text += f"; by means alone, up to {_with_margins(mean)}"
        for other in alike if found is mine[0] else ():
            if other.criterion == WORST_ATTACK and (best := other.shown or other.by_means):
                text += f". Under the worst attack the same, robust {best.robust.points()}"
            elif other.criterion == WORST_ATTACK:
                text += ". Under the worst attack the same"
        yield f"{lead}: {text}."


def _with_margins(m: NonInferiorModel) -> str:
    faster = "" if math.isnan(m.speedup) else f", speed-up {m.speedup:.3g} in theory"
    margins = f"clean {m.clean.points()}, robust {m.robust.points()}, n = {m.robust.n}"
    return f"{m.name} ({margins}{faster})"


# --------------------------------------------------------------------------- sweet spots


def _sweet_spots(part: Part) -> Iterator[str]:
    models, cells = part.rows(part.analysis.sweet_models), part.rows(part.analysis.sweet)
    if cells.empty or models["least"].isna().all():
        yield "No pruned model has an unpruned one of the same seed beside it to compare with."
        return
    whole = models[models["whole"]]
    if len(whole):
        best = whole.sort_values("effective_rate", ascending=False).head(3)
        listed = "; ".join(
            f"{model_name(m.method, m.rate, m.effective_rate)} "
            f"(clean {signed(m.clean)}, at least {signed(m.least)} points)"
            for m in records(best)
        )
        more = f", of {len(whole)}" if len(whole) > 3 else ""
        yield (
            "At least as accurate as the unpruned model of the same chain, clean and under every "
            f"attack and ε, by their means{more}: {listed}."
        )
    else:
        yield "No pruned model is, by its means, at least as accurate under every attack and ε."
    top = models.sort_values("least", ascending=False).iloc[0]
    threat = Threat(str(top["least_attack"]), str(top["least_norm"]), float(top["least_eps"]))
    name = model_name(str(top["method"]), float(top["rate"]), float(top["effective_rate"]))
    yield (
        f"The safest pruned model is {name}: its least margin is {signed(top['least'])} points "
        f"({threat.title}), its mean margin {signed(top['mean'])}."
    )
    count = cells["verdict"].value_counts()
    yield (
        f"{int(cells['sweet'].sum())} of {len(cells)} pruned cells are sweet spots by their means. "
        f"With a correction for {int(cells['p'].notna().sum())} paired tests, "
        f"{count.get('better', 0)} cells are shown to gain and {count.get('worse', 0)} to lose "
        "robustness."
    )
    for p, test in (
        (
            "p_moderated",
            "A moderated t test, which lets the cells share what they say of the noise of seeds,",
        ),
        ("p_crossed", "A crossed t test over seeds and images, which is about new images too,"),
    ):
        if cells[p].notna().any():
            calls = [_gains_and_losses(cells, f"{p}_{name}") for name in ("holm", "fdr")]
            yield (
                f"{test} shows with the same correction {calls[0]}; at a false discovery rate of "
                f"{SIGNIFICANT:.0%}, {calls[1]}."
            )


def _gains_and_losses(cells: pd.DataFrame, p: str) -> str:
    margins = cells.loc[cells[p] < SIGNIFICANT, "margin"]
    return f"{(margins > 0).sum()} to gain and {(margins < 0).sum()} to lose"


# --------------------------------------------------------------------------- compression


def _compression(part: Part) -> Iterator[str]:
    mine = part.rows(part.analysis.clean).dropna(subset="effective_rate")
    idle = pruned_nothing(mine)
    for (method,), rows in groups(mine[idle], ["method"]):
        rates = ", ".join(f"{rate:g}" for rate in rows["rate"])
        what = "the control" if method == CONTROL else "no choice counts it"
        yield f"{method} prunes nothing at rate {rates}: dense networks trained again, {what}."
    mine = mine[~idle]
    off = mine[(mine["effective_rate"] / mine["rate"] - 1).abs() > COMPRESSION_TOLERANCE]
    if off.empty:
        if len(mine):
            yield "Every nominal rate is the effective one to within a tenth."
        return
    worst = off.loc[off.groupby("method")["rate"].idxmax()]
    listed = ", ".join(f"{m.method} {m.rate:g} is {m.effective_rate:.3g}" for m in records(worst))
    yield (
        f"Nominal rates are not effective ones for {len(off)} of {len(mine)} models; at the "
        f"highest such rate: {listed}."
    )
    yield from _at_equal_rate(part)


def _at_equal_rate(part: Part) -> Iterator[str]:
    mine = part.rows(part.analysis.equal)
    mine = mine[(mine["axis"] == "effective_rate") & (mine["attack"] == "")]
    if mine.empty:
        return
    every = mine[mine["candidates"] == mine["candidates"].max()]
    r = next(records(every.nlargest(1, "x")))
    score = Estimate(n=int(r.n), mean=r.mean, sd=r.sd, half=r.half)
    rivals = r.candidates - 1
    told = f"tests can't tell it from {r.rivals} of {rivals}" if r.rivals else "tests tell it apart"
    yield (
        f"At an equal effective rate of {r.x:.3g}, the highest that {r.candidates} methods reach, "
        f"{r.method} is the most robust on average: {score.text()} %"
        + (f"; {told}." if r.rivals >= 0 else ".")
    )


_WRITERS = {
    Topic.DEPLOY: _deploy,
    Topic.LOSSES: shown_losses,
    Topic.HOW_FAR: _how_far,
    Topic.SWEET_SPOTS: _sweet_spots,
    Topic.COMPRESSION: _compression,
    Topic.TRUST: trust,
}
