"""The Ray engine: attempts in, outcomes out, over long-lived worker actors on many nodes.

Ray's own retries are off: each failure is classified once, here, and the scheduler decides.
Actors keep TensorFlow, data and compiled attacks warm, and stay on their GPU. Results come
back by value: an object on a lost node would take Ray 15 s to give up.

Only this room knows Ray: `start` connects, `nodes` sees the cluster, `autoscaler` asks for more of
it, `crew` keeps the actors of `slots` on it, `watch` their heartbeats, `crashes` and `failures`
read their ends.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from prunegrid.orchestrator.engines.engine import Ended, Notice, RunningTask
from prunegrid.orchestrator.engines.ray.autoscaler import Autoscaler
from prunegrid.orchestrator.engines.ray.crashes import Crashes
from prunegrid.orchestrator.engines.ray.crew import Crew
from prunegrid.orchestrator.engines.ray.failures import classify, first_line, never_started
from prunegrid.orchestrator.engines.ray.node_resources import capacity, describe_shortage, need_of
from prunegrid.orchestrator.engines.ray.nodes import Nodes
from prunegrid.orchestrator.engines.ray.slots import Slot, choose
from prunegrid.orchestrator.engines.ray.start import (
    EngineError,
    join,
    keep_to_ourselves,
    start_local,
)
from prunegrid.orchestrator.engines.ray.watch import Watch
from prunegrid.orchestrator.grid.grid import Resources
from prunegrid.orchestrator.scheduling.policies import POLICIES
from prunegrid.workers.contract import (
    Attempt,
    DataSettings,
    Failure,
    FailureKind,
    Outcome,
    Success,
    WorkerSettings,
)
from prunegrid.workers.entry import REAL_RUNNER
from prunegrid.workers.speeds import Probe, Speed

__all__ = ["EngineError", "RayEngine", "start_local"]

FIRST_SLOT_S = 60.0  #: how long the constructor waits for one
COMES_S = 1800.0  #: and `measure`, where a machine has to be rented first
AVOID_S = 60.0  #: an attempt waits so long for another node than one that it failed on


class RayEngine:
    """See `Engine`. Raises EngineError from the constructor, and from `poll` where no worker
    starts anywhere."""

    def __init__(
        self,
        settings: WorkerSettings,
        resources: Resources,
        *,
        address: str | None = None,
        runner: str = REAL_RUNNER,
        local_cpus: int | None = None,
        local_gpus: int | None = None,
    ) -> None:
        """`address`: None starts Ray on this machine; "auto" or an address joins a cluster.
        `local_cpus` and `local_gpus` say what a local Ray believes to have (tests)."""
        if address is None:
            keep_to_ourselves()
        import ray

        self._ray = ray
        self._mine = not ray.is_initialized()
        if self._mine and address is None:
            start_local(cpus=local_cpus, gpus=local_gpus)
        elif self._mine and address is not None:
            join(address)
        self._nodes = Nodes(ray)
        self._nodes.look()
        self._autoscaler = Autoscaler(ray)
        self._need = need = need_of(resources, gpus=self._has_gpus(resources))
        self._crew = Crew(ray, self._nodes, self._autoscaler, need, settings, runner)
        self._pool = self._crew.pool
        self._watch = Watch(ray, silence_s=resources.silence_s, timeout_s=resources.timeout_s)
        self._queue: deque[tuple[float, Attempt]] = deque()  #: with when it came
        self._crashes = Crashes(ray)
        self._ends: list[Ended] = []  #: known, not yet told
        self._failed_on: dict[str, set[str]] = defaultdict(set)  #: task -> nodes
        if not self._crew.elastic and not self._has_room():
            self.close()
            startable = self._autoscaler.node_types
            raise EngineError(describe_shortage(self._nodes.alive.values(), need, startable))
        try:
            self._wait_for_a_slot(0.0 if self._crew.elastic else FIRST_SLOT_S)
        except BaseException:
            self.close()
            raise

    def _has_gpus(self, resources: Resources) -> bool:
        """Where there is no GPU, and none may come, tasks run on CPUs alone."""
        if not resources.gpus_per_task:
            return False
        return self._autoscaler.offers_gpus or any(n.gpus for n in self._nodes.alive.values())

    def _has_room(self) -> bool:
        return any(capacity(node, self._need) for node in self._nodes.alive.values())

    def _wait_for_a_slot(self, limit_s: float) -> None:
        limit_s += time.monotonic()
        self._step(now=True)
        while not self._pool.usable() and time.monotonic() < limit_s:
            time.sleep(0.02)
            self._step(now=True)

    # ------------------------------------------------------------------ views

    @property
    def slots(self) -> int:
        return len(self._pool.usable())

    @property
    def room(self) -> int:
        return sum(capacity(node, self._need) for node in self._nodes.alive.values())

    @property
    def description(self) -> str:
        nodes = len(self._nodes.alive)
        kind = f"{self._need.gpus:g} GPU each" if self._need.gpus else "CPU"
        return f"Ray, {nodes} node{'s' * (nodes != 1)}, {self.room} slots ({kind})"

    def notices(self) -> Sequence[Notice]:
        out, self._crew.notices = self._crew.notices, []
        return out

    def doing(self) -> Sequence[RunningTask]:
        out = []
        for slot in self._pool.slots:
            if slot.attempt is not None:
                key = slot.attempt.task.key
                said_key, fraction, note, _ = slot.said
                if said_key != key:
                    fraction, note = 0.0, "starting"
                out.append(RunningTask(key=key, worker=slot.name, fraction=fraction, note=note))
        return out

    # ------------------------------------------------------------------ work

    def demand(self, tasks: int) -> None:
        self._crew.demand(tasks)

    def prepare(self, data: DataSettings) -> str | None:
        if self._crew.elastic and not self._has_room():  # each node that comes prepares it
            self._pool.note_data(data)
            return None
        slot, reason = self._ask("prepare", data, FIRST_SLOT_S)
        if slot is not None and reason is None:
            self._pool.note_data(data, slot.node)
        return reason

    def measure(self, probes: Sequence[Probe]) -> tuple[Speed, ...] | str:
        self._crew.demand(1)  # where nodes come as they are needed, one must
        limit_s = COMES_S if self._crew.elastic else FIRST_SLOT_S
        answer: tuple[Speed, ...] | str = self._ask("measure", probes, limit_s)[1]
        return answer

    def _ask(self, method: str, argument: Any, limit_s: float) -> tuple[Slot | None, Any]:
        """An idle worker and its answer; or None and why there is none."""
        self._wait_for_a_slot(limit_s)
        slots = self._pool.idle()
        if not slots:
            return None, self._crew.birth_failure or "no worker has started yet"
        try:
            return slots[0], self._ray.get(getattr(slots[0].actor, method).remote(argument))
        except self._ray.exceptions.RayError as error:
            return None, f"the worker that was to {method} failed: {first_line(error)}"

    def submit(self, attempt: Attempt) -> None:
        self._queue.append((time.monotonic(), attempt))
        self._dispatch()

    def _dispatch(self) -> None:
        """Give queued attempts, in order, to idle slots."""
        idle = self._pool.idle() if self._queue else []
        waiting: deque[tuple[float, Attempt]] = deque()
        while self._queue and idle:
            came_s, attempt = self._queue.popleft()
            avoid = self._failed_on.get(attempt.task.key, set()) if attempt.share == 1 else set()
            slot = choose(idle, attempt.task, share=self._share(attempt), avoid=avoid)
            if slot is None or (slot.node in avoid and self._may_wait(came_s, avoid)):
                waiting.append((came_s, attempt))
                continue
            idle.remove(slot)
            self._start(slot, attempt)
        self._queue.extendleft(reversed(waiting))

    def _share(self, attempt: Attempt) -> int:
        if attempt.share == 1:
            return 1
        return self._crew.clearing.share_for(attempt.share, self._crew.healthy())

    def _may_wait(self, came_s: float, avoid: set[str]) -> bool:
        others = any(slot.node not in avoid for slot in self._pool.usable())
        return others and time.monotonic() - came_s < AVOID_S

    def _start(self, slot: Slot, attempt: Attempt) -> None:
        slot.attempt = attempt
        slot.started_s = slot.heard_s = time.monotonic()
        slot.call = slot.actor.run.remote(attempt)
        parent = getattr(attempt.task, "parent_key", None)
        slot.warm.extend(filter(None, (parent, attempt.task.key)))

    def _step(self, *, now: bool = False) -> None:
        largest = max((self._share(attempt) for _, attempt in self._queue), default=1)
        for slot in self._crew.step(largest=largest, now=now):
            self._fail(slot, FailureKind.LOST, "its node is gone", "")
        for crash in self._crashes.settle(self._nodes.is_gone):
            own = crash.kind is FailureKind.CRASHED
            message = first_line(crash.error) if own else "its node is gone"
            self._fail(crash.slot, crash.kind, message, str(crash.error), crash.log)
        self._watch.ask(self._pool.slots)
        if overdue := self._watch.overdue(self._pool.slots):
            last = self._watch.end([slot for slot, _ in overdue])
            for (slot, why), words in zip(overdue, last, strict=True):
                self._fail(slot, FailureKind.TIMEOUT, why, words.stacks, words.log)

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        self._step()
        self._dispatch()
        if not self._ends:
            self._gather(timeout_s)
        out, self._ends = self._ends, []
        return out

    def _gather(self, timeout_s: float) -> None:
        busy = {slot.call: slot for slot in self._pool.slots if slot.call is not None}
        if not busy:
            time.sleep(min(timeout_s, 0.05))
            return
        calls = list(busy)
        ready, _ = self._ray.wait(calls, num_returns=1, timeout=timeout_s)
        if ready and len(calls) > 1:  # whatever else has ended meanwhile, at no further wait
            ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        for call in ready:
            self._collect(busy[call])

    def _collect(self, slot: Slot) -> None:
        try:
            outcome: Outcome = self._ray.get(slot.call)
        except Exception as error:  # whatever Ray or unpickling raises: the slot is of no more use
            kind = classify(self._ray, error, node_gone=self._nodes.is_gone(slot.node))
            if kind is FailureKind.CRASHED:
                slot.call = None
                self._crashes.add(slot, error)
                return
            if kind is FailureKind.LOST:
                self._crew.doubt(slot.node)
            self._fail(slot, kind, first_line(error), str(error))
            return
        self._end(slot, outcome)
        if slot.leaving or slot.stopping:
            self._pool.drop(slot)

    def _fail(self, slot: Slot, kind: FailureKind, message: str, trace: str, log: str = "") -> None:
        """The slot's attempt ends by no word of its own; its actor goes."""
        assert slot.attempt is not None
        failure = Failure(
            key=slot.attempt.task.key,
            kind=kind,
            message=message,
            traceback=trace,
            host=slot.where.host if slot.where else "",
            duration_s=time.monotonic() - slot.started_s,
            log=log,
        )
        self._pool.drop(slot)
        self._end(slot, failure)

    def _end(self, slot: Slot, outcome: Outcome) -> None:
        attempt = slot.attempt
        assert attempt is not None
        slot.attempt = slot.call = None
        slot.free_s = time.monotonic()
        if isinstance(outcome, Success):
            self._failed_on.pop(outcome.key, None)
        elif not POLICIES[outcome.kind].blameless:
            self._failed_on[outcome.key].add(slot.node)
        self._crew.ended(slot, outcome)
        self._ends.append(Ended(outcome=outcome, attempt=attempt.number, worker=slot.name))

    def request_stop(self) -> None:
        self._ends += [never_started(attempt) for _, attempt in self._queue]
        self._queue.clear()
        self._crew.request_stop()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # Ray may be gone, or half there
            self._crew.leave()
        self._queue.clear()
        if self._mine and self._ray.is_initialized():
            self._ray.shutdown()
