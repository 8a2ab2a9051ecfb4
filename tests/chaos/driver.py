"""One driver process: `python -m tests.chaos.driver GRID STORE ADDRESS`, in the weather."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

import orchestrator.commands.run
import orchestrator.store.store
from orchestrator.commands.run import run_grid
from orchestrator.driver.launch import RunOptions
from orchestrator.errors import PrunegridError
from tests.chaos.weather import weathered

RUNNER = "tests.chaos.runner"


def main() -> int:
    grid, store, address = sys.argv[1:]
    orchestrator.store.store.open_files = weathered
    orchestrator.commands.run._report = lambda *_: None  # it would take half of a round's time
    options = RunOptions(grid=Path(grid), store=store, address=address, runner=RUNNER)
    try:
        return run_grid(options, Console(width=200))
    except PrunegridError as error:
        print(f"error: {error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
