"""What hangs is found by its silence, ended, and its stacks are kept."""

from __future__ import annotations

import dataclasses
import sys
import time
import types

import pytest

from prunegrid.orchestrator.engines.ray.ray_engine import EngineError, RayEngine
from prunegrid.workers.contract import Attempt, FailureKind, Success
from tests import fakes
from tests.engines.test_engines import ONE_CPU, RUNNER, collect, settings, task
from tests.fakes import HANGS, HANGS_LOCKED, SLOW

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(("seed", "where"), [(HANGS, "_hang"), (HANGS_LOCKED, "_misbehave")])
def test_a_hang_is_ended_with_its_stacks(seed, where, ray_session, tmp_path):
    impatient = dataclasses.replace(ONE_CPU, silence_s=2)
    engine = RayEngine(settings(tmp_path), impatient, runner=RUNNER)
    try:
        began_s = time.monotonic()
        engine.submit(Attempt(task=task(seed), number=1))
        (ended,) = collect(engine, 1)
        assert time.monotonic() - began_s < 30
        assert ended.outcome.kind is FailureKind.TIMEOUT
        assert "no heartbeat for" in ended.outcome.message
        assert where in ended.outcome.traceback, ended.outcome.traceback
        assert "fakes.py" in ended.outcome.traceback
        assert ("printed in attempt 1" in ended.outcome.log) is (seed == HANGS)
        engine.submit(Attempt(task=task(1), number=1))
        (ended,) = collect(engine, 1)
        assert isinstance(ended.outcome, Success), "its slot is of use again"
    finally:
        engine.close()


def test_a_task_over_its_time_limit_is_ended_and_others_are_not(ray_session, tmp_path):
    limited = dataclasses.replace(ONE_CPU, timeout_s=1.5)
    engine = RayEngine(settings(tmp_path), limited, runner=RUNNER)
    try:
        engine.submit(Attempt(task=task(SLOW), number=1))
        engine.submit(Attempt(task=task(1), number=1))
        ends = {ended.outcome.key: ended.outcome for ended in collect(engine, 2)}
        assert isinstance(ends[task(1).key], Success)
        assert ends[task(SLOW).key].kind is FailureKind.TIMEOUT
        assert "timeout_s" in ends[task(SLOW).key].message
    finally:
        engine.close()


def test_workers_that_can_not_start_are_an_error_not_a_wait(ray_session, tmp_path, monkeypatch):
    """Of a module that the driver has and they have not."""
    here_alone = types.ModuleType("tests.no_such_module")
    kind = type("Runner", (fakes.FakeRunner,), {"__module__": here_alone.__name__})
    here_alone.Runner = kind
    monkeypatch.setitem(sys.modules, here_alone.__name__, here_alone)
    with pytest.raises(EngineError, match=r"no worker starts: .*no_such_module"):
        RayEngine(settings(tmp_path), ONE_CPU, runner=kind())
