"""Follows a store's result files: which exist, which are torn, and the values of new rows.

A listing costs one `stat` per file, so a folder is listed again only if its own time has changed.
Each row is read once; image rows are never read.
"""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.store.merged import MergedFiles, is_merged
from prunegrid.orchestrator.store.wholeness import is_whole_json, is_whole_parquet, is_whole_zip
from prunegrid.workers import layout
from prunegrid.workers.files import FileInfo, Files, StorageError

#: A folder is listed this often even if its time is unchanged: a file may be damaged in place.
LOOK_AGAIN_S = 60.0
#: A folder that changed less than this ago is listed again: file times may be coarse.
_COARSE_S = 2.0
_ROWS = {
    layout.MODEL_ROWS: ("model_id", "accuracy"),
    layout.CELL_ROWS: ("cell_id", "robust_accuracy"),
}
#: Also the order of reading: values first, then whether the rest is whole.
_FOLDERS = (
    *_ROWS,
    layout.MODELS,
    layout.IMAGE_ROWS,
    layout.TRANSFER_IMAGE_ROWS,
    layout.ALL_ADVERSARIALS,
)
_ENDINGS = {layout.MODELS: "/result.json", layout.ALL_ADVERSARIALS: ".npz"}


class ResultFiles:
    """Owned by one thread."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._merged = MergedFiles(files)
        self._seen: dict[str, dict[str, FileInfo]] = {folder: {} for folder in _FOLDERS}
        self._listed: dict[str, tuple[int, float]] = {}  #: folder -> (its mtime in ns, when)
        self._unread: deque[str] = deque()
        self._rows: dict[str, dict[str, float | None]] = {}  #: row file -> id -> value
        self._finished: dict[str, tuple[str, ...]] = {}  #: result file -> task keys
        self.torn: dict[str, str] = {}  #: path -> what is wrong

    # ------------------------------------------------------------------ looking

    def look(self) -> bool:
        """List what may have changed; True where something did. Raises StorageError."""
        changed = [self._look_at(folder) for folder in _FOLDERS]
        return any(changed)

    def _look_at(self, folder: str) -> bool:
        stamp = self._folder_ns(folder)
        known_ns, at_s = self._listed.get(folder, (-1, -1e9))
        now_s = time.monotonic()
        if stamp is not None and stamp == known_ns and now_s - at_s < LOOK_AGAIN_S:
            return False
        found = {info.path: info for info in self._results(folder)}
        before = self._seen[folder]
        for path in before.keys() - found.keys():
            self._forget(path)
        fresh = [path for path, one in found.items() if before.get(path) != one]
        for path in fresh:
            self._forget(path)
            self._meet(folder, found[path])
        self._seen[folder] = found
        coarse = stamp is None or time.time() - stamp / 1e9 < _COARSE_S
        self._listed[folder] = (-1 if coarse else stamp or -1, now_s)
        return bool(fresh) or len(found) != len(before)

    def _folder_ns(self, folder: str) -> int | None:
        """When names in a flat local folder last changed; None where that can't be known."""
        if self._files.folder is None or folder == layout.MODELS:
            return None
        try:
            return os.stat(self._files.folder / folder).st_mtime_ns
        except OSError:
            return None

    def _results(self, folder: str) -> Iterator[FileInfo]:
        ending = _ENDINGS.get(folder, ".parquet")
        for info in self._files.list(folder):
            if info.size_bytes and info.path.endswith(ending):
                yield info

    def _meet(self, folder: str, info: FileInfo) -> None:
        path = info.path
        if folder == layout.MODELS:
            self._finished[path] = (path.split("/")[1],)
        elif folder == layout.ALL_ADVERSARIALS:
            self._finished[path] = (layout.adversarials_name(PurePosixPath(path).stem),)
        else:
            names: tuple[str, ...] = (PurePosixPath(path).stem,)
            if is_merged(path):
                members = self._merged.members(info)
                if members is None:
                    self.torn[path] = "its list of members can't be read"
                names = tuple(members or ())
            if folder in (layout.IMAGE_ROWS, layout.TRANSFER_IMAGE_ROWS):
                self._finished[path] = names
            else:
                self._rows[path] = dict.fromkeys(names)
        self._unread.append(path)

    def _forget(self, path: str) -> None:
        self._finished.pop(path, None)
        self._rows.pop(path, None)
        self.torn.pop(path, None)

    # ------------------------------------------------------------------ reading

    def read(self, budget_s: float) -> int:
        """Read new files until the time is used up. Returns how many were read."""
        limit_s = time.monotonic() + budget_s
        count = 0
        while self._unread and time.monotonic() < limit_s:
            self._read_one(self._unread.popleft())
            count += 1
        return count

    @property
    def unread(self) -> int:
        return len(self._unread)

    def _read_one(self, path: str) -> None:
        if path not in self._rows and path not in self._finished:
            return  # gone meanwhile
        try:
            if path in self._rows:
                self._rows[path] = self._row_values(path)
            elif not _is_whole(self._files, path):
                self.torn[path] = "its end is missing"
        except FileNotFoundError:
            return  # the next look notices
        except (
            pa.ArrowException,
            OSError,
            PrunegridError,
            StorageError,
            ValueError,
            KeyError,
        ) as error:
            self.torn[path] = str(error).split("\n", 1)[0][:200]

    def _row_values(self, path: str) -> dict[str, float | None]:
        folder = path.rsplit("/", 1)[0]
        name, value = _ROWS[folder if folder in _ROWS else _folder_of(path)]
        file = pq.ParquetFile(io.BytesIO(self._files.read(path)))
        if b"prunegrid.schema" not in (file.schema_arrow.metadata or {}):
            raise ValueError("Parquet file without prunegrid's metadata")
        table = file.read(columns=[name, value], use_threads=False)
        ids, values = table.column(name).to_pylist(), table.column(value).to_pylist()
        return {str(one): number for one, number in zip(ids, values, strict=True)}

    # ------------------------------------------------------------------ what is known

    def finished(self) -> set[str]:
        """Keys of tasks that have a result file, as `Store.finished` says."""
        return {key for keys in self._finished.values() for key in keys}

    def values(self, folder: str) -> Iterator[tuple[str, float | None]]:
        """(id, value) of every row there; None: not read yet, or torn."""
        for path, rows in self._rows.items():
            if path.startswith(folder):
                yield from rows.items()


def _folder_of(path: str) -> str:
    return next(folder for folder in _ROWS if path.startswith(folder + "/"))


def _is_whole(files: Files, path: str) -> bool:
    if path.endswith(".npz"):
        return is_whole_zip(files, path)
    return (is_whole_parquet if path.endswith(".parquet") else is_whole_json)(files, path)
