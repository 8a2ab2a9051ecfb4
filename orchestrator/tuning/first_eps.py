"""Four eps by calibrate's rule for a network that is trained already, before there is a store.

Run as a module it answers `prunegrid init`, which imports no TensorFlow: a grid as JSON on standard
input, eps on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass

from rich.console import Console

from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.eps_rule import Rule, eps_as_written
from prunegrid.orchestrator.tuning.measured_curves import calibrate_measured, measured
from prunegrid.orchestrator.tuning.search_plan import dense_plan
from prunegrid.orchestrator.tuning.task_runs import ScratchRuns, have_grid_tasks
from prunegrid.workers.child_process import ask_child
from prunegrid.workers.decode import from_dict

_MODULE = "prunegrid.orchestrator.tuning.first_eps"


@dataclass(frozen=True, kw_only=True)
class FirstEps:
    """Of a grid's one network, on its attacked images."""

    clean: float  #: accuracy
    eps: dict[str, tuple[str, ...]]  #: by attack, as a grid file has them


def first_eps(text: str, source: str, *, timeout_s: float) -> FirstEps:
    """`text`: of a grid file with one network that is trained. In a child process. Raises
    ValueError, in one line, where there are none, or it takes longer than `timeout_s`."""
    answer = ask_child(_MODULE, {"text": text, "source": source}, timeout_s=timeout_s)
    if "error" in answer:
        raise ValueError(answer["error"])
    return from_dict(FirstEps, answer)


def calibrated(text: str, source: str) -> FirstEps:
    """In this process, which imports TensorFlow. Raises PrunegridError."""
    grid = parse_grid(text, source=source)
    plan = dense_plan(grid, {"seed": (str(grid.seeds[0]),)})
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        store, console = Store.open_or_create(folder), Console(file=nowhere)
        options = RunOptions(grid=grid, store=folder, engine="inline")
        have_grid_tasks(plan, store, options, console)
        with ScratchRuns(grid, store, options, console, name="first-eps") as runs:
            found = calibrate_measured(measured(plan, store), Rule(), store.address, runs.run)
    return FirstEps(
        clean=found[0].curve.clean,
        eps={
            each.curve.attack: tuple(
                eps_as_written(step.eps, each.curve.norm) for step in each.proposed
            )
            for each in found
        },
    )


def main() -> None:
    asked = json.load(sys.stdin)
    try:
        print(json.dumps(asdict(calibrated(asked["text"], asked["source"]))))
    except PrunegridError as error:
        print(json.dumps({"error": " ".join(str(error).split())}))


if __name__ == "__main__":
    main()
