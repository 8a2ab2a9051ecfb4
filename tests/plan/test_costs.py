"""Costs: hours and money by hand, ranges that hold each other, and a price changes no key."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import Price
from prunegrid.orchestrator.plan.costs import cost_of, hours_of, range_text, sureness
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.estimates import Durations, Eta, estimate
from tests.grids import SMALL

ETA = Eta(
    low_s=1800,
    high_s=7200,
    work_s=14_400,
    critical_s=600,
    measured_frac=0.62,
    work_low_s=10_800,
    work_high_s=18_000,
)


def grid(more: str):
    return parse_grid(SMALL + more, source="test")


def test_a_node_of_eight_gpus_with_four_tasks_on_each():
    found = grid(
        "resources: {gpus_per_task: 0.25}\nprice: {per_hour: 16, currency: USD, gpus_per_node: 8}\n"
    )
    assert found.price == Price(per_hour=16.0, currency="USD", slots_per_node=32)
    assert found.price.per_slot_hour == 0.5
    cost = cost_of(found.price, spent_s=7200, eta=ETA, slots=4)
    assert cost is not None
    assert (cost.spent, cost.to_come, cost.currency) == (1.0, (1.5, 4.0), "USD")
    hours = hours_of(found.resources, spent_s=7200, eta=ETA)
    assert (hours.unit, hours.spent, hours.to_come) == ("GPU", 0.5, (0.75, 1.25))
    assert hours.expected == 1.0


@pytest.mark.parametrize(
    ("resources", "price", "slots"),
    [
        ("cpus_per_task: 2", "cpus_per_node: 9", 4),
        ("gpus_per_task: 0.3333333333", "gpus_per_node: 1", 3),
        ("gpus_per_task: 0.5, cpus_per_task: 4", "gpus_per_node: 8, cpus_per_node: 32", 8),
        ("cpus_per_task: 1", "gpus_per_node: 8, cpus_per_node: 16", 16),
    ],
)
def test_tasks_that_a_node_runs_at_once(resources, price, slots):
    text = f"resources: {{{resources}}}\nprice: {{per_hour: 1, currency: EUR, {price}}}\n"
    assert grid(text).price.slots_per_node == slots


def test_the_short_form_is_of_one_slot():
    found = grid("resources: {price_per_hour: 3.6, cpus_per_task: 2}\n")
    assert found.price == Price(per_hour=3.6, currency="", slots_per_node=1)
    assert found.price.per_slot_hour == 3.6
    hours = hours_of(found.resources, spent_s=3600, eta=ETA)
    assert (hours.unit, hours.spent) == ("CPU", 2.0)


def test_without_a_price_there_is_no_cost():
    assert grid("").price is None
    assert cost_of(None, spent_s=1, eta=ETA, slots=1) is None


def test_a_price_changes_no_task():
    priced = grid("price: {per_hour: 1, currency: USD, cpus_per_node: 8}\n")
    assert list(expand(priced).tasks) == list(expand(grid("")).tasks)


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_what_is_to_come_holds_the_expected_work(slots):
    durations = Durations()
    tasks = expand(grid("")).tasks
    for task in list(tasks.values())[::7]:
        durations.add(task, 20.0)
    eta = estimate(tasks, durations, slots=slots, elapsed={})
    price = Price(per_hour=3600.0, currency="USD", slots_per_node=1)
    cost = cost_of(price, spent_s=0.0, eta=eta, slots=slots)
    assert cost is not None
    assert cost.to_come[0] <= eta.work_s <= cost.to_come[1]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0123, 0.4, "0.0123 to 0.4 USD"),
        (12.4, 12.4, "12 USD"),
        (12.4, 12.3, "12 USD"),
        (12_345.6, 999.4, "12,346 to 999 USD"),
    ],
)
def test_ranges_read_well(low, high, text):
    assert range_text(low, high, "USD") == text


def test_how_sure_it_is_is_said():
    alike = "tasks alike that were measured"
    assert sureness(ETA, "tables") == f"{alike}, 62 % of it; the rest on tables"
    plain = {"low_s": 1, "high_s": 1, "work_s": 1, "critical_s": 1}
    assert sureness(Eta(**plain, measured_frac=0.0), "tables") == "tables"
    assert sureness(Eta(**plain, measured_frac=1.0), "tables") == alike
