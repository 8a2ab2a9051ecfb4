"""Dense models' security curves, and what the rule makes of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from prunegrid.orchestrator.tuning.eps_rule import Ends, Rule, eps_levels
from prunegrid.orchestrator.tuning.objective import Floats
from prunegrid.workers.catalog import attack_entry


@dataclass(frozen=True, kw_only=True)
class SecurityCurve:
    """Robust accuracy of an architecture's dense models over eps: from the distances that a
    minimum-norm attack found, or from measured points."""

    architecture: str
    attack: str
    norm: str
    clean: float  #: accuracy on the attacked images
    models: int
    #: Of every model's images, together; 0 where the model is wrong, infinite where none was found.
    distances: Floats | None = None
    points: Mapping[float, float] = field(default_factory=dict)

    def robust(self, eps: float) -> float:
        """At any eps from distances; between measured points straight over log eps, outside of
        them the nearest one's, and never more than at a smaller eps."""
        if self.distances is not None:
            return float(np.mean(self.distances >= eps))
        known = sorted(self.points)
        values = np.minimum.accumulate([self.points[e] for e in known])
        return float(np.interp(math.log(eps), np.log(known), values))

    def crossing(self, level: float) -> float:
        """The largest eps with at least `level` robust accuracy; 0 where there is none."""
        if self.distances is not None:
            ordered = np.sort(self.distances)[::-1]
            count = math.ceil(level * len(ordered) - 1e-9)
            return float(ordered[max(count, 1) - 1]) if count <= len(ordered) else 0.0
        known = sorted(self.points)
        values = [float(v) for v in np.minimum.accumulate([self.points[e] for e in known])]
        if values[0] < level:
            return 0.0
        for k in range(1, len(known)):
            if values[k] < level:
                share = (values[k - 1] - level) / (values[k - 1] - values[k])
                low, high = math.log(known[k - 1]), math.log(known[k])
                return math.exp(low + share * (high - low))
        return math.inf

    def ends(self, rule: Rule) -> Ends:
        strong = self.crossing(rule.left)
        weak = self.crossing(self.clean - rule.marginal)
        if self.distances is None:  # beyond what was measured: the last measured one
            weak = max(weak, min(self.points))
            strong = min(strong, max(self.points))
        return Ends(weak=weak, strong=strong)


def nearest_curve(
    architecture: str, attack: str, distances: Floats, *, models: int, norm: str = ""
) -> SecurityCurve:
    return SecurityCurve(
        architecture=architecture,
        attack=attack,
        norm=norm or norm_of(attack),
        clean=float(np.mean(distances > 0)),
        models=models,
        distances=distances,
    )


def norm_of(attack: str) -> str:
    """By the catalog, else by the name's end."""
    entry = attack_entry(attack)
    return entry.norm if entry is not None else attack.rpartition("_")[2]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One eps of a set."""

    eps: float
    robust: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A proposed set beside the one in use."""

    curve: SecurityCurve
    proposed: tuple[Step, ...]
    present: tuple[Step, ...]  #: the grid's or the paper's; () where there is none

    @property
    def key(self) -> tuple[str, str]:
        return self.curve.architecture, self.curve.attack


def calibrate_curve(curve: SecurityCurve, present: tuple[float, ...], rule: Rule) -> Calibration:
    """Raises EpsLevelsError."""
    found = eps_levels(curve.norm, curve.ends(rule), curve.robust, rule)
    return Calibration(
        curve=curve,
        proposed=tuple(Step(eps=eps, robust=curve.robust(eps)) for eps in found),
        present=tuple(Step(eps=eps, robust=curve.robust(eps)) for eps in present),
    )


def rule_findings(steps: tuple[Step, ...], clean: float, rule: Rule) -> list[str]:
    """Where a set departs from the rule's words, in numbers."""
    out = []
    cost = clean - steps[0].robust
    if cost > rule.marginal + 1e-9:
        out.append(
            f"the weakest costs {100 * cost:.1f} points of {100 * clean:.1f} "
            f"(the rule: at most {100 * rule.marginal:g})"
        )
    if steps[-1].robust >= rule.most_left:
        out.append(
            f"the strongest leaves {100 * steps[-1].robust:.1f} % "
            f"(the rule: less than {100 * rule.most_left:g})"
        )
    return out
