"""Rows damaged while a grid runs and between two runs: the next run, or what `verify` advises,
leaves the rows of an undisturbed one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.verify import set_aside
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.engines.engine import Ended
from tests.chaos.damaged_rows import damage, flip_bit, row_files
from tests.chaos.rounds import GRID, compare, undisturbed
from tests.driver.test_drivers import Meddler, with_engine
from tests.fakes import RUNNER

KINDS = ("cells", "models", "images")


@pytest.fixture
def whole(tmp_path) -> Path:
    return undisturbed(tmp_path / "whole")


@pytest.fixture
def rng() -> random.Random:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return random.Random(seed)


def run(folder: Path) -> int:
    (folder / "grid.yaml").write_text(GRID)
    options = RunOptions(
        grid=folder / "grid.yaml", store=str(folder / "store"), engine="inline", runner=RUNNER
    )
    return run_grid(options, Console(quiet=True))


def test_what_can_t_be_read_is_made_anew_by_the_same_run_or_the_next(
    tmp_path, whole, rng, monkeypatch
):
    class Damages(Meddler):
        def meddle(self, ended: Ended) -> Ended:
            if self.count % 9 == 0:
                damage(rng.choice(row_files(self.store, *KINDS)), rng)
            return ended

    with_engine(monkeypatch, Damages)
    assert run(tmp_path) == 0
    monkeypatch.undo()
    for path in rng.sample(row_files(tmp_path / "store", *KINDS), 12):
        damage(path, rng)
    assert run(tmp_path) == 0
    assert compare(tmp_path / "store", whole) == 48


def test_what_verify_advises_mends_flipped_bits(tmp_path, whole, rng):
    assert run(tmp_path) == 0
    for path in rng.sample(row_files(tmp_path / "store", "cells", "models"), 30):
        flip_bit(path, rng)
    set_aside(str(tmp_path / "store"), Console(quiet=True))
    assert run(tmp_path) == 0
    assert compare(tmp_path / "store", whole) == 48
