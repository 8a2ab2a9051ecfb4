"""A grid tried out in small before it runs, in a child process, and where in its file it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, replace

from prunegrid.orchestrator.errors import GridError, PrunegridError
from prunegrid.orchestrator.grid.file import refusal
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.workers.cache import load, save
from prunegrid.workers.child_process import ask_child
from prunegrid.workers.contract import AttackTask, PruneTask, TrainTask
from prunegrid.workers.decode import from_dict
from prunegrid.workers.keys import digest
from prunegrid.workers.rehearsal import Rehearsal, RehearsedPart
from prunegrid.workers.revision import CODE
from prunegrid.workers.user_code import collect

_MODULE = "prunegrid.workers.rehearse"


def rehearsals_of(plan: Plan, data_dir: str | None) -> list[Rehearsal]:
    """One for each network: a dense task, each method at its least and its greatest rate, each
    attack of each protocol."""
    dense: dict[str, TrainTask] = {}
    pruned: dict[tuple[str, str], list[PruneTask]] = {}
    attacked: dict[tuple[str, str, str], AttackTask] = {}
    for model in plan.models:
        label = model.place.architecture
        task = plan.tasks[model.task_key]
        if isinstance(task, PruneTask):
            pruned.setdefault((label, model.place.method), []).append(task)
        while not isinstance(task, TrainTask):
            task = plan.tasks[task.parent_key]
        dense.setdefault(label, task)
    for cell in plan.cells:
        attack = plan.tasks[cell.task_keys[0]]
        assert isinstance(attack, AttackTask)
        where = (cell.place.model.architecture, cell.place.protocol, cell.place.attack)
        attacked.setdefault(where, attack)
    return [
        Rehearsal(
            label=label,
            dense=task,
            pruned=tuple(
                each
                for (owner, _), found in pruned.items()
                if owner == label
                for each in _ends(found)
            ),
            attacked=tuple((name, a) for (owner, _, name), a in attacked.items() if owner == label),
            data_dir=data_dir,
        )
        for label, task in dense.items()
    ]


def _ends(tasks: Sequence[PruneTask]) -> list[PruneTask]:
    """The least and the greatest rate."""
    by_rate = sorted({task.pruning.rate: task for task in tasks}.items())
    return [task for _, task in dict(by_rate[:1] + by_rate[-1:]).items()]


def own_parts(rehearsals: Sequence[Rehearsal]) -> list[Rehearsal]:
    """What rests on things that the grid brings; all of a network or data set of its own."""
    out = []
    for each in rehearsals:
        network = each.dense.network
        brought = network is not None and (network.code is not None or network.file_sha256)
        if brought or each.dense.data.own is not None:
            out.append(each)
            continue
        pruned = tuple(t for t in each.pruned if t.pruning.own and not t.pruning.own.score.is_ours)
        attacked = tuple((name, task) for name, task in each.attacked if task.attack.own)
        if pruned or attacked:
            out.append(replace(each, pruned=pruned, attacked=attacked))
    return out


def try_out(grid: Grid, rehearsals: Sequence[Rehearsal]) -> list[RehearsedPart]:
    """In a child process, on this machine. Raises PrunegridError where it gives no answer."""
    try:
        answers = ask_child(_MODULE, [asdict(each) for each in rehearsals])
    except ValueError as error:
        raise PrunegridError(f"{grid.source} can't be tried out: {error}") from error
    return [from_dict(RehearsedPart, answer) for answer in answers]


def refusals(grid: Grid, parts: Sequence[RehearsedPart]) -> list[GridError]:
    """Those that failed, at their lines; one for each place and message."""
    found: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for part in parts:
        if part.error:
            found.setdefault((part.where, part.error), []).append(part.what)
    return [
        refusal(grid, *where, message=f"{whats[0]}{_more(whats)}: {error}")
        for (where, error), whats in found.items()
    ]


def _more(whats: Sequence[str]) -> str:
    return f" and {len(whats) - 1} more" if len(whats) > 1 else ""


def try_out_new(
    plan: Plan,
    data_dir: str | None,
    finished: Callable[[], AbstractSet[str]] = frozenset,
) -> None:
    """Before a run: what the grid brings and was not tried out here as it is. Costs nothing where
    it brings nothing, or nothing is left to run; `finished`, which may list a whole store, is
    called where it brings something. Raises GridError, the first of several."""
    rehearsals = own_parts(rehearsals_of(plan, data_dir))
    if not rehearsals or not plan.unfinished(finished()):
        return
    name = _name(plan, rehearsals)
    if load(name) is not None:
        return
    for error in refusals(plan.grid, try_out(plan.grid, rehearsals)):
        raise error
    save(name, {"well": True})


def remember_well(plan: Plan, data_dir: str | None) -> None:
    """All of it was tried out here as it is, and went well: a run need not do it again."""
    if rehearsals := own_parts(rehearsals_of(plan, data_dir)):
        save(_name(plan, rehearsals), {"well": True})


def _name(plan: Plan, rehearsals: Sequence[Rehearsal]) -> str:
    """Of what is remembered of these: their keys, the user's sources and our own."""
    sources = collect(code.target for code in plan.grid.user_code()).digest
    keys = [
        [each.dense.key, *(t.key for t in each.pruned), *(t.key for _, t in each.attacked)]
        for each in rehearsals
    ]
    return f"rehearsed-{digest([CODE.digest, sources, keys])}"
