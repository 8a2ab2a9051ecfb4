"""Makes the store that `store-v<N>.tar.gz` keeps: a store as some version of the program left it.

    python -m tests.data.make_store tests/data/store-v2.tar.gz

Two seeds of a small grid with imaginary results: the first seed's files are merged, the second's
are single ones. `store-v1.tar.gz` was made by this at revision 42600f0 (schema 1). Never make one
anew: what it proves is that files of that day are readable still. Add one beside it when the
schema's version rises.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from rich.console import Console

from prunegrid.orchestrator.commands.compact import compact
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from tests.fakes import RUNNER
from tests.grids import SMALL

GRID = (
    SMALL.replace("name: small", "name: old")
    .replace("rates: [1, 2, 4]", "rates: [1, 2]")
    .replace("attack_images: 24", "attack_images: 6")
    .replace("images_per_shard: 16", "images_per_shard: 4")
)


def run(store: Path, grid: str) -> int:
    """The store's grid, by the imaginary runner; finished tasks do not run again."""
    path = store.with_name("grid.yaml")
    path.write_text(grid, encoding="utf-8")
    options = RunOptions(grid=path, store=str(store), engine="inline", runner=RUNNER)
    return run_grid(options, Console(quiet=True))


def make(store: Path) -> None:
    assert run(store, GRID.replace("[0, 1]", "[0]")) == 0
    compact(str(store), Console(quiet=True))
    assert run(store, GRID) == 0
    for name in ("superseded", "log", "report", "journal", "history"):
        shutil.rmtree(store / name)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if target.exists():
        sys.exit(f"{target} is there already: an old store is never made anew")
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "store")
        with tarfile.open(target, "w:gz") as archive:
            archive.add(Path(folder) / "store", arcname="store")
