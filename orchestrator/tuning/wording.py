"""What a search says to people. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.tuning.objective import Comparison
from prunegrid.orchestrator.tuning.study import AttackStudy, Study, TrainingStudy
from prunegrid.orchestrator.tuning.trials import Rival, SearchOutcome, TrialRow
from prunegrid.workers.keys import Scalar


def settings_text(options: Mapping[str, Scalar]) -> str:
    return ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in options.items()
    )


def varied(study: Study) -> list[str]:
    """Names of the options in which trials differ."""
    every = [dict(proposal) for proposal in study.proposals]
    return [name for name in every[0] if len({repr(p[name]) for p in every}) > 1]


def value_text(study: Study, value: float) -> str:
    if math.isinf(value):
        return "no adversarial on half of the images" if study.eps is None else "none"
    if study.objective == "robust":
        return f"robust accuracy {100 * value:.1f} %"
    if study.objective == "loss":
        return f"validation loss {value:.4f}"
    return f"median distance {value:.4g}"


def trial_line(study: Study, trials: Mapping[int, TrialRow], number: int, error: str) -> str:
    """One ended trial."""
    ended = sum(trial.ended for trial in trials.values())
    head = f"{ended:4}/{len(study.proposals)}  "
    trial = trials.get(number)
    if trial is None:
        return f"{head}trial {number}: {error}"
    shown = settings_text({name: trial.options[name] for name in varied(study)})
    unit = "links" if isinstance(study, TrainingStudy) else "images"
    if trial.state == "failed":
        return f"{head}failed: {error}  ({shown})"
    what = value_text(study, trial.value)
    if trial.state == "complete":
        through = [t for t in trials.values() if t.state == "complete"]
        mark = "  <- best so far" if min(through, key=lambda t: (*t.rank, t.trial)) is trial else ""
        return f"{head}{what}  ({shown}){mark}"
    if trial.state == "over budget":
        return f"{head}over the budget: {trial.queries_mean:.0f} queries  ({shown})"
    return f"{head}{what}, stopped at {trial.size} {unit}  ({shown})"


def attack_report(outcome: SearchOutcome) -> list[str]:
    """The end of a search over attack settings, line by line."""
    study = outcome.study
    assert isinstance(study, AttackStudy)
    tuned = outcome.rivals[0]
    stopped = sum(t.state == "stopped early" for t in outcome.trials.values())
    names = sorted(
        {model.network.label if model.network else model.architecture for model in study.models}
    )
    held = study.stop - study.edges[-1]
    lines = [
        f"{study.label} under protocol {study.protocol} ({study.base.engine}, on "
        f"{study.base.outputs}), {counted(len(study.models), 'dense model')} "
        f"of {', '.join(names)}",
        f"best of {len(outcome.trials)} trials ({stopped} stopped early): "
        + settings_text({n: outcome.best.options[n] for n in varied(study)}),
        *(
            ["no trial was better than the grid's own settings at this budget"]
            if outcome.best.trial == 0
            else []
        ),
        f"on {held} held-out images, {tuned.queries_mean:.0f} queries each:",
    ]
    for rival in outcome.rivals[1:]:
        assert rival.comparison is not None
        lines += comparison_lines(study, rival, rival.comparison)
    return lines


def comparison_lines(study: AttackStudy, rival: Rival, found: Comparison) -> list[str]:
    cut = dict(rival.options) != dict(study.base.options)
    whose = "the grid's settings at the same budget" if cut else "the grid's own settings"
    lines = [f"  against {whose} ({rival.queries_mean:.0f} queries each):"]
    if study.eps is None:
        span = f"95 % interval {found.low:.3f} to {found.high:.3f}"
        lines.append(
            f"    median distance {found.ours:.4g} against {found.theirs:.4g}: "
            f"{_way(found.effect)} (ratio {found.effect:.3f}, {span})"
        )
    else:
        lines.append(
            f"    robust accuracy at {study.eps:.4g}: {100 * found.ours:.1f} % against "
            f"{100 * found.theirs:.1f} %: {100 * found.effect:+.1f} points "
            f"(95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f})"
        )
    lines.append(
        f"    at least as strong on {found.at_least} of {found.pairs} images, strictly on "
        f"{found.nearer} (95 %: at least as strong on {100 * found.at_least_low:.0f} % or more)"
    )
    return lines


def _way(ratio: float) -> str:
    if ratio == 1:
        return "equal"
    return f"{100 * abs(1 - ratio):.1f} % {'nearer' if ratio < 1 else 'further away'}"


def training_report(outcome: SearchOutcome, first: TrialRow | None) -> list[str]:
    """The end of a search over training settings. `first`: the grid's own settings' trial."""
    study, winner = outcome.study, outcome.best
    lines = [
        f"training of {study.label}, {len(outcome.trials)} trials: {settings_text(winner.options)}",
        f"  {value_text(study, winner.value)} (mean over the chains' links)"
        + _accuracy(winner.test_accuracy),
    ]
    if first is not None and first.state == "complete":
        lines.append(
            f"  the grid's own settings: {value_text(study, first.value)}"
            + _accuracy(first.test_accuracy)
        )
    elif first is not None:
        lines.append(
            f"  the grid's own settings were stopped early, at {value_text(study, first.value)} "
            f"after {first.size} of {study.edges[-1]} links"
        )
    return lines


def _accuracy(value: float | None) -> str:
    return "" if value is None else f", test accuracy {100 * value:.2f} %"


def changed(study: AttackStudy, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a trial's options those that a grid file has to name: what the trials vary, and what the
    budget cut."""
    base = dict(study.base.options)
    names = set(varied(study))
    return {n: v for n, v in options.items() if n in names or base.get(n) != v}


def summary(outcome: SearchOutcome) -> dict[str, Any]:
    """The numbers, for a script."""
    study = outcome.study
    return {
        "study": study.name,
        "objective": study.objective,
        "eps": study.eps,
        "budget": study.budget or None,
        "trials": len(outcome.trials),
        "stopped_early": sum(t.state == "stopped early" for t in outcome.trials.values()),
        "best": {"trial": outcome.best.trial, "settings": dict(outcome.best.options)},
        "held_out": [
            {
                "role": rival.role,
                "settings": dict(rival.options),
                "queries_mean": rival.queries_mean,
                **({} if rival.comparison is None else dataclasses.asdict(rival.comparison)),
            }
            for rival in outcome.rivals
        ],
    }
