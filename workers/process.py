"""A worker's process as its engine needs to know it: where it is, and how to end one that hangs.

Workers end by SIGKILL as a rule, so nothing that they leave to their own exit is ever done.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prunegrid.workers import worker_logs
from prunegrid.workers.revision import CODE, Code

_DUMP = signal.SIGUSR2
_DUMP_WITHIN_S = 3.0
_stacks: IO[str] | None = None
_lifeline: IO[bytes] | None = None  #: closed by the kernel when this process ends
#: Removes a folder once its standard input ends. In the background, so that its parent is init:
#: Ray ends the children of a worker with it.
_AFTERWARDS = 'exec 3<&0; { cat; rm -rf -- "$0"; } <&3 >/dev/null 2>&1 &'


@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    host: str
    pid: int
    stack_file: str  #: on that host; SIGUSR2 has every thread's stack written there
    streams: tuple[str, ...]  #: its standard output and error, where they are files on that host
    code: Code  #: that it computes with
    gpus: str  #: CUDA_VISIBLE_DEVICES, "" where there is none


def announce() -> Whereabouts:
    """Of this process, which from now on has a folder of its own for temporary files, and writes
    its stacks on SIGUSR2, also while a thread holds the interpreter's lock: the handler is C."""
    global _stacks
    if _stacks is None:
        _stacks = Path(_own_folder(), "stacks").open("w")  # noqa: SIM115 - as long as the process
        faulthandler.register(_DUMP, file=_stacks, all_threads=True)
    return Whereabouts(
        host=socket.gethostname(),
        pid=os.getpid(),
        stack_file=_stacks.name,
        streams=worker_logs.streams(),
        code=CODE,
        gpus=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    )


def _own_folder() -> str:
    """TensorFlow alone leaves a file per compiled function there. It goes when this process ends,
    however it does."""
    global _lifeline
    folder = tempfile.mkdtemp(prefix=f"prunegrid-{os.getpid()}-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    reading, writing = os.pipe()
    _lifeline = os.fdopen(writing, "wb")
    with os.fdopen(reading, "rb") as end:
        subprocess.run(
            ["sh", "-c", _AFTERWARDS, folder],
            stdin=end,
            cwd="/",
            check=False,
            start_new_session=True,
        )
    return folder


@dataclass(frozen=True, kw_only=True)
class LastWords:
    """Of a process that is no more."""

    stacks: str = ""  #: of its threads, or a line that says why there is none
    log: str = ""  #: what it printed in its last attempt


def last_words(where: Whereabouts) -> LastWords:
    """Called on the same host, once the process is dead."""
    return LastWords(log=worker_logs.last_attempt(where.streams))


def end_process(where: Whereabouts) -> LastWords:
    """Called on the same host: where another process hangs, by its stacks; then kill it."""
    path = Path(where.stack_file)
    try:
        os.kill(where.pid, _DUMP)
        text = _wait_for(path)
        os.kill(where.pid, signal.SIGKILL)
    except ProcessLookupError:
        text = "the process was gone already"
    except OSError as error:
        text = f"its stacks can't be had: {error.strerror}"
    return LastWords(stacks=text, log=worker_logs.last_attempt(where.streams))


def _wait_for(path: Path) -> str:
    """The file's text once it stops growing."""
    text, limit_s = "", time.monotonic() + _DUMP_WITHIN_S
    while time.monotonic() < limit_s:
        time.sleep(0.1)
        now = path.read_text(errors="replace")
        if now and now == text:
            return now
        text = now
    return text or f"it wrote no stacks within {_DUMP_WITHIN_S:.0f} s"
