"""Worker logs: what a worker's process prints while it runs an attempt.

Ray writes a worker's standard output and error to files on its host, one pair for the life of the
process. A marker line separates an attempt's part from what came before. It can be read after the
process has died, and only there is what native code prints as it crashes. The marker is written
only if something was printed since the last one: Ray reads these files too, and a line for each
attempt cost no-op tasks a third of their rate (`tests/bench/ray_rate.py`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

MOST_BYTES = 16 * 1024  #: read from the end of each stream
_BEGIN = b"----- prunegrid: an attempt begins"
_sizes: dict[int, int] = {}  #: file descriptor -> its file's size after the last marker


def streams() -> tuple[str, ...]:
    """Paths of this process's standard output and error, where they are files."""
    out = []
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(number).st_mode):
                out.append(os.readlink(f"/proc/self/fd/{number}"))
    return tuple(dict.fromkeys(out))


def begin() -> None:
    """Mark the start of an attempt in both streams."""
    flush()
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.fstat(number).st_size != _sizes.get(number):
                os.write(number, _BEGIN + b"\n")
                _sizes[number] = os.fstat(number).st_size


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def last_attempt(paths: Iterable[str]) -> str:
    """What the last attempt printed: the end of each stream in turn, "" for nothing. Any process on
    the same host may call it. Missing files count as empty."""
    return "\n".join(filter(None, (_end_of(Path(path)) for path in paths)))


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MOST_BYTES))
            content = file.read(MOST_BYTES)
    except OSError:
        return ""
    _, found, rest = content.rpartition(_BEGIN)
    if found:
        _, _, content = rest.partition(b"\n")
    return content.decode(errors="replace").strip()
