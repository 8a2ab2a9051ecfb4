"""The Ray engine: attempts in, outcomes out, over long-lived workers on many nodes.

Ray's own retries are off: each failure is classified once, here, and the scheduler decides.
Workers keep TensorFlow, data and compiled attacks in memory, and stay on their GPU. Results come
back by value: Ray takes 15 s to give up on an object of a lost node.

The modules of this package: `start` connects to Ray; `nodes` sees the cluster, and `autoscaler`
requests more of it. `worker_pool` decides which slots there are and what each runs, purely, from
events; `actors` performs that on Ray and returns events. This module connects them.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prunegrid.orchestrator.engines.engine import Ended, Notice, RunningTask
from prunegrid.orchestrator.engines.ray import daemons
from prunegrid.orchestrator.engines.ray.actors import Actors
from prunegrid.orchestrator.engines.ray.autoscaler import Autoscaler
from prunegrid.orchestrator.engines.ray.node_resources import capacity, describe_shortage, need_of
from prunegrid.orchestrator.engines.ray.nodes import Nodes
from prunegrid.orchestrator.engines.ray.start import (
    EngineError,
    join,
    keep_to_ourselves,
    start_local,
    stop_local,
)
from prunegrid.orchestrator.engines.ray.worker_pool import (
    Abort,
    DataEvent,
    NodesEvent,
    Notify,
    PoolEvent,
    PoolInstruction,
    RequestNodes,
    SubmittedEvent,
    WorkerPool,
)
from prunegrid.orchestrator.engines.ray.worker_slot import ReportEnd
from prunegrid.orchestrator.grid.grid import Resources
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.scheduling.events import StopEvent, TickEvent
from prunegrid.workers.contract import Attempt, DataSettings, Success, WorkerSettings
from prunegrid.workers.entry import REAL_RUNNER
from prunegrid.workers.runner import Runner

__all__ = ["EngineError", "RayEngine", "start_local"]

STEP_EVERY_S = 0.2
FIRST_SLOT_S = 60.0  #: how long the constructor waits for a slot
RESTARTS = 3  #: of our own Ray, without a task done in between


class RayEngine:
    """See `Engine`. Raises EngineError from the constructor, and from `poll` if no worker starts
    on any node or Ray itself is gone."""

    # Parameters: what it runs, where, and what tests put in place of this machine.
    def __init__(
        self,
        settings: WorkerSettings,
        resources: Resources,
        *,
        address: str | None = None,
        runner: Runner = REAL_RUNNER,
        slots: int | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
        local_cpus: int | None = None,
        local_gpus: int | None = None,
    ) -> None:
        """`address`: None starts Ray on this machine; "auto" or an address joins a cluster.
        `slots`: at most so many. `stop_requested` is asked before a Ray that has ended is started
        again: ending the old one takes seconds. `local_cpus`, `local_gpus`: what a local Ray takes
        the machine to have (tests)."""
        if address is None:
            keep_to_ourselves()
        import ray

        self._ray = ray
        self._mine = not ray.is_initialized()
        self._start = functools.partial(start_local, cpus=local_cpus, gpus=local_gpus)
        if self._mine and address is None:
            self._start()
        elif self._mine and address is not None:
            join(address)
        self._local = address is None
        self._watched = self._local and not daemons.why_ended()
        self._restarts = 0
        self._stopping = False
        self._stop_requested = stop_requested
        self._over = False  #: Ray is gone, and stays so
        self._nodes = Nodes(ray)
        self._nodes.look()
        self._autoscaler = Autoscaler(ray)
        self._need = need = need_of(resources, gpus=self._has_gpus(resources))
        self._pool = WorkerPool(
            need,
            elastic=self._autoscaler.offers(need),
            silence_s=resources.silence_s,
            timeout_s=resources.timeout_s,
            most=slots,
        )
        self._actors = Actors(ray, self._nodes, need, settings, runner)
        self._ends: list[Ended] = []  #: not returned yet
        self._notices: list[Notice] = []  #: not returned yet
        self._stepped_s = -1e9
        if not self._pool.elastic and not self.room:
            self.close()
            startable = self._autoscaler.node_types
            raise EngineError(describe_shortage(self._nodes.alive.values(), need, startable))
        try:
            self._wait_for_a_slot(0.0 if self._pool.elastic else FIRST_SLOT_S)
        except BaseException:
            self.close()
            raise

    def _has_gpus(self, resources: Resources) -> bool:
        """If there is no GPU and none can be started, tasks run on CPUs alone."""
        if not resources.gpus_per_task:
            return False
        return self._autoscaler.offers_gpus or any(n.gpus for n in self._nodes.alive.values())

    def _wait_for_a_slot(self, limit_s: float) -> None:
        limit_s += time.monotonic()
        self._step(now=True)
        while not self._pool.usable() and time.monotonic() < limit_s:
            time.sleep(0.02)
            self._step(now=True)

    # ------------------------------------------------------------------ events and instructions

    def _step(self, *, now: bool = False) -> None:
        """See what happened, and act on it; several times a second, or `now`."""
        if not now and time.monotonic() - self._stepped_s < STEP_EVERY_S:
            return
        self._stepped_s = time.monotonic()
        if self._watched and (cause := daemons.why_ended()):
            self._start_again(cause)
        if not self._over:
            self._notices += self._nodes.look(anew=self._pool.awaits_news)
            self._feed(NodesEvent(nodes=self._nodes.alive, at_s=time.monotonic()))
        self._feed_all(self._actors.answers())
        self._feed(TickEvent(at_s=time.monotonic()))

    def _start_again(self, cause: str) -> None:
        """Start our own Ray again, a process of which has ended: what ran is lost. Where a stop was
        requested, Ray is not needed again."""
        self._restarts += 1
        if not self._mine or self._restarts > RESTARTS:
            raise EngineError(f"{cause}; the same command resumes")
        self._actors.close()
        stop_local()
        self._feed(NodesEvent(nodes={}, at_s=time.monotonic()))
        if self._stopping or self._stop_requested():
            self._over, self._watched = True, False
        else:
            text = f"{cause}: starting Ray again; what ran starts from its last checkpoint"
            self._notices.append(Notice(kind="no-room", node="", text=text))
            self._start()

    def _feed_all(self, events: Iterable[PoolEvent]) -> None:
        for event in events:
            self._feed(event)

    def _feed(self, event: PoolEvent) -> None:
        for instruction in self._pool.handle(event):
            self._perform(instruction)

    def _perform(self, instruction: PoolInstruction) -> None:
        match instruction:
            case ReportEnd():
                self._ends.append(instruction.ended)
                if isinstance(instruction.ended.outcome, Success):
                    self._restarts = 0
            case Notify():
                self._notices.append(instruction.notice)
            case RequestNodes():
                if not self._nodes.is_silent:
                    self._autoscaler.request(self._need, instruction.slots, held=instruction.held)
            case Abort():
                raise EngineError(instruction.message)
            case _:
                self._actors.perform(instruction)

    # ------------------------------------------------------------------ views

    @property
    def slots(self) -> int:
        return len(self._pool.usable())

    @property
    def room(self) -> int:
        room = sum(capacity(node, self._need) for node in self._nodes.alive.values())
        return room if self._pool.most is None else min(room, self._pool.most)

    @property
    def description(self) -> str:
        nodes = len(self._nodes.alive)
        kind = f"{self._need.gpus:g} GPU each" if self._need.gpus else "CPU"
        return f"Ray, {counted(nodes, 'node')}, {counted(self.room, 'slot')} ({kind})"

    def notices(self) -> Sequence[Notice]:
        out, self._notices = self._notices, []
        return out

    def doing(self) -> Sequence[RunningTask]:
        return [
            RunningTask(
                key=slot.attempt.task.key,
                worker=slot.name,
                fraction=slot.fraction,
                note=slot.note,
            )
            for slot in self._pool.slots.values()
            if slot.attempt is not None
        ]

    # ------------------------------------------------------------------ work

    def demand(self, tasks: int) -> None:
        self._pool.demand = tasks if self._pool.most is None else min(tasks, self._pool.most)

    def prepare(self, data: DataSettings) -> str | None:
        node: str | None = None
        if not self._pool.elastic or self.room:  # else each node that comes prepares it
            try:
                node, reason = self._ask("prepare", data, FIRST_SLOT_S)
            except EngineError as error:
                return str(error)
            if reason is not None:
                return str(reason)
        self._feed(DataEvent(data=data, node=node, at_s=time.monotonic()))
        return None

    def _ask(self, method: str, argument: Any, limit_s: float) -> tuple[str, Any]:
        """An idle worker's node and its answer. Raises EngineError where there is none."""
        self._wait_for_a_slot(limit_s)
        idle = self._pool.idle()
        if not idle:
            raise EngineError(self._pool.start_failure or "no worker has started yet")
        return idle[0].node, self._actors.ask(idle[0].number, method, argument)

    def submit(self, attempt: Attempt) -> None:
        self._feed(SubmittedEvent(attempt=attempt, at_s=time.monotonic()))

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        self._step()
        if not self._ends:
            self._feed_all(self._actors.wait(timeout_s))
        out, self._ends = self._ends, []
        return out

    def request_stop(self) -> None:
        self._stopping = True
        self._feed(StopEvent(at_s=time.monotonic()))

    def close(self) -> None:
        with contextlib.suppress(Exception):  # Ray may be gone, or half there
            if self._pool.elastic:
                self._autoscaler.cancel(self._need)
            self._actors.close()
        if self._mine and self._ray.is_initialized():
            if self._local:
                stop_local()
            else:
                self._ray.shutdown()
