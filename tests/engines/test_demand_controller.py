"""The most that an autoscaler grants is found, whatever its limit, and known limits are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.engines.ray.node_resources import (
    FORGET_S,
    DemandController,
    Need,
    Node,
    NodeType,
    most_slots,
)

SLOT = Need(cpus=1, gpus=0.5)


def rounds(
    controller: DemandController, *, wanted: int, held: int, limit: int, count: int = 14
) -> list[int]:
    """An autoscaler that fulfils requests up to `limit`, and none beyond."""
    asked = []
    for second in range(count):
        asked.append(controller.request(wanted, held, float(second)))
        if asked[-1] > limit:
            controller.refused(asked[-1], float(second))
        else:
            controller.granted(asked[-1])
    return asked


@given(
    wanted=st.integers(0, 3000),
    limit=st.integers(0, 3000),
    held=st.integers(0, 3000),
    data=st.data(),
)
def test_the_most_that_is_granted_is_found(wanted, limit, held, data):
    held = min(held, limit)
    bound = data.draw(st.integers(limit, 3000))
    asked = rounds(DemandController(bound), wanted=wanted, held=held, limit=limit)
    assert asked[-1] == min(wanted, limit)
    assert max(asked) <= min(wanted, bound)


def test_a_raised_limit_is_noticed():
    controller = DemandController(100)
    assert rounds(controller, wanted=100, held=0, limit=10)[-1] == 10
    assert controller.request(100, 10, FORGET_S) == 10
    assert controller.request(100, 10, 2 * FORGET_S) == 100


def test_a_grant_that_was_taken_too_early_is_corrected():
    controller = DemandController(100)
    controller.granted(80)  # it had not looked yet
    controller.refused(80, 0.0)
    assert rounds(controller, wanted=100, held=0, limit=7)[-1] == 7


def of(name: str, cpus: float, gpus: float, most: int) -> NodeType:
    return NodeType(node=Node(id=name, host=name, cpus=cpus, gpus=gpus), most=most)


def test_the_bound_fills_the_largest_nodes_first():
    types = [of("small", 2, 1, 10), of("large", 8, 4, 3), of("no GPU", 64, 0, 9)]
    assert most_slots(types, SLOT, None) == 10 * 2 + 3 * 8
    assert most_slots(types, SLOT, 5) == 2 * 2 + 3 * 8
    assert most_slots(types, SLOT, 0) == most_slots([], SLOT, None) == 0
