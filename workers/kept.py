"""What was measured on this machine, kept for whoever asks next. Standard library only."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prunegrid.workers.decode import from_dict
from prunegrid.workers.files import write_aside
from prunegrid.workers.speeds import Probe, Speed


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "prunegrid"


def keep(path: Path, found: Mapping[str, Any]) -> None:
    """Whole or not at all: workers of a machine share the folder."""
    write_aside(path, json.dumps(found).encode())


def keep_speed(speed: Speed, identity: str) -> None:
    """`identity`: of the network's shape, the device and the libraries."""
    name = f"speed-{speed.architecture}-{speed.dataset}-{identity}.json"
    keep(cache_folder() / name, dataclasses.asdict(speed))


def kept_speed(probe: Probe, identity: str) -> Speed | None:
    """None where it was not measured here, or the file is torn."""
    name = f"speed-{probe.architecture}-{probe.dataset}-{identity}.json"
    return _read(cache_folder() / name, probe)


def kept_here(probe: Probe, threads: int) -> Speed | None:
    """The latest one of this host, whatever the device: to plan by, without asking the device."""
    pattern = f"speed-{probe.architecture}-{probe.dataset}-*.json"
    found = [speed for path in _listed(pattern) if (speed := _read(path, probe)) is not None]
    mine = [s for s in found if s.host == socket.gethostname() and s.threads == threads]
    return max(mine, key=lambda speed: speed.measured_at, default=None)


def _listed(pattern: str) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from sorted(cache_folder().glob(pattern))


def _read(path: Path, probe: Probe) -> Speed | None:
    try:
        speed = from_dict(Speed, json.loads(path.read_text()))
        return speed if speed.probe == probe else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
