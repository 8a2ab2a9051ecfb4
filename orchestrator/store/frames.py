"""Result rows from any store, many files at once; as pandas frames."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pandas as pd
import pyarrow as pa

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.merged import has_types_of, is_merged
from prunegrid.orchestrator.store.store import SCHEMAS
from prunegrid.workers.files import Files
from prunegrid.workers.image_rows import read_table

T = TypeVar("T")

#: How often a folder is listed at most, when files disappear meanwhile.
_LISTINGS = 5


def read_all(
    files: Files,
    folder: str,
    read: Callable[[str], T],
    *,
    wanted: Callable[[str], bool] = lambda path: True,
) -> list[T]:
    """`read` of every Parquet file in a folder whose path is `wanted`, by path. Where a file
    disappears between listing and reading, `compact` has merged it, and the folder is listed again.

    Merged files are read first, as `compact` expects: a reader with an old listing that opens the
    new merged file finds none of the others. Raises StoreError where files disappear each time.
    """
    for _ in range(_LISTINGS):
        found = [i for i in files.list(folder) if i.path.endswith(".parquet") and i.size_bytes]
        paths = sorted(info.path for info in found if wanted(info.path))
        merged = [path for path in paths if is_merged(path)]
        try:
            done = {path: read(path) for path in merged}
            rest = [path for path in paths if path not in done]
            with ThreadPoolExecutor(max_workers=8) as pool:
                done |= zip(rest, pool.map(read, rest), strict=True)
        except FileNotFoundError:
            continue
        return [done[path] for path in paths]
    raise StoreError(f"{files.address}/{folder}: files disappear while they are read; try again")


def read_rows(files: Files, folder: str) -> pd.DataFrame:
    """Every whole row file of `results/models`, `results/cells` or `results/images`, as one
    frame; empty where there is none. A torn or foreign file is left out: `verify` names it."""
    tables = [
        table.replace_schema_metadata(None)
        for table in read_all(files, folder, lambda path: read_ours(files, path))
        if table is not None
    ]
    if not tables:
        return pd.DataFrame()
    rows: pd.DataFrame = pa.concat_tables(tables, promote_options="default").to_pandas()
    return rows


def read_ours(files: Files, path: str) -> pa.Table | None:
    """None for a torn or foreign file. Raises FileNotFoundError."""
    try:
        table = read_table(files.read(path))
    except ValueError:
        return None
    is_ours = b"prunegrid.schema" in (table.schema.metadata or {})
    schema = SCHEMAS.get(path.rpartition("/")[0])
    return table if is_ours and (schema is None or has_types_of(table, schema)) else None
