"""Heartbeats of a long computation: when to send one, and how many steps to run in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from prunegrid.workers.context import Interrupted


class Ticker:
    """Heartbeat and stop request: call `tick` as often as you like, it acts once a second.

    `share`: the part [start, stop) of the task's work that the next ticks report on.
    """

    def __init__(
        self, beat: Callable[[float, str], None], stop_requested: Callable[[], bool]
    ) -> None:
        self._beat = beat
        self._stop_requested = stop_requested
        self._last = -float("inf")
        self._share = self._whole = (0.0, 1.0)

    def share(self, start: float, stop: float) -> None:
        self._share = self._whole = (start, stop)

    def share_of(self, part: int, parts: int) -> None:
        """The next ticks report on part `part` of `parts` equal ones of the whole share."""
        start, stop = self._whole
        width = (stop - start) / parts
        self._share = (start + part * width, start + (part + 1) * width)

    def rest(self) -> None:
        """The next ticks report no further progress: some work is done again."""
        self._share = self._whole = (self._whole[1], self._whole[1])

    def tick(self, done: float, note: str) -> None:
        """`done`: of the present share, in [0, 1]. Raises Interrupted where a stop is requested."""
        now = time.monotonic()
        if now - self._last < 1.0:
            return
        self._last = now
        start, stop = self._share
        self._beat(start + (stop - start) * min(max(done, 0.0), 1.0), note)
        if self._stop_requested():
            raise Interrupted(note)


class AdaptiveSteps:
    """How many steps to run in one compiled call. Results don't depend on it.

    Put `with steps:` around a call of `steps.count` steps. The count doubles while a call takes
    under a second and halves while it takes over three, so that heartbeats keep coming on any
    device.
    """

    def __init__(self, *, first: int = 10, most: int = 1000) -> None:
        self.count = max(1, min(first, most))
        self._most = most
        self._did = 0
        self._start = 0.0

    def did(self, steps: int) -> None:
        self._did = steps

    def __enter__(self) -> AdaptiveSteps:
        self._start = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        took = time.monotonic() - self._start
        if took < 1.0 and self._did >= self.count:
            self.count = min(2 * self.count, self._most)
        elif took > 3.0:
            self.count = max(1, self.count // 2)
