"""A folder as another machine of a network mount sees it: what somebody else wrote, renamed or
removed shows some time later, and not all of it in the same order.

An NFS client caches attributes, listings and the absence of names (nfs(5): acregmin, acdirmax,
lookupcache); it sees its own changes at once, and the server's `link` and `rename` stay atomic.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from prunegrid.workers.files import FileInfo, LocalFiles


class LateFiles(LocalFiles):
    """Files that others change show between 0 and `late_s` seconds later, each at a time of its
    own. Only what goes through this class is late."""

    def __init__(self, root: Path, *, late_s: float, seed: int = 0) -> None:
        super().__init__(root)
        self._late_s = late_s
        self._random = random.Random(seed)
        self._own: set[str] = set()  #: written here
        self._shows_s: dict[tuple[str, int], float] = {}  #: (path, its change) -> from when on

    def _is_there(self, path: str) -> bool:
        try:
            changed_ns = self._path(path).stat().st_mtime_ns
        except OSError:
            return False
        if path in self._own:
            return True
        key = (path, changed_ns)
        if key not in self._shows_s:
            late_s = self._random.uniform(0, self._late_s)
            self._shows_s[key] = changed_ns / 1e9 + late_s
        return time.time() >= self._shows_s[key]

    def read(self, path: str) -> bytes:
        if not self._is_there(path):
            raise FileNotFoundError(path)
        return super().read(path)

    def exists(self, path: str) -> bool:
        return super().exists(path) and self._is_there(path)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        return (info for info in super().list(prefix) if self._is_there(info.path))

    def write(self, path: str, content: bytes) -> None:
        super().write(path, content)
        self._own.add(path)

    def write_once(self, path: str, content: bytes) -> bool:
        """The server decides, whatever is cached here."""
        is_new = bool(self._path(path).exists()) is False and super().write_once(path, content)
        if is_new:
            self._own.add(path)
        return is_new

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self._own.add(target)
