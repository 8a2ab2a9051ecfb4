from __future__ import annotations

import numpy as np
import pytest

from prunegrid.workers.attacks.checks import (
    AttackRows,
    doubling_steps,
    from_columns,
    masking_flags,
    worst_case,
)

N = 100


def rows(**changes):
    values = {
        "attack": "pgd_linf",
        "gradients": True,
        "norm": "linf",
        "outputs": "logits",
        "images": np.arange(N),
        "eps": (0.1, 0.2),
        "broken": np.stack([np.arange(N) < 30, np.arange(N) < 60]),
        "distance": np.zeros((2, N)),
        "zero_gradient": np.zeros(N, bool),
        "broken_first_step": np.zeros((2, N), bool),
    }
    return AttackRows(**(values | changes))


def minimum(distance, **changes):
    distance = np.asarray(distance, float)[None]
    return rows(
        attack="cw_l2", norm="l2", eps=(), distance=distance, broken=np.isfinite(distance),
        broken_first_step=None, **changes,
    )  # fmt: skip


def names(*attacks):
    return [flag.name for flag in masking_flags(attacks)]


def test_nothing_is_flagged_where_all_is_well():
    assert names(rows(), minimum(np.linspace(0, 3, N))) == []


def test_zero_gradients():
    zero = np.arange(N) < 5
    (flag,) = masking_flags([rows(zero_gradient=zero)])
    assert (flag.name, flag.value) == ("zero-gradients", 0.05)
    assert "5.0%" in flag.message
    assert names(rows(zero_gradient=np.arange(N) < 1)) == []
    assert names(rows(zero_gradient=zero, gradients=False)) == []


def test_softmax_outputs():
    assert names(rows(outputs="softmax")) == ["softmax-outputs"]


def test_pgd_weaker_than_its_first_step():
    first = np.stack([np.arange(N) < 40, np.arange(N) < 50])
    (flag,) = masking_flags([rows(broken_first_step=first)])
    assert (flag.name, flag.value) == ("weaker-than-first-step", 0.05)


def test_accuracy_that_grows_with_eps():
    broken = np.stack([np.arange(N) < 30, np.arange(N) < 20])
    (flag,) = masking_flags([rows(broken=broken)])
    assert flag.name == "not-monotone"
    assert "10 images from eps 0.1 to 0.2" in flag.message
    assert names(rows(broken=np.stack([np.arange(N) < 30, np.arange(N) < 29]))) == []


def test_a_gradient_free_attack_that_is_stronger():
    white = minimum(np.full(N, 2.0))
    free = minimum(np.where(np.arange(N) < 10, 1.0, 2.0), gradients=False)
    (flag,) = masking_flags([white, free])
    assert (flag.name, flag.attack, flag.value) == ("gradient-free-stronger", "cw_l2", 0.1)
    weaker = minimum(np.full(N, 2.5), gradients=False)
    assert names(white, weaker) == []


def test_worst_case_over_attacks():
    a = minimum(np.where(np.arange(N) < 50, 1.0, 3.0))
    b = minimum(np.where(np.arange(N) < 80, 3.0, 1.0))
    stand = worst_case([a, b], 2.0)
    assert stand.tolist() == [50 <= i < 80 for i in range(N)]
    with pytest.raises(ValueError, match="expected attacks in l2, got linf"):
        worst_case([a, rows()], 2.0)
    with pytest.raises(ValueError, match="different images"):
        worst_case([a, minimum(np.ones(N), images=np.arange(N) + 1)], 2.0)


def test_distance_at_eps_still_stands():
    assert minimum(np.full(N, 2.0)).robust(2.0).all()
    assert not minimum(np.full(N, 2.0)).robust(2.0001).any()
    with pytest.raises(KeyError, match=r"expected one of eps \[0.1, 0.2\], got 0.3"):
        rows().robust(0.3)


def test_doubling_the_steps():
    once = minimum(np.full(N, 2.0))
    doubled = minimum(np.where(np.arange(N) < 3, 1.0, 2.0))
    (found,) = doubling_steps(once, doubled, [1.5])
    assert (found.robust, found.robust_doubled, found.converged) == (1.0, 0.97, False)
    (same,) = doubling_steps(once, doubled, [1.5], tolerance_frac=0.03)
    assert same.converged
    assert same.median_distance == same.median_distance_doubled == 2.0


def test_rows_of_several_shards_come_together():
    columns = {
        "image": [2, 2, 0, 1, 0, 1],
        "eps": [0.1, 0.2, 0.1, 0.1, 0.2, 0.2],
        "broken": [False, True, True, False, True, True],
        "distance": [np.inf, 0.2, 0.0, np.inf, 0.0, 0.15],
        "zero_gradient": [True, True, False, False, False, False],
        "broken_first_step": [False, False, False, False, False, True],
    }
    got = from_columns(columns, attack="pgd_linf", gradients=True, norm="linf", outputs="logits")
    assert got.images.tolist() == [0, 1, 2]
    assert got.broken.tolist() == [[True, False, False], [True, True, True]]
    assert got.zero_gradient.tolist() == [False, False, True]
    assert got.broken_first_step is not None
    assert got.broken_first_step.tolist() == [[False] * 3, [False, True, False]]
    short = {name: values[:5] for name, values in columns.items()}
    with pytest.raises(ValueError, match="each of 3 images once for each of 2 eps, got 5 rows"):
        from_columns(short, attack="pgd_linf", gradients=True, norm="linf", outputs="logits")
