"""Files of a store on S3 or GCS. See `prunegrid.workers.files`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from typing import Any

from prunegrid.workers.storage import FileInfo, StorageError, refused

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
                    raise refused("read", self._path(path), error) from error
            time.sleep(random.random() * 0.25 * 2**attempt)
        raise StorageError(f"can't read {self._path(path)}: replaced whenever it was read")

    def write(self, path: str, content: bytes) -> None:
        fs = self._one_put if len(content) <= ONE_PUT_BYTES else self._fs
        try:
            with fs.open_output_stream(self._path(path)) as stream:
                stream.write(content)
        except OSError as error:
            raise refused("write", self._path(path), error) from error

    def write_once(self, path: str, content: bytes) -> bool:
        if self.exists(path):
            return False
        self.write(path, content)
        return True

    def exists(self, path: str) -> bool:
        import pyarrow.fs

        try:
            info = self._fs.get_file_info(self._path(path))
        except OSError as error:
            raise refused("look at", self._path(path), error) from error
        return bool(info.type == pyarrow.fs.FileType.File)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        import pyarrow.fs

        selector = pyarrow.fs.FileSelector(self._path(prefix), recursive=True, allow_not_found=True)
        try:
            infos = self._fs.get_file_info(selector)
        except OSError as error:
            raise refused("list", self._path(prefix), error) from error
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
            raise refused("remove", self._path(path), error) from error

    def rename(self, source: str, target: str) -> None:
        try:
            self._fs.move(self._path(source), self._path(target))
        except OSError as error:
            raise refused("rename", self._path(source), error) from error
