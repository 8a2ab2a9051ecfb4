"""Whether a large file is whole, by its two ends. An object store's PUT is whole or not there."""

from __future__ import annotations

import os

from prunegrid.orchestrator.errors import StoreError
from prunegrid.workers.files import Files

_PARQUET = (b"PAR1", b"PAR1", 4)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", 22)  #: the end's record has 22 bytes


def is_whole_parquet(files: Files, path: str) -> bool:
    """Raises StoreError where the store can't be asked."""
    return _has_ends(files, path, *_PARQUET)


def is_whole_zip(files: Files, path: str) -> bool:
    """Raises StoreError where the store can't be asked."""
    return _has_ends(files, path, *_ZIP)


def _has_ends(files: Files, path: str, head: bytes, tail: bytes, tail_bytes: int) -> bool:
    if files.folder is None:
        return True
    try:
        with (files.folder / path).open("rb") as file:
            starts = file.read(len(head)) == head
            file.seek(-min(tail_bytes, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return starts and file.read(len(tail)) == tail
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from error
