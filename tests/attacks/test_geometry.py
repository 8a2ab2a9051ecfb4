"""Balls, planes and the nearest point so far, by hand and by search."""

from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.attacks.base import row_norms
from prunegrid.workers.attacks.runtime.geometry import (
    Nearest,
    cosine,
    into_ball,
    onto_plane,
    steepest,
    unit,
)


def drawn(seed, n=40, shape=(3, 4, 2)):
    rng = np.random.default_rng(seed)
    points = rng.random((n, *shape)).astype(np.float32)
    points[rng.random(points.shape) < 0.3] = 0.0  # at an end of the box
    slope = rng.standard_normal(points.shape).astype(np.float32)
    slope[rng.random(points.shape) < 0.2] = 0.0
    slope[0] = 0.0
    return points, slope, 3 * rng.standard_normal(n)


def shortest(point, slope, height, norm):
    """The length of the shortest step in the box to where the function is 0, found by halving;
    None: the box has no such place."""
    way = -np.sign(height) * slope
    room = np.where(way > 0, 1 - point, point) * (way != 0)

    def step(reach):
        return np.minimum(reach * (np.abs(way) if norm == "l2" else way != 0), room)

    def left(reach):
        return abs(height) - (np.abs(way) * step(reach)).sum()

    low, high = 0.0, 1e6
    if left(high) > 0:
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > 0 else (low, middle)
    return float(row_norms(step(high)[None], norm)[0])


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_shortest_step_to_a_plane_within_the_box(norm):
    points, slope, height = drawn(1)
    step = onto_plane(points, slope, height, norm)
    ends = points + step
    assert ends.min() >= -1e-6
    assert ends.max() <= 1 + 1e-6
    reached = 0
    for i in range(len(points)):
        best = shortest(points[i].astype(float), slope[i].astype(float), height[i], norm)
        now = height[i] + float((slope[i].astype(float) * step[i]).sum())
        if best is None:
            corner = np.where(-np.sign(height[i]) * slope[i] > 0, 1.0, 0.0)
            assert np.allclose(ends[i][slope[i] != 0], corner[slope[i] != 0], atol=1e-6)
            assert (step[i][slope[i] == 0] == 0).all()
            continue
        reached += 1
        assert now == pytest.approx(0, abs=1e-4)
        assert row_norms(step[i : i + 1], norm)[0] == pytest.approx(best, rel=1e-4, abs=1e-6)
    assert 10 < reached < len(points)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_row_depends_on_another(norm):
    points, slope, height = drawn(2)
    whole = onto_plane(points, slope, height, norm)
    for i in (0, 3, 39):
        part = slice(i, i + 1)
        alone = onto_plane(points[part], slope[part], height[part], norm)
        assert np.array_equal(alone[0], whole[i])
    ball = into_ball(points + slope, points, 0.7, norm)
    assert np.array_equal(into_ball((points + slope)[5:6], points[5:6], 0.7, norm)[0], ball[5])


@pytest.mark.parametrize(("norm", "size"), [("l2", 0.9), ("linf", 0.1)])
def test_into_the_ball(norm, size):
    points, slope, _ = drawn(3)
    inside = into_ball(points + slope, points, size, norm)
    assert row_norms(inside - points, norm).max() <= size * (1 + 1e-6)
    near = points + np.float32(1e-3) * slope
    assert np.allclose(into_ball(near, points, size, norm), np.clip(near, 0, 1), atol=1e-6)
    assert inside.dtype == np.float32


def test_units():
    _, slope, _ = drawn(4)
    for norm in ("l2", "linf"):
        norms = row_norms(unit(slope, norm), norm)
        assert norms[0] == 0, "no direction has no unit"
        assert np.allclose(norms[1:], 1)
    assert set(np.unique(steepest(slope, "linf"))) == {-1.0, 0.0, 1.0}
    assert np.array_equal(steepest(slope, "l2"), unit(slope))


def test_half_a_cosine():
    assert [cosine(1.0, 0.1, step, 10) for step in (0, 5, 10)] == pytest.approx([1, 0.55, 0.1])


def test_the_nearest_stays():
    clean = np.zeros((3, 2, 2, 1), np.float32)
    nearest = Nearest(clean, "linf")
    assert not nearest.found.any()
    for size, good in ((0.5, [True, False]), (0.6, [True, True]), (0.4, [False, True])):
        images = np.full((2, 2, 2, 1), size, np.float32)
        nearest.offer(np.array([0, 2]), images, np.array(good))
    assert nearest.distance == pytest.approx([0.5, np.inf, 0.4], abs=1e-6)
    assert nearest.images[:, 0, 0, 0] == pytest.approx([0.5, 0, 0.4])
