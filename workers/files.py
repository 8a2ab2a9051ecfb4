"""Files of the store, in a local folder, on S3 or on GCS: each one is whole or absent.

`write` is atomic for a reader: it sees the old file, the new one or none, never a torn one.
A folder's file is written aside, flushed to the disk and renamed; an object store's PUT is atomic
by itself. Paths are relative to the store's root, with "/" between parts.
All methods may be called from several threads and processes at once. The last `write` wins, and the
first `write_once`, with one exception: see `RemoteFiles.write_once`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prunegrid.workers.process_id import process_lives, process_place, process_tag


class StorageError(Exception):
    """The store refused: the message says what was tried, where, and why it failed."""


class PathError(StorageError):
    """As the store's files and folders are, it can't be done: to try again is of no use."""


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    path: str  #: relative to the root
    size_bytes: int
    mtime_s: float  #: seconds since the epoch


class Files(Protocol):
    @property
    def address(self) -> str:
        """As the user may type it again."""

    @property
    def folder(self) -> Path | None:
        """The root where it is a folder: its files may also be opened, appended to and renamed
        by path. None on an object store."""

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError, StorageError."""

    def write(self, path: str, content: bytes) -> None:
        """Atomically; makes folders as needed. Raises StorageError."""

    def write_once(self, path: str, content: bytes) -> bool:
        """As `write`, but never replaces: where a file exists, it stays and the answer is
        False."""

    def exists(self, path: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """Every file below the folder `prefix`, in any order; none where it does not exist."""

    def remove(self, path: str) -> None:
        """A missing file is no error."""

    def rename(self, source: str, target: str) -> None:
        """Replaces the target."""


_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
REMOTE_SCHEMES = ("s3", "gs", "gcs")


def open_files(address: str) -> Files:
    """`address`: a folder, s3://bucket/prefix or gs://bucket/prefix.

    Raises StorageError for anything else. Creates nothing.
    """
    match = _SCHEME.match(address)
    if match is None and address:
        return LocalFiles(expanded(address))
    if match is not None and match.group(1).lower() in REMOTE_SCHEMES:
        return RemoteFiles(address)
    raise StorageError(
        f"store address: expected a folder, s3://bucket/path or gs://bucket/path, got {address!r}"
    )


def expanded(path: str | Path) -> Path:
    """With the home directory for `~`. Raises StorageError where that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise StorageError(f"{path}: the home directory is not known; set HOME") from None


_REASONS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file, or a link to nothing, stands where a folder is needed",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "links lead in a circle",
}
_LASTING = frozenset({errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})


def _refused(verb: str, path: object, error: Exception) -> StorageError:
    number = error.errno if isinstance(error, OSError) else None
    reason = _REASONS.get(number or 0, str(error) or type(error).__name__)
    kind = PathError if number in _LASTING else StorageError
    return kind(f"can't {verb} {path}: {reason}")


@contextlib.contextmanager
def _refusals(verb: str, path: object) -> Iterator[None]:
    """Turns an OSError into a StorageError."""
    try:
        yield
    except OSError as error:
        raise _refused(verb, path, error) from error


# --------------------------------------------------------------------------- a folder


class LocalFiles:
    """A folder on this machine (or a network mount with atomic renames)."""

    def __init__(self, root: Path) -> None:
        self.folder = Path(os.path.abspath(root))
        self.address = str(self.folder)

    def _path(self, path: str) -> Path:
        return self.folder / path

    def read(self, path: str) -> bytes:
        try:
            return self._path(path).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _refused("read", self._path(path), error) from error

    def write(self, path: str, content: bytes) -> None:
        self._write(path, content, os.replace)

    def write_once(self, path: str, content: bytes) -> bool:
        return not self.exists(path) and bool(self._write(path, content, _link))

    def _write(self, path: str, content: bytes, place: Callable[[Path, Path], object]) -> object:
        target = self._path(path)
        with _refusals("write", target):
            try:
                return write_aside(target, content, place)
            except FileNotFoundError:  # `compact` has just replaced the folder: try once more
                return write_aside(target, content, place)

    def exists(self, path: str) -> bool:
        return self._path(path).is_file()

    def list(self, prefix: str) -> Iterator[FileInfo]:
        stack = [self._path(prefix)]
        while stack:
            entries: list[os.DirEntry[str]] = []
            gone = contextlib.suppress(FileNotFoundError, NotADirectoryError)
            with _refusals("list", self._path(prefix)), gone:
                entries = list(os.scandir(stack.pop()))
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                elif not entry.name.startswith("."):  # files being written aside
                    try:
                        stat = entry.stat()
                    except FileNotFoundError:  # renamed since the listing
                        continue
                    relative = os.path.relpath(entry.path, self.folder).replace(os.sep, "/")
                    yield FileInfo(path=relative, size_bytes=stat.st_size, mtime_s=stat.st_mtime)

    def remove(self, path: str) -> None:
        with _refusals("remove", self._path(path)):
            self._path(path).unlink(missing_ok=True)

    def rename(self, source: str, target: str) -> None:
        with _refusals("rename", self._path(source)):
            self._path(target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._path(source), self._path(target))


def _link(source: Path, target: Path) -> bool:
    """A rename that does not replace: False where the target exists."""
    is_free = True
    try:
        os.link(source, target)
    except FileExistsError:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder", str(target)) from None
        is_free = False
    except OSError:  # no hard links here, so a moment passes between the look and the rename
        is_free = not target.exists()
        if is_free:
            os.replace(source, target)
            return True
    source.unlink()
    return is_free


def write_aside(
    target: Path, content: bytes, place: Callable[[Path, Path], object] = os.replace
) -> object:
    """Write any file atomically: write it aside, flush it to the disk, then `place` it. Returns
    what that returns. Raises OSError."""
    aside = target.with_name(temporary_name(target.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return place(aside, target)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def append(target: Path, content: bytes) -> None:
    """Raises StorageError."""
    with _refusals("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as file:
            file.write(content)


def temporary_name(name: str) -> str:
    """A new name beside `name` that says which process writes there."""
    return f".{name}.{process_tag(os.getpid())}-{uuid.uuid4().hex}.tmp"


#: As `temporary_name` makes them, and earlier versions did, without the process.
_TEMPORARY = re.compile(
    r"\..+\.(?:(?P<place>[0-9a-f]*)-(?P<pid>[0-9]{1,9})-(?P<start>[0-9]*)-)?[0-9a-f]{32}\.tmp"
    r"|\.[0-9a-f]{32}\.parquet"
)
#: A temporary file whose process can't be looked at stays so long after its last change.
_ABANDONED_S = 3600.0


def is_temporary(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None


def sweep_temporary(folder: Path) -> None:
    """Delete what writers that are gone left half written, and nothing else. Raises
    StorageError."""
    probe = folder / temporary_name("sweep")
    with _refusals("sweep", folder):
        probe.touch()  # for the time of the file system, which may be another machine's
        now_s = probe.stat().st_mtime
        probe.unlink()
    stack = [os.fspath(folder)]
    while stack:
        with contextlib.suppress(OSError):
            for entry in os.scandir(stack.pop()):
                found = _TEMPORARY.fullmatch(entry.name)
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder:
                    stack.append(entry.path)
                if found and _is_abandoned(found, entry, now_s):
                    with contextlib.suppress(OSError):  # gone, or a folder with something in it
                        (os.rmdir if is_folder else os.unlink)(entry.path)


def _is_abandoned(name: re.Match[str], entry: os.DirEntry[str], now_s: float) -> bool:
    lives = None
    if name["place"] and name["place"] == process_place():
        lives = process_lives(int(name["pid"]), name["start"])
    if lives is None:
        return now_s - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_S
    return not lives


# --------------------------------------------------------------------------- an object store

#: Tries of one request that meets a transient fault; AWS_MAX_ATTEMPTS overrides it. The waits in
#: between are random and double each time: 8 s in the mean before the last.
S3_ATTEMPTS = 5
#: Up to this size a file goes to S3 in one request, instead of a multipart upload's three. It must
#: stay below pyarrow's buffer (10 MiB): when the upload of more than that can't begin, closing such
#: a stream puts an empty object in place. A multipart upload that fails leaves nothing.
ONE_PUT_BYTES = 4 * 2**20
S3_CONNECT_S = 10.0
S3_SILENCE_S = 60.0  #: a request is given up, and repeated, when the server is silent this long
#: pyarrow asks for a file's size, then for that many bytes. If the file is replaced in between, it
#: returns a part, or rubbish at the end. So `read` asks for the size again, except for files whose
#: content never changes.
_IMMUTABLE = (".parquet", ".npz")
#: pyarrow reads an answer into a buffer of the file's size. When a server's error is longer than
#: the file, its code is lost, and the SDK doesn't know that it may ask again.
_UNREAD_ERROR = "Failed to flush response stream"


class RemoteFiles:
    """S3 or GCS through pyarrow, with the credentials that it finds by itself.

    `AWS_ENDPOINT_URL` points S3 at another server, as it does for other tools.
    """

    folder = None

    def __init__(self, address: str) -> None:
        import pyarrow.fs

        self.address = address.rstrip("/")
        scheme, _, rest = address.partition("://")
        self._root = rest.rstrip("/")
        if not rest.split("/")[0]:
            raise StorageError(f"store address: expected {scheme}://bucket/path, got {address!r}")
        attempts = os.environ.get("AWS_MAX_ATTEMPTS", "")
        self._attempts = max(1, int(attempts)) if attempts.isdecimal() else S3_ATTEMPTS
        self._is_s3 = scheme.lower() == "s3"
        if self._is_s3:
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            self._endpoint = endpoint or None
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

    @functools.cached_property
    def _boto3_client(self) -> Any:
        """pyarrow offers no conditional writes, boto3 does. None on GCS and without boto3."""
        if not self._is_s3:
            return None
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            return None
        config = Config(
            connect_timeout=S3_CONNECT_S,
            read_timeout=S3_SILENCE_S,
            retries={"mode": "standard", "total_max_attempts": self._attempts},
            # As pyarrow asks: by path at another endpoint, without checksums that some refuse.
            s3={"addressing_style": "path" if self._endpoint else "auto"},
            request_checksum_calculation="when_required",
        )
        return boto3.session.Session().client(
            "s3", endpoint_url=self._endpoint, region_name=self._fs.region, config=config
        )

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def read(self, path: str) -> bytes:
        for attempt in range(1, self._attempts + 1):
            try:
                with self._fs.open_input_stream(self._path(path)) as stream:
                    content = bytes(stream.readall())
                if path.endswith(_IMMUTABLE):
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
        with (
            _refusals("write", self._path(path)),
            fs.open_output_stream(self._path(path)) as stream,
        ):
            stream.write(content)

    def write_once(self, path: str, content: bytes) -> bool:
        """On S3 a conditional PUT (`If-None-Match: *`): of several writers one wins, the others
        get False. On GCS, without boto3, and on servers that know no such condition, the last of
        several writers within a moment wins, and each gets True."""
        if self.exists(path):
            return False
        if self._boto3_client is None:
            self.write(path, content)
            return True
        return self._put_if_absent(path, content)

    def _put_if_absent(self, path: str, content: bytes) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, key = self._path(path).partition("/")
        attempt = 0
        while True:
            attempt += 1
            try:
                self._boto3_client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
                return True
            except ClientError as error:
                answer = error.response["ResponseMetadata"]
                status = answer.get("HTTPStatusCode")
                if status == 412:
                    # It may be our own: of an earlier try of this request, whose reply was lost.
                    return bool(answer.get("RetryAttempts")) and self.read(path) == content
                if status == 501:  # a server without conditional PUTs
                    self.write(path, content)
                    return True
                if status != 409 or attempt >= self._attempts:  # 409: another PUT is under way
                    raise _refused("write", self._path(path), error) from error
            except BotoCoreError as error:
                raise _refused("write", self._path(path), error) from error
            time.sleep(random.random() * 0.25 * 2**attempt)

    def exists(self, path: str) -> bool:
        import pyarrow.fs

        with _refusals("look at", self._path(path)):
            info = self._fs.get_file_info(self._path(path))
        return bool(info.type == pyarrow.fs.FileType.File)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        import pyarrow.fs

        selector = pyarrow.fs.FileSelector(self._path(prefix), recursive=True, allow_not_found=True)
        with _refusals("list", self._path(prefix)):
            infos = self._fs.get_file_info(selector)
        for info in infos:
            if info.type == pyarrow.fs.FileType.File:
                yield FileInfo(
                    path=info.path.removeprefix(self._root + "/"),
                    size_bytes=info.size,
                    mtime_s=(info.mtime_ns or 0) / 1e9,
                )

    def remove(self, path: str) -> None:
        with _refusals("remove", self._path(path)), contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._path(path))

    def rename(self, source: str, target: str) -> None:
        with _refusals("rename", self._path(source)):
            self._fs.move(self._path(source), self._path(target))
