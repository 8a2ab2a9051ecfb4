"""Whether a file is whole: by its two ends, or by reading all of it. An object store's PUT is whole
or not there.

All raise FileNotFoundError, and StoreError where the store can't be asked.
"""

from __future__ import annotations

import json
import os
import zlib

from prunegrid.orchestrator.errors import StoreError
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files, StorageError
from prunegrid.workers.image_rows import read_table

CHECKED = "checked.json"

#: Of a zip's last record, the end of the central directory.
_ZIP_END_BYTES = 22
#: White space may follow a JSON object.
_JSON_END_BYTES = 16


class ReadableFiles:
    """Which Parquet files can be read. Decoding a file of one row takes a millisecond, reading its
    bytes a thirtieth of that; so what was decoded once is known by its CRC-32 afterwards."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._sums: dict[str, int] | None = None  #: of files that were ever decoded, by path
        self._seen: dict[str, tuple[object, bool]] = {}  #: by path: a stamp, and whether readable
        self._is_new = False

    def has(self, path: str) -> bool:
        """Whether the file can be read to its end."""
        if self._files.folder is None:
            return True
        try:
            stat = os.stat(self._files.folder / path)
            stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
            if path not in self._seen or self._seen[path][0] != stamp:
                self._seen[path] = stamp, self._read(path)
            return self._seen[path][1]
        except FileNotFoundError:
            raise
        except (OSError, StorageError) as error:
            raise StoreError(f"can't read {path}: {error}") from error

    def _read(self, path: str) -> bool:
        if self._sums is None:
            self._sums = self._load()
        content = self._files.read(path)
        crc = zlib.crc32(content)
        if self._sums.get(path) != crc:
            try:
                read_table(content)
            except ValueError:
                return False
            self._sums[path], self._is_new = crc, True
        return True

    def _load(self) -> dict[str, int]:
        try:
            sums = parse_json(self._files.read(CHECKED))
            return {str(path): int(crc) for path, crc in sums.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return {}

    def save(self) -> None:
        """For the store's driver. Raises StorageError."""
        if self._sums is not None and self._is_new:
            known = {path: crc for path, crc in self._sums.items() if path in self._seen}
            self._files.write(CHECKED, json.dumps(known).encode())
            self._is_new = False


def is_whole_parquet(files: Files, path: str) -> bool:
    ends = _ends(files, path, 4)
    return ends is None or ends == (b"PAR1", b"PAR1")


def is_whole_zip(files: Files, path: str) -> bool:
    ends = _ends(files, path, _ZIP_END_BYTES)
    return ends is None or (ends[0][:4] == b"PK\x03\x04" and ends[1][:4] == b"PK\x05\x06")


def is_whole_json(files: Files, path: str) -> bool:
    """An object's."""
    ends = _ends(files, path, _JSON_END_BYTES)
    return ends is None or (ends[0].lstrip()[:1] == b"{" and ends[1].rstrip()[-1:] == b"}")


def _ends(files: Files, path: str, size: int) -> tuple[bytes, bytes] | None:
    """The first and last bytes of a local file; None on an object store."""
    if files.folder is None:
        return None
    try:
        with (files.folder / path).open("rb") as file:
            head = file.read(size)
            file.seek(-min(size, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return head, file.read(size)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from error
