"""The store: what is done, as files. Ray holds no state that matters.

A task is done when its result file is there and whole: `models/<key>/result.json` of a train or
prune task, `results/images/<key>.parquet` of an attack. Rows of models and cells are derived
from them, and derived again where a crash left one out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.errors import StoreError, TornError
from orchestrator.rows import place_of
from workers import layout
from workers.contract import Failure, TaskKind
from workers.files import Files, LocalFiles, StorageError, open_files
from workers.results import ModelRecord
from workers.tables import ImageRows, read_images
from workers.weights import MASKS, WEIGHTS

MARKER = "store.json"
SELECTION = "selection.json"
FORMAT = 1
_PARQUET_MAGIC = b"PAR1"
_ZIP_MAGIC, _ZIP_END = b"PK\x03\x04", b"PK\x05\x06"  #: the end's record has 22 bytes


class Store:
    """One store, opened. Safe to use from one driver; any number may read beside it."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.address = files.address

    # ------------------------------------------------------------------ opening

    @classmethod
    def open(cls, address: str) -> Store:
        """An existing store. Raises StoreError where there is none, or it is not ours."""
        store = cls.find(address)
        if store is None:
            raise StoreError(
                f"{address}: there is no store here (expected a folder with {MARKER}); "
                f"'prunegrid run GRID --store {address}' makes one"
            )
        return store

    @classmethod
    def find(cls, address: str) -> Store | None:
        """As `open`, but None where there is no store yet."""
        store = cls(_files(address))
        return store if store._check_marker() else None

    @classmethod
    def open_or_create(cls, address: str) -> Store:
        """As `open`, but an absent or empty folder becomes a store."""
        files = _files(address)
        store = cls(files)
        if store._check_marker():
            return store
        if strangers := _strangers(files):
            raise StoreError(
                f"{files.address}: not a prunegrid store: it holds {', '.join(strangers)} and no "
                f"{MARKER}; expected a new or empty folder"
            )
        made = {"format": FORMAT, "made_at": datetime.now(UTC).isoformat(timespec="seconds")}
        store.write(MARKER, json.dumps(made).encode())
        return store

    def _check_marker(self) -> bool:
        try:
            raw = json.loads(self.files.read(MARKER))
        except FileNotFoundError:
            return False
        except StorageError as error:
            raise StoreError(str(error)) from error
        except ValueError as error:
            raise StoreError(f"{self.address}/{MARKER} is torn or not ours: {error}") from error
        version = raw.get("format") if isinstance(raw, dict) else None
        if version != FORMAT:
            raise StoreError(
                f"{self.address}: expected store format {FORMAT}, got {version!r}: "
                "made by another version of prunegrid"
            )
        return True

    # ------------------------------------------------------------------ plain files

    def write(self, path: str, content: bytes) -> None:
        """Raises StoreError: a driver that can't write must not go on."""
        try:
            self.files.write(path, content)
        except StorageError as error:
            raise StoreError(str(error)) from error

    def read_text(self, path: str) -> str | None:
        try:
            return self.files.read(path).decode()
        except FileNotFoundError:
            return None
        except StorageError as error:
            raise StoreError(str(error)) from error

    def set_grid(self, text: str) -> None:
        """Keep the grid as last run; an older, different one moves to `history/`."""
        old = self.read_text(layout.GRID)
        if old == text:
            return
        if old is not None:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            self.write(f"history/grid-{stamp}.yaml", old.encode())
        self.write(layout.GRID, text.encode())

    def set_selection(self, selection: Mapping[str, tuple[str, ...]]) -> None:
        """Remember which part of the grid was last asked for; `status` counts that."""
        text = json.dumps({axis: list(values) for axis, values in selection.items()})
        if self.read_text(SELECTION) != text:
            self.write(SELECTION, text.encode())

    def selection(self) -> dict[str, tuple[str, ...]]:
        try:
            raw = json.loads(self.read_text(SELECTION) or "{}")
            return {str(axis): tuple(map(str, values)) for axis, values in raw.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise StoreError(f"{self.address}/{SELECTION} is torn: {error}") from error

    # ------------------------------------------------------------------ tasks

    def finished(self) -> set[str]:
        """Keys of all tasks that have a result file, by its being there."""
        return set(self._result_files())

    def _result_files(self) -> dict[str, str]:
        try:
            models = [
                info.path
                for info in self.files.list(layout.MODELS)
                if info.path.endswith("/result.json") and info.size_bytes
            ]
            images = [i.path for i in self.files.list(layout.IMAGE_ROWS) if i.size_bytes]
        except StorageError as error:
            raise StoreError(str(error)) from error
        out = {path.split("/")[1]: path for path in models}
        out |= {Path(path).stem: path for path in images if path.endswith(".parquet")}
        return out

    def has(self, key: str) -> bool:
        """Whether a task's result is there and whole. Raises StoreError."""
        path = _result_path(key)
        try:
            return self.files.exists(path) and self._is_whole(path)
        except StorageError as error:
            raise StoreError(str(error)) from error

    def whole(self) -> set[str]:
        """As `finished`, without files that are torn."""
        return {key for key, path in self._result_files().items() if self._is_whole(path)}

    def set_torn_aside(self) -> list[str]:
        """Move result files that are not whole to `torn/`, so that their tasks run again.

        Our own writes are atomic; a torn file comes from a crashed disk or from outside.
        Returns the moved files' old paths.
        """
        torn = {k: path for k, path in self._result_files().items() if not self._is_whole(path)}
        for key in torn:
            self.set_aside(key)
        return list(torn.values())

    def set_aside(self, key: str) -> None:
        """A task's result moves to `torn/`: the task is not done. Raises StoreError."""
        path = _result_path(key)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        try:
            self.files.rename(path, f"torn/{key}-{stamp}{Path(path).suffix}")
        except StorageError as error:
            raise StoreError(str(error)) from error

    def _is_whole(self, path: str) -> bool:
        """By both ends of what is large. Raises StoreError where the store can't be asked."""
        if path.endswith(".parquet"):
            return self._has_ends(path, _PARQUET_MAGIC, _PARQUET_MAGIC, tail_bytes=4)
        key = path.split("/")[1]
        try:
            self.model_record(key)
        except TornError:
            return False
        arrays = (layout.model_file(key, name) for name in (WEIGHTS, MASKS))
        return all(self._has_ends(p, _ZIP_MAGIC, _ZIP_END, tail_bytes=22) for p in arrays)

    def _has_ends(self, path: str, head: bytes, tail: bytes, *, tail_bytes: int) -> bool:
        if not isinstance(self.files, LocalFiles):
            return True  # an object store's PUT is whole or not there
        try:
            with (self.files.root / path).open("rb") as file:
                starts = file.read(len(head)) == head
                file.seek(-min(tail_bytes, os.fstat(file.fileno()).st_size), os.SEEK_END)
                return starts and file.read(len(tail)) == tail
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"can't read {path}: {error.strerror}") from error

    def model_record(self, key: str) -> ModelRecord:
        """Raises StoreError where it is missing or torn."""
        path = layout.model_record(key)
        return self._parsed(path, ModelRecord.from_json)

    def image_rows(self, key: str) -> ImageRows:
        """Raises StoreError where they are missing or torn."""
        return self._parsed(layout.image_rows(key), read_images)

    def _parsed(self, path: str, parse):  # type: ignore[no-untyped-def]
        try:
            return parse(self.files.read(path))
        except FileNotFoundError:
            raise TornError(f"{self.address}/{path}: missing") from None
        except StorageError as error:
            raise StoreError(str(error)) from error
        except (ValueError, TypeError, KeyError) as error:
            raise TornError(f"{self.address}/{path}: torn or not ours: {error}") from error

    def record_failure(self, failure: Failure, attempt: int) -> None:
        content = json.dumps({**dataclasses.asdict(failure), "attempt": attempt, "at": time.time()})
        self.write(layout.failure_file(failure.key, attempt), content.encode())

    def failures(self, key: str) -> list[dict[str, object]]:
        """Every recorded attempt that failed, oldest first; torn ones are left out."""
        out = []
        for info in sorted(self.files.list(f"{layout.FAILURES}/{key}"), key=lambda i: i.mtime_s):
            try:
                out.append(json.loads(self.files.read(info.path)))
            except ValueError:
                continue
        return out

    # ------------------------------------------------------------------ derived rows

    def row_ids(self, folder: str, *, whole: bool = False) -> set[str]:
        """Names of the rows in `results/models` or `results/cells`. `whole`: without torn ones,
        which takes a look into each."""
        return {
            Path(info.path).stem
            for info in self.files.list(folder)
            if info.path.endswith(".parquet")
            and info.size_bytes
            and (not whole or self._is_whole(info.path))
        }

    def supersede(self, folder: str, wanted: Iterable[str], present: Collection[str]) -> list[str]:
        """Move rows whose place has another, newly planned work to `superseded/`, so that no
        reader counts a cell twice; what they rest on stays. Returns the moved rows' names."""
        by_place = {place_of(name): name for name in wanted}
        moved = []
        for name in present:
            if by_place.get(place_of(name), name) != name:
                self.files.rename(f"{folder}/{name}.parquet", f"superseded/{folder}/{name}.parquet")
                moved.append(name)
        return moved


def _result_path(key: str) -> str:
    return layout.image_rows(key) if key.startswith(TaskKind.ATTACK) else layout.model_record(key)


def _files(address: str) -> Files:
    try:
        return open_files(address)
    except StorageError as error:
        raise StoreError(str(error)) from error


def _strangers(files: Files) -> list[str]:
    """Up to three names in a place that should be empty."""
    if isinstance(files, LocalFiles):
        try:
            names = sorted(entry.name for entry in os.scandir(files.root))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{files.address}: can't be read: {error.strerror}") from error
    else:
        try:
            names = sorted({info.path.split("/")[0] for info in files.list("")})
        except StorageError as error:
            raise StoreError(str(error)) from error
    return names[:3] + (["..."] if len(names) > 3 else [])


def this_host() -> str:
    return socket.gethostname()
