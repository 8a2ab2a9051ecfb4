"""Follows `journal/`: only what was appended since, only whole lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from prunegrid.workers import layout
from prunegrid.workers.files import Files


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What is new."""

    entries: list[dict[str, Any]]
    restarted: bool  #: a file shrank or is gone: all was read again, forget what was before
    bad: int  #: whole lines that are no JSON objects


class JournalTail:
    """Owned by one thread."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._offsets: dict[str, int] = {}  #: bytes taken, up to a line's end

    def poll(self) -> Lines:
        """Raises StorageError. A torn last line waits for its end."""
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
        return Lines(entries=entries, restarted=shrunk, bad=bad)

    def _take(self, path: str, entries: list[dict[str, Any]]) -> int:
        offset = self._offsets.get(path, 0)
        try:
            new = self._read_from(path, offset)
        except FileNotFoundError:
            return 0
        whole = new.rfind(b"\n") + 1
        self._offsets[path] = offset + whole
        bad = 0
        for line in new[:whole].splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if isinstance(entry, dict):
                entries.append(entry)
            elif line.strip():
                bad += 1
        return bad

    def _read_from(self, path: str, offset: int) -> bytes:
        if self._files.folder is None:
            return self._files.read(path)[offset:]  # a part is half a megabyte at most
        with (self._files.folder / path).open("rb") as file:
            file.seek(offset)
            return file.read()
