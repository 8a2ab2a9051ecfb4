"""What `ray submit` and `ray job submit` run: `python main.py ...` is `prunegrid run ...`."""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, the folder above is where the packages are, if they are not installed.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from orchestrator.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
