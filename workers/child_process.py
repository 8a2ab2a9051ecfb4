"""Questions to a child process that may import TensorFlow, or a user's code: the driver does not.
Standard library only."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunegrid.workers.decode import parse_json
from prunegrid.workers.user_code import is_installed

#: Seconds for each part of a child's answer: a network, a data set, a pruning, an attack.
LIMIT_S = 3600.0
#: Another number of seconds.
LIMIT_VARIABLE = "PRUNEGRID_TRY_LIMIT_S"
#: Of what faulthandler writes.
_HUNG = re.compile(r"^Timeout \((.+)\)!$", re.MULTILINE)
_TRYING = re.compile(r"^trying: (.+)$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$', re.MULTILINE)


@contextlib.contextmanager
def limited(what: str = "") -> Iterator[None]:
    """In a child: a part of its answer. Where it takes longer than the limit, the process ends and
    says where it was, even in code that never returns to Python. Not to be nested."""
    if what:
        print(f"trying: {what}", file=sys.__stderr__, flush=True)
    faulthandler.dump_traceback_later(limit_s(), exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def limit_s() -> float:
    """Seconds. Raises ValueError for a variable that says no number."""
    said = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit = float(said or LIMIT_S)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e7:
        raise ValueError(f"{LIMIT_VARIABLE}: expected seconds, above 0, got {said!r}")
    return limit


def ask_child(module: str, asked: object, *, timeout_s: float | None = None) -> Any:
    """What the module, run by itself, prints as its last line, as JSON. `asked` is its standard
    input, as JSON too. It finds what this process finds, and no GPU: that is for workers.

    Raises ValueError with the reason where it does not answer.
    """
    limit_s()  # what it refuses is refused here
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module],  # -P: nothing of the working directory
            env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"},
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"no answer within {timeout_s:.0f} s") from None
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: what was being tried out or read was ended\n")
        raise
    try:
        return parse_json(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise ValueError(_why(done)) from None


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """Of a traceback the last line; other last words are some library's, and no reason."""
    if hung := _HUNG.search(done.stderr):
        return _where(hung)
    code, said = done.returncode, done.stderr.strip().splitlines()
    if "Traceback (most recent call last):" in said:
        return said[-1]
    if code < 0:
        return f"the child process was ended by {signal.Signals(-code).name}; is memory short?"
    return f"the child process ended with exit code {code} and gave no answer"


def _where(hung: re.Match[str]) -> str:
    """A part that took longer than the limit, with its place in the user's code."""
    frames = _FRAME.findall(hung.string, hung.end())
    own = next((frame for frame in frames if not is_installed(frame[0])), None)
    place = "" if own is None else f" in {own[2]} ({Path(own[0]).name}:{own[1]})"
    limit = hung[1].partition(".")[0]
    trying = _TRYING.findall(hung.string, 0, hung.start())
    what = f"{trying[-1]}: " if trying else ""
    return f"{what}no end{place} within {limit}; does it hang? {LIMIT_VARIABLE} sets another limit"
