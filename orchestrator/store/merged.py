"""Merged result files, which `prunegrid compact` makes of many small ones.

A merged file holds the rows of many models, cells or attack tasks (its members), in order, in the
schema of a single one. Its Parquet metadata says which rows are whose, and repeats what the
single files' metadata said. A member is named as its file was; its rows are in one row group.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import RLock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import FileInfo, Files
from prunegrid.workers.image_rows import SCHEMA_VERSION

#: Merged files sort before all others, and a newer one before older ones: `merged_name`.
PREFIX = "all-"
#: With the prefix of earlier versions.
_PREFIXES = (PREFIX, "merged-")
_LAST = 999_999

_MEMBERS = b"prunegrid.members"
#: Members in one row group: of attack tasks about 200 000 image rows, held in memory at once.
GROUP_MEMBERS = 500
#: Row groups kept in memory: `verify` and the report ask for the members of one in a row.
_KEPT = 2
#: A larger list of members is not ours: it is compressed, and might be a decompression bomb.
_INDEX_BYTES = 2**30


def is_merged(path: str) -> bool:
    return PurePosixPath(path).name.startswith(_PREFIXES)


def merged_name(present: Iterable[str]) -> str:
    """A new name that sorts before all names `present` in the folder."""
    stems = (PurePosixPath(name).stem for name in present if name.startswith(PREFIX))
    numbers = [int(n) for stem in stems if (n := stem.removeprefix(PREFIX)).isdecimal()]
    return f"{PREFIX}{min(numbers, default=_LAST + 1) - 1:06d}.parquet"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A single file as it was."""

    name: str
    table: pa.Table  #: with its own metadata


class MergedFiles:
    """The merged files of one store, looked up by member. Their indexes are kept in memory until
    the file of that name changes. Any thread may ask: a Parquet file that two read at once ends
    the process, so one lock covers all that is kept here."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = RLock()
        self._members: dict[FileInfo, dict[str, Any] | None] = {}
        self._opened: tuple[FileInfo, pq.ParquetFile] | None = None
        self._groups: OrderedDict[tuple[FileInfo, int], pa.Table] = OrderedDict()

    def members(self, file: FileInfo) -> Collection[str] | None:
        """Names of the members of one merged file; None where it is torn or gone."""
        index = self._index(file)
        return None if index is None else index.keys()

    def find(self, folder: str, name: str) -> FileInfo | None:
        """The merged file that has the member."""
        for file in self._files.list(folder):
            if is_merged(file.path) and name in (self._index(file) or ()):
                return file
        return None

    def read(self, file: FileInfo, name: str) -> Member:
        """Raises FileNotFoundError, KeyError where there is no such member, ValueError."""
        index = self._index(file)
        if index is None:
            raise ValueError(f"{file.path}: not a whole merged file")
        try:
            start, stop, metadata = index[name]
            with self._lock:
                table = self._rows(file, start, stop).combine_chunks()
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, TypeError) as error:
            raise ValueError(f"{file.path}: torn or not ours: {error}") from error
        return Member(name=name, table=table.replace_schema_metadata(metadata))

    def has(self, file: FileInfo, name: str) -> bool:
        """Whether the member can be read."""
        try:
            return self.read(file, name) is not None
        except ValueError:
            return False

    def all(self, file: FileInfo) -> Iterable[Member]:
        return (self.read(file, name) for name in list(self._index(file) or ()))

    def _index(self, file: FileInfo) -> dict[str, Any] | None:
        with self._lock:
            if file not in self._members:
                try:
                    metadata = self._file(file).metadata.metadata
                    self._members[file] = _unpacked((metadata or {})[_MEMBERS])
                except FileNotFoundError:
                    return None
                except (pa.ArrowException, OSError, ValueError, KeyError):
                    self._members[file] = None
            return self._members[file]

    def _rows(self, file: FileInfo, start: int, stop: int) -> pa.Table:
        """Rows `start` to `stop` of the file, from the row groups that have them."""
        footer, first, parts = self._file(file).metadata, 0, []
        for group in range(footer.num_row_groups):
            after = first + footer.row_group(group).num_rows
            if first < stop and start < after:
                low, high = max(start, first), min(stop, after)
                parts.append(self._group(file, group).slice(low - first, high - low))
            first = after
        return pa.concat_tables(parts) if parts else self._file(file).schema_arrow.empty_table()

    def _group(self, file: FileInfo, group: int) -> pa.Table:
        key = (file, group)
        if key not in self._groups:
            try:
                table = self._file(file).read_row_group(group)
                table.validate(full=True)
                self._groups[key] = table
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"row group {group} can't be read: {error}") from error
            while len(self._groups) > _KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _file(self, file: FileInfo) -> pq.ParquetFile:
        if self._opened is None or self._opened[0] != file:
            content = pa.BufferReader(self._files.read(file.path))
            self._opened = (file, pq.ParquetFile(content))
        return self._opened[1]


def merge(members: Iterable[Member], schema: pa.Schema) -> bytes:
    """One merged file. Columns that an older member has not are null. Raises ValueError where a
    name comes twice."""
    index: dict[str, tuple[int, int, dict[str, str]]] = {}
    parts: list[pa.Table] = []
    start, sink = 0, io.BytesIO()
    plain = schema.with_metadata({"prunegrid.schema": str(SCHEMA_VERSION)})
    with pq.ParquetWriter(sink, plain, compression="zstd") as writer:

        def write_group() -> None:
            table = pa.concat_tables(parts).replace_schema_metadata(plain.metadata)
            writer.write_table(table, row_group_size=max(len(table), 1))
            parts.clear()

        for member in members:
            if member.name in index:
                raise ValueError(f"merge: {member.name} comes twice")
            metadata = member.table.schema.metadata or {}
            stop = start + len(member.table)
            texts = {key.decode(): value.decode() for key, value in metadata.items()}
            index[member.name] = (start, stop, texts)
            parts.append(conform(member.table, schema))
            start = stop
            if len(parts) == GROUP_MEMBERS:
                write_group()
        if parts:
            write_group()
        writer.add_key_value_metadata({_MEMBERS.decode(): _packed(index)})
    return sink.getvalue()


def _packed(index: dict[str, tuple[int, int, dict[str, str]]]) -> str:
    """Compressed: the members' tasks repeat each other, so a twentieth of the JSON is left."""
    return base64.b64encode(zlib.compress(json.dumps(index).encode())).decode()


def _unpacked(text: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    if text.startswith(b"{"):  # as earlier versions of the program wrote it
        content = text
    else:
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(base64.b64decode(text), _INDEX_BYTES)
        except zlib.error as error:
            raise ValueError(f"the list of members can't be read: {error}") from error
    index: dict[str, Any] = parse_json(content)
    return index


def has_types_of(table: pa.Table, schema: pa.Schema) -> bool:
    """Whether the columns that both have are of one type: tables of which that holds can be
    concatenated."""
    both = set(table.schema.names) & set(schema.names)
    return all(table.schema.field(name).type == schema.field(name).type for name in both)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns of `schema`, in its order; missing ones are null."""
    if table.schema.equals(schema):
        return table.replace_schema_metadata(None)
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, names=schema.names)
