"""Measurements of this machine, cached for later runs. Standard library only."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prunegrid.workers.decode import from_dict, parse_json
from prunegrid.workers.files import StorageError, expanded, write_aside
from prunegrid.workers.keys import digest
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


def save_speed(speed: Speed, probe: Probe) -> None:
    save(_speed_name(probe, speed.device, speed.threads), dataclasses.asdict(speed))


def load_speed(probe: Probe, device: str, threads: int) -> Speed | None:
    """None where it was not measured on such a device, or the file is torn."""
    try:
        speed = from_dict(Speed, load(_speed_name(probe, device, threads)))
    except (ValueError, TypeError, AttributeError):
        return None
    return speed if speed.probe == probe and speed.forward_per_s else None


def _speed_name(probe: Probe, device: str, threads: int) -> str:
    try:
        library = version("tensorflow")
    except PackageNotFoundError:
        library = ""
    identity = digest(
        {
            "network": [probe.built or probe.architecture, probe.configuration],
            "shape": list(probe.shape),
            "training": [probe.batch_size, probe.augmentation],
            "device": device,
            "threads": threads,
            "tensorflow": library,
        }
    )
    return f"speed-{probe.architecture}-{probe.dataset}-{identity}"
