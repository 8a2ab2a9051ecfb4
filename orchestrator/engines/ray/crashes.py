"""Workers that died under an attempt: whose end was it, and what did they say?

A worker dies a moment before its node does, so a death counts as the worker's own only after a
while. Meanwhile its host is asked for what it printed last: a crash in native code says why there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prunegrid.orchestrator.engines.ray.node_call import answer_of, call_on_node
from prunegrid.orchestrator.engines.ray.slots import Slot
from prunegrid.workers.contract import FailureKind
from prunegrid.workers.process import last_words

NODE_FOLLOWS_S = 1.5  #: until a worker's death counts as its own
LOG_WITHIN_S = 5.0  #: until it counts so without its last words


@dataclass(kw_only=True, eq=False)
class Crash:
    slot: Slot
    error: Exception
    since_s: float
    call: Any  #: for its last words; None where nobody knows where it was
    kind: FailureKind = FailureKind.CRASHED
    log: str = ""


class Crashes:
    """Not thread-safe; the engine owns it."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._open: list[Crash] = []

    def add(self, slot: Slot, error: Exception) -> None:
        call = call_on_node(self._ray, slot, last_words) if slot.where else None
        now_s = time.monotonic()
        self._open.append(Crash(slot=slot, error=error, since_s=now_s, call=call))

    def settle(self, is_gone: Callable[[str], bool]) -> list[Crash]:
        """Those that are known by now to be the node's end (LOST) or the worker's own."""
        settled, waiting = [], []
        for crash in self._open:
            if crash.slot.attempt is None:
                continue  # its node's end came first
            if is_gone(crash.slot.node):
                crash.kind = FailureKind.LOST
                settled.append(crash)
            elif self._is_known(crash):
                settled.append(crash)
            else:
                waiting.append(crash)
        self._open = waiting
        return settled

    def _is_known(self, crash: Crash) -> bool:
        passed_s = time.monotonic() - crash.since_s
        if passed_s < NODE_FOLLOWS_S:
            return False
        if crash.call is not None:
            done, _ = self._ray.wait([crash.call], timeout=0)
            if not done:
                return passed_s >= LOG_WITHIN_S
            crash.log = answer_of(self._ray, crash.call).log
        return True
