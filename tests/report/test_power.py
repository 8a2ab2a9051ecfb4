"""How many seeds and images: noise found again, chances as simulation has them, `plan --power`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.plan import plan as plan_command
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.report.crossed import crossed_t
from prunegrid.orchestrator.report.image_outcomes import ImageOutcomes
from prunegrid.orchestrator.report.moderated import moderated_t
from prunegrid.orchestrator.report.power import (
    ASSUMED,
    CROSSED,
    MODERATED,
    PAIRED,
    WANTED,
    MarginNoise,
    noise_of,
    power_of,
    powered_tests,
)
from prunegrid.orchestrator.report.statistics import SIGNIFICANT, paired_p
from tests.fakes import RUNNER
from tests.grids import with_seeds
from tests.report.synthetic import METHODS, synthetic
from tests.report.test_images import shard

CELLS = 60
NOISE = MarginNoise(seeds=0.02**2, images=0.1**2, rest=0.3**2, freedom=np.inf, source="made")


def margins(rng: np.random.Generator, change: float, seeds: int, images: int) -> np.ndarray:
    """[cells, seeds, images] of NOISE, each cell with draws of its own."""
    return (
        change
        + rng.normal(0, 0.02, (CELLS, seeds, 1))
        + rng.normal(0, 0.1, (CELLS, 1, images))
        + rng.normal(0, 0.3, (CELLS, seeds, images))
    )


@pytest.mark.parametrize(("seeds", "images"), [(2, 128), (3, 400), (6, 128)])
def test_the_chance_is_that_of_a_simulation(seeds, images):
    """Paired and moderated t see an image's own part as a change of this cell: they are about these
    images, so it counts as none here."""
    found: dict[str, list[float]] = {PAIRED: [], MODERATED: [], CROSSED: []}
    for repeat in range(30):
        rng = np.random.default_rng([21, repeat, seeds, images])
        made = margins(rng, 0.03, seeds, images)
        found[CROSSED].append(float((crossed_t(list(made)).p < SIGNIFICANT).mean()))
        by_seed = (made - made.mean(axis=1, keepdims=True)).mean(axis=2)
        by_seed += rng.normal(0, np.sqrt((0.02**2 + 0.09 / images) / seeds), (CELLS, 1)) + 0.03
        n, mean, sd = np.full(CELLS, seeds), by_seed.mean(axis=1), by_seed.std(axis=1, ddof=1)
        found[PAIRED].append(float((paired_p(n, mean, sd) < SIGNIFICANT).mean()))
        found[MODERATED].append(float((moderated_t(n, mean, sd).p < SIGNIFICANT).mean()))
    for test, shares in found.items():
        said = power_of(
            NOISE, test, 0.03, seeds=seeds, images=images, cells=CELLS, level=SIGNIFICANT
        )
        assert np.mean(shares) == pytest.approx(said, abs=0.06), test


def test_noise_is_found_in_image_rows():
    """Planted: margins of image rows whose parts are known."""
    results = synthetic(methods=METHODS[:2], rates=(1.0, 2.0, 4.0, 8.0), seeds=4)
    images, n = {}, 400
    draw = np.random.default_rng(4)
    hard = {rate: draw.normal(0, 1.0, n) for rate in (1.0, 2.0, 4.0, 8.0)}
    for cell in results.cells.drop_duplicates("task_keys").itertuples():
        if cell.attack == "cw_l2":
            reach = 2.5 + hard[cell.rate] + draw.normal(0, 1.0, n) + draw.normal(0, 0.15)
            images[cell.task_keys[0]] = shard(reach)
    outcomes = ImageOutcomes(images)
    noise = noise_of(results, outcomes)
    assert noise is not None
    # The same from the raw indicators at each eps, by plain variances.
    rest, lasting = [], []
    for method in METHODS[:2]:
        for rate in (2.0, 4.0, 8.0):
            for eps in (1.0, 2.0, 3.0, 4.0):
                d = np.array(
                    [
                        (images[f"attack-cnn5-standard-{method}-{rate:g}-{s}-cw_l2"].distance > eps)
                        * 1.0
                        - (images[f"attack-cnn5-standard-{method}-1-{s}-cw_l2"].distance > eps)
                        for s in range(4)
                    ]
                )
                within = (d - d.mean(axis=1, keepdims=True)).var(axis=0, ddof=1).mean()
                rest.append(within)
                lasting.append(d.mean(axis=0).var(ddof=1) - within / 4)
    assert noise.rest == pytest.approx(np.mean(rest), rel=0.02)
    assert noise.images == pytest.approx(np.mean(lasting), rel=0.05)
    assert 0 < noise.seeds < 0.05**2
    assert noise_of(results, ImageOutcomes({})) is None


@pytest.mark.parametrize("test", [PAIRED, MODERATED, CROSSED])
def test_more_of_everything_is_never_worse(test):
    def chance(**change: float) -> float:
        given = {"seeds": 3, "images": 128, "cells": 60, "level": 0.05, "points": 0.03} | change
        return power_of(NOISE, test, given.pop("points"), **given)

    assert chance() < chance(seeds=4) < chance(seeds=8)
    assert chance() < chance(images=512)
    assert chance() < chance(points=0.06) == pytest.approx(chance(points=-0.06))
    assert chance(level=0.001) < chance()
    assert chance(seeds=1) == 0
    assert chance(points=0.0) == pytest.approx(0.05, abs=1e-6)


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(with_seeds(0, 1, 2))
    return path


def test_what_is_needed_is_the_fewest(grid):
    plan = expand(read_grid(grid))
    cells = [cell.place for cell in plan.cells]
    found = list(powered_tests(cells, {"cnn5": 24}, 0.05, ASSUMED))
    assert [(t.test, t.corrected) for t in found][:2] == [(PAIRED, False), (PAIRED, True)]
    assert {t.cells for t in found} == {2 * 2 * 4}, "two methods, two rates, four threats"
    assert {(t.seeds, t.images) for t in found} == {(3, 24)}
    for t in found:
        level = SIGNIFICANT / (t.cells if t.corrected else 1)
        for name in ("seeds", "images"):
            needed = getattr(t, f"{name}_needed")
            if needed is None:
                continue
            for count, enough in ((needed, True), (needed - 1, False)):
                given = {"seeds": t.seeds, "images": t.images, name: count}
                power = power_of(ASSUMED, t.test, 0.05, cells=t.cells, level=level, **given)
                assert (power >= WANTED) == enough


def test_plan_says_it(grid, capsys):
    plan_command(grid, Console(), power=5, as_json=True)
    answer = json.loads(capsys.readouterr().out)["power"]
    assert answer["points"] == 5
    assert answer["noise"]["source"] == "assumed"
    assert len(answer["tests"]) == 6
    plan_command(grid, Console(width=120), power=5)
    out = capsys.readouterr().out
    assert "chance to show a change of 5 points" in out
    assert "(assumed)" in out
    plan_command(grid, Console(), as_json=True)
    assert "power" not in json.loads(capsys.readouterr().out)
    with pytest.raises(UsageError, match=r"--power: expected above 0 and at most 100 .*, got 0"):
        plan_command(grid, Console(), power=0)


def test_of_a_store_its_own_noise_counts(grid, tmp_path, capsys):
    store = str(tmp_path / "s")
    options = RunOptions(grid=grid, store=store, engine="inline", runner=RUNNER)
    assert run_grid(options, Console(quiet=True)) == 0
    capsys.readouterr()
    plan_command(grid, Console(), store=store, power=5, as_json=True)
    noise = json.loads(capsys.readouterr().out)["power"]["noise"]
    assert noise["source"].startswith("16 margins of ")
    assert 0.01 < noise["rest"] != ASSUMED.rest
