"""Masks of N:M patterns, checked again by `verify`."""

from __future__ import annotations

import numpy as np

from prunegrid.orchestrator.verify.pruned import pruning_findings
from prunegrid.workers.catalog import METHODS
from prunegrid.workers.contract import PruningSettings
from prunegrid.workers.pruning.step import prune_step
from tests.science import prune_task, train_task

KINDS = {"dense": "dense", "conv": "conv", "first": "conv"}


def masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = {"dense": (12, 5), "conv": (3, 3, 8, 4), "first": (3, 3, 1, 8)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    whole = {name: np.ones(shape, bool) for name, shape in shapes.items()}
    return prune_step(
        weights, whole, KINDS, method=METHODS["magnitude-local-2:4"], rate=2, parent_rate=1, seed=0
    )


def said(found: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    task = prune_task(train_task(), method="magnitude-local-2:4", rate=2.0)
    assert isinstance(task.pruning, PruningSettings)
    whole = {name: np.ones(mask.shape, bool) for name, mask in found.items()}
    return list(pruning_findings(task, found, KINDS, whole))


def test_a_pattern_that_holds_raises_no_doubt():
    assert said(masks()) == []


def test_a_row_of_three_and_one_is_found_though_the_count_is_right():
    found = masks()
    column = found["dense"][:4, 0]
    column[np.flatnonzero(~column)[0]] = True
    other = found["dense"][4:8, 0]
    other[np.flatnonzero(other)[0]] = False
    assert said(found) == [("dense", "4 weights in a row have others than 2 left")]


def test_a_layer_that_the_pattern_leaves_alone_must_be_whole():
    found = masks()
    found["first"][0, 0, 0, 0] = False
    assert [name for name, _ in said(found)] == ["first"]
