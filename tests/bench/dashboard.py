"""The dashboard on the paper's whole grid, and on 100 000 tasks, while tasks end under it.

    python -m tests.bench.dashboard [--quick | --paper] [--out FILE]

Prints JSON, a record per grid: seconds from the process's start to its first answer; of each
answer the bytes sent, the milliseconds when it has to be computed and when nothing changed; when a
browser without a cache shows each view; the latencies and the server's processor time with one
viewer and with twenty.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunegrid.workers import layout
from tests.bench.dashboard_paint import painted
from tests.bench.dashboard_store import MadeStore, beat, cell_file, make
from tests.grids import SMALL

ROOT = Path(__file__).resolve().parent.parent.parent
VIEWERS = 20
ENDS_EVERY_S = 0.2  #: a task
REFRESH = ("/api/status.json", "/api/grid.json")
ONCE = (
    "/",
    "/api/curves.json",
    "/api/timeline.json",
    "/api/failures.json",
    "/api/square.json?method={method}&rate={rate}&architecture={architecture}",
    "/api/grid.json?value=accuracy",
    "/metrics",
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a small grid, a second of viewing")
    parser.add_argument("--paper", action="store_true", help="the paper's grid alone")
    parser.add_argument("--out", help="also write the JSON there")
    chosen = parser.parse_args(arguments)
    paper = (ROOT / "grid.yaml").read_text()
    many = re.sub(r"(?m)^seeds:.*$", f"seeds: {list(range(31))}", paper)
    grids = {"small": (SMALL, 0.7)}
    if not chosen.quick:
        grids = {"paper": (paper, 0.7)}
    if not (chosen.quick or chosen.paper):
        grids["100 000 tasks"] = (many, 0.3)
    view_s = 1.0 if chosen.quick else 20.0
    records: list[dict[str, Any]] = []
    result = ""
    for name, (text, done_frac) in grids.items():
        with tempfile.TemporaryDirectory() as folder:
            began_s = time.monotonic()
            made = make(Path(folder) / "store", text, done_frac=done_frac)
            print(f"{name}: store made in {time.monotonic() - began_s:.0f} s", file=sys.stderr)
            records.append({"grid": name, "done_frac": done_frac, **measure(made, view_s=view_s)})
            result = json.dumps({"cpus": os.cpu_count(), "records": records}, indent=1)
            if chosen.out:
                Path(chosen.out).write_text(result + "\n")
    print(result)


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    began_s: float  #: monotonic

    def processor_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    began_s = time.monotonic()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "prunegrid.orchestrator.cli",
            "dashboard",
            "--port",
            "0",
            "--store",
            folder,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = (re.search(r"http://127\.0\.0\.1:(\d+)/", line) for line in process.stdout)
        port = next(int(match[1]) for match in lines if match)
        yield Server(process, port, began_s)
    finally:
        process.terminate()
        process.communicate()


@dataclass
class Viewer:
    """One browser tab: a connection that stays, and what it has seen already."""

    port: int
    seen: dict[str, str] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    bytes_: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def get(self, path: str) -> tuple[int, bytes, float]:
        """Status, what was sent, milliseconds."""
        headers = {"Accept-Encoding": "gzip"}
        if path in self.seen:
            headers["If-None-Match"] = self.seen[path]
        began_s = time.perf_counter()
        self._connection.request("GET", path, headers=headers)
        reply = self._connection.getresponse()
        content = reply.read()
        took_ms = 1000 * (time.perf_counter() - began_s)
        self.seen[path] = reply.headers.get("ETag", "")
        return reply.status, content, took_ms

    def view(self, for_s: float) -> None:
        """As the page does: every second, only what changed."""
        limit_s = time.monotonic() + for_s
        while time.monotonic() < limit_s:
            for path in REFRESH:
                status, content, took_ms = self.get(path)
                assert status in (200, 304), (path, status)
                self.latencies_ms.append(took_ms)
                self.bytes_.append(len(content))
            time.sleep(1.0)


@contextmanager
def living(made: MadeStore) -> Iterator[None]:
    """A driver's traces: tasks that end, one after the other."""
    stop = threading.Event()
    cells: dict[str, list[Any]] = {}
    for cell in made.plan.cells:
        cells.setdefault(cell.task_keys[-1], []).append(cell)
    left = iter(made.left)

    def run() -> None:
        path = made.folder / layout.JOURNAL / "20990101T000000.000000Z-bench-2-0000.jsonl"
        with path.open("a", buffering=1) as journal:
            while not stop.wait(ENDS_EVERY_S):
                key = next(left, None)
                if key is None:
                    return
                (made.folder / layout.image_rows(key)).write_bytes(b"PAR1PAR1")
                for cell in cells.get(key, ()):
                    cell_file(made.folder, cell)
                common = {"key": key, "attempt": 1, "worker": "node-0/0"}
                done = {"at": time.time(), "event": "done", **common, "seconds": 60.0}
                journal.write(json.dumps(done) + "\n")
                beat(made.folder)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure(made: MadeStore, *, view_s: float) -> dict[str, Any]:
    beat(made.folder)
    place = made.plan.models[-1].place
    with serving(made.folder) as server:
        page, viewer = Viewer(server.port), Viewer(server.port)
        page.get("/")
        page_s = time.monotonic() - server.began_s
        status, content = 503, b""
        while status == 503:  # a machine under load reads for long
            status, content, _ = viewer.get("/api/status.json")
        first_s, processor_s = time.monotonic() - server.began_s, server.processor_s()
        assert status == 200, content
        while json.loads(_plain(viewer.get("/api/status.json")[1] or content)).get("unread_files"):
            viewer.seen.clear()
            time.sleep(0.1)
        rows_s = time.monotonic() - server.began_s
        answers = {}
        for pattern in (*REFRESH, *ONCE):
            path = pattern.format(
                method=place.method, rate=f"{place.rate:g}", architecture=place.architecture
            )
            viewer.seen.clear()
            first = viewer.get(path)
            again = viewer.get(path)
            answers[pattern] = {
                "bytes": len(first[1]),
                "first_ms": round(first[2], 1),
                "again_ms": round(again[2], 1),
            }
        browser = painted(f"http://127.0.0.1:{server.port}/")
        with living(made):
            alone = _viewed(server, 1, view_s)
            together = _viewed(server, VIEWERS, view_s)
    return {
        "tasks": len(made.plan.tasks),
        "cells": len(made.plan.cells),
        "models": len(made.plan.models),
        "page_s": round(page_s, 2),
        "first_answer_s": round(first_s, 2),
        "first_answer_processor_s": round(processor_s, 2),
        "all_rows_read_s": round(rows_s, 2),
        "answers": answers,
        "browser": browser,
        "one_viewer": alone,
        f"{VIEWERS}_viewers": together,
    }


def _plain(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def _viewed(server: Server, viewers: int, for_s: float) -> dict[str, Any]:
    tabs = [Viewer(server.port) for _ in range(viewers)]
    threads = [threading.Thread(target=tab.view, args=(for_s,)) for tab in tabs]
    before_s, began_s = server.processor_s(), time.monotonic()
    for thread in threads:
        thread.start()
        time.sleep(min(1.0, for_s) / viewers)
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began_s
    latencies = sorted(number for tab in tabs for number in tab.latencies_ms)
    sizes = [number for tab in tabs for number in tab.bytes_]
    return {
        "requests": len(latencies),
        "median_ms": round(statistics.median(latencies), 1),
        "p99_ms": round(latencies[int(0.99 * (len(latencies) - 1))], 1),
        "most_ms": round(latencies[-1], 1),
        "mean_bytes": round(statistics.fmean(sizes)),
        "most_bytes": max(sizes),
        "processor_frac": round((server.processor_s() - before_s) / took_s, 3),
    }


if __name__ == "__main__":
    main()
