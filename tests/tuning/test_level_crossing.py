"""Where a curve crosses a level, in few looks."""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.tuning.measured_curves import Bisection


def run(search: Bisection, curve: Callable[[float], float]) -> int:
    """Returns how many looks it took."""
    looks = 0
    while (eps := search.next_eps()) is not None:
        assert search.least <= eps <= search.most
        assert eps not in search.points, "a look is never repeated"
        search.take(eps, curve(eps))
        looks += 1
        assert looks < 100
    return looks


@given(
    crossing=st.floats(1e-5, 0.9),
    first=st.floats(1e-4, 1),
    level=st.floats(0.05, 0.95),
    steepness=st.floats(0.2, 20),
)
def test_a_falling_curve_is_followed_to_within_the_tolerance(crossing, first, level, steepness):
    def curve(eps: float) -> float:
        """`level` at `crossing`, falling from 1 to 0."""
        odds = (level / (1 - level)) * (crossing / eps) ** steepness
        return odds / (1 + odds)

    search = Bisection(level=level, first=first)
    looks = run(search, curve)
    assert search.eps <= crossing * (1 + 1e-9)
    assert search.eps * search.tolerance >= crossing * (1 - 1e-9)
    away = abs(math.log2(crossing / first))
    assert looks <= away + 2 + math.ceil(math.log2(math.log(2) / math.log(1.05))) + 1


@given(
    values=st.lists(st.floats(0, 1), min_size=40, max_size=40),
    level=st.floats(0.05, 0.95),
    told=st.lists(st.floats(0.001, 1), max_size=6, unique=True),
)
def test_a_curve_that_does_not_fall_everywhere_still_gives_one_of_its_crossings(
    values, level, told
):
    def curve(eps: float) -> float:
        return values[min(39, int(40 * eps))]

    search = Bisection(level=level, first=0.1)
    for eps in told:  # another level's looks
        search.take(eps, curve(eps))
    run(search, curve)
    if search.eps == math.inf:
        assert search.points[search.most] >= level
    elif search.eps == search.least:
        assert search.points[search.least] < level
    else:
        assert search.points[search.eps] >= level
        above = [eps for eps in search.points if eps > search.eps]
        assert search.points[min(above)] < level
        assert min(above) <= search.eps * search.tolerance * (1 + 1e-12)


def test_out_of_reach():
    never, always = Bisection(level=0.5, first=0.1), Bisection(level=0.5, first=0.1)
    run(never, lambda eps: 1.0)
    run(always, lambda eps: 0.0)
    assert never.eps == math.inf
    assert always.eps == always.least


def test_what_is_known_already_is_not_asked_again():
    curve = {0.01: 0.9, 0.02: 0.6, 0.0205: 0.4, 0.04: 0.1}
    search = Bisection(level=0.5, first=0.01)
    for eps, robust in curve.items():
        search.take(eps, robust)
    assert search.next_eps() is None
    assert search.eps == 0.02
