"""Merged files of rows, read by several threads at once: `prunegrid merge` and `export` do."""

from __future__ import annotations

import subprocess
import sys

#: A process of its own: what this guards against ends it by a signal.
READ = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from prunegrid.orchestrator.store import merged
from prunegrid.workers.files import LocalFiles

merged.GROUP_MEMBERS = 3
names = [f"m{number}" for number in range(60)]
tables = [pa.table({"name": [name] * 400, "row": list(range(400))}) for name in names]
members = [merged.Member(name=n, table=t) for n, t in zip(names, tables, strict=True)]
folder = Path(sys.argv[1])
(folder / "rows").mkdir()
(folder / "rows" / "all-000001.parquet").write_bytes(merged.merge(members, tables[0].schema))
files = LocalFiles(folder)
(info,) = files.list("rows")


def read(number):
    name = names[number * 7 % len(names)]
    table = shared.read(info, name).table
    return len(table) == 400 and set(table["name"].to_pylist()) == {name}


for _ in range(20):
    shared = merged.MergedFiles(files)
    with ThreadPoolExecutor(max_workers=8) as pool:
        assert all(pool.map(read, range(600)))
"""


def test_threads_share_a_merged_file(tmp_path):
    command = [sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
