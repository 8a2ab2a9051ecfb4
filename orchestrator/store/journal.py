"""`journal/`: what drivers saw and did, one JSON object per line, for people and dashboards.

It is a record, not a state: a run resumes from result files alone. One file per driver and
part; a part is rewritten whole on an object store, appended to on a disk.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prunegrid.orchestrator.store.history import RunHistory
from prunegrid.orchestrator.store.store import Store, store_errors, this_host
from prunegrid.workers import layout
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files, append

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
        with store_errors():
            if folder is not None:
                append(folder / self.path, new)
            else:
                self._files.write(self.path, self._whole + new)
        self._whole += new
        self._pending.clear()
        self._flushed_s = time.monotonic()
        if len(self._whole) >= PART_BYTES:
            self._part += 1
            self._whole = b""

    def close(self) -> None:
        self.flush(force=True)


@dataclass(frozen=True, kw_only=True)
class JournalLines:
    """What is new in a journal."""

    entries: list[dict[str, Any]]
    restarted: bool  #: a file shrank or is gone: all was read again, forget what was before
    bad: int  #: whole lines that are no JSON objects


class JournalReader:
    """Follows `journal/`: only what was appended since, only whole lines. Owned by one thread."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._offsets: dict[str, int] = {}  #: bytes taken, up to a line's end

    def poll(self) -> JournalLines:
        """Oldest driver first. A torn last line waits for its end. Raises StorageError."""
        sizes = {
            info.path: info.size_bytes
            for info in self._files.list(layout.JOURNAL)
            if info.path.endswith(".jsonl")
        }
        shrunk = any(sizes.get(path, -1) < taken for path, taken in self._offsets.items())
        if shrunk:
            self._offsets.clear()
        entries: list[dict[str, Any]] = []
        bad = 0
        for path in sorted(sizes):  # a name begins with its driver's start
            if sizes[path] > self._offsets.get(path, 0):
                bad += self._take(path, entries)
        return JournalLines(entries=entries, restarted=shrunk, bad=bad)

    def _take(self, path: str, entries: list[dict[str, Any]]) -> int:
        """Adds a file's new lines; returns how many are bad."""
        offset = self._offsets.get(path, 0)
        try:
            new = self._read_from(path, offset)
        except FileNotFoundError:
            return 0
        whole = new.rfind(b"\n") + 1
        self._offsets[path] = offset + whole
        good, bad = _parsed(new[:whole])
        entries += (entry for _, entry in good)
        return bad

    def _read_from(self, path: str, offset: int) -> bytes:
        if self._files.folder is None:
            return self._files.read(path)[offset:]  # a part is half a megabyte at most
        with (self._files.folder / path).open("rb") as file:
            file.seek(offset)
            return file.read()


def _parsed(lines: bytes) -> tuple[list[tuple[bytes, dict[str, Any]]], int]:
    """Each line that is a JSON object, with the object; and how many are none."""
    good, bad = [], 0
    for line in lines.splitlines():
        try:
            entry = parse_json(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            good.append((line, entry))
        elif line.strip():
            bad += 1
    return good, bad


def bad_lines(store: Store) -> dict[str, int]:
    """How many whole lines of a journal file are no JSON objects, by the file's path; files
    without any are left out. Raises StoreError."""
    found = {}
    with store_errors():
        paths = [info.path for info in store.files.list(layout.JOURNAL)]
    for path in paths:
        content = store.read_bytes(path) or b""
        if count := _parsed(content[: content.rfind(b"\n") + 1])[1]:
            found[path] = count
    return found


def mend_journal(store: Store, path: str) -> None:
    """Leave out the lines that can't be read; the file as it was moves to `torn/`. Raises
    StoreError."""
    content = store.read_bytes(path) or b""
    store.keep_torn(path, content)
    store.write(path, b"".join(line + b"\n" for line, _ in _parsed(content)[0]))


def read_journal(store: Store) -> list[dict[str, Any]]:
    """Every whole line of every driver, oldest driver first; damaged ones are left out."""
    return JournalReader(store.files).poll().entries


def read_history(store: Store) -> RunHistory:
    """The journal so far, folded."""
    lines = JournalReader(store.files).poll()
    history = RunHistory.of(lines.entries)
    history.bad_lines += lines.bad
    return history
