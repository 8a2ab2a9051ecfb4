"""Measurements of this machine, cached for later runs. Standard library only."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.workers.decode import from_dict
from prunegrid.workers.files import write_aside
from prunegrid.workers.speeds import Probe, Speed


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "prunegrid"


def save(path: Path, content: Mapping[str, Any]) -> None:
    """As JSON, atomically: a machine's workers share the folder. Raises OSError."""
    write_aside(path, json.dumps(content).encode())


def save_speed(speed: Speed, identity: str) -> None:
    """`identity`: a digest of the network's shape, the device and the libraries."""
    save(_speed_file(speed.probe, identity), dataclasses.asdict(speed))


def load_speed(probe: Probe, identity: str) -> Speed | None:
    """None where it was not measured here, or the file is torn."""
    return _read(_speed_file(probe, identity), probe)


def _speed_file(probe: Probe, identity: str) -> Path:
    return cache_folder() / f"speed-{probe.architecture}-{probe.dataset}-{identity}.json"


def _read(path: Path, probe: Probe) -> Speed | None:
    try:
        speed = from_dict(Speed, json.loads(path.read_text()))
        return speed if speed.probe == probe else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
