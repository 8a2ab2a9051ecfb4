"""`prunegrid calibrate`, whole: four eps per architecture and attack from dense models' security
curves, those of a grid, of a store as it is, or of the paper's authors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import (
    AddressOption,
    DataDirOption,
    SelectOption,
    absolute,
    cluster_of,
)
from prunegrid.orchestrator.driver.foolbox_check import check_foolbox_attacks
from prunegrid.orchestrator.driver.launch import (
    INTERRUPTED,
    RunOptions,
    check_cluster,
)
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.grid import Grid, Selection
from prunegrid.orchestrator.grid.selection import parse_selection
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import Terminal, plain
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.report.terminal import say
from prunegrid.orchestrator.store.plan import read_grid_for
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.eps_rule import (
    Calibration,
    Rule,
    Step,
    eps_as_written,
    rule_findings,
)
from prunegrid.orchestrator.tuning.measured_curves import calibrate_measured, measured
from prunegrid.orchestrator.tuning.piece import eps_piece, show_piece
from prunegrid.orchestrator.tuning.search_plan import dense_plan, narrowed
from prunegrid.orchestrator.tuning.stored_curves import authors_curves, stored_curves
from prunegrid.orchestrator.tuning.task_runs import RunInterrupted, ScratchRuns, have_grid_tasks
from prunegrid.workers import layout
from prunegrid.workers.keys import digest


# Parameters: one for each option of the command line.
def command(
    grid: Annotated[
        Path | None,
        typer.Argument(metavar="[GRID]", help="A grid file; without one the store as it is."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="S", help="A folder, s3://bucket/path or gs://..."),
    ] = None,
    from_authors: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Raw results in the form of the paper's authors."),
    ] = None,
    select: SelectOption = None,
    marginal: Annotated[
        float, typer.Option(help="Accuracy that the weakest eps may cost the dense model.")
    ] = 0.05,
    left: Annotated[
        float, typer.Option(help="Robust accuracy that the strongest eps is to leave it.")
    ] = 0.25,
    address: AddressOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Four eps per architecture and attack by the paper's rule, from the dense models."""
    rule = Rule(marginal=marginal, left=left)
    if from_authors and (grid or store):
        raise UsageError("--from-authors: expected neither GRID nor --store beside it")
    if not from_authors and store is None:
        raise UsageError("expected --store S, with GRID or alone, or --from-authors FILE")
    if grid is None and select:
        raise UsageError("--select: expected GRID, whose coordinates it names")
    for name, value in (("--marginal", marginal), ("--left", left)):
        if not 0 < value < rule.most_left:
            raise UsageError(
                f"{name}: expected a number above 0 and below {rule.most_left:g}, got {value:g}"
            )
    console = Terminal()
    if store is None:
        _show(authors_curves(from_authors or (), rule), rule, console, whose="published")
    elif grid is None:
        _show(stored_curves(Store.open(store), rule), rule, console)
    else:
        options = RunOptions(
            grid=grid, store=store, address=cluster_of(address), data_dir=absolute(data_dir)
        )
        raise typer.Exit(calibrate(options, parse_selection(select or ()), rule, console))


def calibrate(options: RunOptions, select: Selection, rule: Rule, console: Console) -> int:
    """By a grid's dense models. Returns the exit code: 0, or 130 where it was interrupted. Raises
    PrunegridError."""
    check_cluster(options.address, options.store)
    known = Store.find(options.store)
    grid = read_grid_for(options.grid, known, options.data_dir)
    plan = one_protocol(dense_plan(grid, select), console)
    for note in check_foolbox_attacks(plan, known.finished if known is not None else frozenset):
        plain(console)(note)
    store = Store.open_or_create(options.store)
    name = f"calibrate-{digest([grid.text, select, rule], length=8)}"
    try:
        have_grid_tasks(plan, store, options, console)
        with ScratchRuns(grid, store, options, console, name=name) as runs:
            found = calibrate_measured(measured(plan, store), rule, store.address, runs.run)
    except RunInterrupted:
        console.print("interrupted; the same command resumes")
        return INTERRUPTED
    _show(found, rule, console)
    _leave(found, grid, store, rule, console)
    return 0


def one_protocol(plan: Plan, console: Console) -> Plan:
    """A grid has one set of eps for all its protocols: the first one's attacks are measured."""
    names = list(dict.fromkeys(cell.place.protocol for cell in plan.cells))
    if len(names) > 1:
        console.print(
            f"protocol {names[0]} is calibrated; --select protocol={names[1]} takes another"
        )
    cells = tuple(cell for cell in plan.cells if cell.place.protocol == names[0])
    return narrowed(plan, cells)


def _leave(
    found: Sequence[Calibration], grid: Grid, store: Store, rule: Rule, console: Console
) -> None:
    sets: dict[str, dict[str, tuple[str, ...]]] = {}
    for item in found:
        texts = tuple(eps_as_written(step.eps, item.curve.norm) for step in item.proposed)
        sets.setdefault(item.curve.architecture, {})[item.curve.attack] = texts
    comment = [line for item in found for line in _lines_of(item, rule, whose="in use")]
    piece = eps_piece(grid, sets, "\n".join(comment))
    name = f"calibration-{digest([grid.text, rule, piece], length=8)}.yaml"
    store.write(f"{layout.TUNING}/{name}", piece.encode())
    show_piece(piece, grid, console)
    console.print(f"\nthis piece: {store.address}/{layout.TUNING}/{name}", soft_wrap=True)


# --------------------------------------------------------------------------- what it says


def _lines_of(found: Calibration, rule: Rule, *, whose: str) -> list[str]:
    """One architecture's attack: the set in use and the proposed one, with what each leaves."""
    curve = found.curve
    models = counted(curve.models, "dense model")
    head = f"{curve.architecture} {curve.attack}  ({models}, clean {100 * curve.clean:.1f} %)"
    out = [head]
    same = [s.eps for s in found.present] == [s.eps for s in found.proposed]
    if found.present:
        out.append(f"  {whose:10}{_set(found.present, curve.norm)}")
        out += [
            f"  {'':10}! {finding}" for finding in rule_findings(found.present, curve.clean, rule)
        ]
    if found.present and same:
        out.append(f"  {'proposed':10}the same")
        return out
    out.append(f"  {'proposed':10}{_set(found.proposed, curve.norm)}")
    out += [f"  {'':10}! {finding}" for finding in rule_findings(found.proposed, curve.clean, rule)]
    return out


def _set(steps: Iterable[Step], norm: str) -> str:
    return "  ".join(
        f"{eps_as_written(step.eps, norm):>9}: {100 * step.robust:5.1f} %" for step in steps
    )


def _show(
    found: Iterable[Calibration], rule: Rule, console: Console, *, whose: str = "in use"
) -> None:
    console.print(
        "robust accuracy of the dense models at each eps; the rule: the weakest costs at most "
        f"{100 * rule.marginal:g} points, the strongest leaves about {100 * rule.left:g} %, and "
        f"less than {100 * rule.most_left:g} %",
        soft_wrap=True,
    )
    for item in found:
        for line in _lines_of(item, rule, whose=whose):
            say(console, line, hang=12)
