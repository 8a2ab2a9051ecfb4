"""What the store is like at the moment, for workers and the driver alike: read from a file that
the monkey rewrites. Fine weather where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from prunegrid.workers.files import Files, LocalFiles, StorageError, open_files

FILE = "CHAOS_WEATHER"  #: the environment variable with its path


@dataclass(frozen=True, kw_only=True)
class Weather:
    delay_s: float = 0.0  #: each read and write takes up to so much longer
    refuse: float = 0.0  #: share of writes that fail as an object store's do under load
    clock_off_s: float = 0.0  #: what the driver's clock shows too much
    quota_bytes: int | None = None  #: no file may grow beyond it: the kernel sees to that


def report(weather: Weather) -> None:
    """From now on the weather is so."""
    path = Path(os.environ[FILE])
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(asdict(weather)))
    aside.replace(path)


def now() -> Weather:
    try:
        return Weather(**json.loads(Path(os.environ[FILE]).read_text()))
    except (KeyError, OSError, ValueError):
        return Weather()


class WeatheredFiles(LocalFiles):
    """A folder that is slow, refuses writes, or has a quota, as the weather is. Python ignores
    SIGXFSZ, so that a write beyond the quota ends in EFBIG after a part of it was written."""

    def read(self, path: str) -> bytes:
        time.sleep(random.random() * now().delay_s)
        return super().read(path)

    def write(self, path: str, content: bytes) -> None:
        with _trouble(path):
            super().write(path, content)

    def write_once(self, path: str, content: bytes) -> bool:
        with _trouble(path):
            return super().write_once(path, content)


@contextlib.contextmanager
def _trouble(path: str) -> Iterator[None]:
    weather = now()
    time.sleep(random.random() * weather.delay_s)
    if random.random() < weather.refuse:
        raise StorageError(f"can't write {path}: planted: slow down, please")
    limit = weather.quota_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY if limit is None else limit, hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


def weathered(address: str) -> Files:
    """In place of `open_files`."""
    plain = open_files(address)
    return WeatheredFiles(plain.folder) if plain.folder else plain
