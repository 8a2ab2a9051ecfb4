"""From a grid and a command's options to a search in full; bad input is refused here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from prunegrid.orchestrator.errors import UsageError, expected
from prunegrid.orchestrator.grid.grid import Grid, PlannedAttack, Selection
from prunegrid.orchestrator.grid.selection import match
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell, PlannedModel, expand
from prunegrid.orchestrator.tuning.space import (
    Axis,
    attack_space,
    costs_of,
    proposals,
    training_space,
)
from prunegrid.orchestrator.tuning.study import (
    AttackStudy,
    Chain,
    Objective,
    StudiedModel,
    TrainingStudy,
    image_rungs,
)
from prunegrid.workers.catalog import AttackEntry, attack_of
from prunegrid.workers.contract import PruneTask, TrainTask
from prunegrid.workers.keys import Scalar

#: Half of the images are searched on: fewer than that say nothing.
LEAST_IMAGES = 8

_TRAINING_AXES = {
    axis.name: axis
    for axis in (
        Axis(name="learning_rate", low=1e-4, high=1e-2, whole=False),
        Axis(name="early_stopping_patience", low=2, high=30, whole=True),
        Axis(name="batch_size", low=16, high=512, whole=True),
        Axis(name="lr_factor", low=0.1, high=0.7, whole=False),
        Axis(name="lr_patience", low=2, high=20, whole=True),
    )
}
_TRAINING_DEFAULT = ("learning_rate", "early_stopping_patience")


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What the command line asks for."""

    attack: str | None = None  #: a label of the grid; None: training
    select: Selection = dataclasses.field(default_factory=dict)
    budget: str | None = None  #: queries an image, or a part of what the grid's settings cost
    trials: int = 32
    objective: str | None = None
    eps: float | None = None
    vary: tuple[str, ...] = ()
    images: int | None = None
    seed: int = 0
    slots: int | None = None  #: trials at once; None: as many as fit, or a share of that
    whole: bool = False  #: also against the grid's settings at their full cost


# --------------------------------------------------------------------------- attacks


def attack_studies(grid: Grid, asked: SearchOptions) -> tuple[tuple[AttackStudy, ...], Plan]:
    """A study per protocol that has the attack, and the dense models' plan. Raises UsageError."""
    label = asked.attack or ""
    labels = list(dict.fromkeys(a.label for p in grid.architectures for a in p.attacks))
    if label not in labels:
        raise UsageError(f"--attack: {expected(labels, label)}")
    if "attack" in asked.select:
        raise UsageError("--select attack=...: --attack names the attack; expected no other")
    plan = dense_plan(grid, {**asked.select, "attack": (label,)})
    protocols = list(dict.fromkeys(cell.place.protocol for cell in plan.cells))
    studies = [_attack_study(grid, asked, plan, protocol) for protocol in protocols]
    return tuple(studies), narrowed(plan, ())


def dense_plan(grid: Grid, select: Selection) -> Plan:
    """The unpruned models of a selection, one per architecture, variant and seed (of the first
    method, where each has its own), with their cells and tasks."""
    if 1.0 not in grid.rates:
        raise UsageError(f"{grid.source}: rates: expected 1, the dense model, among them")
    if any(match(t, grid.rates, where="--select rate") != 1 for t in select.get("rate", ())):
        raise UsageError("--select rate=...: the dense models are used; expected no rate but 1")
    if "eps" in select:
        raise UsageError("--select eps=...: expected no eps here (--eps names the objective's)")
    full = expand(grid, {**select, "rate": ("1",)})
    chosen: dict[tuple[str, str, int], PlannedModel] = {}
    for model in full.models:
        place = model.place
        chosen.setdefault((place.architecture, place.variant, place.seed), model)
    models = tuple(chosen.values())
    places = {model.place for model in models}
    cells = tuple(cell for cell in full.cells if cell.place.model in places)
    return narrowed(dataclasses.replace(full, models=models), cells)


def narrowed(plan: Plan, cells: tuple[PlannedCell, ...]) -> Plan:
    """The plan's models and these of its cells, with their tasks alone."""
    keys = {m.task_key for m in plan.models} | {key for cell in cells for key in cell.task_keys}
    tasks = {key: task for key, task in plan.tasks.items() if key in keys}
    return dataclasses.replace(plan, cells=cells, tasks=tasks)


def _attack_study(grid: Grid, asked: SearchOptions, plan: Plan, protocol: str) -> AttackStudy:
    cells = [cell for cell in plan.cells if cell.place.protocol == protocol]
    planned = cells[0].attack
    entry = attack_of(planned.settings)
    if entry is None:
        raise UsageError(f"--attack {planned.label}: not in the catalog")
    objective, eps = _objective(asked, entry, planned)
    costs = costs_of(entry, planned.settings.engine)
    base = complete(entry, planned)
    budget = _budget(asked.budget, costs.queries(base))
    space = attack_space(entry, base, costs=costs, budget=budget, vary=asked.vary)
    names = list(dict.fromkeys(cell.place.model.architecture for cell in cells))
    plans = [p for p in grid.architectures if p.name in names]
    images = _images(asked, min(p.attack_images for p in plans))
    found = proposals(space, _trials(asked), seed=asked.seed)
    if len(found) < 2:
        raise UsageError("--vary: expected room for at least one trial beside the grid's settings")
    models = {}
    for cell in cells:
        task = plan.tasks[_model_key(plan, cell.place.model)]
        assert isinstance(task, TrainTask)
        models[task.key] = StudiedModel(
            architecture=task.architecture,
            network=task.network,
            data=task.data,
            seed=cell.place.model.seed,
            task_key=task.key,
            split=cell.attack.split,
        )
    return AttackStudy(
        label=planned.label,
        protocol=protocol,
        base=dataclasses.replace(
            planned.settings,
            options=tuple(sorted(base.items())),
            eps=() if entry.finds == "minimum-norm" else (eps or 0.0,),
            skip_at_or_below_accuracy=None,
            network="stored",  # of dense models
        ),
        objective=objective,
        eps=eps,
        budget=budget,
        models=tuple(models.values()),
        edges=image_rungs(images // 2),
        stop=images,
        proposals=tuple(tuple(sorted(options.items())) for options in found),
        seed=asked.seed,
    )


def _model_key(plan: Plan, place: object) -> str:
    return next(model.task_key for model in plan.models if model.place == place)


def complete(entry: AttackEntry, planned: PlannedAttack) -> dict[str, Scalar]:
    """The grid's options, with the catalog's defaults for those that it does not name."""
    defaults: dict[str, Scalar] = {option.name: option.default for option in entry.options}
    return defaults | dict(planned.settings.options)


def _objective(
    asked: SearchOptions, entry: AttackEntry, planned: PlannedAttack
) -> tuple[Objective, float | None]:
    chosen = asked.objective or ("median" if entry.finds == "minimum-norm" else "robust")
    if chosen not in ("median", "robust"):
        raise UsageError(f"--objective: {expected(('median', 'robust'), chosen)}")
    shown = ", ".join(f"{eps:g}" for eps in planned.eps)
    if chosen == "median":
        if entry.finds == "fixed-eps":
            raise UsageError(
                f"--objective median: {entry.name} attacks at a given eps and finds no distances; "
                "expected --objective robust --eps E"
            )
        if asked.eps is not None:
            raise UsageError("--eps: only --objective robust takes one")
        return "median", None
    if asked.eps is None:
        raise UsageError(f"--objective robust: expected --eps E; the grid's are {shown}")
    if not 0 < asked.eps < float("inf"):
        raise UsageError(f"--eps: expected a number above 0, got {asked.eps:g}")
    return "robust", asked.eps


def _budget(text: str | None, whole: int) -> int:
    """`whole`: what the grid's own settings may cost."""
    if text is None:
        return whole
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        number = Fraction(0)
    if "/" in text and 0 < number < 1:
        return int(number * whole)
    if number <= 0 or number.denominator != 1:
        raise UsageError(
            f"--budget {text}: expected a number of queries an image, such as {whole}, or a part "
            "of what the grid's settings cost, such as 1/20"
        )
    return int(number)


def _trials(asked: SearchOptions) -> int:
    if asked.trials < 2:
        raise UsageError(f"--trials: expected at least 2, got {asked.trials}")
    return asked.trials


def _images(asked: SearchOptions, available: int) -> int:
    images = available if asked.images is None else asked.images
    if not 2 * LEAST_IMAGES <= images <= available:
        raise UsageError(
            f"--images: expected {2 * LEAST_IMAGES} to {available} (the grid's attack_images), "
            f"got {images}"
        )
    return images


def cut_base(study: AttackStudy) -> dict[str, Scalar]:
    """The grid's settings at the study's budget."""
    entry = attack_of(study.base)
    assert entry is not None
    return costs_of(entry, study.base.engine).cut(dict(study.base.options), study.budget)


# --------------------------------------------------------------------------- training


def training_studies(grid: Grid, asked: SearchOptions) -> tuple[TrainingStudy, ...]:
    """A study per architecture and variant, of the first method where none is selected. Raises
    UsageError."""
    for name, value in (
        ("--budget", asked.budget),
        ("--eps", asked.eps),
        ("--images", asked.images),
    ):
        if value is not None:
            raise UsageError(f"{name}: not with --training")
    if asked.objective not in (None, "loss"):
        raise UsageError(f"--objective: {expected(('loss',), asked.objective)} with --training")
    for axis in ("protocol", "attack", "eps"):
        if axis in asked.select:
            raise UsageError(f"--select {axis}=...: not with --training")
    select = dict(asked.select)
    select.setdefault("method", grid.methods[:1])
    plan = expand(grid, select)
    groups: dict[tuple[str, str], dict[tuple[str, int], list[str]]] = {}
    for model in plan.models:
        place = model.place
        chains = groups.setdefault((place.architecture, place.variant), {})
        chains.setdefault((place.method, place.seed), []).append(model.task_key)
    return tuple(
        _training_study(grid, asked, plan, architecture, variant, list(chains.values()))
        for (architecture, variant), chains in groups.items()
    )


def _training_study(
    grid: Grid,
    asked: SearchOptions,
    plan: Plan,
    architecture: str,
    variant: str,
    keys: Sequence[Sequence[str]],
) -> TrainingStudy:
    chains = tuple(_chain(plan, ends[-1]) for ends in keys)
    base = chains[0].tasks[0].training
    known = dict(_TRAINING_AXES)
    if base.lr_factor is None:
        known = {name: axis for name, axis in known.items() if not name.startswith("lr_")}
    start: dict[str, Scalar] = {name: getattr(base, name) for name in known}
    space = training_space(known, start, asked.vary or _TRAINING_DEFAULT)
    found = proposals(space, _trials(asked), seed=asked.seed)
    varied = {axis.name for axis in space.axes}
    return TrainingStudy(
        label=f"{architecture}-{variant}",
        base=base,
        chains=chains,
        proposals=tuple(
            tuple(sorted((n, v) for n, v in options.items() if n in varied)) for options in found
        ),
        seed=asked.seed,
    )


def _chain(plan: Plan, end: str) -> Chain:
    out: list[TrainTask | PruneTask] = []
    key: str | None = end
    while key is not None:
        task = plan.tasks[key]
        assert isinstance(task, TrainTask | PruneTask)
        out.append(task)
        key = plan.parent(key)
    return Chain(tasks=tuple(reversed(out)))
