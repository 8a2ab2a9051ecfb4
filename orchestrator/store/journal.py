"""`journal/`: what a driver saw and did, one JSON object a line, for people and dashboards.

It is a record, not a state: a run resumes from result files alone. One file per driver and
part; a part is rewritten whole on an object store, appended to on a disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.store import Store, this_host
from prunegrid.workers import layout
from prunegrid.workers.files import StorageError

PART_BYTES = 512 * 1024
REMOTE_FLUSH_S = 5.0


class Journal:
    """Append-only; the owner calls `flush` from its loop and `close` at its end."""

    def __init__(self, store: Store) -> None:
        self._files = store.files
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._name = f"{stamp}-{this_host()}-{os.getpid()}"
        self._part = 0
        self._pending: list[bytes] = []
        self._whole = b""
        self._flushed_s = time.monotonic()

    @property
    def path(self) -> str:
        return f"{layout.JOURNAL}/{self._name}-{self._part:04d}.jsonl"

    def write(self, event: str, **fields: Any) -> None:
        """One line: `event`, `at` (seconds since the epoch), and the fields."""
        line = {"at": round(time.time(), 3), "event": event, **fields}
        self._pending.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def flush(self, *, force: bool = False) -> None:
        """Raises StoreError where the store can't be written."""
        folder = self._files.folder
        due = force or folder is not None or time.monotonic() - self._flushed_s >= REMOTE_FLUSH_S
        if not self._pending or not due:
            return
        new = b"".join(self._pending)
        try:
            if folder is not None:
                target = folder / self.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("ab") as file:
                    file.write(new)
            else:
                self._files.write(self.path, self._whole + new)
        except StorageError as error:
            raise StoreError(str(error)) from error
        except OSError as error:
            raise StoreError(f"can't write {self.path}: {error.strerror}") from error
        self._whole += new
        self._pending.clear()
        self._flushed_s = time.monotonic()
        if len(self._whole) >= PART_BYTES:
            self._part += 1
            self._whole = b""

    def close(self) -> None:
        self.flush(force=True)


def read_journal(store: Store) -> Iterator[dict[str, Any]]:
    """Every whole line of every driver, oldest driver first; a torn last line is left out."""
    for path in sorted(info.path for info in store.files.list(layout.JOURNAL)):
        for line in store.files.read(path).split(b"\n"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry
