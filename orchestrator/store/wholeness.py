"""Whether a file is whole, by its two ends. An object store's PUT is whole or not there.

All raise FileNotFoundError, and StoreError where the store can't be asked.
"""

from __future__ import annotations

import os

from prunegrid.orchestrator.errors import StoreError
from prunegrid.workers.files import Files, LocalFiles

#: Of a zip's last record, the end of the central directory.
_ZIP_END_BYTES = 22
#: White space may follow a JSON object.
_JSON_END_BYTES = 16


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
    if not isinstance(files, LocalFiles):
        return None
    try:
        with (files.root / path).open("rb") as file:
            head = file.read(size)
            file.seek(-min(size, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return head, file.read(size)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from error
