"""What a worker's process prints while it runs an attempt: the log of a failure.

Standard output and error of a Ray worker are files of Ray's on its host, one pair for the life of
the process. A line in both where an attempt begins tells one attempt's part from another's, also
once the process is dead: what native code says as it crashes is there and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

MOST_BYTES = 16 * 1024  #: of each stream, its end
_BEGIN = b"----- prunegrid: "


def streams() -> tuple[str, ...]:
    """Paths of this process's standard output and error, as far as they are files."""
    out = []
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(number).st_mode):
                out.append(os.readlink(f"/proc/self/fd/{number}"))
    return tuple(dict.fromkeys(out))


def begin(key: str, number: int) -> None:
    """From here on, what is printed is this attempt's."""
    for stream in (sys.stdout, sys.stderr):
        print(f"{_BEGIN.decode()}attempt {number} of {key}", file=stream, flush=True)


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
