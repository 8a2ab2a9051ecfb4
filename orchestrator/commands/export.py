"""`prunegrid export`: write a model of the store as a plain file that Keras alone can read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.grid.selection import GridSelection, names_like, parse_selection
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import AttackTask, Task, TransferTask
from prunegrid.workers.files import StorageError

if TYPE_CHECKING:
    from prunegrid.workers.export.formats import Exported, Form


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model, cell or task name, its first letters, or coordinates as in --select.",
        ),
    ],
    store: StoreOption,
    out: Annotated[
        Path, typer.Option(metavar="PATH", help="A new file.keras, or a new folder (SavedModel).")
    ],
    form: Annotated[
        Literal["keras", "savedmodel", "shrunk"],
        typer.Option(help="shrunk: physically smaller, without dead channels, the same logits."),
    ] = "keras",
    grid: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The grid file, of a network that its function builds."),
    ] = None,
    latency_batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Also time a forward pass of N images here."),
    ] = None,
) -> None:
    """A model as a plain Keras file or a SavedModel; pruned weights are its zeros."""
    export(store, what, out, form=form, latency_batch=latency_batch, console=Terminal(), grid=grid)


def export(
    address: str,
    what: str,
    out: Path,
    *,
    form: Form,
    latency_batch: int | None,
    console: Console,
    grid: Path | None = None,
) -> None:
    """Write the one model that `what` names, and print what is in the file.

    `what`: coordinates as in --select, or the first letters of a model's, cell's or task's name.
    Raises UsageError where it names no model or several, or the path is not allowed; StoreError
    where the store lacks the model, or its weights are not the recorded ones.
    """
    store = Store.open(address)
    plan = load_plan(store, whole=True)
    key = model_key(plan, what)
    if key not in store.finished():
        raise StoreError(f"{key}: not trained yet; prunegrid explain --store {address} {key}")
    allow_code(store.model_record(key).task, grid)
    # TensorFlow is imported here, in a command of its own that trains nothing.
    from prunegrid.workers.device import configure

    resources = plan.grid.resources
    configure(resources.threads, resources.gpu_memory_mib)
    from prunegrid.workers.export.formats import export_stored
    from prunegrid.workers.export.shrink import ShrinkError

    try:
        done = export_stored(store.files, key, out, form)
    except (FileNotFoundError, StorageError) as error:
        raise StoreError(f"{key}: {error}") from error
    except (OSError, ValueError, ShrinkError) as error:
        raise UsageError(str(error)) from error
    for line in _lines(done):
        console.print(line, soft_wrap=True)
    if latency_batch is not None:
        console.print(_latency(store, key, latency_batch), soft_wrap=True)


def allow_code(task: Task, grid: Path | None) -> None:
    """A store may be another's, so a function that it names is called where a grid file of one's
    own names it too, with the same options. It is looked for beside that file. Raises UsageError,
    GridError."""
    code = None if task.network is None else task.network.code
    if code is None or code.is_ours:
        return
    if grid is None:
        raise UsageError(
            f"{code.target} builds this network, and what a store alone names is not called: "
            "expected --grid FILE, the grid file that brings it"
        )
    if code not in read_grid(grid).user_code():
        raise UsageError(
            f"--grid {grid}: expected {code.target} with the store's options "
            f"({', '.join(f'{name}: {value}' for name, value in code.options) or 'none'}) and "
            f"version {code.version}, found none in it"
        )


def model_key(plan: Plan, what: str) -> str:
    """The train or prune task of the model that `what` names. Raises UsageError."""
    found = _by_coordinates(plan, what) if "=" in what else _by_name(plan, what)
    if len(found) == 1:
        return found.pop()
    if not found:
        raise UsageError(f"{what!r} names no model of the store's grid")
    few = ", ".join(sorted(found)[:3])
    raise UsageError(f"{what!r} names {len(found)} models, expected one: {few}, ...")


def _by_coordinates(plan: Plan, what: str) -> set[str]:
    wanted = GridSelection(plan.grid, parse_selection([what], option="model"), option="model")
    return {model.task_key for model in plan.models if wanted.lets_model(model.place)}


def _by_name(plan: Plan, what: str) -> set[str]:
    """Of a model, a task of it, or a cell of it."""
    models = {
        key: task.parent_key if isinstance(task, AttackTask | TransferTask) else key
        for key, task in plan.tasks.items()
    }
    models |= {model.name: model.task_key for model in plan.models}
    models |= {cell.name: models[cell.task_keys[0]] for cell in plan.cells}
    return {models[name] for name in names_like(what, models)}


def _lines(done: Exported) -> Iterable[str]:
    yield f"{done.form}: {done.path} ({done.size_bytes:,} bytes)"
    yield (
        f"{done.prunable_nonzero:,} of {done.prunable:,} prunable weights are not 0; "
        f"{done.parameters:,} parameters in all"
    )


def _latency(store: Store, key: str, batch_size: int) -> str:
    from prunegrid.workers.export.formats import load_model
    from prunegrid.workers.export.latency import dense_and_shrunk_ms

    model, _ = load_model(store.files, key)
    dense_ms, shrunk_ms = dense_and_shrunk_ms(model, batch_size)
    text = f"forward pass of {batch_size}: {dense_ms:.3g} ms as it is"
    if shrunk_ms is None:
        return f"{text}; its dead channels can't be removed"
    return f"{text}, {shrunk_ms:.3g} ms without its dead channels ({dense_ms / shrunk_ms:.2f}x)"
