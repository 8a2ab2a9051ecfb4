"""What a search varies, within a budget of queries. Pure: options in, proposals out.

Proposals are points of a scrambled Sobol sequence on logarithmic scales, drawn beforehand from a
seed: the same command proposes the same trials, whatever order they end in. Whole ranges are
covered more evenly than by random draws of the same number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import qmc

from prunegrid.orchestrator.errors import UsageError, expected
from prunegrid.workers.catalog import AttackEntry
from prunegrid.workers.keys import Scalar, canonical_json

#: A trial takes at least so many steps: with fewer no setting shows what it can do.
LEAST_STEPS = 10

TrialOptions = Mapping[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One option's range, on a logarithmic scale."""

    name: str
    low: float
    high: float
    whole: bool  #: whole numbers alone

    def at(self, share: float) -> float:
        """`share` in [0, 1] of the way from low to high; two digits, as one would write it."""
        value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        value = round(value) if self.whole else float(f"{value:.2g}")
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The most passes that options can make of an image, and (at one eps) what a budget buys."""

    rounds: tuple[str, ...]  #: options whose product it is; the last one spends a budget
    round_extra: int  #: passes beyond the steps of each round
    extra: int  #: passes beyond them all
    step_passes: int = 1

    def queries(self, options: TrialOptions) -> int:
        steps = self.step_passes * _count(options, self.rounds[-1]) + self.round_extra
        return self._others(options) * steps + self.extra

    def affordable(self, options: TrialOptions, budget: int) -> int:
        """Steps (the last of `rounds`) that the budget leaves; 0 or less where none."""
        each = (budget - self.extra) // self._others(options) - self.round_extra
        return each // self.step_passes

    def _others(self, options: TrialOptions) -> int:
        return math.prod(_count(options, name) for name in self.rounds[:-1])

    @property
    def least(self) -> int:
        """The smallest budget with which a search makes sense."""
        return self.step_passes * LEAST_STEPS + self.round_extra + self.extra

    def most_rounds(self, budget: int) -> int:
        """With which each is left enough steps."""
        each = self.step_passes * LEAST_STEPS + self.round_extra
        return max(1, (budget - self.extra) // each)

    def cut(self, options: TrialOptions, budget: int) -> dict[str, Scalar]:
        """The same settings at a budget: fewer steps, and where too few would be left, fewer
        rounds of them. Settings that are cheap enough stay as they are."""
        out = dict(options)
        if self.queries(options) <= budget:
            return out
        for name in self.rounds[:-1]:
            out[name] = min(_count(out, name), self.most_rounds(budget))
        out[self.rounds[-1]] = max(1, self.affordable(out, budget))
        return out


def _count(options: TrialOptions, name: str) -> int:
    value = options[name]
    assert isinstance(value, int), f"{name} is a count"
    return value


def costs_of(entry: AttackEntry, engine: str) -> Costs:
    """Raises UsageError for an attack whose steps the catalog does not know."""
    if entry.function is not None and not entry.rounds:
        raise UsageError(
            f"--attack {entry.name}: none of its parameters says that it spends queries; expected "
            'one such as `steps: Annotated[int, Limits(search=(5, 200), spends="steps")]`'
        )
    if not entry.rounds:
        raise UsageError(
            f"--attack {entry.name}: the catalog does not know which of its settings cost queries; "
            "expected an attack of the catalog"
        )
    return Costs(
        rounds=entry.rounds,
        round_extra=entry.round_extra,
        extra=entry.strict_extra if engine == "strict" else entry.extra,
        step_passes=entry.step_passes,
    )


# --------------------------------------------------------------------------- what is varied


@dataclass(frozen=True, kw_only=True)
class Space:
    """Base options and the axes along which a search leaves them."""

    base: TrialOptions
    axes: tuple[Axis, ...]
    spend: bool  #: the last of `costs.rounds` takes what the budget leaves
    costs: Costs | None  #: None: no budget (training)
    budget: int

    def settle(self, point: Sequence[float]) -> dict[str, Scalar]:
        """Complete options within the budget. `point`: one share in [0, 1] per axis."""
        out = dict(self.base)
        for axis, share in zip(self.axes, point, strict=True):
            out[axis.name] = int(axis.at(share)) if axis.whole else axis.at(share)
        if self.costs is None:
            return out
        if self.spend:
            spender = self.costs.rounds[-1]
            out = self.costs.cut({**out, spender: 1}, self.budget)
            out[spender] = max(1, self.costs.affordable(out, self.budget))
        return self.costs.cut(out, self.budget)


def attack_space(
    entry: AttackEntry, base: TrialOptions, *, costs: Costs, budget: int, vary: Iterable[str]
) -> Space:
    """`vary`: NAME or NAME=LOW..HIGH of options; none: all that the catalog has ranges for.

    Raises UsageError where an option can't be tuned, a range is none, or the budget is too small.
    """
    if budget < costs.least:
        raise UsageError(
            f"--budget {budget}: too small: expected at least {costs.least} queries an image "
            f"({LEAST_STEPS} steps of {entry.name} and the passes around them)"
        )
    known = {
        option.name: Axis(
            name=option.name,
            low=option.search[0],
            high=option.search[1],
            whole=option.type == "int",
        )
        for option in entry.options
        if option.search is not None
    }
    if base.get("random_start") is False:
        known.pop("restarts", None)  # without a random start each would be the first again
    spender = costs.rounds[-1]
    chosen = _chosen(known, vary, what=entry.name)
    spend = spender in chosen
    if spend and chosen[spender] != known[spender]:
        raise UsageError(f"--vary {spender}: takes no range: it is what the budget leaves")
    axes = tuple(
        _within(axis, costs, budget)
        for name, axis in chosen.items()
        if name != spender or not spend
    )
    if not axes:
        raise UsageError(f"--vary: {entry.name} has nothing else to vary than {spender}")
    return Space(base=base, axes=axes, spend=spend, costs=costs, budget=budget)


def _within(axis: Axis, costs: Costs, budget: int) -> Axis:
    """Rounds are at most as many as leave each enough steps."""
    if axis.name not in costs.rounds:
        return axis
    most = max(axis.low, costs.most_rounds(budget))
    return dataclasses.replace(axis, high=min(axis.high, most))


def training_space(known: Mapping[str, Axis], base: TrialOptions, vary: Iterable[str]) -> Space:
    """`known`: every training setting that can be searched. Raises UsageError."""
    axes = tuple(_chosen(known, vary, what="training").values())
    return Space(base=base, axes=axes, spend=False, costs=None, budget=0)


def _chosen(known: Mapping[str, Axis], vary: Iterable[str], *, what: str) -> dict[str, Axis]:
    texts = [part.strip() for text in vary for part in text.split(",")]
    if not known:
        raise UsageError(f"--attack {what}: none of its settings can be tuned")
    if not texts:
        return dict(known)
    out = {}
    for text in texts:
        name, equals, span = text.partition("=")
        low, dots, high = span.partition("..")
        if name not in known:
            raise UsageError(f"--vary: {what} can't be tuned in {name!r}: {expected(known, name)}")
        if equals and not dots:
            raise UsageError(f"--vary {text}: expected {name} or {name}=LOW..HIGH")
        out[name] = _ranged(known[name], text, low, high) if equals else known[name]
    return out


def _ranged(axis: Axis, text: str, low_text: str, high_text: str) -> Axis:
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        raise UsageError(f"--vary {text}: expected two numbers, as in {axis.name}=1..10") from None
    whole = axis.whole and (low < 1 or not (low.is_integer() and high.is_integer()))
    if not 0 < low <= high or not math.isfinite(high) or whole:
        raise UsageError(
            f"--vary {text}: expected {'whole ' if axis.whole else ''}numbers above 0 with LOW at "
            "most HIGH"
        )
    return dataclasses.replace(axis, low=low, high=high)


# --------------------------------------------------------------------------- proposals


def proposals(space: Space, count: int, *, seed: int) -> tuple[dict[str, Scalar], ...]:
    """`count` different options, fewer where the space has not so many. The first are the base
    ones, cut to the budget: a search never ends with worse than what it began with."""
    first = dict(space.base)
    if space.costs is not None:
        first = space.costs.cut(first, space.budget)
    found = {canonical_json(dict(sorted(first.items()))): first}
    if not space.axes:
        return tuple(found.values())
    sampler = qmc.Sobol(d=len(space.axes), scramble=True, seed=seed)
    size = 1 << max(3, (2 * count - 1).bit_length())
    for _ in range(8):
        for point in sampler.random(size):
            if len(found) >= count:
                return tuple(found.values())
            options = space.settle([float(share) for share in point])
            found.setdefault(canonical_json(dict(sorted(options.items()))), options)
    return tuple(found.values())[:count]
