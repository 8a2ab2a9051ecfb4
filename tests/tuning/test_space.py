"""What a search proposes: within its budget, its ranges and the attack's own bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.tuning.space import (
    Axis,
    Space,
    attack_space,
    costs_of,
    proposals,
    training_space,
)
from prunegrid.workers.catalog import ATTACKS, AttackEntry
from prunegrid.workers.user_code import UserCode

#: Attacks whose settings can be searched.
TUNABLE = [e for e in ATTACKS.values() if e.rounds and any(o.search for o in e.options)]
ENGINES = ("strict", "foolbox")


def defaults(entry: AttackEntry) -> dict:
    return {option.name: option.default for option in entry.options}


def space(name: str = "cw_l2", budget: int = 2250, vary: tuple[str, ...] = ()) -> Space:
    entry = ATTACKS[name]
    costs = costs_of(entry, "foolbox")
    return attack_space(entry, defaults(entry), costs=costs, budget=budget, vary=vary)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("entry", TUNABLE, ids=lambda entry: entry.name)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**31 - 1), count=st.integers(2, 24))
def test_every_proposal_is_affordable_and_one_that_a_grid_may_have(
    entry, engine, share, seed, count
):
    costs = costs_of(entry, engine)
    most = max(costs.queries(defaults(entry)), 2 * costs.least)
    budget = round(costs.least + share * (most - costs.least))
    found = attack_space(entry, defaults(entry), costs=costs, budget=budget, vary=())
    options = {option.name: option for option in entry.options}
    varied = {axis.name: axis for axis in found.axes}
    drawn = proposals(found, count, seed=seed)
    assert len({tuple(sorted(p.items())) for p in drawn}) == len(drawn)
    for number, proposal in enumerate(drawn):
        assert costs.queries(proposal) <= budget
        assert proposal.keys() == options.keys()
        for name, value in proposal.items():
            option = options[name]
            assert option.minimum is None or value >= option.minimum
            assert option.maximum is None or value <= option.maximum
            assert isinstance(value, int) or option.type == "float"
            if number and name in varied and name not in costs.rounds:
                assert varied[name].low <= value <= varied[name].high
            if number and name not in varied and name not in costs.rounds:
                assert value == option.default


@given(seed=st.integers(0, 2**31 - 1), count=st.integers(2, 40), more=st.integers(1, 40))
def test_the_same_seed_proposes_the_same_and_the_grids_settings_come_first(seed, count, more):
    found = space()
    few, many = (proposals(found, n, seed=seed) for n in (count, count))
    assert few == many
    assert len(few) == count
    cut = dict(few[0])
    assert cut == costs_of(ATTACKS["cw_l2"], "foolbox").cut(dict(found.base), found.budget)
    kept = set(cut) - {"steps", "binary_search_steps"}
    assert {name: cut[name] for name in kept} == {name: found.base[name] for name in kept}


@given(budget=st.integers(14, 60_000), searches=st.integers(1, 12), steps=st.integers(1, 10_000))
def test_a_cut_is_the_settings_themselves_or_the_most_steps_that_fit(budget, searches, steps):
    entry = ATTACKS["cw_l2"]
    costs = costs_of(entry, "foolbox")
    base = {**defaults(entry), "binary_search_steps": searches, "steps": steps}
    cut = costs.cut(base, budget)
    assert costs.queries(cut) <= budget
    if costs.queries(base) <= budget:
        assert cut == base
    else:
        assert costs.queries({**cut, "steps": cut["steps"] + 1}) > budget


def test_the_paper_at_a_twentieth_has_a_twentieth_of_the_steps():
    entry = ATTACKS["cw_l2"]
    costs = costs_of(entry, "foolbox")
    assert costs.queries(defaults(entry)) == 9 * 5000 + 3
    cut = costs.cut(defaults(entry), 45_003 // 20)
    assert (cut["binary_search_steps"], cut["steps"]) == (9, 249)


def test_steps_take_what_the_other_rounds_leave():
    for options in proposals(space(budget=2250), 32, seed=3)[1:]:
        one_more = {**options, "steps": options["steps"] + 1}
        assert space().costs.queries(one_more) > 2250


@given(low=st.floats(1e-8, 1e8), factor=st.floats(1, 1e8), share=st.floats(0, 1))
def test_an_axis_stays_in_its_range_and_has_two_digits(low, factor, share):
    value = Axis(name="a", low=low, high=low * factor, whole=False).at(share)
    assert low <= value <= low * factor
    assert value in (low, low * factor) or float(f"{value:.2g}") == value


def test_proposals_spread_evenly_over_the_scale():
    """Quarters of log range: a search of 32 leaves none empty."""
    drawn = proposals(space(vary=("stepsize",)), 33, seed=0)[1:]
    low, high = math.log(3e-3), math.log(3)
    quarters = [int(4 * (math.log(p["stepsize"]) - low) / (high - low)) for p in drawn]
    assert sorted(set(quarters) - {4}) == [0, 1, 2, 3]
    assert max(quarters.count(q) for q in range(4)) <= 10


def test_a_range_of_ones_own_is_kept():
    found = space(vary=("stepsize=0.01..0.1", "binary_search_steps=2..4"))
    for options in proposals(found, 12, seed=0)[1:]:
        assert 0.01 <= options["stepsize"] <= 0.1
        assert options["binary_search_steps"] in (2, 3, 4)
        assert options["initial_const"] == 100


@pytest.mark.parametrize(
    ("name", "budget", "vary", "words"),
    [
        ("cw_l2", 5, (), ["--budget 5", "at least 13"]),
        ("cw_l2", 900, ("stepsise",), ["'stepsise'", "did you mean 'stepsize'?"]),
        ("cw_l2", 900, ("confidence",), ["'confidence'", "stepsize"]),
        ("cw_l2", 900, ("stepsize=1",), ["stepsize=LOW..HIGH"]),
        ("cw_l2", 900, ("stepsize=1..x",), ["two numbers"]),
        ("cw_l2", 900, ("stepsize=3..1",), ["LOW at most HIGH"]),
        ("cw_l2", 900, ("stepsize=0..1",), ["above 0"]),
        ("cw_l2", 900, ("stepsize=1..inf",), ["LOW at most HIGH"]),
        ("cw_l2", 900, ("binary_search_steps=1.5..3",), ["whole numbers"]),
        ("cw_l2", 900, ("steps=10..20",), ["takes no range", "what the budget leaves"]),
        ("cw_l2", 900, ("steps",), ["nothing else to vary than steps"]),
        ("fgsm_linf", 900, (), ["none of its settings can be tuned"]),
    ],
)
def test_refusals(name, budget, vary, words):
    with pytest.raises(UsageError) as caught:
        space(name, budget, vary)
    for word in words:
        assert word in str(caught.value)


def test_restarts_without_a_random_start_are_not_searched():
    entry = ATTACKS["pgd_linf"]
    base = {**defaults(entry), "random_start": False}
    found = attack_space(entry, base, costs=costs_of(entry, "strict"), budget=200, vary=())
    assert "restarts" not in [axis.name for axis in found.axes]
    with pytest.raises(UsageError, match="'restarts'"):
        attack_space(entry, base, costs=costs_of(entry, "strict"), budget=200, vary=("restarts",))


def test_an_attack_of_foolbox_by_its_class_name_has_no_known_costs():
    from prunegrid.workers.catalog import attack_entry

    with pytest.raises(UsageError, match=r"foolbox:FGSM.*an attack of the catalog"):
        costs_of(attack_entry("foolbox:FGSM"), "foolbox-stock")


def test_a_training_space_has_no_budget():
    axes = {"learning_rate": Axis(name="learning_rate", low=1e-4, high=1e-2, whole=False)}
    found = training_space(axes, {"learning_rate": 0.001}, ())
    drawn = proposals(found, 9, seed=0)
    assert drawn[0] == {"learning_rate": 0.001}
    assert all(1e-4 <= p["learning_rate"] <= 1e-2 for p in drawn)
    assert len(drawn) == 9


def test_an_attack_of_ones_own_says_what_spends_queries(monkeypatch):
    mine = AttackEntry(
        name="lab:mine",
        title="Mine",
        norm="l2",
        finds="minimum-norm",
        function=UserCode(target="lab:mine"),
    )
    monkeypatch.setattr(AttackEntry, "options", ())
    with pytest.raises(UsageError, match=r'expected one such as `steps: Annotated.*spends="steps"'):
        costs_of(mine, "strict")
