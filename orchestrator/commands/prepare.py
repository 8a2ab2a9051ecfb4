"""`prunegrid prepare`: fetch and check a grid's data sets on this machine before any run."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from prunegrid.orchestrator.commands.options import DataDirOption, GridFile, absolute
from prunegrid.orchestrator.output import Terminal


def command(
    grid: GridFile,
    data_dir: DataDirOption = None,
) -> None:
    """Fetch and check a grid's data sets on this machine, as a cluster node's set-up does."""
    raise typer.Exit(prepare_data(grid, data_dir, console=Terminal()))


def prepare_data(grid: Path, data_dir: Path | None, *, console: Console) -> int:
    """Returns 0 where all are ready, 1 otherwise. Raises GridError for an invalid grid."""
    from prunegrid.orchestrator.grid.file import read_grid
    from prunegrid.workers.contract import WorkerSettings
    from prunegrid.workers.entry import prepare as prepare_here

    folder = absolute(data_dir)
    parsed = read_grid(grid, data_dir=None if folder is None else Path(folder))
    wanted = {plan.data.dataset: plan.data for plan in parsed.architectures}
    settings = WorkerSettings(store="", data_dir=folder, threads=1, gpu_memory_mib=None)
    failed = 0
    for name, data in wanted.items():
        reason = prepare_here(data, settings)
        failed += reason is not None
        console.print(f"{name}: {reason or 'ready'}", soft_wrap=True)
    return 1 if failed else 0
