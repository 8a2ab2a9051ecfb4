"""The dashboard as a subprocess of a run: it slows the run down no more than any other viewer, and
ends with it, or when a person closes it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

from rich.console import Console

import prunegrid

_END_S = 5.0
_START_S = 30.0
#: The child ends when the other end of this pipe closes, even after a kill -9 of the run.
WATCH_VARIABLE = "PRUNEGRID_PARENT_PIPE"


class DashboardProcess:
    """Use it as a context manager around the run. A dashboard that can't start says so; the run
    goes on."""

    def __init__(self, store: str, console: Console) -> None:
        self._store = store
        self._console = console
        self._process: subprocess.Popen[str] | None = None
        self._held = -1
        self._address = ""  #: as it printed it
        self._is_up = threading.Event()  #: or over

    def __enter__(self) -> DashboardProcess:
        child, self._held = os.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "prunegrid.orchestrator.cli",
                    "dashboard",
                    "--store",
                    self._store,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=(child,),
                env=_environment(child),
                start_new_session=True,  # Ctrl-C is for the run, which then ends this one
            )
        finally:
            os.close(child)
        threading.Thread(target=self._relay, daemon=True).start()
        return self

    def _relay(self) -> None:
        """Print what the subprocess prints, such as its address."""
        assert self._process is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self._process.stdout:
                self._console.print(line.rstrip(), soft_wrap=True)
                if line.startswith("http"):
                    self._address = line.rstrip()
                    self._is_up.set()
        self._is_up.set()

    def say_address(self) -> None:
        """Once more: what was printed at the start is far above by now. A run that fails at once
        waits for it."""
        self._is_up.wait(_START_S)
        if self._address:
            self._console.print(f"dashboard: {self._address}", soft_wrap=True)

    def wait(self) -> None:
        """Until Ctrl-C, or until it ends by itself."""
        if self._process is None or self._process.poll() is not None:
            return
        self._console.print("it stays up for a look at what failed: Ctrl-C closes it")
        with contextlib.suppress(KeyboardInterrupt):
            self._process.wait()

    def __exit__(self, *_: object) -> None:
        os.close(self._held)
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _environment(child: int) -> dict[str, str]:
    """With this checkout on the path: the child finds it even if it is not installed."""
    sources = str(Path(prunegrid.__file__).parents[1])
    path = os.pathsep.join(filter(None, [sources, os.environ.get("PYTHONPATH", "")]))
    own = {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": path, WATCH_VARIABLE: str(child)}
    return {**os.environ, **own}


def end_with_parent() -> None:
    """In the child: end when the parent's end of the pipe closes."""
    text = os.environ.pop(WATCH_VARIABLE, "")
    if not text.isdecimal():
        return

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(int(text), 1):
                pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
