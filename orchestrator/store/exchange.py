"""Two folders change places in one step of the file system: Linux's `renameat2`."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import uuid
from pathlib import Path

from prunegrid.orchestrator.errors import StoreError

_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE, AT_FDCWD


def exchange_folders(one: Path, other: Path) -> None:
    """Raises StoreError where the system can't, OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise StoreError("compact: this system can't exchange folders (Linux's renameat2)")
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise StoreError(
                f"compact: the file system of {other} can't exchange folders; copy the store to "
                "a local disk (ext4, xfs, btrfs) and compact it there"
            )
        raise OSError(number, os.strerror(number), str(other))


def probe(root: Path) -> None:
    """Raises StoreError where the file system can't exchange folders, before anything is done."""
    pair = [root / f".exchange-{uuid.uuid4().hex}" for _ in range(2)]
    try:
        for folder in pair:
            folder.mkdir()
        exchange_folders(*pair)
    except OSError as error:
        raise StoreError(f"can't write {root}: {error.strerror}") from error
    finally:
        for folder in pair:
            with contextlib.suppress(OSError):
                folder.rmdir()
