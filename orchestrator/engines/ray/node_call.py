"""Calls on a worker's node in another process than the worker's, which hangs or is dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prunegrid.orchestrator.engines.ray.slots import Slot
from prunegrid.workers.process import LastWords, Whereabouts


def call_on_node(ray: Any, slot: Slot, function: Callable[[Whereabouts], LastWords]) -> Any:
    """The call's reference: nobody waits for it here."""
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    remote = ray.remote(function).options(
        num_cpus=0, max_retries=0, scheduling_strategy=affinity(slot.node, soft=False)
    )
    return remote.remote(slot.where)


def answer_of(ray: Any, call: Any) -> LastWords:
    """Of a call that has ended."""
    try:
        words: LastWords = ray.get(call)
    except Exception as error:
        words = LastWords(stacks=f"its stacks can't be had: {type(error).__name__}")
    return words
