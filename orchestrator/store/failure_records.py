"""`failures/<task>/`: what a store keeps of each failed attempt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prunegrid.workers import layout
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files


@dataclass(frozen=True, kw_only=True)
class FailureRecord:
    """One attempt that failed."""

    attempt: int
    kind: str
    message: str
    traceback: str
    log: str = ""  #: what its process printed last


def read_failures(files: Files, key: str, *, last: int | None = None) -> Iterator[FailureRecord]:
    """The recorded attempts of a task that failed, oldest first, or the `last` of them; torn ones
    are left out. Raises StorageError."""
    infos = sorted(files.list(f"{layout.FAILURES}/{key}"), key=lambda info: info.mtime_s)
    for info in infos if last is None else infos[-last:]:
        try:
            raw = parse_json(files.read(info.path))
            record = FailureRecord(
                attempt=int(raw["attempt"]),
                kind=str(raw["kind"]),
                message=str(raw["message"]),
                traceback=str(raw["traceback"]),
                log=str(raw.get("log", "")),
            )
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            continue
        yield record
