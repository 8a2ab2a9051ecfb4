"""`plan --power`: what a grid would show, by the variances of a store or by stated assumptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from prunegrid.orchestrator.grid.grid import CellCoordinates
from prunegrid.orchestrator.report.evidence import gather
from prunegrid.orchestrator.report.image_outcomes import ImageOutcomes
from prunegrid.orchestrator.report.power import (
    ABOUT,
    ASSUMED,
    MOST_IMAGES,
    MOST_SEEDS,
    WANTED,
    MarginNoise,
    PoweredTest,
    noise_of,
    powered_tests,
)
from prunegrid.orchestrator.report.results import load_results
from prunegrid.orchestrator.store.store import Store


@dataclass(frozen=True, kw_only=True)
class PowerAnswer:
    points: float  #: the change that is asked for
    noise: MarginNoise
    tests: tuple[PoweredTest, ...]

    def as_dict(self) -> dict[str, Any]:
        rows = [dataclasses.asdict(t) | {"about": ABOUT[t.test]} for t in self.tests]
        return {
            "points": self.points,
            "wanted": WANTED,
            "noise": dataclasses.asdict(self.noise),
            "tests": rows,
        }

    def table(self) -> Table:
        title = (
            f"chance to show a change of {self.points:g} points of robust accuracy, as planned, and"
        )
        title += f" what it takes for {WANTED:.0%}"
        table = Table(title=title, box=None, title_justify="left")
        for name in ("architecture", "protocol", "test", "cells"):
            table.add_column(name)
        for name in ("planned", "chance", "seeds", "images"):
            table.add_column(name, justify="right")
        for t in self.tests:
            names = (t.architecture, t.protocol, t.test)
            family = f"{t.cells}, by Holm" if t.corrected else "one"
            numbers = (f"{t.seeds} x {t.images}", f"{t.power:.0%}")
            needed = (
                _needed(t.seeds_needed, MOST_SEEDS),
                _needed(t.images_needed, MOST_IMAGES),
            )
            table.add_row(*names, family, *numbers, *needed)
        return table

    def note(self) -> str:
        return (
            f"noise of a margin: {self.noise.text()} ({self.noise.source}); planned: "
            "seeds x images; seeds: with as many images, images: with as many seeds; paired and "
            "moderated t are about new seeds on these images, crossed t about both"
        )


def _needed(count: int | None, most: int) -> str:
    return f"over {most:,}" if count is None else f"{count:,}"


def answer_power(
    cells: Sequence[CellCoordinates],
    images: Mapping[str, int],
    points: float,
    store: Store | None,
) -> PowerAnswer:
    """Of a plan's `cells`; `images`: attacked ones, by architecture. The noise is that of the
    store's margins, or ASSUMED where it has none with image rows of two seeds."""
    noise = None
    if store is not None:
        results = load_results(store.files)
        outcomes = ImageOutcomes(gather(store.files, results, None).images)
        noise = noise_of(results, outcomes)
    noise = noise or ASSUMED
    tests = tuple(powered_tests(cells, images, points / 100, noise))
    return PowerAnswer(points=points, noise=noise, tests=tests)
