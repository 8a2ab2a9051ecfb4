"""Result rows as pandas frames, from any store."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from workers.files import Files

T = TypeVar("T")


#: A store may be compacted meanwhile: what was listed is gone, and is asked for again.
_TRIES = 5


def read_rows(files: Files, folder: str) -> pd.DataFrame:
    """Every whole row file of `results/models`, `results/cells` or `results/images`, as one
    frame; empty where there is none. A torn or foreign file is left out: `verify` names it."""
    tables = [
        table.replace_schema_metadata(None)
        for table in each_file(files, folder, _read)
        if table is not None
    ]
    return (
        pa.concat_tables(tables, promote_options="default").to_pandas()
        if tables
        else (pd.DataFrame())
    )


def each_file(files: Files, folder: str, read: Callable[[bytes], T]) -> list[T]:
    """`read` of the content of every Parquet file of a folder, as one listing has them.

    Raises StorageError; FileNotFoundError where files keep vanishing.
    """
    for attempt in range(_TRIES):
        found = [i for i in files.list(folder) if i.path.endswith(".parquet") and i.size_bytes]
        paths = [info.path for info in sorted(found, key=lambda info: info.path)]
        try:
            with ThreadPoolExecutor(max_workers=8) as pool:
                return list(pool.map(lambda path: read(files.read(path)), paths))
        except FileNotFoundError:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _read(content: bytes) -> pa.Table | None:
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError):
        return None
    return table if b"prunegrid.schema" in (table.schema.metadata or {}) else None
