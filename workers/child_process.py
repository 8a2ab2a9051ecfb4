"""Questions to a child process that may import TensorFlow, or a user's code: the driver does not.
Standard library only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from prunegrid.workers.decode import parse_json


def ask_child(module: str, asked: object, *, timeout_s: float | None = None) -> Any:
    """What the module, run by itself, prints as its last line, as JSON. `asked` is its standard
    input, as JSON too. It finds what this process finds, and no GPU: that is for workers.

    Raises ValueError with the reason where it does not answer.
    """
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
    try:
        return parse_json(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise ValueError(_why(done)) from None


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """Of a traceback the last line; other last words are some library's, and no reason."""
    code, said = done.returncode, done.stderr.strip().splitlines()
    if "Traceback (most recent call last):" in said:
        return said[-1]
    if code < 0:
        return f"the child process was ended by {signal.Signals(-code).name}; is memory short?"
    return f"the child process ended with exit code {code} and gave no answer"
