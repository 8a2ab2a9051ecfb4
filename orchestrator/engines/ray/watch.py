"""Is what runs alive? Progress calls that nobody waits for, and the end of what hangs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

from prunegrid.orchestrator.engines.ray.node_call import answer_of, call_on_node
from prunegrid.orchestrator.engines.ray.slots import Slot
from prunegrid.workers.process import LastWords, end_process

ASK_EVERY_S = 1.0
_STACKS_WITHIN_S = 15.0
_NO_WORD = f"its stacks can't be had: nothing from its node within {_STACKS_WITHIN_S:.0f} s"


class Watch:
    """`silence_s`: a task without a heartbeat for so long hangs. `timeout_s`: the most that one
    attempt may take; None: as long as it likes."""

    def __init__(self, ray: Any, *, silence_s: float, timeout_s: float | None) -> None:
        self._ray = ray
        self._silence_s = silence_s
        self._timeout_s = timeout_s
        self._asked_s = -1e9

    def ask(self, slots: Iterable[Slot]) -> None:
        """Collect answered progress calls, ask again; never wait."""
        now_s = time.monotonic()
        if now_s - self._asked_s < ASK_EVERY_S:
            return
        self._asked_s = now_s
        for slot in slots:
            if slot.question is not None:
                done, _ = self._ray.wait([slot.question], timeout=0)
                if not done:
                    continue
                with contextlib.suppress(Exception):
                    slot.said = self._ray.get(slot.question)
                    if slot.attempt is not None and slot.said[0] == slot.attempt.task.key:
                        slot.heard_s = max(slot.heard_s, now_s - slot.said[3])
            slot.question = slot.actor.progress.remote() if slot.attempt else None

    def overdue(self, slots: Iterable[Slot]) -> list[tuple[Slot, str]]:
        """Slots whose attempt hangs or takes too long, and which of both it is."""
        out, now_s = [], time.monotonic()
        for slot in slots:
            if slot.attempt is None:
                continue
            silent_s, ran_s = now_s - slot.heard_s, now_s - slot.started_s
            if silent_s > self._silence_s:
                out.append((slot, f"no heartbeat for {silent_s:.0f} s: it hangs"))
            elif self._timeout_s is not None and ran_s > self._timeout_s:
                out.append((slot, f"not done after {ran_s:.0f} s (timeout_s)"))
        return out

    def end(self, slots: Sequence[Slot]) -> list[LastWords]:
        """Kill the slots' processes, from beside them; returns their threads' stacks, or why
        there are none. Blocks for some seconds: nothing else helps what hangs."""
        calls = [call_on_node(self._ray, slot, end_process) for slot in slots]
        done, _ = self._ray.wait(calls, num_returns=len(calls), timeout=_STACKS_WITHIN_S)
        return [
            answer_of(self._ray, call) if call in done else LastWords(stacks=_NO_WORD)
            for call in calls
        ]
