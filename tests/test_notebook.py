"""The notebooks of examples/: their cells, run one after the other as a kernel runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty

import pandas as pd
import pytest

from tests.fakes import SLOW
from tests.grids import with_seeds

ROOT = Path(__file__).resolve().parent.parent
#: A cell: a run of imaginary tasks that take long.
CELL = f"""
import functools, sys
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT)!r}]
import prunegrid
from prunegrid.orchestrator import python_api
from tests.fakes import RUNNER
python_api.RunOptions = functools.partial(python_api.RunOptions, runner=RUNNER)
result = prunegrid.run("g.yaml", "s", engine="inline")
print("interrupted", result.interrupted, len(result.missing) > 0)
"""


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


def test_interrupting_the_kernel_stops_a_run_in_order(tmp_path):
    """A true kernel. `test_python_api.py` sends the signal alone."""
    from jupyter_client import manager

    (tmp_path / "g.yaml").write_text(with_seeds(SLOW))
    kernel = manager.KernelManager(kernel_name="python3")
    kernel.kernel_spec.argv[0] = sys.executable
    kernel.start_kernel(cwd=str(tmp_path))
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        asked, said, sent = client.execute(CELL), "", False
        limit_s = time.monotonic() + 180
        while True:
            if not sent and list((tmp_path / "s").glob("log/*")):
                kernel.interrupt_kernel()
                sent = True
            try:
                message = client.get_iopub_msg(timeout=1)
            except Empty:  # a display that stays as it is sends nothing
                assert time.monotonic() < limit_s, (sent, said)
                continue
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            said += content.get("text", "") + content.get("ename", "")
            if content.get("execution_state") == "idle":
                break
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert "interrupted True True" in said
    assert "KeyboardInterrupt" not in said
