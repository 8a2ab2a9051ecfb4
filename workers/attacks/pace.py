"""How many steps to run between two looks at the clock. Results don't depend on it."""

from __future__ import annotations

import time
from types import TracebackType


class Pace:
    """`with pace:` around `pace.count` steps; it doubles while a round takes under a second and
    halves while it takes over three, so that heartbeats keep coming on any device."""

    def __init__(self, *, first: int = 10, most: int = 1000) -> None:
        self.count = max(1, min(first, most))
        self._most = most
        self._did = 0
        self._start = 0.0

    def did(self, steps: int) -> None:
        self._did = steps

    def __enter__(self) -> Pace:
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
