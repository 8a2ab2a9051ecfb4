"""One driver process: `python -m tests.chaos.driver GRID STORE ADDRESS`, in the weather."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console

from prunegrid.orchestrator.commands import run
from prunegrid.orchestrator.commands.options import cluster_of
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.store import store as store_module
from tests.chaos.runner import RUNNER
from tests.chaos.weather import now, weathered


def main() -> int:
    grid, store, address = sys.argv[1:]
    store_module.open_files = weathered
    real = time.time
    time.time = lambda: real() + now().clock_off_s
    run._report = lambda *_: None  # it would take half of a round's time
    joined = cluster_of(address)
    options = RunOptions(grid=Path(grid), store=store, address=joined, runner=RUNNER)
    try:
        return run_grid(options, Console(width=200))
    except PrunegridError as error:
        print(f"error: {error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
