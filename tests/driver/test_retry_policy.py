"""How long the driver waits for a store that refuses."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.driver.retry_policy import RetryPolicy
from prunegrid.orchestrator.errors import StoreError, TornError
from prunegrid.orchestrator.store.store import store_errors
from prunegrid.workers.files import PathError


class Played:
    """A clock that only sleeping moves, and a store that refuses so often."""

    def __init__(self, refusals: int, error: type[StoreError] = StoreError) -> None:
        self.now_s = 0.0
        self.said: list[str] = []
        self.tries = 0
        self.stop = False
        self._refusals = refusals
        self._error = error

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def write(self) -> str:
        self.tries += 1
        if self.tries <= self._refusals:
            raise self._error("can't write x: slow down")
        return "written"

    def patience(self, limit_s: float = 600) -> RetryPolicy:
        return RetryPolicy(
            say=self.said.append,
            stop_requested=lambda: self.stop,
            limit_s=limit_s,
            sleep=self.sleep,
            clock=lambda: self.now_s,
        )


def test_what_works_is_done_once_and_nothing_is_said():
    played = Played(0)
    assert played.patience()(played.write) == "written"
    assert (played.tries, played.now_s, played.said) == (1, 0.0, [])


def test_a_store_that_refuses_for_a_while_is_waited_for_and_said_once():
    played = Played(5)
    assert played.patience()(played.write) == "written"
    assert played.now_s == pytest.approx(0.5 + 1 + 2 + 4 + 4)
    assert len(played.said) == 1
    assert "slow down" in played.said[0]
    assert "10 min" in played.said[0]


def test_after_the_limit_the_error_comes_through():
    played = Played(10**6)
    with pytest.raises(StoreError, match="slow down"):
        played.patience(100)(played.write)
    assert 100 <= played.now_s <= 104


def test_a_torn_file_is_not_waited_for():
    played = Played(1, TornError)
    with pytest.raises(TornError):
        played.patience()(played.write)
    assert played.tries == 1


def test_what_no_time_mends_is_told_at_once():
    played = Played(0)

    def write() -> None:
        played.tries += 1
        with store_errors():
            raise PathError("can't write x: a file stands where a folder is needed")

    with pytest.raises(StoreError, match="a file stands"):
        played.patience()(write)
    assert (played.tries, played.now_s, played.said) == (1, 0.0, [])


def test_a_user_who_wants_to_stop_does_not_wait():
    played = Played(10**6)
    played.stop = True
    with pytest.raises(StoreError):
        played.patience()(played.write)
    assert played.now_s == 0
