"""`run --dashboard`: a process of its own that ends with the run, however that ends."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes import DATA, SLOW
from tests.grids import with_seeds

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = [str(ROOT / "src"), str(ROOT)]
CODE = """
import sys
from pathlib import Path
from rich.console import Console
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.commands.run import run_grid
from tests.fakes import RUNNER
options = RunOptions(grid=Path(sys.argv[1]), store=sys.argv[2], engine="inline",
                     runner=RUNNER, dashboard=True)
sys.exit(run_grid(options, Console(width=300)))
"""


def status(port: int) -> dict | None:
    """None where nobody listens."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/api/status.json")
        return json.loads(connection.getresponse().read())
    except (ConnectionError, http.client.HTTPException):
        return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_shows_the_run_and_ends_with_it(tmp_path, number):
    (tmp_path / "grid.yaml").write_text(with_seeds(SLOW))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {SOURCES!r}\n{CODE}",
         str(tmp_path / "grid.yaml"), str(tmp_path / "store")],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": ":".join(SOURCES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        assert run.stdout is not None
        said = ""
        for line in run.stdout:
            said += line
            if match := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                break
        else:
            pytest.fail(said)
        port = int(match[1])
        told = status(port)
        assert told is not None
        assert told["state"] == "live"
        assert told["driver"]["pid"] == run.pid
        run.send_signal(number)
        assert run.wait(20) == (130 if number == signal.SIGINT else -number)
        limit = time.monotonic() + 60
        while status(port) is not None:
            assert time.monotonic() < limit, "the dashboard outlived its run"
            time.sleep(0.05)
    finally:
        run.kill()
        run.communicate()


def told(text: str) -> list[int]:
    """The ports of the addresses in it."""
    return [int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)/", text)]


@pytest.mark.parametrize("terminal", [True, False])
def test_it_stays_up_after_failures_until_it_is_closed(tmp_path, terminal):
    """On a terminal, where somebody can close it; a script's run ends."""
    (tmp_path / "grid.yaml").write_text(with_seeds(DATA))
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path / "grid.yaml"), str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": ":".join(SOURCES)},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as run:
        os.close(theirs)
        said = ""
        try:
            while chunk := os.read(ours, 65536):
                said += chunk.decode(errors="replace")
                if "Ctrl-C closes it" in said:
                    break
        except OSError:  # the terminal's other side is gone
            pass
        try:
            first, *again = told(said)
            assert again == [first], "its address once more at the end"
            assert said.rindex("http") > said.index("tasks failed:")
            if terminal:
                assert status(first)["state"] == "stopped"
                run.send_signal(signal.SIGINT)
            assert "Ctrl-C closes it" in said or not terminal
            assert run.wait(20) == 1
            assert status(first) is None
        finally:
            run.kill()
            os.close(ours)
