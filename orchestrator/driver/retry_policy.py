"""Store operations are retried while the store fails, and people are told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from prunegrid.orchestrator.errors import StoreError, TornError
from prunegrid.workers.files import PathError

T = TypeVar("T")
LIMIT_S = 600.0
MAX_WAIT_S = 4.0  #: workers get no new task meanwhile


class RetryPolicy:
    """Retries with growing pauses for up to LIMIT_S, or until the user asks to stop."""

    def __init__(
        self,
        *,
        say: Callable[[str], None],
        stop_requested: Callable[[], bool],
        limit_s: float | None = None,
        first_s: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._stop_requested = stop_requested
        self._limit_s = LIMIT_S if limit_s is None else limit_s
        self._first_s = first_s
        self._sleep = sleep
        self._clock = clock

    def __call__(self, action: Callable[[], T]) -> T:
        """The action's result. Raises at once a TornError, and a StoreError that time does not
        mend; others after the last retry."""
        began_s, wait_s, said = self._clock(), self._first_s, False
        while True:
            try:
                return action()
            except TornError:
                raise
            except StoreError as error:
                if isinstance(error.__cause__, PathError):
                    raise
                spent_s = self._clock() - began_s
                if spent_s >= self._limit_s or self._stop_requested():
                    raise
                if not said:
                    said = True
                    minutes = self._limit_s / 60
                    self._say(f"the store refuses: {error}; trying again for {minutes:.0f} min")
            until_s = self._clock() + wait_s
            while (left_s := until_s - self._clock()) > 0 and not self._stop_requested():
                self._sleep(min(left_s, 0.5))
            wait_s = min(2 * wait_s, MAX_WAIT_S)
