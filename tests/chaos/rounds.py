"""One round: a grid from nothing to its last cell under harm, against an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from tests.chaos.cluster import ROOT, FakeCluster
from tests.chaos.monkey import Monkey
from tests.chaos.weather import FILE, Weather, report
from tests.fakes import RUNNER
from tests.grids import SMALL

#: A slot on each node's fake GPU; a frozen worker is found after some seconds.
GRID = SMALL + "resources: {cpus_per_task: 1, gpus_per_task: 1, silence_s: 5}\n"
COORDINATES = ["architecture", "variant", "method", "rate", "seed", "protocol", "attack", "eps"]
#: What may differ between two runs of the same work.
PROVENANCE = ["started_at", "duration_s", "host", "attempt"]
BEGINS_WITHIN_S = 8.0  #: the next act comes after that, whether a task was begun or not
CALM_RUNS = 3  #: drivers that may try to finish once the harm is over


class ChaosError(AssertionError):
    """A round whose cells are not those of the undisturbed run; its store stays."""


@dataclass(frozen=True, kw_only=True)
class Report:
    number: int
    harm: Counter[str]
    drivers: int
    exits: Counter[int]
    failures: Counter[str]  #: recorded attempts by class
    attempts: int
    cells: int
    seconds: float


def rows(store: Path, kind: str, keys: list[str]) -> pd.DataFrame:
    frame = pd.read_parquet(store / "results" / kind).drop(columns=PROVENANCE)
    return frame.sort_values(keys).reset_index(drop=True)


def undisturbed(folder: Path) -> Path:
    """The store of a run in this process, in fine weather."""
    folder.mkdir(parents=True)
    grid = folder / "grid.yaml"
    grid.write_text(GRID)
    options = RunOptions(grid=grid, store=str(folder / "store"), engine="inline", runner=RUNNER)
    assert run_grid(options, Console(quiet=True)) == 0
    return folder / "store"


def compare(store: Path, whole: Path) -> int:
    """How many cells there are. Raises ChaosError where anything but provenance differs."""
    kinds = {
        "cells": COORDINATES,
        "models": ["task_key", "method"],
        "images": ["task_key", "image", "eps"],
    }
    for kind, keys in kinds.items():
        try:
            found, expected = rows(store, kind, keys), rows(whole, kind, keys)
            pd.testing.assert_frame_equal(found, expected, check_exact=True)
        except (AssertionError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise ChaosError(f"{kind}: {str(error)[:300]}") from error
    cells = rows(store, "cells", COORDINATES)
    if cells.duplicated(COORDINATES).any():
        raise ChaosError("a cell is there twice")
    _verify(Store.open(str(store)))
    return len(cells)


def _verify(store: Store) -> None:
    """Lines of a torn journal are lost, so no run mends them: what `verify` advises must. Raises
    ChaosError at any other finding, and at any that is left."""
    findings = list(Verifier(store).findings())
    if findings and all(finding.name == "torn-journal" for finding in findings):
        Verifier(store).set_aside()
        findings = list(Verifier(store).findings())
    if findings:
        raise ChaosError("; ".join(f"{f.name} {f.where}: {f.message}" for f in findings[:5]))


class Round:
    """`acts`: how often the monkey does something."""

    begins_within_s = BEGINS_WITHIN_S

    def __init__(
        self, number: int, seed: int, cluster: FakeCluster, folder: Path, *, acts: int
    ) -> None:
        self._number = number
        self._rng = random.Random(f"{seed}/{number}")
        self._cluster = cluster
        self._folder = folder
        self._acts = acts
        self._driver: subprocess.Popen[bytes] | None = None
        self._exits: Counter[int] = Counter()
        self._drivers = 0

    def run(self, whole: Path) -> Report:
        """Raises ChaosError."""
        began_s = time.monotonic()
        self._folder.mkdir(parents=True)
        os.environ[FILE] = str(self._folder.parent / "weather.json")
        report(Weather())
        (self._folder / "grid.yaml").write_text(GRID)
        store = self._folder / "store"
        monkey = self._monkey(store)
        try:
            self._harm(monkey)
            monkey.rest()
            self._finish()
        finally:
            if self._driver is not None:
                self._driver.kill()
                self._driver.wait()
        return Report(
            number=self._number,
            harm=monkey.did,
            drivers=self._drivers,
            exits=self._exits,
            failures=_failures(store),
            attempts=self._begun(),
            cells=compare(store, whole),
            seconds=time.monotonic() - began_s,
        )

    @property
    def address(self) -> str:
        """Of the Ray that drivers run on."""
        return self._cluster.address

    def _monkey(self, store: Path) -> Any:
        return Monkey(self._rng, self._cluster, store, self._pid)

    def _pid(self) -> int | None:
        return self._driver.pid if self._driver and self._driver.poll() is None else None

    def _start(self) -> None:
        with (self._folder / "log.txt").open("ab") as log:
            self._driver = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.chaos.driver"),
                    *(str(self._folder / "grid.yaml"), str(self._folder / "store")),
                    self.address,
                ],
                start_new_session=True,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._drivers += 1

    def _ended(self) -> int | None:
        """The driver's exit code, once, when it has ended."""
        if self._driver is None or self._driver.poll() is None:
            return None
        code = self._driver.returncode
        self._exits[code] += 1
        self._driver = None
        return code

    def _harm(self, monkey: Monkey) -> None:
        """So many acts, each once a task was begun since the last one, so that there is something
        to harm. A driver that ended is started again by somebody, until one says that all is
        done."""
        begun = 0
        self._start()
        for _ in range(self._acts):
            limit_s = time.monotonic() + self.begins_within_s
            while self._begun() <= begun and time.monotonic() < limit_s:
                time.sleep(0.05)
                code = self._ended()
                if code == 0:
                    return
                if code is not None:
                    self._start()
            begun = self._begun()
            time.sleep(self._rng.uniform(0.0, 0.5))
            monkey.act()

    def _begun(self) -> int:
        return len(list((self._folder / "store/begun").glob("*")))

    def _finish(self) -> None:
        """Let the driver under way end; then one that saw no harm must say that all is done."""
        if self._driver is not None:
            self._wait()
        for left in range(CALM_RUNS, 0, -1):
            self._start()
            code = self._wait()
            if code == 0:
                return
            print(f"    exit {code}; {left - 1} calm runs left", flush=True)
        raise ChaosError(f"not done after {CALM_RUNS} calm runs: see {self._folder}/log.txt")

    def _wait(self) -> int | None:
        assert self._driver is not None
        try:
            self._driver.wait(timeout=120)
        except subprocess.TimeoutExpired:
            raise ChaosError(f"the driver does not end: see {self._folder}/log.txt") from None
        return self._ended()


def _failures(store: Path) -> Counter[str]:
    out: Counter[str] = Counter()
    for path in store.glob("failures/*/*.json"):
        try:
            out[json.loads(path.read_text())["kind"]] += 1
        except (ValueError, KeyError):  # torn by the monkey
            continue
    return out
