"""Four eps for an attack, by the paper's rule, from dense models' security curves. Pure.

"For each combination of model and attack, we choose a set of eps-values such that the weakest
attack decreases the accuracy only marginally on the unpruned network and the strongest attack fools
the network for more than 50% of the images" (Merkle, Samsinger, Schoettle, section 4). Put
precisely, with R(eps) the dense models' robust accuracy and c their clean accuracy on the same
images:

- weak = the largest eps with R(eps) >= c - `marginal`;
- strong = the largest eps with R(eps) >= `left`: about a quarter of the images, the mean of what
  the paper's own strongest eps leave;
- L0 and L2: four equal steps. The step is the round number (1, 2 or 5 times a power of ten; for
  L0, which counts, also 3 or 4 times) nearest to (strong - weak) / 3, the first eps the largest
  multiple of half a step that is at most `weak` (of a tenth of a step, where that would be 0);
- L-infinity: each twice the one before, in 1/255. The last is the power of two nearest to `strong`;
- in both, the last must leave at most half of the images (`most_left`), else the step, or the last
  eps, grows to the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.tuning.objective import Floats
from prunegrid.workers.catalog import attack_entry

_ROUND = (1, 2, 5)
_ROUND_COUNTS = (1, 2, 3, 4, 5)
#: Of a step or an eps that grows until the last one fools enough.
_GROWTHS = 40
#: 128/255: with 256/255 any image becomes any other.
_MOST_EXPONENT = 7
COUNT = 4
#: Relative: less than an eps in use differs by, and more than a float's last bits.
_BELOW = 1e-6

Robust = Callable[[float], float]


class EpsLevelsError(PrunegridError):
    """No set of eps follows the rule."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    marginal: float = 0.05  #: accuracy that the weakest may cost
    left: float = 0.25  #: robust accuracy that the strongest aims at
    most_left: float = 0.5  #: and must be below


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Where a security curve crosses the rule's two levels."""

    weak: float
    strong: float


def eps_levels(norm: str, ends: Ends, robust: Robust, rule: Rule) -> tuple[float, ...]:
    """`robust`: R. Raises EpsLevelsError where no attack in reach fools half of the images."""
    if not (0 < ends.weak <= ends.strong < math.inf):
        raise EpsLevelsError(
            f"no eps to choose: the weakest would be {ends.weak:.4g}, the strongest "
            f"{ends.strong:.4g}; the attack fails on too many images"
        )
    if norm == "linf":
        return _doubling(ends, robust, rule)
    return _even(ends, robust, rule, whole=norm == "l0")


def _doubling(ends: Ends, robust: Robust, rule: Rule) -> tuple[float, ...]:
    exponent = min(round(math.log2(ends.strong * 255)), _MOST_EXPONENT)
    while exponent <= _MOST_EXPONENT:
        last = 2.0**exponent / 255
        if robust(last) < rule.most_left:
            return tuple(2.0 ** (exponent - k) / 255 for k in reversed(range(COUNT)))
        exponent += 1
    raise EpsLevelsError(f"even eps {last:.4g} leaves {robust(last):.2f} of the images")


def _even(ends: Ends, robust: Robust, rule: Rule, *, whole: bool) -> tuple[float, ...]:
    step = _nearest_step((ends.strong - ends.weak) / (COUNT - 1), whole=whole)
    for _ in range(_GROWTHS):
        first = _first(ends.weak, step, whole=whole)
        found = tuple(_clean(first + k * step) for k in range(COUNT))
        if robust(found[-1]) < rule.most_left:
            return found
        step = _next_step(step, whole=whole)
    raise EpsLevelsError(f"even eps {found[-1]:.4g} leaves {robust(found[-1]):.2f} of the images")


def _nearest_step(width: float, *, whole: bool) -> float:
    least = 1.0 if whole else 0.0
    if width <= least:
        return 1.0 if whole else 0.01
    decade = 10.0 ** math.floor(math.log10(width))
    choices = [choice for choice in _round_numbers(decade, whole) if choice >= least]
    return _clean(min(choices, key=lambda choice: abs(math.log(choice / width))))


def _next_step(step: float, *, whole: bool) -> float:
    decade = 10.0 ** math.floor(math.log10(step) + 1e-9)
    return _clean(min(n for n in _round_numbers(decade, whole) if n > step * (1 + 1e-9)))


def _round_numbers(decade: float, whole: bool) -> list[float]:
    """Of a decade and the next one."""
    mantissas = _ROUND_COUNTS if whole else _ROUND
    return [m * d for d in (decade, 10 * decade) for m in mantissas]


def _first(weak: float, step: float, *, whole: bool) -> float:
    half = step if whole and step % 2 else step / 2
    for unit in (half, max(1.0, step // 10) if whole else step / 10):
        first = math.floor(weak / unit + 1e-9) * unit
        if first > 0:
            return _clean(first)
    return 1.0 if whole else _clean(float(f"{weak * 0.95:.1g}") or weak)


def _clean(value: float) -> float:
    """Without the last bits that sums of tenths leave."""
    return float(f"{value:.9g}")


def eps_as_written(eps: float, norm: str) -> str:
    """As a grid file has it: L-infinity over 255."""
    return f"{eps * 255:.6g}/255" if norm == "linf" else f"{eps:.9g}"


# --------------------------------------------------------------------------- curves


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
    #: The protocol's rule for `distances`: an image at exactly eps is broken.
    within: bool = True
    points: Mapping[float, float] = field(default_factory=dict)

    def robust(self, eps: float) -> float:
        """At any eps from distances; between measured points straight over log eps, outside of
        them the nearest one's, and never more than at a smaller eps."""
        if self.distances is not None:
            left = self.distances >= eps
            if self.within:
                left &= (self.distances != eps) | np.isinf(self.distances)
            return float(np.mean(left))
        known = sorted(self.points)
        values = np.minimum.accumulate([self.points[e] for e in known])
        return float(np.interp(math.log(eps), np.log(known), values))

    def crossing(self, level: float) -> float:
        """The largest eps with at least `level` robust accuracy; 0 where there is none. Where an
        image at exactly eps is broken: the whole number below it (L0), else a millionth below."""
        if self.distances is not None:
            ordered = np.sort(self.distances)[::-1]
            count = math.ceil(level * len(ordered) - 1e-9)
            if count > len(ordered):
                return 0.0
            least = float(ordered[max(count, 1) - 1])
            if not self.within or least in (0, math.inf):
                return least
            return math.ceil(least) - 1.0 if self.norm == "l0" else least * (1 - _BELOW)
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
        if self.norm == "l0":  # there is no weaker eps than one element
            weak, strong = max(weak, 1.0), max(strong, 1.0)
        return Ends(weak=weak, strong=strong)


# Parameters: what was attacked, and how it counts.
def nearest_curve(
    architecture: str,
    attack: str,
    distances: Floats,
    *,
    models: int,
    within: bool,
    norm: str = "",
) -> SecurityCurve:
    return SecurityCurve(
        architecture=architecture,
        attack=attack,
        norm=norm or norm_of(attack),
        clean=float(np.mean(distances > 0)),
        models=models,
        distances=distances,
        within=within,
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
    name = f"{curve.architecture} {curve.attack}"
    if curve.clean <= rule.left:
        raise EpsLevelsError(
            f"{name}: the unpruned network is right on {curve.clean:.0%} of the attacked images; "
            f"expected more than the {rule.left:.0%} that the strongest eps is to leave"
        )
    try:
        found = eps_levels(curve.norm, curve.ends(rule), curve.robust, rule)
    except EpsLevelsError as error:
        raise EpsLevelsError(f"{name}: {error}") from None
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
