"""A store's results: which tasks are done, which rows there are, single or merged files."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from prunegrid.orchestrator.errors import StoreError, TornError
from prunegrid.orchestrator.plan.places import place_of
from prunegrid.orchestrator.store.merged import MergedFiles, is_merged, merge
from prunegrid.orchestrator.store.rows import CELL_SCHEMA, MODEL_SCHEMA
from prunegrid.orchestrator.store.wholeness import is_whole_parquet, is_whole_zip
from prunegrid.workers import layout
from prunegrid.workers.artifacts import MASKS, WEIGHTS
from prunegrid.workers.contract import TaskKind
from prunegrid.workers.files import FileInfo, Files, StorageError
from prunegrid.workers.image_rows import (
    IMAGE_SCHEMA,
    ImageRows,
    images_of,
    parquet_bytes,
    read_images,
    read_table,
)
from prunegrid.workers.records import ModelRecord

T = TypeVar("T")

#: Folders of results whose files may be merged.
SCHEMAS = {
    layout.MODEL_ROWS: MODEL_SCHEMA,
    layout.CELL_ROWS: CELL_SCHEMA,
    layout.IMAGE_ROWS: IMAGE_SCHEMA,
}


class StoredResults:
    """The part of a store that `Store` inherits."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.address = files.address
        self._merged = MergedFiles(files)

    def write(self, path: str, content: bytes) -> None:
        """Raises StoreError: a driver that can't write must not go on."""
        try:
            self.files.write(path, content)
        except StorageError as error:
            raise StoreError(str(error)) from error

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
            images = [info for info in self.files.list(layout.IMAGE_ROWS) if info.size_bytes]
        except StorageError as error:
            raise StoreError(str(error)) from error
        out = {path.split("/")[1]: path for path in models}
        return self._by_name(images) | out

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
        try:
            if self.files.exists(path):
                return self._is_whole(path)
            folder = layout.IMAGE_ROWS
            return path.startswith(folder) and self._merged.find(folder, key) is not None
        except StorageError as error:
            raise StoreError(str(error)) from error

    def whole(self) -> set[str]:
        """As `finished`, without files that are torn."""
        files = self._result_files()
        torn = {path for path in set(files.values()) if not self._is_whole(path)}
        return {key for key, path in files.items() if path not in torn}

    def set_torn_aside(self, rows: Callable[[str], Iterable[str]] = lambda key: ()) -> list[str]:
        """Move result files that are not whole to `torn/`, so that their tasks run again.
        `rows`: a task to the paths of the rows that rest on it.

        Our own writes are atomic; a torn file comes from a crashed disk or from outside.
        Returns the moved files' old paths.
        """
        torn = {k: path for k, path in self._result_files().items() if not self._is_whole(path)}
        for key in torn:
            self.set_aside(key, rows(key))
        broken = [
            info.path
            for folder in (layout.IMAGE_ROWS, layout.MODEL_ROWS, layout.CELL_ROWS)
            for info in self.files.list(folder)
            if is_merged(info.path) and self._merged.members(info) is None
        ]
        for path in broken:
            self._move(path, _torn(Path(path).stem, ".parquet"))
        return [*torn.values(), *broken]

    def set_aside(self, key: str, rows: Iterable[str] = ()) -> None:
        """A task's result moves to `torn/`: the task is not done. The rows that rest on it go
        before it: they would tell of the old result beside the new one. Raises StoreError."""
        for path in rows:
            self._take_row_out(path)
        path = _result_path(key)
        self._take_out(path, key, _torn(key, Path(path).suffix))

    def _take_row_out(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        name = Path(name).stem
        if self.files.exists(path) or self._merged.find(folder, name) is not None:
            self._take_out(path, name, _torn(name, ".parquet"))

    def _take_out(self, path: str, name: str, target: str) -> None:
        """Move a result file, or its rows out of the merged file that holds them."""
        folder = path.rpartition("/")[0]
        merged = self._merged.find(folder, name) if folder in SCHEMAS else None
        if merged is None or self.files.exists(path):
            self._move(path, target)
            return
        self.write(target, parquet_bytes(self._merged.read(merged, name).table))
        rest = (member for member in self._merged.all(merged) if member.name != name)
        # One rename: no reader sees the rest twice or not at all.
        aside = f"{folder}/.{uuid.uuid4().hex}.parquet"
        self.write(aside, merge(rest, SCHEMAS[folder]))
        self._move(aside, merged.path)

    def _move(self, path: str, target: str) -> None:
        try:
            self.files.rename(path, target)
        except StorageError as error:
            raise StoreError(str(error)) from error

    def _is_whole(self, path: str) -> bool:
        """By both ends of what is large. Raises StoreError where the store can't be asked."""
        if path.endswith(".parquet"):
            return is_whole_parquet(self.files, path)
        key = path.split("/")[1]
        try:
            self.model_record(key)
        except TornError:
            return False
        arrays = (layout.model_file(key, name) for name in (WEIGHTS, MASKS))
        return all(is_whole_zip(self.files, p) for p in arrays)

    def model_record(self, key: str) -> ModelRecord:
        """Raises StoreError where it is missing or torn."""
        path = layout.model_record(key)
        return self._parsed(path, ModelRecord.from_json)

    def image_rows(self, key: str) -> ImageRows:
        """Raises StoreError where they are missing or torn."""
        path = layout.image_rows(key)
        if not self.files.exists(path):
            merged = self._merged.find(layout.IMAGE_ROWS, key)
            if merged is not None:
                return images_of(self._merged.read(merged, key).table)
        return self._parsed(path, read_images)

    def row(self, folder: str, name: str) -> pa.Table:
        """One row of `results/models` or `results/cells`. Raises StoreError where it is torn."""
        path = f"{folder}/{name}.parquet"
        if not self.files.exists(path):
            merged = self._merged.find(folder, name)
            if merged is not None:
                return self._merged.read(merged, name).table
        return self._parsed(path, read_table)

    def _parsed(self, path: str, parse: Callable[[bytes], T]) -> T:
        try:
            return parse(self.files.read(path))
        except FileNotFoundError:
            raise TornError(f"{self.address}/{path}: missing") from None
        except StorageError as error:
            raise StoreError(str(error)) from error
        except (ValueError, TypeError, KeyError) as error:
            raise TornError(f"{self.address}/{path}: torn or not ours: {error}") from error

    # ------------------------------------------------------------------ derived rows

    def write_row(self, path: str, content: bytes) -> None:
        """In place of the one that is there, also in a merged file. Raises StoreError."""
        if not self.files.exists(path):
            self._take_row_out(path)
        self.write(path, content)

    def row_ids(self, folder: str, *, whole: bool = False) -> set[str]:
        """Names of the rows in `results/models` or `results/cells`. `whole`: without torn ones,
        which takes a look into each."""
        found = [info for info in self.files.list(folder) if info.size_bytes]
        return {
            name
            for name, path in self._by_name(found).items()
            if not whole or is_merged(path) or self._is_whole(path)
        }

    def twice(self, folder: str) -> set[str]:
        """Names whose rows are in a file of their own and in a merged one as well: a task that
        ended once more after the folder was merged. Plain readers see both."""
        single, merged = set[str](), set[str]()
        for file in self.files.list(folder):
            if is_merged(file.path):
                merged |= set(self._merged.members(file) or ())
            else:
                single.add(Path(file.path).stem)
        return single & merged

    def supersede(self, folder: str, wanted: Iterable[str], present: Collection[str]) -> list[str]:
        """Move rows whose place has another, newly planned work to `superseded/`, so that no
        reader counts a cell twice; what they rest on stays. Returns the moved rows' names."""
        by_place = {place_of(name): name for name in wanted}
        moved = []
        for name in present:
            if by_place.get(place_of(name), name) != name:
                path = f"{folder}/{name}.parquet"
                self._take_out(path, name, f"superseded/{path}")
                moved.append(name)
        return moved


def _torn(name: str, suffix: str) -> str:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"torn/{name}-{stamp}{suffix}"


def _result_path(key: str) -> str:
    return layout.image_rows(key) if key.startswith(TaskKind.ATTACK) else layout.model_record(key)
