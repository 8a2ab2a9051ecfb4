"""Four eps by the paper's rule: for any security curve, and the paper's own shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prunegrid.orchestrator.store.rows import summarise
from prunegrid.orchestrator.tuning.eps_rule import (
    Ends,
    EpsLevelsError,
    Rule,
    SecurityCurve,
    calibrate_curve,
    eps_as_written,
    eps_levels,
    nearest_curve,
    rule_findings,
)

RULE = Rule()


def curve(norm: str, distances: np.ndarray, *, within: bool = True) -> SecurityCurve:
    return SecurityCurve(
        architecture="cnn5",
        attack=f"a_{norm}",
        norm=norm,
        clean=float(np.mean(distances > 0)),
        models=1,
        distances=distances,
        within=within,
    )


@given(
    norm=st.sampled_from(["l0", "l2", "linf"]),
    scale=st.floats(0.02, 300),
    spread=st.floats(0.05, 1.2),
    wrong=st.floats(0, 0.3),
    seed=st.integers(0, 999),
    within=st.booleans(),
)
def test_a_set_follows_the_rule_whatever_the_curve(norm, scale, spread, wrong, seed, within):
    rng = np.random.default_rng(seed)
    scale = scale / 300 if norm == "linf" else scale
    found = scale * np.exp(spread * rng.standard_normal(400))
    if norm == "l0":
        found = np.ceil(found)
    found[rng.random(400) < wrong] = 0
    it = curve(norm, found, within=within)
    ends = it.ends(RULE)
    if norm == "linf" and it.robust(128 / 255) >= RULE.most_left:
        with pytest.raises(EpsLevelsError, match=r"even eps 0\.502 leaves"):
            eps_levels(norm, ends, it.robust, RULE)
        return
    eps = eps_levels(norm, ends, it.robust, RULE)
    assert len(eps) == 4
    assert 0 < eps[0] < eps[1] < eps[2] < eps[3]
    assert it.robust(eps[-1]) < RULE.most_left
    if norm == "linf":
        exponents = [math.log2(255 * e) for e in eps]
        assert exponents == pytest.approx([exponents[0] + k for k in range(4)])
        assert exponents[0] == pytest.approx(round(exponents[0]))
        return
    steps = np.diff(eps)
    assert steps == pytest.approx(np.full(3, steps[0]), rel=1e-6)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert round(mantissa, 6) in ((1, 2, 3, 4, 5) if norm == "l0" else (1, 2, 5))
    if norm == "l0":
        assert all(e == round(e) for e in eps)
        assert eps[0] <= max(ends.weak, 1)
    else:
        assert eps[0] <= ends.weak
    if eps[0] <= it.crossing(it.clean - RULE.marginal):
        assert it.robust(eps[0]) >= it.clean - RULE.marginal - 1e-9
        assert not [d for d in rule_findings(steps_of(it, eps), it.clean, RULE) if "weakest" in d]


def steps_of(it: SecurityCurve, eps):
    return calibrate_curve(it, eps, RULE).present


@given(
    distances=st.lists(
        st.one_of(st.just(0.0), st.floats(0.01, 100), st.just(math.inf)), min_size=1, max_size=60
    ),
    level=st.floats(0.02, 1),
    within=st.booleans(),
)
def test_a_crossing_is_the_largest_eps_with_so_many_left(distances, level, within):
    it = curve("l2", np.array(distances), within=within)
    eps = it.crossing(level)
    if eps == 0:
        known = [d for d in distances if d > 0]
        assert not known or it.robust(min(known)) < level or it.robust(1e-9) < level
    else:
        assert it.robust(eps) >= level - 1e-9
        larger = [d for d in distances if d > eps]
        assert not larger or it.robust(min(larger)) < level


@pytest.mark.parametrize(
    ("within", "left", "weak", "strong"), [(True, 0.4, 2, 8), (False, 0.7, 3, 9)]
)
def test_an_image_at_exactly_eps_counts_as_the_protocols_cells_count_it(within, left, weak, strong):
    distances = np.array([3, 5, 5, 6, 6, 6, 9, 9, 12, 14.0])
    it = curve("l0", distances, within=within)
    cell = {
        "label": np.zeros(10, int), "clean_prediction": np.zeros(10, int), "distance": distances,
        "adversarial_prediction": np.ones(10, int), "broken": np.ones(10, bool),
        "skipped": np.zeros(10, bool), "verified": np.ones(10, bool), "queries": np.ones(10),
        "backward_passes": np.ones(10), "flat_passes": np.zeros(10),
        "zero_gradient": np.zeros(10, bool), "broken_by": np.full(10, ""),
        "attacked_network": np.full(10, ""),
        "distance_pixels": distances, "distance_loose": distances,
    }  # fmt: skip
    for eps in (3.0, 6.0, 9.0, 12.0):
        counted = summarise(cell, eps=eps, minimum_norm=True, within=within)["robust_accuracy"]
        assert it.robust(eps) == pytest.approx(counted)
    assert it.robust(6) == pytest.approx(left)
    ends = it.ends(Rule(marginal=0.0, left=0.4))
    assert (ends.weak, ends.strong) == (weak, strong)


@given(
    robust=st.lists(st.floats(0, 1), min_size=2, max_size=8),
    level=st.floats(0.05, 0.95),
)
def test_between_measured_points_a_crossing_is_where_the_curve_has_the_level(robust, level):
    points = {(k + 1) / 255: value for k, value in enumerate(robust)}
    it = SecurityCurve(
        architecture="cnn5", attack="p", norm="linf", clean=1.0, models=1, points=points
    )
    eps = it.crossing(level)
    if eps == 0:
        assert it.robust(1 / 255) < level
    elif eps == math.inf:
        assert it.robust(len(robust) / 255) >= level
    else:
        assert it.robust(eps) == pytest.approx(level, abs=1e-6)
        assert it.robust(eps * 1.0001) <= level + 1e-6


@given(weak=st.floats(0.1, 10), width=st.floats(0, 30))
def test_no_set_where_the_attack_fails_on_half(weak, width):
    ends = Ends(weak=weak, strong=weak + width)
    for norm in ("l0", "l2", "linf"):
        with pytest.raises(EpsLevelsError, match=r"leaves 0\.60"):
            eps_levels(norm, ends, lambda eps: 0.6, RULE)


@pytest.mark.parametrize(("weak", "strong"), [(0, 1), (1, math.inf), (2, 1)])
def test_no_set_without_ends(weak, strong):
    with pytest.raises(EpsLevelsError, match="fails on too many"):
        eps_levels("l2", Ends(weak=weak, strong=strong), lambda eps: 0.1, RULE)


@pytest.mark.parametrize(
    ("norm", "weak", "strong", "published"),
    [
        ("l0", 3.9, 12.4, (3, 6, 9, 12)),
        ("l0", 2.7, 8.1, (2, 4, 6, 8)),
        ("l2", 1.2, 4.1, (1, 2, 3, 4)),
        ("l2", 2.2, 3.6, (2, 2.5, 3, 3.5)),
        ("linf", 4.2 / 255, 30 / 255, (4 / 255, 8 / 255, 16 / 255, 32 / 255)),
        ("linf", 0.26 / 255, 2.2 / 255, (0.25 / 255, 0.5 / 255, 1 / 255, 2 / 255)),
    ],
)
def test_the_papers_own_shapes(norm, weak, strong, published):
    """Ends such as the published sets have: the rule writes the sets as the paper does."""
    found = eps_levels(norm, Ends(weak=weak, strong=strong), lambda eps: 0.25, RULE)
    assert found == pytest.approx(published)


@given(st.floats(1e-4, 1), st.sampled_from(["l0", "l2", "linf"]))
def test_an_eps_reads_back_as_it_was_written(eps, norm):
    from prunegrid.orchestrator.grid.file import parse_grid
    from tests.grids import SMALL

    attack = "pgd_linf" if norm == "linf" else "cw_l2"
    assume(norm != "l0")
    text = eps_as_written(eps, norm)
    old = "[4/255, 8/255]" if norm == "linf" else "[1, 2]"
    grid = parse_grid(SMALL.replace(old, f"[{text}]"), source="g")
    (plan,) = grid.architectures
    (read,) = {a.eps for a in plan.attacks if a.label == attack}
    assert read == pytest.approx((eps,), rel=1e-5)


def test_a_network_that_is_hardly_ever_right_is_named():
    found = nearest_curve("mine", "cw_l2", np.array([0, 0, 0, 0, 1.0]), models=1, within=True)
    words = "mine cw_l2: the unpruned network is right on 20% of the attacked images; expected more"
    with pytest.raises(EpsLevelsError, match=words):
        calibrate_curve(found, (), Rule())
