"""Files of the store, on a local folder, S3 or GCS: whole or not there.

`write` is atomic for a reader: it sees the old file, the new one or none, never a torn one.
Locally that is write aside, fsync, rename; an object store's PUT is atomic by itself.
Paths are relative to the store's root, with "/" between parts.
All methods may be called from several threads and processes at once; the last `write` wins, and the
first `write_once` (of two within a moment the last, on an object store).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from prunegrid.workers.object_store import RemoteFiles
from prunegrid.workers.storage import FileInfo, StorageError, refused

__all__ = [
    "REMOTE_SCHEMES",
    "FileInfo",
    "Files",
    "LocalFiles",
    "StorageError",
    "open_files",
    "write_aside",
]


class Files(Protocol):
    address: str  #: as the user may type it again

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError, StorageError."""

    def write(self, path: str, content: bytes) -> None:
        """Atomically; makes folders as needed. Raises StorageError."""

    def write_once(self, path: str, content: bytes) -> bool:
        """As `write`; where a file is there it stays, and the answer is False."""

    def exists(self, path: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """Every file below the folder `prefix`, in any order; none where it does not exist."""

    def remove(self, path: str) -> None:
        """A file that is not there is no error."""

    def rename(self, source: str, target: str) -> None:
        """Replaces the target."""


_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
REMOTE_SCHEMES = ("s3", "gs", "gcs")


def open_files(address: str) -> Files:
    """`address`: a folder, s3://bucket/prefix or gs://bucket/prefix.

    Raises StorageError for another scheme. Nothing is created yet.
    """
    match = _SCHEME.match(address)
    if match is None:
        return LocalFiles(Path(address))
    if match.group(1).lower() in REMOTE_SCHEMES:
        return RemoteFiles(address.rstrip("/"))
    raise StorageError(
        f"store address: expected a folder, s3://bucket/path or gs://bucket/path, got {address!r}"
    )


class LocalFiles:
    """A folder on this machine (or a network mount with atomic renames)."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root.expanduser()))
        self.address = str(self.root)

    def _path(self, path: str) -> Path:
        return self.root / path

    def read(self, path: str) -> bytes:
        try:
            return self._path(path).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise refused("read", self._path(path), error) from error

    def write(self, path: str, content: bytes) -> None:
        self._write(path, content, os.replace)

    def write_once(self, path: str, content: bytes) -> bool:
        if self.exists(path):
            return False
        try:
            self._write(path, content, _link)
        except FileExistsError:
            return False
        return True

    def _write(self, path: str, content: bytes, place: Callable[[Path, Path], None]) -> None:
        target = self._path(path)
        try:
            try:
                write_aside(target, content, place)
            except FileNotFoundError:  # `compact` put another folder in this one's place: once more
                write_aside(target, content, place)
        except FileExistsError:
            raise
        except OSError as error:
            raise refused("write", target, error) from error

    def exists(self, path: str) -> bool:
        return self._path(path).exists()

    def list(self, prefix: str) -> Iterator[FileInfo]:
        stack = [self._path(prefix)]
        while stack:
            try:
                entries = list(os.scandir(stack.pop()))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise refused("list", self._path(prefix), error) from error
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                elif not entry.name.startswith("."):  # files being written aside
                    try:
                        stat = entry.stat()
                    except FileNotFoundError:  # renamed between listing and looking
                        continue
                    relative = os.path.relpath(entry.path, self.root).replace(os.sep, "/")
                    yield FileInfo(path=relative, size_bytes=stat.st_size, mtime_s=stat.st_mtime)

    def remove(self, path: str) -> None:
        try:
            self._path(path).unlink(missing_ok=True)
        except OSError as error:
            raise refused("remove", self._path(path), error) from error

    def rename(self, source: str, target: str) -> None:
        try:
            self._path(target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._path(source), self._path(target))
        except OSError as error:
            raise refused("rename", self._path(source), error) from error


def _link(source: Path, target: Path) -> None:
    """A rename that does not replace. Raises FileExistsError."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here: a moment between the look and the rename
        if target.exists():
            raise FileExistsError(errno.EEXIST, "it exists", str(target)) from None
        os.replace(source, target)
    else:
        source.unlink()


def write_aside(
    target: Path, content: bytes, place: Callable[[Path, Path], None] = os.replace
) -> None:
    """Any file, whole or not at all: write, flush to the disk, put in place. Raises OSError."""
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        place(aside, target)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
