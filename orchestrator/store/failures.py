"""`failures/<task>/`: what a store keeps of each failed attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from prunegrid.workers import layout
from prunegrid.workers.files import Files


def read_failures(files: Files, key: str, *, last: int | None = None) -> Iterator[dict[str, Any]]:
    """The recorded attempts of a task that failed, oldest first, or the `last` of them; torn ones
    are left out. Raises StorageError."""
    infos = sorted(files.list(f"{layout.FAILURES}/{key}"), key=lambda info: info.mtime_s)
    for info in infos if last is None else infos[-last:]:
        try:
            record = json.loads(files.read(info.path))
        except (ValueError, FileNotFoundError):
            continue
        if isinstance(record, dict):
            yield record
