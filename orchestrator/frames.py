"""Result rows as pandas frames, from any store."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from workers.files import Files


def read_rows(files: Files, folder: str) -> pd.DataFrame:
    """Every whole row file of `results/models`, `results/cells` or `results/images`, as one
    frame; empty where there is none. A torn file is left out: `verify` names it."""
    tables = []
    for info in sorted(files.list(folder), key=lambda i: i.path):
        if info.path.endswith(".parquet") and info.size_bytes:
            try:
                table = pq.read_table(io.BytesIO(files.read(info.path)))
            except (pa.ArrowException, OSError, FileNotFoundError):
                continue
            tables.append(table.replace_schema_metadata(None))
    return pa.concat_tables(tables).to_pandas() if tables else pd.DataFrame()
