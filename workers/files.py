"""Files of the store, on a local folder, S3 or GCS: whole or not there.

`write` is atomic for a reader: it sees the old file, the new one or none, never a torn one.
Locally that is write aside, fsync, rename; an object store's PUT is atomic by itself.
Paths are relative to the store's root, with "/" between parts.
All methods may be called from several threads and processes at once; the last write wins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class StorageError(Exception):
    """The store refused: the message says what was tried, where, and why it failed."""


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    path: str  #: relative to the root
    size_bytes: int
    mtime_s: float  #: seconds since the epoch


class Files(Protocol):
    address: str  #: as the user may type it again

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError, StorageError."""

    def write(self, path: str, content: bytes) -> None:
        """Atomically; makes folders as needed. Raises StorageError."""

    def exists(self, path: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """Every file below the folder `prefix`, in any order; none where it does not exist."""

    def remove(self, path: str) -> None:
        """A file that is not there is no error."""

    def rename(self, source: str, target: str) -> None:
        """Replaces the target."""


_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
REMOTE_SCHEMES = ("s3", "gs", "gcs")

#: Of one request that meets a transient fault; AWS_MAX_ATTEMPTS overrides it. Waits between them
#: are random and double each time: 8 s in the mean before the last.
S3_ATTEMPTS = 5
#: What is not larger goes to S3 in one request instead of a multipart upload's three. It must stay
#: below pyarrow's buffer (10 MiB): where the upload of more than that can't begin, closing such a
#: stream puts an empty object in place. A multipart upload that fails leaves nothing.
ONE_PUT_BYTES = 4 * 2**20
S3_CONNECT_S = 10.0
#: pyarrow asks for a file's size, then for so many bytes. Of a file replaced in between it gets a
#: part, or rubbish at its end; so the size is asked for once more, but for what never changes.
_WRITTEN_ONCE = (".parquet", ".npz")
#: pyarrow reads an answer into a buffer of the file's size. Where a server's error is longer than
#: the file, its code is lost, and the SDK doesn't know that it may ask again.
_UNREAD_ERROR = "Failed to flush response stream"
S3_SILENCE_S = 60.0  #: a server that sends nothing for so long is given up, and asked again


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
            raise _refused("read", self._path(path), error) from error

    def write(self, path: str, content: bytes) -> None:
        target = self._path(path)
        try:
            try:
                _write_aside(target, content)
            except FileNotFoundError:  # `compact` put another folder in this one's place: once more
                _write_aside(target, content)
        except OSError as error:
            raise _refused("write", target, error) from error

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
                raise _refused("list", self._path(prefix), error) from error
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
            raise _refused("remove", self._path(path), error) from error

    def rename(self, source: str, target: str) -> None:
        try:
            self._path(target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._path(source), self._path(target))
        except OSError as error:
            raise _refused("rename", self._path(source), error) from error


def _write_aside(target: Path, content: bytes) -> None:
    """Write, flush to the disk, rename. Raises OSError."""
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


class RemoteFiles:
    """S3 or GCS through pyarrow, with the credentials that it finds by itself.

    `AWS_ENDPOINT_URL` points S3 at another server, as it does for other tools.
    """

    def __init__(self, address: str) -> None:
        import pyarrow.fs

        self.address = address
        scheme, _, rest = address.partition("://")
        self._root = rest
        if not rest.split("/")[0]:
            raise StorageError(f"store address: expected {scheme}://bucket/path, got {address!r}")
        attempts = os.environ.get("AWS_MAX_ATTEMPTS", "")
        self._attempts = max(1, int(attempts)) if attempts.isdecimal() else S3_ATTEMPTS
        if scheme.lower() == "s3":
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            options: dict[str, Any] = {"endpoint_override": endpoint} if endpoint else {}
            options["retry_strategy"] = pyarrow.fs.AwsStandardS3RetryStrategy(
                max_attempts=self._attempts
            )
            options |= {"connect_timeout": S3_CONNECT_S, "request_timeout": S3_SILENCE_S}
            if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
                options["region"] = region
            self._fs = pyarrow.fs.S3FileSystem(**options)
            self._one_put = pyarrow.fs.S3FileSystem(**options, allow_delayed_open=True)
        else:
            self._fs = self._one_put = pyarrow.fs.GcsFileSystem()

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def read(self, path: str) -> bytes:
        for attempt in range(1, self._attempts + 1):
            try:
                with self._fs.open_input_stream(self._path(path)) as stream:
                    content = bytes(stream.readall())
                if path.endswith(_WRITTEN_ONCE):
                    return content
                if self._fs.get_file_info(self._path(path)).size == len(content):
                    return content
            except FileNotFoundError:
                raise
            except OSError as error:
                if attempt == self._attempts or _UNREAD_ERROR not in str(error):
                    raise _refused("read", self._path(path), error) from error
            time.sleep(random.random() * 0.25 * 2**attempt)
        raise StorageError(f"can't read {self._path(path)}: replaced whenever it was read")

    def write(self, path: str, content: bytes) -> None:
        fs = self._one_put if len(content) <= ONE_PUT_BYTES else self._fs
        try:
            with fs.open_output_stream(self._path(path)) as stream:
                stream.write(content)
        except OSError as error:
            raise _refused("write", self._path(path), error) from error

    def exists(self, path: str) -> bool:
        import pyarrow.fs

        try:
            info = self._fs.get_file_info(self._path(path))
        except OSError as error:
            raise _refused("look at", self._path(path), error) from error
        return bool(info.type == pyarrow.fs.FileType.File)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        import pyarrow.fs

        selector = pyarrow.fs.FileSelector(self._path(prefix), recursive=True, allow_not_found=True)
        try:
            infos = self._fs.get_file_info(selector)
        except OSError as error:
            raise _refused("list", self._path(prefix), error) from error
        for info in infos:
            if info.type == pyarrow.fs.FileType.File:
                yield FileInfo(
                    path=info.path.removeprefix(self._root + "/"),
                    size_bytes=info.size,
                    mtime_s=(info.mtime_ns or 0) / 1e9,
                )

    def remove(self, path: str) -> None:
        try:
            self._fs.delete_file(self._path(path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refused("remove", self._path(path), error) from error

    def rename(self, source: str, target: str) -> None:
        try:
            self._fs.move(self._path(source), self._path(target))
        except OSError as error:
            raise _refused("rename", self._path(source), error) from error


def _refused(verb: str, path: object, error: OSError) -> StorageError:
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
