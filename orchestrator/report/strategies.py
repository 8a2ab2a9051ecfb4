"""The best pruning strategy under what is known of the adversary (paper, section 4). Pure.

Candidates are all (method, rate) that prune something, and the dense model (pooled over methods:
nothing is pruned yet). Three states of knowledge: attack and eps are known; the attack alone;
nothing. Where eps or attack is unknown, a candidate is judged by its average, by its worst attack
at each strength, or by its smallest margin to the dense model. A bound on compression is one on the
effective rate: a nominal rate saves no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from prunegrid.orchestrator.names import attack_title
from prunegrid.orchestrator.report.eps_levels import with_counterparts
from prunegrid.orchestrator.report.results import (
    SETTING,
    Results,
    Setting,
    Threat,
    groups,
    records,
    threats,
)
from prunegrid.orchestrator.report.statistics import (
    SIGNIFICANT,
    Estimate,
    Floats,
    estimate,
    holm,
    paired_p,
)
from prunegrid.orchestrator.report.tables import DENSE, UNPRUNED, model_name
from prunegrid.workers.catalog import CONTROL

KNOWN, ATTACK_KNOWN, NOTHING_KNOWN = "attack and eps known", "attack known", "unknown adversary"
ACCURACY, AVERAGE, WORST_ATTACK, LEAST_MARGIN = (
    "robust accuracy",
    "average robust accuracy",
    "robust accuracy under the worst attack",
    "smallest margin to unpruned",
)

#: A candidate counts as compressed c-fold from this share of c on: rounding to whole filters.
RATE_TOLERANCE = 0.9


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """The best choice under one assumption."""

    setting: Setting
    protocol: str
    knowledge: str
    attack: str  #: "" where it is unknown
    norm: str
    eps: float  #: NaN where it is unknown
    criterion: str
    least_rate: float  #: effective compression asked for
    method: str
    rate: float
    effective_rate: float
    clean: Estimate  #: accuracy of the chosen models on the whole test split
    attacked: Estimate  #: on the attacked images; n = 0 where it is not recorded
    score: Estimate  #: of the criterion, fractions
    margin: Estimate  #: score minus the dense model's, paired by seed
    control: Estimate  #: score minus that of as much fine-tuning without pruning; n = 0: not run
    rivals: int  #: other candidates that no paired test tells from the best; -1: not tested
    candidates: int
    incomplete: int  #: candidates left out because a cell is missing

    @property
    def adversary(self) -> str:
        """What is known of it."""
        if self.knowledge == KNOWN:
            return Threat(self.attack, self.norm, self.eps).title
        return f"{attack_title(self.attack)}, any ε" if self.attack else self.knowledge

    @property
    def unpruned(self) -> bool:
        return self.method == UNPRUNED

    @property
    def model(self) -> str:
        """The best choice, by name."""
        return model_name(self.method, self.rate, self.effective_rate)


def strategies(results: Results, clean: pd.DataFrame) -> list[Strategy]:
    """For each setting and protocol, every assumption and every compression asked for (the
    nominal rates of the grid). `clean` is `clean_table`'s."""
    out: list[Strategy] = []
    for place, part in groups(with_counterparts(results.cells), [*SETTING, "protocol"]):
        setting = Setting(*map(str, place[:3]))
        field = _Field(part, setting.rows(results.models), setting.rows(clean))
        for least in sorted(part["rate"].unique()):
            out += field.best(setting, str(place[3]), float(least))
    return out


def _of_seeds(accuracy: pd.Series[float], method: str, rate: float) -> Estimate:
    """`accuracy`: by method, rate and seed."""
    places = accuracy.index.to_frame(index=False)
    mine = (places["method"] == method) & (places["rate"] == rate)
    return estimate(accuracy[mine.to_numpy()].tolist())


def _pooled(frame: pd.DataFrame) -> pd.DataFrame:
    """Dense models of all methods are one candidate."""
    return frame.assign(method=frame["method"].where(frame["rate"] != DENSE, UNPRUNED))


class _Field:
    """All candidates of one setting and protocol: robust accuracy [candidate, threat, seed]."""

    def __init__(self, cells: pd.DataFrame, models: pd.DataFrame, clean: pd.DataFrame) -> None:
        pooled = _pooled(cells)
        accuracy = _pooled(models).groupby(["method", "rate", "seed"])["accuracy"].mean()
        ran = pooled[pooled["n_skipped"].fillna(0) == 0]
        attacked = ran.groupby(["method", "rate", "seed"])["clean_accuracy"].mean()
        self._clean, self._attacked = accuracy, attacked
        self.threats = threats(cells)
        keys = [*zip(pooled["attack"], pooled["eps"], strict=True)]
        column = {(t.attack, t.eps): i for i, t in enumerate(self.threats)}
        seeds = sorted(cells["seed"].unique())
        pairs = pooled[["method", "rate"]].drop_duplicates().sort_values(["method", "rate"])
        self.candidates = [(str(m), float(r)) for m, r in records(pairs)]
        row = {pair: i for i, pair in enumerate(self.candidates)}
        shape = (len(row), len(column), len(seeds))
        total, count = np.zeros(shape), np.zeros(shape)
        index = (
            [row[pair] for pair in zip(pooled["method"], pooled["rate"], strict=True)],
            [column[key] for key in keys],
            [seeds.index(seed) for seed in pooled["seed"]],
        )
        np.add.at(total, index, pooled["robust_accuracy"].to_numpy(float))
        np.add.at(count, index, 1.0)
        with np.errstate(invalid="ignore"):
            self.values = total / np.where(count > 0, count, np.nan)
        strengths = pooled[["attack", "eps", "strength"]].drop_duplicates()
        level = {(a, e): s for a, e, s in records(strengths)}
        self.strength = np.array([level[t.attack, t.eps] for t in self.threats])
        known = clean.set_index(["method", "rate"])["effective_rate"]
        self.effective = np.array(
            [1.0 if m == UNPRUNED else float(known.get((m, r), np.nan)) for m, r in self.candidates]
        )

    def best(self, setting: Setting, protocol: str, least_rate: float) -> Iterator[Strategy]:
        for knowledge, threat, criterion, columns in self._assumptions():
            scores = self._scores(columns, criterion)
            chosen = self._choose(scores, least_rate)
            if chosen is None:
                continue
            best, rivals, allowed, incomplete = chosen
            method, rate = self.candidates[best]
            dense, control = self._dense(), (CONTROL, rate)
            margin = scores[best] - scores[dense] if dense is not None else np.array([np.nan])
            fine_tuned = [scores[i] for i, pair in enumerate(self.candidates) if pair == control]
            yield Strategy(
                setting=setting,
                protocol=protocol,
                knowledge=knowledge,
                attack=threat.attack,
                norm=threat.norm,
                eps=threat.eps,
                criterion=criterion,
                least_rate=least_rate,
                method=method,
                rate=rate,
                effective_rate=float(self.effective[best]),
                clean=_of_seeds(self._clean, method, rate),
                attacked=_of_seeds(self._attacked, method, rate),
                score=estimate(scores[best].tolist()),
                margin=estimate(margin.tolist()),
                control=estimate((scores[best] - fine_tuned[0]).tolist() if fine_tuned else []),
                rivals=rivals,
                candidates=allowed,
                incomplete=incomplete,
            )

    def _assumptions(self) -> Iterator[tuple[str, Threat, str, list[int]]]:
        for i, threat in enumerate(self.threats):
            yield KNOWN, threat, ACCURACY, [i]
        for attack in dict.fromkeys(t.attack for t in self.threats):
            columns = [i for i, t in enumerate(self.threats) if t.attack == attack]
            known = Threat(attack, self.threats[columns[0]].norm, np.nan)
            for criterion in (AVERAGE, LEAST_MARGIN):
                yield ATTACK_KNOWN, known, criterion, columns
        nothing = Threat("", "", np.nan)
        for criterion in (AVERAGE, WORST_ATTACK, LEAST_MARGIN):
            yield NOTHING_KNOWN, nothing, criterion, list(range(len(self.threats)))

    def _scores(self, columns: list[int], criterion: str) -> Floats:
        """[candidate, seed]; NaN where a cell of the seed is missing."""
        values = self.values[:, columns]
        if criterion == WORST_ATTACK:
            levels = self.strength[columns]
            worst = [values[:, levels == level].min(axis=1) for level in np.unique(levels)]
            return np.asarray(np.mean(worst, axis=0))
        dense = self._dense()
        if criterion == LEAST_MARGIN:
            if dense is None:
                return np.full(values.shape[::2], np.nan)
            margins = values - values[dense]
            # the threat is chosen by its mean: the least of each seed would reward low noise
            gone = np.isnan(margins).all(axis=2)
            means = np.where(
                gone, -np.inf, np.nanmean(np.where(gone[..., None], 0, margins), axis=2)
            )
            worst_threat = means.argmin(axis=1)
            least = np.take_along_axis(margins, worst_threat[:, None, None], axis=1)[:, 0]
            # a seed that lacks one of the threats may lack its worst
            return np.where(np.isnan(margins).any(axis=1), np.nan, least)
        return np.asarray(values.mean(axis=1))

    def _dense(self) -> int | None:
        return next((i for i, (m, _) in enumerate(self.candidates) if m == UNPRUNED), None)

    def _choose(self, scores: Floats, least_rate: float) -> tuple[int, int, int, int] | None:
        """Best candidate's row, its rivals, how many were allowed, how many lacked cells."""
        n = (~np.isnan(scores)).sum(axis=1)
        full = n == n.max(initial=0)
        unpruned = np.array([method == UNPRUNED for method, _ in self.candidates])
        idle = (self.effective <= 1) & ~unpruned
        allowed = (self.effective >= RATE_TOLERANCE * least_rate) & ~idle
        usable = allowed & full & (n > 0)
        if not usable.any():
            return None
        means = np.where(usable, np.nansum(scores, axis=1) / np.maximum(n, 1), -np.inf)
        best = int(means.argmax())
        others = np.flatnonzero(usable & (np.arange(len(means)) != best))
        return (
            best,
            count_rivals(scores, best, others),
            int(usable.sum()),
            int((allowed & ~full).sum()),
        )


def count_rivals(
    scores: Floats, best: int, others: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> int:
    """How many of `others` no paired test tells from `best`; -1: not tested. `scores`: [candidate,
    seed]."""
    difference = scores[best] - scores[others]
    n = (~np.isnan(difference)).sum(axis=1).astype(float)
    if not len(others):
        return 0
    if n.max() < 2:
        return -1
    p = paired_p(n, np.nanmean(difference, axis=1), np.nanstd(difference, axis=1, ddof=1))
    return int((~(holm(p) < SIGNIFICANT)).sum())
