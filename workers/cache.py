"""Measurements of this machine, cached for later runs. Standard library only."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.workers.decode import from_dict, parse_json
from prunegrid.workers.files import StorageError, expanded, write_aside
from prunegrid.workers.speeds import Probe, Speed


def cache_folder() -> Path:
    """Raises StorageError where the home is not known."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "prunegrid"


def save(name: str, content: Mapping[str, Any]) -> None:
    """As JSON, atomically: a machine's workers share the folder. What can't be kept is measured
    again."""
    with contextlib.suppress(OSError, StorageError):
        write_aside(cache_folder() / f"{name}.json", json.dumps(content).encode())


def load(name: str) -> Any:
    """None where nothing is kept, or it can't be read."""
    try:
        return parse_json((cache_folder() / f"{name}.json").read_bytes())
    except (OSError, StorageError, ValueError):
        return None


def save_speed(speed: Speed, identity: str) -> None:
    """`identity`: a digest of the network's shape, the device and the libraries."""
    save(_speed_name(speed.probe, identity), dataclasses.asdict(speed))


def load_speed(probe: Probe, identity: str) -> Speed | None:
    """None where it was not measured here, or the file is torn."""
    try:
        speed = from_dict(Speed, load(_speed_name(probe, identity)))
    except (ValueError, TypeError, AttributeError):
        return None
    return speed if speed.probe == probe else None


def _speed_name(probe: Probe, identity: str) -> str:
    return f"speed-{probe.architecture}-{probe.dataset}-{identity}"
