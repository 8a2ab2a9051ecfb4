"""The store: what is done, as files. Ray holds no state that matters.

A task is done when its result file is there and whole: `models/<key>/result.json` of a train or
prune task, `results/images/<key>.parquet` of an attack, `results/transfer_images/<key>.parquet` of
a transfer. Rows of models, cells and transfers are derived from them, and derived again where a
crash left one out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from prunegrid.orchestrator.errors import NotOursError, StoreError, TornError
from prunegrid.orchestrator.grid.grid import place_of
from prunegrid.orchestrator.store.failure_records import FailureRecord, read_failures
from prunegrid.orchestrator.store.merged import MergedFiles, is_merged, merge
from prunegrid.orchestrator.store.rows import CELL_SCHEMA, MODEL_SCHEMA
from prunegrid.orchestrator.store.transfer_rows import TRANSFER_SCHEMA
from prunegrid.orchestrator.store.wholeness import ReadableFiles, is_whole_zip
from prunegrid.workers import layout
from prunegrid.workers.artifacts import MASKS, WEIGHTS
from prunegrid.workers.contract import Failure, TaskKind
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import (
    FileInfo,
    Files,
    StorageError,
    is_temporary,
    open_files,
    sweep_temporary,
    temporary_name,
)
from prunegrid.workers.image_rows import (
    IMAGE_SCHEMA,
    ImageRows,
    images_of,
    parquet_bytes,
    read_images,
    read_table,
)
from prunegrid.workers.records import ModelRecord
from prunegrid.workers.transfer_image_rows import (
    TRANSFER_IMAGE_SCHEMA,
    TransferRows,
    read_transfers,
    transfers_of,
)

T = TypeVar("T")

MARKER = "store.json"
SELECTION = "selection.json"
FORMAT = 1
#: Of store.json: since when the names of attacks mean what they mean. Absent: 1, before
#: `grid/first_names.py`.
ATTACK_NAMES = 2
#: Folders of results whose files may be merged.
SCHEMAS = {
    layout.MODEL_ROWS: MODEL_SCHEMA,
    layout.CELL_ROWS: CELL_SCHEMA,
    layout.IMAGE_ROWS: IMAGE_SCHEMA,
    layout.TRANSFER_ROWS: TRANSFER_SCHEMA,
    layout.TRANSFER_IMAGE_ROWS: TRANSFER_IMAGE_SCHEMA,
}
#: Those whose rows are tasks' own results.
TASK_ROWS = (layout.IMAGE_ROWS, layout.TRANSFER_IMAGE_ROWS)


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """A StorageError from within becomes a StoreError."""
    try:
        yield
    except StorageError as error:
        raise StoreError(str(error)) from error


class Store:
    """One store, opened. Safe to use from one driver; any number may read beside it."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.address = files.address
        self._merged = MergedFiles(files)
        self._readable = ReadableFiles(files)

    # ------------------------------------------------------------------ opening

    @classmethod
    def open(cls, address: str) -> Store:
        """An existing store. Raises StoreError where there is none, or it is not ours."""
        store = cls.find(address)
        if store is None:
            cls(store_files(address))._refuse_strangers()
            raise NotOursError(
                f"{address}: there is no store here (expected a folder with {MARKER}); "
                f"'prunegrid run GRID --store {address}' makes one"
            )
        return store

    @classmethod
    def find(cls, address: str) -> Store | None:
        """As `open`, but None where there is no store yet."""
        store = cls(store_files(address))
        return store if store._check_marker() else None

    @classmethod
    def open_or_create(cls, address: str, *, first_names: bool = False) -> Store:
        """As `open`, but an absent or empty folder becomes a store; `first_names`: which means by
        attacks what stores of before do."""
        files = store_files(address)
        store = cls(files)
        if store._check_marker():
            if blocked := store.in_the_way():
                raise StoreError(
                    f"{store.address}: expected folders, got a file at {', '.join(blocked)}; move "
                    f"it away: prunegrid verify --store {address} --set-aside"
                )
            return store
        store._refuse_strangers()
        made: dict[str, object] = {
            "format": FORMAT,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if not first_names:
            made["attack_names"] = ATTACK_NAMES
        with store_errors():
            files.write_once(MARKER, json.dumps(made).encode())
        return store

    def _check_marker(self) -> bool:
        raw = self.read_json(MARKER)
        if raw is None:
            return False
        version = raw.get("format") if isinstance(raw, dict) else None
        if version != FORMAT:
            raise StoreError(
                f"{self.address}: expected store format {FORMAT}, got {version!r}: "
                "made by another version of prunegrid"
            )
        return True

    def _refuse_strangers(self) -> None:
        """Raises NotOursError where the place holds other things and no store."""
        others = _strangers(self.files)
        if others and not self._check_marker():  # another start may have made it just now
            raise NotOursError(
                f"{self.address}: not a prunegrid store: it holds {', '.join(others)} and no "
                f"{MARKER}; expected a new or empty folder"
            )

    @property
    def has_first_names(self) -> bool:
        """Whether it was made before attacks got names of their own. Raises StoreError."""
        marker = self.read_json(MARKER)
        return isinstance(marker, dict) and marker.get("attack_names", 1) == 1

    def in_the_way(self) -> list[str]:
        """Places of folders at which something else stands, which no task's retry mends."""
        root = self.files.folder
        if root is None:
            return []
        places = [Path(folder) for folder in (*SCHEMAS, layout.MODELS, layout.JOURNAL)]
        above = {str(parent) for place in places for parent in (place, *place.parents)} - {"."}
        return sorted(p for p in above if os.path.lexists(root / p) and not (root / p).is_dir())

    def sweep(self) -> None:
        """Delete the temporary files of writers that are gone. Raises StoreError."""
        if self.files.folder is not None:  # an object store has none
            with store_errors():
                sweep_temporary(self.files.folder)

    # ------------------------------------------------------------------ plain files

    def write(self, path: str, content: bytes) -> None:
        """Raises StoreError: a driver that can't write must not go on."""
        with store_errors():
            self.files.write(path, content)

    def read_bytes(self, path: str) -> bytes | None:
        """None where there is no such file. Raises StoreError."""
        return self._read(path, bytes)

    def read_text(self, path: str) -> str | None:
        """None where there is no such file. Raises StoreError."""
        return self._read(path, bytes.decode)

    def read_json(self, path: str) -> Any:
        """None where there is no such file. Raises StoreError."""
        return self._read(path, parse_json)

    def _read(self, path: str, parse: Callable[[bytes], T]) -> T | None:
        try:
            with store_errors():
                return parse(self.files.read(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise TornError(f"{self.address}/{path} is torn or not ours: {error}") from error

    def set_grid(self, text: str) -> None:
        """Keep the grid as last run; an older, different one, text or not, moves to `history/`."""
        old, new = self.read_bytes(layout.GRID), text.encode()
        if old == new:
            return
        if old is not None:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            self.write(f"history/grid-{stamp}.yaml", old)
        self.write(layout.GRID, new)

    def set_selection(self, selection: Mapping[str, tuple[str, ...]]) -> None:
        """Remember which part of the grid was last asked for; `status` counts that."""
        text = json.dumps({axis: list(values) for axis, values in selection.items()}).encode()
        if self.read_bytes(SELECTION) != text:
            self.write(SELECTION, text)

    def selection(self) -> dict[str, tuple[str, ...]]:
        try:
            raw = self.read_json(SELECTION) or {}
            return {str(axis): tuple(map(str, values)) for axis, values in raw.items()}
        except (AttributeError, TypeError) as error:
            raise TornError(f"{self.address}/{SELECTION} is torn or not ours: {error}") from error

    def record_failure(self, failure: Failure, attempt: int) -> None:
        content = json.dumps({**dataclasses.asdict(failure), "attempt": attempt, "at": time.time()})
        self.write(layout.failure_file(failure.key, attempt), content.encode())

    def failures(self, key: str) -> list[FailureRecord]:
        """Every recorded attempt that failed, oldest first; torn ones are left out."""
        return list(read_failures(self.files, key))

    # ------------------------------------------------------------------ tasks

    def finished(self) -> set[str]:
        """Keys of all tasks that have a result file, whole or not; and of attacks that kept their
        adversarials, `layout.adversarials_name`."""
        return set(self._result_files())

    def _result_files(self) -> dict[str, str]:
        with store_errors():
            rows = [info for folder in TASK_ROWS for info in self.files.list(folder)]
            return self._results_with(rows)

    def _results_with(self, rows: Iterable[FileInfo]) -> dict[str, str]:
        """Of models, kept adversarials, and these files of rows: the file of each task's result."""
        models = [
            info.path
            for info in self.files.list(layout.MODELS)
            if info.path.endswith("/result.json") and info.size_bytes
        ]
        out = {path.split("/")[1]: path for path in models}
        for info in self.files.list(layout.ALL_ADVERSARIALS):
            if info.path.endswith(".npz") and info.size_bytes:
                out[layout.adversarials_name(Path(info.path).stem)] = info.path
        return self._by_name(info for info in rows if info.size_bytes) | out

    def _by_name(self, files: Iterable[FileInfo]) -> dict[str, str]:
        """File by the name of the task or row that it holds; a merged one holds many."""
        out: dict[str, str] = {}
        for file in (file for file in files if file.path.endswith(".parquet")):
            names = self._merged.members(file) if is_merged(file.path) else [Path(file.path).stem]
            out |= dict.fromkeys(names or (), file.path)
        return out

    def has(self, key: str) -> bool:
        """Whether a task's result is there and whole. Raises StoreError."""
        path = _result_path(key)
        with store_errors():
            if self.files.exists(path):
                return self._is_whole(path)
            folder = path.rpartition("/")[0]
            return folder in SCHEMAS and self._merged.find(folder, key) is not None

    def shows(self, key: str) -> bool:
        """Whether a task's result file is there, whole or not, in a file of its own. Raises
        StoreError."""
        with store_errors():
            return self.files.exists(_result_path(key))

    def whole(self) -> set[str]:
        """As `finished`, without tasks whose file is torn."""
        files = self._result_files()
        torn = {path for path in set(files.values()) if not self._is_whole(path)}
        return {key for key, path in files.items() if path not in torn}

    def set_torn_aside(self, rows: Callable[[str], Iterable[str]] = lambda key: ()) -> list[str]:
        """Move files of results that are not whole to `torn/`, so that their tasks run again and
        their rows are derived again. `rows`: a task to the paths of the rows that rest on it.

        Our own writes are atomic; a torn file comes from a crashed disk or from outside.
        Returns the moved files' old paths.
        """
        with store_errors():
            files = [file for folder in SCHEMAS for file in self.files.list(folder)]
            bad = [f for f in files if f.path.endswith(".parquet") and not self.is_readable(f)]
            merged = [file for file in bad if is_merged(file.path)]
            of_tasks = [f for f in files if f.path.startswith(TASK_ROWS) and f not in merged]
            results = self._results_with(of_tasks)
        for file in merged:
            for name in self._set_merged_aside(file):
                for row in rows(name):
                    self.set_row_aside(row)
        torn = {key: path for key, path in results.items() if not self._is_whole(path)}
        for key in torn:
            self.set_aside(key, rows(key))
        moved = {*(file.path for file in merged), *torn.values()}
        with store_errors():  # some rows have gone aside with what they rest on
            left = [f.path for f in bad if f.path not in moved and self.files.exists(f.path)]
        for path in left:  # readers of the whole folder fail on them
            self._move(path, _torn(Path(path).stem, ".parquet"))
        return [*moved, *left]

    def _set_merged_aside(self, file: FileInfo) -> list[str]:
        """Move a damaged merged file to `torn/`; what can be read of it stays. The lost names."""
        names = list(self._merged.members(file) or ())
        lost = [name for name in names if not self._merged.has(file, name)]
        kept = (self._merged.read(file, name) for name in names if name not in set(lost))
        folder = file.path.rpartition("/")[0]
        aside = f"{folder}/{temporary_name('rows')}"
        if len(lost) < len(names):
            self.write(aside, merge(kept, SCHEMAS[folder]))
        self._move(file.path, _torn(Path(file.path).stem, ".parquet"))
        if len(lost) < len(names):
            self._move(aside, file.path)
        return lost

    def is_readable(self, file: FileInfo) -> bool:
        """Whether readers of the folder can read one of its Parquet files. Raises StoreError."""
        if is_merged(file.path) and self._merged.members(file) is None:
            return False
        return bool(file.size_bytes) and self._is_whole(file.path)

    def save_checked(self) -> None:
        """Remember which files were read, so that the next start need not decode them. Raises
        StoreError."""
        with store_errors():
            self._readable.save()

    def set_aside(self, key: str, rows: Iterable[str] = ()) -> None:
        """Move a task's result to `torn/`: the task is then not done. The rows that rest on it are
        moved first, or they would stay beside the new result's. Raises StoreError."""
        for path in rows:
            self.set_row_aside(path)
        path = _result_path(key)
        self._take_out(path, key, _torn(key, Path(path).suffix))

    def keep_torn(self, path: str, content: bytes) -> None:
        """A file's content of before it is mended, in `torn/`. Raises StoreError."""
        self.write(_torn(Path(path).stem, Path(path).suffix), content)

    def set_row_aside(self, path: str) -> None:
        """Move a row to `torn/`, or any other file of its folder. Raises StoreError."""
        folder, _, name = path.rpartition("/")
        name = Path(name).stem
        if self.files.exists(path) or self._merged.find(folder, name) is not None:
            self._take_out(path, name, _torn(name, Path(path).suffix))

    def _take_out(self, path: str, name: str, target: str) -> None:
        """Move a result file, or its rows out of the merged file that holds them."""
        folder = path.rpartition("/")[0]
        merged = self._merged.find(folder, name) if folder in SCHEMAS else None
        if merged is None or self.files.exists(path):
            self._move(path, target)
            return
        self.write(target, parquet_bytes(self._member(merged, name)))
        rest = (member for member in self._merged.all(merged) if member.name != name)
        # One rename: no reader sees the rest twice or not at all.
        aside = f"{folder}/{temporary_name('rows')}"
        self.write(aside, merge(rest, SCHEMAS[folder]))
        self._move(aside, merged.path)

    def _move(self, path: str, target: str) -> None:
        with store_errors():
            self.files.rename(path, target)

    def _is_whole(self, path: str) -> bool:
        """Weights by both ends, the rest by reading it. Raises StoreError where the store can't be
        asked."""
        try:
            if path.endswith(".parquet"):
                return self._readable.has(path)
            if path.endswith(".npz"):
                return is_whole_zip(self.files, path)
            key = path.split("/")[1]
            self.model_record(key)
            arrays = (layout.model_file(key, name) for name in (WEIGHTS, MASKS))
            return all(is_whole_zip(self.files, p) for p in arrays)
        except (FileNotFoundError, TornError):
            return False

    def model_record(self, key: str) -> ModelRecord:
        """Raises StoreError where it is missing or torn."""
        path = layout.model_record(key)
        return self._parsed(path, ModelRecord.from_json)

    def image_rows(self, key: str) -> ImageRows:
        """Raises StoreError where they are missing or torn."""
        return self._task_rows(key, read_images, images_of)

    def transfer_rows(self, key: str) -> TransferRows:
        """Raises StoreError where they are missing or torn."""
        return self._task_rows(key, read_transfers, transfers_of)

    def _task_rows(
        self, key: str, read: Callable[[bytes], T], of_table: Callable[[pa.Table], T]
    ) -> T:
        path = _result_path(key)
        if not self.files.exists(path):
            merged = self._merged.find(path.rpartition("/")[0], key)
            if merged is not None:
                return of_table(self._member(merged, key))
        return self._parsed(path, read)

    def unmerge(self, key: str) -> None:
        """Give a task's rows a file of their own, where a merged one holds them: a worker that
        makes them again looks there. Raises StoreError."""
        path = _result_path(key)
        with store_errors():
            if not self.files.exists(path):
                merged = self._merged.find(path.rpartition("/")[0], key)
                if merged is not None:
                    self._take_out(path, key, path)

    def _member(self, merged: FileInfo, name: str) -> pa.Table:
        try:
            return self._merged.read(merged, name).table
        except KeyError as error:
            raise TornError(f"{self.address}/{merged.path}: no {name} in it") from error
        except ValueError as error:
            raise TornError(f"{self.address}/{error}") from error

    def row(self, folder: str, name: str) -> pa.Table:
        """One row of `results/models` or `results/cells`. Raises StoreError where it is torn."""
        path = f"{folder}/{name}.parquet"
        if not self.files.exists(path):
            merged = self._merged.find(folder, name)
            if merged is not None:
                return self._member(merged, name)
        return self._parsed(path, read_table)

    def _parsed(self, path: str, parse: Callable[[bytes], T]) -> T:
        try:
            with store_errors():
                return parse(self.files.read(path))
        except FileNotFoundError:
            raise TornError(f"{self.address}/{path}: missing") from None
        except (ValueError, TypeError, KeyError) as error:
            raise TornError(f"{self.address}/{path}: torn or not ours: {error}") from error

    # ------------------------------------------------------------------ derived rows

    def write_row(self, path: str, content: bytes) -> None:
        """Replaces an existing row, also one in a merged file. Raises StoreError."""
        if not self.files.exists(path):
            self.set_row_aside(path)
        self.write(path, content)

    def row_ids(self, folder: str, *, whole: bool = False) -> set[str]:
        """Names of the rows in `results/models` or `results/cells`. `whole`: without torn ones,
        which opens each file."""
        found = [info for info in self.files.list(folder) if info.size_bytes]
        return {
            name for name, path in self._by_name(found).items() if not whole or self._is_whole(path)
        }

    def twice(self, folder: str) -> set[str]:
        """Names whose rows are both in a single file and in a merged one, as of a task that ended
        again after the folder was merged. Plain readers see both."""
        single, merged = set[str](), set[str]()
        for file in self.files.list(folder):
            if is_merged(file.path):
                merged |= set(self._merged.members(file) or ())
            else:
                single.add(Path(file.path).stem)
        return single & merged

    def supersede(self, folder: str, wanted: Iterable[str], present: Collection[str]) -> list[str]:
        """Move rows whose place has other work in the new plan to `superseded/`, so that no reader
        counts a cell twice; the task results stay. Returns the moved rows' names."""
        by_place = {place_of(name): name for name in wanted}
        moved = []
        for name in present:
            if by_place.get(place_of(name), name) != name:
                path = f"{folder}/{name}.parquet"
                self._take_out(path, name, f"superseded/{path}")
                moved.append(name)
        return moved


def store_files(address: str) -> Files:
    """Raises NotOursError for an address of another kind, of a file, or below one."""
    try:
        files = open_files(address)
    except StorageError as error:
        raise NotOursError(str(error)) from error
    if files.folder is not None:
        here = next((p for p in (files.folder, *files.folder.parents) if os.path.lexists(p)), None)
        if here is not None and not here.is_dir():
            what = "a file" if here.exists() else "a link to nothing"
            raise NotOursError(f"{here}: {what} stands where a folder is needed")
    return files


#: What systems put into folders by themselves.
_LITTER = (
    *(".DS_Store", "._*", ".localized", ".Spotlight-V100", ".fseventsd", ".Trashes"),
    *("lost+found", ".Trash-*", ".directory", ".nfs*", ".snapshot"),
    *("Thumbs.db", "desktop.ini", "System Volume Information", "$RECYCLE.BIN"),
)


def _strangers(files: Files) -> list[str]:
    """Up to three names in a place that should be empty, but for what systems leave in folders and
    killed writers of ours. Raises StoreError."""
    if files.folder is not None:
        try:
            names = sorted(entry.name for entry in os.scandir(files.folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{files.address}: can't be read: {error.strerror}") from error
    else:
        with store_errors():
            names = sorted({info.path.split("/")[0] for info in files.list("")})
    names = [n for n in names if not is_temporary(n) and not any(fnmatch(n, p) for p in _LITTER)]
    return names[:3] + (["..."] if len(names) > 3 else [])


def _torn(name: str, suffix: str) -> str:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"torn/{name}-{stamp}{suffix}"


def _result_path(key: str) -> str:
    if key.startswith(TaskKind.ATTACK):
        return layout.image_rows(key)
    if key.startswith(TaskKind.TRANSFER):
        return layout.transfer_image_rows(key)
    return layout.adversarials_file(key) or layout.model_record(key)


def this_host() -> str:
    return socket.gethostname()
