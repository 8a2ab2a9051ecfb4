"""Which of the authors' runs are taken, at which eps they are scored, and what is odd in them, by
name and count. Nothing odd is corrected."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from prunegrid.orchestrator.authors.raw_results import AuthorRun
from prunegrid.orchestrator.names import eps_text
from prunegrid.orchestrator.report.eps_levels import PAPER_EPS
from prunegrid.workers.catalog import METHODS

#: The authors ran everything five times; the first five rows are taken.
SEEDS = 5

#: Share of the nominal rate by which the effective one may differ and still be called equal.
COMPRESSION_TOLERANCE = 0.1

#: Clean accuracy at or below which the authors skipped an attack and scored it 0.
SKIP_ACCURACY = 0.4

#: Of the distances of the unpruned models: where a minimum-norm attack is scored that the paper
#: does not have.
_SHARES = (0.2, 0.4, 0.6, 0.8)

#: A finding's name, count and message.
Oddity: TypeAlias = tuple[str, int, str]

#: The name of every finding, and what it says of a file.
FINDINGS = {
    "repeated-labels": "runs whose seed label another run of the same method and rate carries",
    "extra-runs": "runs after the first five of a method and rate; they are left out",
    "missing-runs": "runs that a method and rate lack to five",
    "unfinished-chains": "runs that stop before the highest rate",
    "mixed-chains": "seeds whose rates, taken by position, come from different chains",
    "identical-results": "runs that repeat another run's accuracy and distances to the last bit",
    "missing-cells": "attacks without a result although clean accuracy is above the threshold",
    "skipped-attacks": "attacks not run for low clean accuracy, and scored 0",
    "effective-compression": "runs whose effective compression is far from the nominal rate",
    "mixed-images": "runs attacked on another number of images than most of the architecture",
    "mixed-eps": "runs whose list of eps is not the architecture's most common one",
    "failed-attack-scored": "images scored as broken within eps though the attack says it failed",
    "not-monotone": "runs whose robust accuracy rises with eps",
}


@dataclass(frozen=True, kw_only=True)
class AuthorFinding:
    name: str  #: a key of FINDINGS
    where: str  #: architecture, and method or attack
    count: int
    message: str  #: for a reader, with the numbers


@dataclass(frozen=True, kw_only=True)
class SeededRun:
    seed: int  #: position among the runs of its method and rate, 0 to 4
    run: AuthorRun


def first_five(runs: Sequence[AuthorRun]) -> tuple[SeededRun, ...]:
    """The first five runs per architecture, method and rate, in file order; runs come sorted."""
    count: Counter[tuple[str, str, float]] = Counter()
    out = []
    for run in runs:
        place = (run.architecture, run.method, run.rate)
        if count[place] < SEEDS:
            out.append(SeededRun(seed=count[place], run=run))
        count[place] += 1
    return tuple(out)


def minimum_eps(architecture: str, runs: Sequence[AuthorRun]) -> dict[str, tuple[float, ...]]:
    """Per minimum-norm attack of the runs, ascending: the paper's eps of that architecture, or,
    where it has none, distances at which the unpruned models lose a fifth, two fifths, ... of
    the images that they get right, rounded to two digits."""
    out = {}
    for attack in sorted({name for run in runs for name in run.minimum}):
        known = PAPER_EPS.get(architecture, {}).get(attack)
        out[attack] = known if known is not None else _from_dense(attack, runs)
    return {attack: tuple(map(float, eps)) for attack, eps in out.items()}


def _from_dense(attack: str, runs: Sequence[AuthorRun]) -> tuple[float, ...]:
    lowest = min(run.rate for run in runs)
    parts = [
        found.distance
        for run in runs
        if run.rate == lowest and (found := run.minimum.get(attack)) is not None
    ]
    distances = np.concatenate(parts) if parts else np.empty(0)
    distances = distances[np.isfinite(distances) & (distances > 1e-3)]  # 0: misclassified
    if not len(distances):
        return ()
    rounded = {float(f"{value:.2g}") for value in np.quantile(distances, _SHARES)}
    return tuple(sorted(rounded))


def author_findings(runs: Sequence[AuthorRun]) -> tuple[AuthorFinding, ...]:
    """Of all runs of the files, sorted by architecture, method and file order."""
    by_method: dict[tuple[str, str], list[AuthorRun]] = defaultdict(list)
    by_architecture: dict[str, list[AuthorRun]] = defaultdict(list)
    for run in runs:
        by_method[run.architecture, run.method].append(run)
        by_architecture[run.architecture].append(run)
    out: list[AuthorFinding] = []
    for architecture, part in by_architecture.items():
        rates = sorted({run.rate for run in part})
        for (owner, method), mine in by_method.items():
            if owner == architecture:
                for check in (_counts, _chains, _compression):
                    out += _at(f"{architecture} {method}", check(mine, rates))
        present = {run.method for run in part}
        for method, entry in METHODS.items():
            if entry.in_paper and method not in present:
                absent = ("missing-runs", SEEDS * len(rates), "no run at all")
                out += _at(f"{architecture} {method}", [absent])
        eps_of = minimum_eps(architecture, part)
        for attack in sorted({name for run in part for name in run.minimum}):
            out += _at(f"{architecture} {attack}", _nearest(attack, eps_of[attack], part))
        for attack in sorted({name for run in part for name in run.fixed}):
            out += _at(f"{architecture} {attack}", _fixed(attack, part))
        out += _at(architecture, _repeats(part))
    order = list(FINDINGS)
    return tuple(sorted(out, key=lambda f: (order.index(f.name), f.where)))


def _at(where: str, oddities: Iterable[Oddity]) -> Iterator[AuthorFinding]:
    for name, count, message in oddities:
        if count:
            yield AuthorFinding(name=name, where=where, count=count, message=message)


def _counts(runs: list[AuthorRun], rates: list[float]) -> Iterator[Oddity]:
    per_rate = Counter(run.rate for run in runs)
    extra = sum(max(0, n - SEEDS) for n in per_rate.values())
    yield "extra-runs", extra, f"{extra} runs beyond the first {SEEDS} of a rate, left out"
    lacking = {rate: SEEDS - per_rate[rate] for rate in rates if per_rate[rate] < SEEDS}
    listed = ", ".join(f"{n} at rate {rate:g}" for rate, n in lacking.items())
    yield "missing-runs", sum(lacking.values()), listed
    labels = Counter((run.rate, run.label) for run in runs if run.label is not None)
    repeated = sum(n - 1 for n in labels.values() if n > 1)
    if repeated:
        worst = Counter(label for _, label in labels.elements()).most_common(1)[0][0]
        text = f"{repeated} of {len(runs)} runs repeat a label of their rate, most often {worst}"
        yield "repeated-labels", repeated, text


def _chains(runs: list[AuthorRun], rates: list[float]) -> Iterator[Oddity]:
    """A chain is a dense model and its prunings: rates rise along it in file order."""
    chains: list[list[AuthorRun]] = []
    for run in runs:
        if chains and run.rate > chains[-1][-1].rate:
            chains[-1].append(run)
        else:
            chains.append([run])
    short = [chain for chain in chains if chain[-1].rate < rates[-1]]
    ends = Counter(chain[-1].rate for chain in short)
    listed = ", ".join(f"{n} end at rate {rate:g}" for rate, n in sorted(ends.items()))
    yield "unfinished-chains", len(short), listed
    chain_of = {id(run): number for number, chain in enumerate(chains) for run in chain}
    taken: dict[int, set[int]] = defaultdict(set)
    for seeded in first_five(runs):
        taken[seeded.seed].add(chain_of[id(seeded.run)])
    mixed = [seed for seed, numbers in taken.items() if len(numbers) > 1]
    text = f"seeds {', '.join(map(str, mixed))} take their rates from several chains"
    yield "mixed-chains", len(mixed), text


def _compression(runs: list[AuthorRun], rates: list[float]) -> Iterator[Oddity]:
    per_rate: dict[float, list[float]] = defaultdict(list)
    for seeded in first_five(runs):
        per_rate[seeded.run.rate].append(seeded.run.effective_rate)
    far = {
        rate: [e for e in effective if abs(e / rate - 1) > COMPRESSION_TOLERANCE]
        for rate, effective in sorted(per_rate.items())
    }
    shown = [f"{rate:g} is {_range(values)}" for rate, values in far.items() if values]
    yield "effective-compression", sum(map(len, far.values())), "nominal " + ", ".join(shown)


def _range(values: list[float]) -> str:
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _nearest(attack: str, eps: Sequence[float], runs: list[AuthorRun]) -> Iterator[Oddity]:
    """A minimum-norm attack that is scored at these eps."""
    taken = [seeded.run for seeded in first_five(runs)]
    absent = [run for run in taken if run.minimum.get(attack) is None]
    skipped = [run for run in absent if run.accuracy <= SKIP_ACCURACY]
    best = max((run.accuracy for run in skipped), default=0.0)
    text = f"not run at a clean accuracy of at most {best:.1%}, scored 0"
    yield "skipped-attacks", len(skipped), text
    text = f"no result for runs with a clean accuracy above {SKIP_ACCURACY:.0%}"
    yield "missing-cells", len(absent) - len(skipped), text
    results = [found for run in taken if (found := run.minimum.get(attack)) is not None]
    counts = Counter(len(result.distance) for result in results)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        others = ", ".join(f"{n} on {size}" for size, n in sorted(counts.items()) if size != usual)
        text = f"most on {usual} images, {others}"
        yield "mixed-images", sum(counts.values()) - counts[usual], text
    if eps:
        failed = [int(np.sum(~r.success & (r.distance < max(eps)))) for r in results]
        text = f"a distance below eps {max(eps):g} of an unsuccessful attack"
        yield "failed-attack-scored", sum(failed), text


def _fixed(attack: str, runs: list[AuthorRun]) -> Iterator[Oddity]:
    taken = first_five(runs)
    absent = sum(attack not in seeded.run.fixed for seeded in taken)
    yield "missing-cells", absent, "runs without any eps"
    lists = Counter(run.fixed[attack].eps for run in runs if attack in run.fixed)
    if len(lists) > 1:
        usual = lists.most_common(1)[0][0]
        shown = " ".join(eps_text("linf", e).removesuffix("/255") for e in usual)
        text = f"{len(lists)} different lists of eps; most common: {shown} (/255)"
        yield "mixed-eps", sum(n for eps, n in lists.items() if eps != usual), text
    rising = 0
    for seeded in taken:
        if (found := seeded.run.fixed.get(attack)) is not None:
            rates = np.array(found.success_rate)[np.argsort(found.eps)]
            rising += bool(np.any(np.diff(rates) < 0))
    yield "not-monotone", rising, "a higher eps succeeds less often"


def _repeats(runs: list[AuthorRun]) -> Iterator[Oddity]:
    seen: Counter[str] = Counter()
    for run in runs:
        digest = hashlib.sha256(f"{run.accuracy} {run.loss} {sorted(run.fixed.items())}".encode())
        for attack in sorted(run.minimum):
            found = run.minimum[attack]
            digest.update(b"-" if found is None else found.distance.tobytes())
        seen[digest.hexdigest()] += 1
    repeated = sum(n - 1 for n in seen.values() if n > 1)
    text = f"{repeated} of {len(runs)} runs are another run's results again"
    yield "identical-results", repeated, text
