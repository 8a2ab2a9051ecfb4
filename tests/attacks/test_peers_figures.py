"""Our attacks find what the public implementations find, at the same settings, on a small frozen
network (`reference.py`)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.attacks.conftest import settings
from tests.attacks.reference import ARRAYS, FIGURES, PAIRS, frozen_network

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def frozen(_configured):
    return frozen_network()


def figures(pair):
    """The runs of the peer."""
    known = json.loads(FIGURES.read_text())["runs"]
    (same,) = [k["runs"] for k in known if k["attack"] == pair.attack and k["peer"] == pair.peer]
    assert [{name: run[name] for name in ("peer", "norm", "options", "eps")} for run in same] == [
        {name: run[name] for name in ("peer", "norm", "options", "eps")}
        for run in pair.runs("frozen")
    ], "made at other settings"
    return same


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.attack}-{pair.peer}")
def test_ours_finds_what_the_peer_finds(shard, frozen, pair):
    model, images, labels = frozen
    n = len(images)
    use = settings(pair.attack, "strict", eps=tuple(pair.eps), options=pair.options, batch_size=32)
    columns = shard(model, use, 0, n, images=images, labels=labels)
    theirs = figures(pair)
    if pair.draws:
        broken = np.array(columns["broken"]).reshape(-1, n)
        runs = np.array([run["broken"] for run in theirs])  # seeds, eps, images
        counts, ours = runs.sum(axis=2), broken.sum(axis=1)
        slack = 2 if pair.peer == "square" else 1
        assert (ours >= counts.min(axis=0) - slack).all(), (ours, counts)
        assert (ours <= counts.max(axis=0) + slack).all(), (ours, counts)
        always = runs.all(axis=0)
        assert (always & ~broken).sum() <= slack
        assert ours[-1] > 2, "the figures would say little"
    else:
        (run,) = theirs
        found, expected = np.array(columns["distance"]), np.array(run["distance"])
        assert np.array_equal(found == 0, expected == 0)
        right = expected > 0
        assert np.isfinite(expected[right]).all()
        ratio = found[right] / expected[right]
        assert np.median(np.abs(ratio - 1)) < pair.close, ratio
        assert (np.abs(ratio - 1) < 20 * pair.close).mean() > 0.9, ratio
        passes = np.array(columns["backward_passes"], float)[right].mean()
        assert passes == pytest.approx(run["backward"], rel=0.01)


def test_the_files_are_small():
    assert ARRAYS.stat().st_size + FIGURES.stat().st_size < 100_000
