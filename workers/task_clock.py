"""Where the seconds of an attempt go: until its own work begins, at the store, on the processor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunegrid.workers.contract import TimeUse
from prunegrid.workers.files import FileInfo, Files


class TaskClock:
    """Begins when it is made. Of one thread: a process runs one task at a time."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._processor_s = time.process_time()
        self._storage_s = 0.0
        self._start_up_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def work_begins(self) -> None:
        """All before was start-up, but for the store; the first call counts."""
        if self._start_up_s is None:
            self._start_up_s = self.elapsed_s - self._storage_s

    def use(self) -> TimeUse:
        return TimeUse(
            start_up_s=self._start_up_s,
            storage_s=self._storage_s,
            processor_s=time.process_time() - self._processor_s,
        )

    def timed(self, files: Files) -> Files:
        """`files`, with the time that they take."""
        return _TimedFiles(files, self)

    @contextmanager
    def storage(self) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self._storage_s += time.monotonic() - began_s


class _TimedFiles:
    def __init__(self, files: Files, clock: TaskClock) -> None:
        self._files = files
        self._clock = clock

    @property
    def address(self) -> str:
        return self._files.address

    @property
    def folder(self) -> Path | None:
        return self._files.folder

    def read(self, path: str) -> bytes:
        with self._clock.storage():
            return self._files.read(path)

    def write(self, path: str, content: bytes) -> None:
        with self._clock.storage():
            self._files.write(path, content)

    def write_once(self, path: str, content: bytes) -> bool:
        with self._clock.storage():
            return self._files.write_once(path, content)

    def exists(self, path: str) -> bool:
        with self._clock.storage():
            return self._files.exists(path)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        with self._clock.storage():
            found = [*self._files.list(prefix)]
        return iter(found)

    def remove(self, path: str) -> None:
        with self._clock.storage():
            self._files.remove(path)

    def rename(self, source: str, target: str) -> None:
        with self._clock.storage():
            self._files.rename(source, target)
