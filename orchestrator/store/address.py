"""Where a store is: opening its files, and what stands in the way of making one there."""

from __future__ import annotations

import os

from prunegrid.orchestrator.errors import StoreError
from prunegrid.workers.files import Files, StorageError, open_files


def files_at(address: str) -> Files:
    """Raises StoreError for an address of another kind."""
    try:
        return open_files(address)
    except StorageError as error:
        raise StoreError(str(error)) from error


def strangers(files: Files) -> list[str]:
    """Up to three names in a place that should be empty. Raises StoreError."""
    if files.folder is not None:
        try:
            names = sorted(entry.name for entry in os.scandir(files.folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{files.address}: can't be read: {error.strerror}") from error
    else:
        try:
            names = sorted({info.path.split("/")[0] for info in files.list("")})
        except StorageError as error:
            raise StoreError(str(error)) from error
    return names[:3] + (["..."] if len(names) > 3 else [])
