"""Merged result files: what `prunegrid compact` makes of many small ones.

A merged file holds the rows of many models, cells or attack tasks (its members), in order, in the
schema of a single one. Its Parquet metadata says which rows are whose, and repeats what the
single files' metadata said. Its name starts with PREFIX; a member is named as its file was.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workers.files import FileInfo, Files
from workers.tables import SCHEMA_VERSION

PREFIX = "merged-"
_MEMBERS = b"prunegrid.members"
#: Tables kept in memory: `verify` and the report ask for the members of one file in a row.
_KEPT = 2


def is_merged(path: str) -> bool:
    return PurePosixPath(path).name.startswith(PREFIX)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A single file as it was."""

    name: str
    table: pa.Table  #: with its own metadata


class MergedFiles:
    """The merged files of one store, looked up by member; what they hold is kept in memory until
    a file of that name is another one."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._members: dict[FileInfo, dict[str, Any] | None] = {}
        self._tables: OrderedDict[FileInfo, pa.Table] = OrderedDict()

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
        start, stop, metadata = index[name]
        table = self._table(file).slice(start, stop - start).combine_chunks()
        return Member(name=name, table=table.replace_schema_metadata(metadata))

    def all(self, file: FileInfo) -> Iterable[Member]:
        return (self.read(file, name) for name in list(self._index(file) or ()))

    def _index(self, file: FileInfo) -> dict[str, Any] | None:
        if file not in self._members:
            try:
                content = io.BytesIO(self._files.read(file.path))
                footer = pq.ParquetFile(content).schema_arrow.metadata
                self._members[file] = json.loads((footer or {})[_MEMBERS])
            except FileNotFoundError:
                return None
            except (pa.ArrowException, OSError, ValueError, KeyError):
                self._members[file] = None
        return self._members[file]

    def _table(self, file: FileInfo) -> pa.Table:
        if file not in self._tables:
            self._tables[file] = pq.read_table(io.BytesIO(self._files.read(file.path)))
            while len(self._tables) > _KEPT:
                self._tables.popitem(last=False)
        self._tables.move_to_end(file)
        return self._tables[file]


def merge(members: Iterable[Member], schema: pa.Schema) -> bytes:
    """One merged file. Columns that an older member has not are null. Raises ValueError where a
    name comes twice."""
    index: dict[str, tuple[int, int, dict[str, str]]] = {}
    tables, start = [], 0
    for member in members:
        if member.name in index:
            raise ValueError(f"merge: {member.name} comes twice")
        metadata = {k.decode(): v.decode() for k, v in (member.table.schema.metadata or {}).items()}
        stop = start + len(member.table)
        index[member.name] = (start, stop, metadata)
        tables.append(conform(member.table, schema))
        start = stop
    whole = pa.concat_tables(tables) if tables else schema.empty_table()
    metadata = {"prunegrid.schema": str(SCHEMA_VERSION), _MEMBERS.decode(): json.dumps(index)}
    sink = io.BytesIO()
    pq.write_table(whole.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()


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
