from __future__ import annotations

import numpy as np
import pytest

from prunegrid.orchestrator.report.attack_rows import AttackRows, doubling_steps, more_broken

N = 100


def rows(**changes):
    values = {
        "attack": "pgd_linf",
        "norm": "linf",
        "images": np.arange(N),
        "labels": np.arange(N) % 10,
        "eps": (0.1, 0.2),
        "broken": np.stack([np.arange(N) < 30, np.arange(N) < 60]),
        "distance": np.zeros((2, N)),
    }
    return AttackRows(**(values | changes))


def minimum(distance, **changes):
    distance = np.asarray(distance, float)[None]
    return rows(
        attack="cw_l2", norm="l2", eps=(), distance=distance, broken=np.isfinite(distance),
        **changes,
    )  # fmt: skip


def test_distance_at_eps_still_stands():
    assert minimum(np.full(N, 2.0)).robust(2.0).all()
    assert not minimum(np.full(N, 2.0)).robust(2.0001).any()
    with pytest.raises(KeyError, match=r"expected one of eps \[0.1, 0.2\], got 0.3"):
        rows().robust(0.3)


def test_distance_at_eps_is_broken_where_the_cells_say_so():
    assert not minimum(np.full(N, 2.0), within=True).robust(2.0).any()
    assert minimum(np.full(N, 2.0001), within=True).robust(2.0).all()


def test_images_that_only_the_other_breaks():
    weaker = minimum(np.full(N, 2.0))
    stronger = minimum(np.where(np.arange(N) < 10, 1.0, 2.0))
    assert more_broken(weaker, stronger, 1.5) == 10
    assert more_broken(stronger, weaker, 1.5) == 0
    one_more = minimum(np.where(np.arange(N) < 1, 1.0, 2.0))
    assert more_broken(weaker, one_more, 1.5) == 0, "within the slack"
    half = minimum(np.ones(N // 2), images=np.arange(N // 2))
    assert more_broken(weaker, half, 1.5) == N // 2, "images that both saw"
    assert more_broken(rows(), stronger, 0.3) == 0, "not run at this eps"


def test_doubling_the_steps():
    once = minimum(np.full(N, 2.0))
    doubled = minimum(np.where(np.arange(N) < 3, 1.0, 2.0))
    (found,) = doubling_steps(once, doubled, [1.5])
    assert (found.robust, found.robust_doubled, found.converged) == (1.0, 0.97, False)
    (same,) = doubling_steps(once, doubled, [1.5], tolerance_frac=0.03)
    assert same.converged
    with pytest.raises(ValueError, match="saw different images"):
        doubling_steps(once, minimum(np.ones(N), images=np.arange(N) + 1), [1.5])
