"""What is odd in the authors' raw results, by name and count: kept visible, never mended."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from prunegrid.orchestrator.authors.eps import minimum_eps
from prunegrid.orchestrator.authors.file import Run
from prunegrid.orchestrator.names import eps_text
from prunegrid.workers.catalog import METHODS

#: The authors ran everything five times; the first five rows are taken.
SEEDS = 5

#: Share of the nominal rate by which the effective one may differ and still be called equal.
COMPRESSION_TOLERANCE = 0.1

#: Clean accuracy at or below which the authors skipped an attack and scored it 0.
SKIP_ACCURACY = 0.4

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
    run: Run


def first_five(runs: Sequence[Run]) -> tuple[SeededRun, ...]:
    """The first five runs per architecture, method and rate, in file order; runs come sorted."""
    count: Counter[tuple[str, str, float]] = Counter()
    out = []
    for run in runs:
        place = (run.architecture, run.method, run.rate)
        if count[place] < SEEDS:
            out.append(SeededRun(seed=count[place], run=run))
        count[place] += 1
    return tuple(out)


def author_findings(runs: Sequence[Run]) -> tuple[AuthorFinding, ...]:
    """Of all runs of the files, sorted by architecture, method and file order."""
    by_method: dict[tuple[str, str], list[Run]] = defaultdict(list)
    by_architecture: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_method[run.architecture, run.method].append(run)
        by_architecture[run.architecture].append(run)
    out: list[AuthorFinding] = []
    for architecture, part in by_architecture.items():
        rates = sorted({run.rate for run in part})
        for (owner, method), mine in by_method.items():
            if owner == architecture:
                out += _counts(f"{architecture} {method}", mine, rates)
                out += _chains(f"{architecture} {method}", mine, rates)
                out += _compression(f"{architecture} {method}", mine)
        out += _absent(architecture, part, rates)
        out += _attacks(architecture, part)
        out += _repeats(architecture, part)
    order = list(FINDINGS)
    return tuple(sorted(out, key=lambda f: (order.index(f.name), f.where)))


def _counts(where: str, runs: list[Run], rates: list[float]) -> Iterator[AuthorFinding]:
    per_rate = Counter(run.rate for run in runs)
    extra = sum(max(0, n - SEEDS) for n in per_rate.values())
    if extra:
        text = f"{extra} runs beyond the first {SEEDS} of a rate, left out"
        yield AuthorFinding(name="extra-runs", where=where, count=extra, message=text)
    lacking = {rate: SEEDS - per_rate[rate] for rate in rates if per_rate[rate] < SEEDS}
    if lacking:
        listed = ", ".join(f"{n} at rate {rate:g}" for rate, n in lacking.items())
        yield AuthorFinding(
            name="missing-runs", where=where, count=sum(lacking.values()), message=listed
        )
    labels = Counter((run.rate, run.label) for run in runs if run.label is not None)
    repeated = sum(n - 1 for n in labels.values() if n > 1)
    if repeated:
        worst = Counter(label for _, label in labels.elements()).most_common(1)[0][0]
        text = f"{repeated} of {len(runs)} runs repeat a label of their rate, most often {worst}"
        yield AuthorFinding(name="repeated-labels", where=where, count=repeated, message=text)


def _absent(architecture: str, runs: list[Run], rates: list[float]) -> Iterator[AuthorFinding]:
    present = {run.method for run in runs}
    for method, entry in METHODS.items():
        if entry.in_paper and method not in present:
            yield AuthorFinding(
                name="missing-runs",
                where=f"{architecture} {method}",
                count=SEEDS * len(rates),
                message="no run at all",
            )


def _chains(where: str, runs: list[Run], rates: list[float]) -> Iterator[AuthorFinding]:
    """A chain is a dense model and its prunings: rates rise along it in file order."""
    chains: list[list[Run]] = []
    for run in runs:
        if chains and run.rate > chains[-1][-1].rate:
            chains[-1].append(run)
        else:
            chains.append([run])
    short = [chain for chain in chains if chain[-1].rate < rates[-1]]
    if short:
        ends = Counter(chain[-1].rate for chain in short)
        listed = ", ".join(f"{n} end at rate {rate:g}" for rate, n in sorted(ends.items()))
        yield AuthorFinding(name="unfinished-chains", where=where, count=len(short), message=listed)
    chain_of = {id(run): number for number, chain in enumerate(chains) for run in chain}
    taken: dict[int, set[int]] = defaultdict(set)
    for seeded in first_five(runs):
        taken[seeded.seed].add(chain_of[id(seeded.run)])
    mixed = [seed for seed, numbers in taken.items() if len(numbers) > 1]
    if mixed:
        text = f"seeds {', '.join(map(str, mixed))} take their rates from several chains"
        yield AuthorFinding(name="mixed-chains", where=where, count=len(mixed), message=text)


def _compression(where: str, runs: list[Run]) -> Iterator[AuthorFinding]:
    per_rate: dict[float, list[float]] = defaultdict(list)
    for seeded in first_five(runs):
        per_rate[seeded.run.rate].append(seeded.run.effective_rate)
    far = {
        rate: [e for e in effective if abs(e / rate - 1) > COMPRESSION_TOLERANCE]
        for rate, effective in sorted(per_rate.items())
    }
    shown = [f"{rate:g} is {_range(values)}" for rate, values in far.items() if values]
    if shown:
        yield AuthorFinding(
            name="effective-compression",
            where=where,
            count=sum(map(len, far.values())),
            message="nominal " + ", ".join(shown),
        )


def _range(values: list[float]) -> str:
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _attacks(architecture: str, runs: list[Run]) -> Iterator[AuthorFinding]:
    eps_of = minimum_eps(architecture, runs)
    for attack in sorted({name for run in runs for name in run.minimum}):
        where = f"{architecture} {attack}"
        taken = [seeded.run for seeded in first_five(runs)]
        absent = [run for run in taken if run.minimum.get(attack) is None]
        skipped = [run for run in absent if run.accuracy <= SKIP_ACCURACY]
        if skipped:
            best = max(run.accuracy for run in skipped)
            text = f"not run at a clean accuracy of at most {best:.1%}, scored 0"
            yield AuthorFinding(
                name="skipped-attacks", where=where, count=len(skipped), message=text
            )
        if missing := len(absent) - len(skipped):
            text = f"no result for runs with a clean accuracy above {SKIP_ACCURACY:.0%}"
            yield AuthorFinding(name="missing-cells", where=where, count=missing, message=text)
        yield from _image_counts(where, taken, attack)
        failed = 0
        for run in taken:
            result = run.minimum.get(attack)
            if result is not None and eps_of[attack]:
                failed += int(np.sum(~result.success & (result.distance < max(eps_of[attack]))))
        if failed:
            text = f"a distance below eps {max(eps_of[attack]):g} of an unsuccessful attack"
            yield AuthorFinding(
                name="failed-attack-scored", where=where, count=failed, message=text
            )
    for attack in sorted({name for run in runs for name in run.fixed}):
        yield from _fixed(architecture, attack, runs)


def _image_counts(where: str, runs: list[Run], attack: str) -> Iterator[AuthorFinding]:
    found = (run.minimum.get(attack) for run in runs)
    counts = Counter(len(result.distance) for result in found if result is not None)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        others = ", ".join(f"{n} on {size}" for size, n in sorted(counts.items()) if size != usual)
        yield AuthorFinding(
            name="mixed-images",
            where=where,
            count=sum(counts.values()) - counts[usual],
            message=f"most on {usual} images, {others}",
        )


def _fixed(architecture: str, attack: str, runs: list[Run]) -> Iterator[AuthorFinding]:
    where = f"{architecture} {attack}"
    lists = Counter(run.fixed[attack].eps for run in runs if attack in run.fixed)
    absent = sum(attack not in seeded.run.fixed for seeded in first_five(runs))
    if absent:
        yield AuthorFinding(
            name="missing-cells", where=where, count=absent, message="runs without any eps"
        )
    if len(lists) > 1:
        usual = lists.most_common(1)[0][0]
        other = sum(n for eps, n in lists.items() if eps != usual)
        shown = " ".join(eps_text("linf", e).removesuffix("/255") for e in usual)
        text = f"{len(lists)} different lists of eps; most common: {shown} (/255)"
        yield AuthorFinding(name="mixed-eps", where=where, count=other, message=text)
    rising = 0
    for seeded in first_five(runs):
        if (found := seeded.run.fixed.get(attack)) is not None:
            rates = np.array(found.success_rate)[np.argsort(found.eps)]
            rising += bool(np.any(np.diff(rates) < 0))
    if rising:
        text = "a higher eps succeeds less often"
        yield AuthorFinding(name="not-monotone", where=where, count=rising, message=text)


def _repeats(architecture: str, runs: list[Run]) -> Iterator[AuthorFinding]:
    seen: Counter[str] = Counter()
    for run in runs:
        digest = hashlib.sha256(f"{run.accuracy} {run.loss} {sorted(run.fixed.items())}".encode())
        for attack in sorted(run.minimum):
            found = run.minimum[attack]
            digest.update(b"-" if found is None else found.distance.tobytes())
        seen[digest.hexdigest()] += 1
    repeated = sum(n - 1 for n in seen.values() if n > 1)
    if repeated:
        text = f"{repeated} of {len(runs)} runs are another run's results again"
        yield AuthorFinding(
            name="identical-results", where=architecture, count=repeated, message=text
        )
