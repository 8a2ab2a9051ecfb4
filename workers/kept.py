"""What was measured on this machine, kept for whoever asks next. Standard library only."""

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
    try:
        speed = from_dict(Speed, json.loads((cache_folder() / name).read_text()))
        return speed if speed.probe == probe else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
