"""How many slots fit on a node, and how large one may become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.engines.ray.node_resources import (
    Need,
    Node,
    capacity,
    describe_shortage,
    largest_share,
    need_of,
)
from prunegrid.orchestrator.grid.grid import Resources
from prunegrid.orchestrator.grid.resources import SMALLEST_GPU_PART


def node(cpus: float, gpus: float, name: str = "n") -> Node:
    return Node(id=name, host=name, cpus=cpus, gpus=gpus)


@pytest.mark.parametrize(
    ("cpus", "gpus", "need", "slots"),
    [
        (8, 0, Need(cpus=1, gpus=0), 8),
        (8, 0, Need(cpus=3, gpus=0), 2),
        (8, 0, Need(cpus=1, gpus=0.5), 0),
        (8, 2, Need(cpus=1, gpus=0.5), 4),
        (3, 2, Need(cpus=1, gpus=0.5), 3),
        (64, 2, Need(cpus=1, gpus=0.4), 4),  # two per GPU: a fifth would span both
        (64, 1, Need(cpus=1, gpus=0.3333), 3),
        (64, 8, Need(cpus=1, gpus=2), 4),
        (0, 8, Need(cpus=1, gpus=1), 0),
    ],
)
def test_capacity(cpus, gpus, need, slots):
    assert capacity(node(cpus, gpus), need) == slots


#: As a grid file may name it.
PART = st.just(0.0) | st.floats(SMALLEST_GPU_PART, 1)


@given(st.integers(0, 64), st.integers(0, 8), st.integers(1, 8), PART, st.integers(1, 8))
def test_slots_never_take_more_than_there_is(cpus, gpus, each, part, share):
    need = Need(cpus=each, gpus=part).times(share)
    slots = capacity(node(cpus, gpus), need)
    assert slots >= 0
    assert slots * need.cpus <= cpus
    assert slots * need.gpus <= gpus + 1e-6


@given(st.integers(1, 64), st.integers(0, 8), st.floats(0.05, 1), st.integers(1, 8))
def test_a_larger_share_always_fits_somewhere(cpus, gpus, part, wanted):
    need = Need(cpus=1, gpus=part if gpus else 0)
    share = largest_share([node(cpus, gpus)], need, wanted)
    assert 1 <= share <= wanted
    assert share == 1 or capacity(node(cpus, gpus), need.times(share)) >= 1


def test_a_share_ends_with_the_whole_gpu():
    need = Need(cpus=1, gpus=0.25)
    assert largest_share([node(64, 4)], need, 8) == 4
    assert largest_share([node(3, 4)], need, 8) == 3, "and with the node's CPUs"
    assert largest_share([node(64, 4)], Need(cpus=1, gpus=0.3), 8) == 4, "the fourth takes 1.0"
    assert largest_share([node(4, 0)], Need(cpus=1, gpus=0), 8) == 4
    assert need.times(8).gpus == 1.0
    assert Need(cpus=1, gpus=2).times(3).gpus == 2, "a task computes on what it asked for"


def test_without_gpus_tasks_take_cpus_alone():
    resources = Resources(cpus_per_task=2, gpus_per_task=0.5, threads=1, gpu_memory_mib=None)
    assert need_of(resources, gpus=True) == Need(cpus=2, gpus=0.5)
    assert need_of(resources, gpus=False) == Need(cpus=2, gpus=0)


def test_what_is_lacking_is_said_with_what_there_is():
    text = describe_shortage([node(4, 0), node(4, 0), node(2, 1)], Need(cpus=8, gpus=1))
    assert "needs 8 CPU and 1 GPU" in text
    assert "the nodes offer 4 CPU and 0 GPU; 2 CPU and 1 GPU" in text
    assert "no node alive" in describe_shortage([], Need(cpus=1, gpus=0))
