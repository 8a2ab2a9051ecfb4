"""What `ray submit` and `ray job submit` run: `python main.py ...` is `prunegrid run ...`.

`ray submit` copies this one file into the head's home: the packages are then the installed
ones. In a checkout, and in a job's uploaded working directory, they are those beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path


def _set_path() -> None:
    """Python puts a script's own folder first on the path. Modules there (of this package, or of a
    home folder) would hide others of the same name, here and, through Ray, on every worker."""
    here = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0] or ".").resolve() == here:
        sys.path.pop(0)
    sources = here.parent / "src"
    if (sources / "prunegrid").is_dir():
        sys.path.insert(0, str(sources))


if __name__ == "__main__":
    _set_path()
    from prunegrid.orchestrator.cli import main

    main(["run", *sys.argv[1:]])
