"""One driver process: `python -m tests.chaos.driver GRID STORE ADDRESS`, in the weather."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

import orchestrator.run
import orchestrator.store
from orchestrator.errors import PrunegridError
from orchestrator.launch import RunOptions
from orchestrator.run import run_grid
from tests.chaos.weather import weathered

RUNNER = "tests.chaos.runner"


def main() -> int:
    grid, store, address = sys.argv[1:]
    orchestrator.store.open_files = weathered
    orchestrator.run._report = lambda *_: None  # it would take half of a round's time
    options = RunOptions(grid=Path(grid), store=store, address=address, runner=RUNNER)
    try:
        return run_grid(options, Console(width=200))
    except PrunegridError as error:
        print(f"error: {error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
