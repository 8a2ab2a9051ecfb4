"""Which process this is among those of all machines, and whether another one is still there."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

from prunegrid.workers.keys import digest


@functools.cache
def process_place() -> str:
    """Names the PID namespace of this boot of this machine, where a pid means one process.
    Machines and containers may share a hostname. "" where the system doesn't tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return digest([socket.gethostname(), boot, namespace], length=12)


@functools.cache
def process_tag(pid: int) -> str:
    """Names a process of this place in a file's name: `place-pid-start`."""
    return f"{process_place()}-{pid}-{process_start(pid)}"


def process_start(pid: int) -> str:
    """The kernel's start time of a process, in clock ticks since boot, which tells a reused pid
    from the first. "" where it can't be read, as under hidepid; "dead" where nobody has yet waited
    for one that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "dead" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def process_lives(pid: int, start: str) -> bool | None:
    """Whether a process of this place is there; None where that can't be told."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    now = process_start(pid)
    return now == start if now and start else None
