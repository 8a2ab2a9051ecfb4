"""The store at full size: appending every task's result of the paper's grid, then every table.

    python -m tests.bench.store [--quick | --grid FILE] [--out FILE]

Prints JSON. `append`: seconds to write every result as a worker does, beside bare writes with
fsync of the same bytes (in turns, batch by batch), and the driver's seconds to derive the rows of
models and cells from them. `small` and `compacted`: files, bytes, and seconds of a new process to
open the store and compute every table of the report, beside what one would write instead: pandas
or DuckDB, one read of the same rows and one mean, SD and count per cell.
The page cache is warm. On a busy machine trust `cpu_s` (of all threads) and the ratios alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prunegrid.orchestrator.driver.recorder import Recorder
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.store.compaction import compact_store
from prunegrid.orchestrator.store.store import Store
from tests.bench.output import tell
from tests.bench.store_rows import result_file
from tests.grids import SMALL

ROOT = Path(__file__).resolve().parent.parent.parent
BATCH = 500  #: results written by the store, then as many bare ones, and so on
ROUNDS = 3  #: new processes that read; the fastest counts
KINDS = ("models", "cells", "images")

T = TypeVar("T")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a small grid")
    parser.add_argument("--grid", type=Path, default=ROOT / "grid.yaml")
    parser.add_argument("--folder", type=Path, help="where the store may be made, and removed")
    parser.add_argument("--out", help="also write the JSON there")
    parser.add_argument("--read", metavar="STORE", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.read:
        print(json.dumps(read(chosen.read)))
        return
    grid = SMALL if chosen.quick else chosen.grid.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        record = measure(Path(folder), grid)
    tell(record, chosen.out)


def measure(folder: Path, grid: str) -> dict[str, Any]:
    store = Store.open_or_create(str(folder / "store"))
    store.set_grid(grid)
    plan = expand(parse_grid(grid, source="grid.yaml"))
    record: dict[str, Any] = {
        "tasks": len(plan.tasks),
        "models": len(plan.models),
        "cells": len(plan.cells),
        "append": append(store, plan, folder / "bare"),
    }
    record["small"] = measure_reading(folder / "store")
    record["compact_s"] = round(timed(lambda: list(compact_store(store)))[1], 3)
    record["compacted"] = measure_reading(folder / "store")
    return record


# --------------------------------------------------------------------------- appending


def append(store: Store, plan: Plan, bare: Path) -> dict[str, float]:
    """Every result written, then every row derived, in the order in which a driver would."""
    bare.mkdir()
    tasks = list(plan.tasks.values())
    make_s = write_s = bare_s = 0.0
    sent = 0
    for start in range(0, len(tasks), BATCH):
        made, spent_s = timed(lambda s=start: [result_file(t) for t in tasks[s : s + BATCH]])
        make_s += spent_s
        sent += sum(len(content) for _, content in made)
        write_s += timed(lambda m=made: [store.write(*file) for file in m])[1]
        bare_s += timed(lambda m=made: [_bare(bare, *file) for file in m])[1]
    recorder = Recorder(plan, store)
    recorder.catch_up(())
    rows, rows_s = timed(lambda: sum(recorder.task_done(key) for key in plan.tasks))
    return {
        "results": len(tasks),
        "bytes": sent,
        "encode_s": round(make_s, 3),
        "write_s": round(write_s, 3),
        "bare_fsync_s": round(bare_s, 3),
        "write_over_bare": round(write_s / bare_s, 2),
        "rows_written": rows,
        "rows_s": round(rows_s, 3),
    }


def _bare(folder: Path, path: str, content: bytes) -> None:
    """What a script would do at the least: no folders, no renaming, nothing kept whole."""
    with (folder / path.replace("/", "-")).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


# --------------------------------------------------------------------------- reading


def measure_reading(store: Path) -> dict[str, Any]:
    rounds = [_read_anew(store) for _ in range(ROUNDS)]
    best: dict[str, Any] = min(rounds, key=lambda r: r["open_and_tables_s"])
    for other in ("pandas", "duckdb"):
        ratio = best["open_and_tables_s"] / best[f"{other}_means_s"]
        best[f"tables_over_{other}_means"] = round(ratio, 2)
    best["files"], best["bytes"] = {}, {}
    for kind in KINDS:
        sizes = [path.stat().st_size for path in (store / "results" / kind).glob("*.parquet")]
        best["files"][kind], best["bytes"][kind] = len(sizes), sum(sizes)
    return best


def _read_anew(store: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.store", "--read", str(store)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


PLACE = ["architecture", "dataset", "method", "rate"]
#: What one would compute by hand: a folder, what makes a group, the number to average.
MEANS = (
    ("models", PLACE, "accuracy"),
    ("cells", [*PLACE, "protocol", "attack", "eps"], "robust_accuracy"),
)


def with_pandas(address: str, kind: str, by: list[str], value: str) -> Any:
    import pandas as pd

    rows = pd.read_parquet(f"{address}/results/{kind}")
    return rows.groupby(by)[value].agg(["mean", "std", "count"])


def with_duckdb(address: str, kind: str, by: list[str], value: str) -> Any:
    import duckdb

    names = ", ".join(by)
    found = f"avg({value}), stddev({value}), count(*)"
    rows = f"from '{address}/results/{kind}/*.parquet'"
    return duckdb.sql(f"select {names}, {found} {rows} group by {names}").fetchall()


def read(address: str) -> dict[str, Any]:
    """In a process of its own: imports apart, then the store's tables, then pandas alone."""

    def imports() -> None:
        import duckdb  # noqa: F401
        import matplotlib  # noqa: F401
        import pandas  # noqa: F401
        import scipy.stats  # noqa: F401

        import prunegrid.orchestrator.report.write  # noqa: F401

    _, import_s = timed(imports)
    import pandas as pd

    from prunegrid.orchestrator.report.analysis import analyse
    from prunegrid.orchestrator.report.results import load_results
    from prunegrid.orchestrator.report.write import frames

    cpu_s = time.process_time()
    results, open_s = timed(lambda: load_results(Store.open(address).files))
    tables, tables_s = timed(lambda: frames(analyse(results)))
    cpu_s = time.process_time() - cpu_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _, pandas_s = timed(lambda: [with_pandas(address, *one) for one in MEANS])
    _, duckdb_s = timed(lambda: [with_duckdb(address, *one) for one in MEANS])
    images, images_s = timed(
        lambda: pd.read_parquet(f"{address}/results/images", columns=["model_key", "broken"])
    )
    return {
        "models": len(results.models),
        "cells": len(results.cells),
        "image_rows": len(images),
        "tables": {name: len(table) for name, table in tables.items()},
        "imports_s": round(import_s, 3),
        "open_s": round(open_s, 3),
        "tables_s": round(tables_s, 3),
        "open_and_tables_s": round(open_s + tables_s, 3),
        "cpu_s": round(cpu_s, 3),
        "pandas_means_s": round(pandas_s, 3),
        "duckdb_means_s": round(duckdb_s, 3),
        "pandas_images_s": round(images_s, 3),
        "peak_mib": round(peak_mib),
    }


def timed(action: Callable[[], T]) -> tuple[T, float]:
    began_s = time.perf_counter()
    out = action()
    return out, time.perf_counter() - began_s


if __name__ == "__main__":
    main()
