"""What the store's files have in common, wherever they are: what one is, and how it fails."""

from __future__ import annotations

import errno
from dataclasses import dataclass


class StorageError(Exception):
    """The store refused: the message says what was tried, where, and why it failed."""


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    path: str  #: relative to the root
    size_bytes: int
    mtime_s: float  #: seconds since the epoch


def refused(verb: str, path: object, error: OSError) -> StorageError:
    reasons = {
        errno.ENOSPC: "no space left on the device",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission denied",
        errno.EPERM: "not permitted",
        errno.ENOTDIR: "a file stands where a folder is needed",
    }
    reason = reasons.get(error.errno or 0, str(error) or type(error).__name__)
    return StorageError(f"can't {verb} {path}: {reason}")
