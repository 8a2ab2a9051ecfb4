"""`prunegrid plan`: what a grid takes, without starting anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.commands.options import GridFile, JsonOption, SelectOption
from prunegrid.orchestrator.driver.foolbox_check import check_foolbox_attacks
from prunegrid.orchestrator.errors import PrunegridError, UsageError
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.names import counted, size_text
from prunegrid.orchestrator.output import Terminal, print_json, print_table
from prunegrid.orchestrator.plan.convergence_checks import find_doubled
from prunegrid.orchestrator.plan.cost_model import DEVICES, CostModel
from prunegrid.orchestrator.plan.costs import cost_of, hours_of, range_text, sureness
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.durations import Durations
from prunegrid.orchestrator.plan.estimates import Eta, duration_text, estimate, eta_text
from prunegrid.orchestrator.store.forecast_inputs import learn_habits, read_speeds, speeds_here
from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.plan import changed_code, load_plan, read_grid_for
from prunegrid.orchestrator.store.plan_progress import bill_of
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.adversarials import most_bytes
from prunegrid.workers.catalog import ARCHITECTURES, dataset_of
from prunegrid.workers.contract import AttackTask, network_label

if TYPE_CHECKING:
    from prunegrid.orchestrator.report.power_answer import PowerAnswer

#: How many tasks at once, where the user names no number.
SLOTS = (1, 8, 64)


# Parameters: the options.
def command(
    grid: GridFile,
    store: Annotated[
        str | None, typer.Option("--store", metavar="S", help="Count what is done there already.")
    ] = None,
    durations_from: Annotated[
        list[str] | None,
        typer.Option(metavar="S", help="Expect what tasks like these took in another store."),
    ] = None,
    speeds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of the target machine, by 'measure --out FILE'."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Assume such a GPU: " + ", ".join(DEVICES) + "."),
    ] = None,
    slots: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="So many tasks at once (default: 1, 8 and 64)."),
    ] = None,
    select: SelectOption = None,
    power: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="What would show a change of so many points."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What a grid would take: models, cells, tasks, hours, cost, and what of it is done."""
    plan(
        grid,
        Terminal(),
        store=store,
        durations_from=durations_from or (),
        speeds=speeds,
        device=device,
        slots=slots or SLOTS,
        select=select or (),
        power=power,
        as_json=as_json,
    )


def counts(plan: Plan, done: set[str]) -> dict[str, Any]:
    """`done`: as `Store.finished` has it. In the answer, `done` and `remaining` count tasks."""
    finished = len(plan.done(done))
    return {
        "models": len(plan.models),
        "cells": len(plan.cells),
        "tasks": {kind.value: plan.count(kind) for kind in plan.kinds},
        "done": finished,
        "remaining": len(plan.unfinished(done)),
    }


# Parameters: the grid, what is known of it, and what to say; each has a default of its own.
def plan(
    path: Path,
    console: Console,
    *,
    store: str | None = None,
    durations_from: Iterable[str] = (),
    speeds: Path | None = None,
    device: str | None = None,
    slots: Sequence[int] = SLOTS,
    select: Iterable[str] = (),
    power: float | None = None,
    as_json: bool = False,
) -> None:
    """`store`: count what is done there, and learn from it; `durations_from`: learn from these
    stores too; `speeds`: a file of `measure --out`; `device`: a name of DEVICES, instead of what
    was measured here; `power`: say what would show a change of so many points. Raises UsageError,
    GridError, StoreError."""
    if any(count < 1 for count in slots):
        raise UsageError(f"--slots: expected at least 1, got {min(slots)}")
    if power is not None and not 0 < power <= 100:
        raise UsageError(f"--power: expected above 0 and at most 100 points, got {power:g}")
    if device is not None and device not in DEVICES:
        raise UsageError(f"--device: expected {', '.join(DEVICES)}, got {device!r}")
    if device is not None and speeds is not None:
        raise UsageError("--device: expected without --speeds, which was measured on one")
    found = Store.find(store) if store is not None else None
    grid = read_grid_for(path, found)
    expanded = expand(grid, parse_selection(select))
    done = found.finished() if found is not None else set()
    stock = check_foolbox_attacks(expanded, lambda: done)
    numbers = counts(expanded, done)
    model = _cost_model(expanded, speeds, device)
    durations = Durations(model)
    history = RunHistory() if found is None else read_history(found)
    if found is not None:
        learn_habits(model.habits, found, expanded, done)
    history.learn(durations, expanded.tasks)
    for address in durations_from:
        other = Store.open(address)
        theirs = load_plan(other, whole=True)
        learn_habits(model.habits, other, theirs, other.finished())
        read_history(other).learn(durations, theirs.tasks)
    left = expanded.unfinished(done)
    etas = {n: estimate(left, durations, slots=n, elapsed={}) for n in slots}
    first = next(iter(etas.values()))
    checks = map(str, find_doubled(expanded))
    notes = [
        *grid.remarks,
        *changed_code(grid, found),
        *stock,
        *_unpruned(grid),
        *checks,
        *_run_again(grid, found),
        *_attacked_again(expanded, done),
    ]
    kept_bytes, kept_left = kept_adversarials(expanded, done)
    shown = None if power is None else _power(expanded, found, power)
    if as_json:
        print_json(
            numbers
            | {"notes": notes}
            | ({} if not kept_bytes else {"adversarials_bytes": kept_bytes})
            | bill_of(grid, history, first)
            | {
                "eta_s": {n: [round(e.low_s, 1), round(e.high_s, 1)] for n, e in etas.items()},
                "critical_s": round(first.critical_s, 1),
                "work_s": round(first.work_s, 1),
                "eta_measured_frac": round(first.measured_frac, 3),
                "durations": durations.count,
                "rests_on": model.rests_on(left.values()),
            }
            | ({} if shown is None else {"power": shown.as_dict()})
        )
        return
    print_table(console, _table(path, expanded, numbers))
    console.print(f"{counted(numbers['done'], 'task')} done, {numbers['remaining']:,} to run")
    if kept_bytes:
        notes.append(
            f"all adversarials: at most {size_text(kept_bytes)} in the store, of which at most "
            f"{size_text(kept_left)} are to come; compressed they are less"
        )
    for line in [*notes, *outlook(expanded, etas, durations)]:
        console.print(line, soft_wrap=True)
    if shown is not None:
        print_table(console, shown.table())
        console.print(shown.note(), soft_wrap=True)


def kept_adversarials(plan: Plan, done: set[str]) -> tuple[int, int]:
    """Bytes that the adversarials of the plan's attack tasks take at most, and those of the tasks
    that have none yet. `done`: as `Store.finished` has it."""
    total = left = 0
    for key, task in plan.tasks.items():
        if isinstance(task, AttackTask) and task.keep:
            shape = dataset_of(task.data).shape
            most = most_bytes(task.stop - task.start, len(task.attack.eps), shape)
            total += most
            left += 0 if layout.adversarials_name(key) in done else most
    return total, left


def _attacked_again(plan: Plan, done: set[str]) -> Iterator[str]:
    if again := plan.lacking(done):
        yield (
            f"{counted(len(again), 'attack task')} of the store kept no adversarials: to run "
            "again, while the rows stand"
        )
    needed = {key for cell in plan.cells for key in cell.task_keys}
    attacked = {key for key, task in plan.tasks.items() if isinstance(task, AttackTask)}
    more = len(attacked - needed)
    if more:
        yield f"transfer needs {counted(more, 'attack task')} that no cell of the plan needs"


def _cost_model(plan: Plan, speeds: Path | None, device: str | None) -> CostModel:
    if device is not None:
        if plan.grid.resources.gpus_per_task == 0:
            raise UsageError("--device: expected with gpus_per_task in the grid file's resources")
        return CostModel.of(plan.grid.resources, device=DEVICES[device])
    found = speeds_here(plan) if speeds is None else read_speeds(speeds)
    return CostModel.of(plan.grid.resources, speeds=found)


def _power(plan: Plan, store: Store | None, points: float) -> PowerAnswer:
    """By the store's own variances, where it has image rows of two seeds."""
    from prunegrid.orchestrator.report.power_answer import answer_power  # SciPy: 0.5 s

    images = {each.name: each.attack_images for each in plan.grid.architectures}
    return answer_power([cell.place for cell in plan.cells], images, points, store)


def _unpruned(grid: Grid) -> Iterator[str]:
    """Methods that find nothing to prune; the control is there for that."""
    for each in grid.architectures:
        known = each.facts
        of_convolutions = (
            known.structured_weights if known else ARCHITECTURES[each.architecture].conv_weights
        )
        for method in grid.pruning_methods:
            structured = method.entry.structure in ("kernel", "filter")
            if structured and not of_convolutions:
                yield (
                    f"{method.entry.name} prunes nothing of {each.name}, which has no "
                    "convolutions: its models are the dense network, trained again"
                )


def _run_again(grid: Grid, store: Store | None) -> Iterator[str]:
    """Rates of the store's grid whose chain has other steps now."""
    if store is None:
        return
    try:
        before = {m.entry.name: m.rates for m in load_plan(store, whole=True).grid.pruning_methods}
    except PrunegridError:  # none was run there, or it can't be read any more
        return
    variants = [variant for architecture in grid.architectures for variant in architecture.variants]
    if all(variant.pruning.schedule == "one-shot" for variant in variants):
        return

    def steps(rates: Sequence[float], last: float) -> str:
        return ", ".join(f"{rate:g}" for rate in rates if rate <= last)

    told: dict[str, None] = {}
    for method in grid.pruning_methods:
        now, then = method.rates, before.get(method.entry.name, ())
        again = [rate for rate in now if rate in then and steps(now, rate) != steps(then, rate)]
        if again:
            what = (
                f"rate {again[0]:g} runs"
                if len(again) == 1
                else f"rates {steps(again, max(again))} run"
            )
            told[
                f"{what} again: networks are pruned rate by rate, now through "
                f"{steps(now, max(again))} and not {steps(then, max(again))}"
            ] = None
    yield from told


def outlook(plan: Plan, etas: dict[int, Eta], durations: Durations) -> list[str]:
    """What is to come, in lines; none where nothing is left."""
    first = next(iter(etas.values()))
    if not first.work_s:
        return []
    grid = plan.grid
    hours = hours_of(grid.resources, spent_s=0.0, eta=first)
    cost = cost_of(grid.price, spent_s=0.0, eta=first, slots=1)
    unit = f"{hours.unit} hours"
    low, high = hours.to_come
    middle = range_text(hours.expected, hours.expected)
    text = f"to come: about {middle} {unit}, {range_text(low, high)}"
    if cost is not None and grid.price is not None:
        each = grid.price.per_slot_hour / 3600
        money_text = range_text(first.work_low_s * each, first.work_high_s * each, cost.currency)
        text += f"; {money_text} if no machine idles"
    rests_on = durations.model.rests_on(plan.tasks.values())
    lines = [text, f"this rests on {sureness(first, rests_on)}"]
    for slots, eta in etas.items():
        at_once = f"{counted(slots, 'task')} at once"
        lines.append(f"with {at_once}: {eta_text(eta)}")
    lines.append(f"longest chain: {duration_text(first.critical_s)}; more machines do not help it")
    if not durations.count and not durations.model.measured:
        lines.append(
            "for a better one: prunegrid measure GRID on the target machine, or run a part"
        )
    return lines


def _table(path: Path, expanded: Plan, numbers: dict[str, Any]) -> Table:
    grid = expanded.grid
    table = Table(title=f"{grid.name} ({path})", box=None, title_justify="left")
    for name in ("architecture", "data set", "models", "cells", *expanded.kinds):
        table.add_column(name, justify="left" if name in ("architecture", "data set") else "right")
    for architecture in grid.architectures:
        name = architecture.name
        kinds = Counter(t.kind for t in expanded.tasks.values() if network_label(t) == name)
        models = sum(m.place.architecture == name for m in expanded.models)
        if models:
            cells = sum(c.place.model.architecture == name for c in expanded.cells)
            row = (models, cells, *(kinds[kind] for kind in expanded.kinds))
            table.add_row(name, architecture.data.dataset, *(f"{n:,}" for n in row))
    tasks = numbers["tasks"]
    row = (numbers["models"], numbers["cells"], *tasks.values())
    table.add_section()
    table.add_row("all", "", *(f"{n:,}" for n in row), style="bold")
    return table
