"""What a worker's process prints while it runs an attempt: the log of a failure.

Standard output and error of a Ray worker are files of Ray's on its host, one pair for the life of
the process. A line where an attempt begins tells its part from what was printed before, also once
the process is dead: what native code says as it crashes is there and nowhere else. Most attempts
print nothing, and the line is put only after something: Ray reads these files too, and a line for
each attempt cost no-op tasks a third of their rate (`tests/bench/ray_rate.py`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

MOST_BYTES = 16 * 1024  #: of each stream, its end
_BEGIN = b"----- prunegrid: an attempt begins"
_sizes: dict[int, int] = {}  #: of each stream's file, after its last line of that kind


def streams() -> tuple[str, ...]:
    """Paths of this process's standard output and error, as far as they are files."""
    out = []
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(number).st_mode):
                out.append(os.readlink(f"/proc/self/fd/{number}"))
    return tuple(dict.fromkeys(out))


def begin() -> None:
    """From here on, what is printed is the next attempt's."""
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
    """What the last attempt printed, by any process on the same host: the end of each stream in
    turn, "" where nothing was. Files that are gone say nothing."""
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
