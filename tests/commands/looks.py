"""Readers under `looks.c`: what each answers when the folder changes before its n-th look.

    LD_PRELOAD=looks.so python -m tests.commands.looks OLD NEW

OLD and NEW are a folder before and after; prints JSON: reader -> the answer (sorted cell ids, or
the error's class) for n = 1, 2, ... until a reader ends before its n-th look.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars

from prunegrid.orchestrator.store.frames import read_rows
from prunegrid.workers.files import LocalFiles


def with_duckdb(cells: Path) -> list[str]:
    with duckdb.connect() as connection:
        found = connection.sql(f"from '{cells}/*.parquet'").select("cell_id").fetchall()
    return [name for (name,) in found]


READERS: dict[str, Callable[[Path], list[str]]] = {
    "pandas": lambda cells: list(pd.read_parquet(cells).get("cell_id", [])),
    "duckdb": with_duckdb,
    "polars": lambda cells: polars.read_parquet(f"{cells}/*.parquet")["cell_id"].to_list(),
    "ours": lambda cells: list(read_rows(LocalFiles(cells.parent), cells.name).get("cell_id", [])),
}


def answers(shim: ctypes.CDLL, read: Callable[[Path], list[str]], pair: list[Path]) -> list[object]:
    out: list[object] = []
    while True:
        with tempfile.TemporaryDirectory() as folder:
            here, aside = Path(folder) / "cells", Path(folder) / "aside"
            for source, target in zip(pair, (here, aside), strict=True):
                shutil.copytree(source, target, copy_function=os.link)
            n = len(out) + 1
            shim.watch(os.fsencode(here), os.fsencode(aside), n)
            try:
                answer: object = sorted(read(here))
            except (OSError, duckdb.Error, polars.exceptions.PolarsError) as error:
                answer = type(error).__name__
            looks = shim.looks_so_far()
            shim.watch(b"", b"", 0)
        out.append(answer)
        if looks < n:
            return out


def main() -> None:
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    pair = [Path(argument) for argument in sys.argv[1:3]]
    print(json.dumps({name: answers(shim, read, pair) for name, read in READERS.items()}))


if __name__ == "__main__":
    main()
