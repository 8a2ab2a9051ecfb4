"""The notebooks of examples/: their cells, run one after the other as a kernel runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent


def code_of(notebook: Path) -> str:
    """Its code cells as one program; a figure is drawn without a screen."""
    cells = json.loads(notebook.read_text())["cells"]
    parts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return "\n\n".join(parts)


@pytest.mark.tf
def test_the_notebook_goes_from_a_grid_to_a_figure(tmp_path):
    code = code_of(ROOT / "examples/grid_to_figure.ipynb")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert ", 0 cells missing" in done.stdout
    assert (tmp_path / "notebook.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_parquet(tmp_path / "notebook-store/results/cells")) == 2 * 3 * 2 * 3
    assert (tmp_path / "notebook-report/index.html").is_file()
