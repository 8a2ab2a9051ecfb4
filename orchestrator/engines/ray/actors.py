"""Performs the worker pool's instructions on Ray actors, and returns what happens as events.

Calls are made without waiting; `answers` and `wait` collect those that have ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from prunegrid.orchestrator.engines.engine import ALL_SIGNALLED_S
from prunegrid.orchestrator.engines.ray.failures import (
    classify,
    first_line,
    is_own_failure,
    why_not_started,
)
from prunegrid.orchestrator.engines.ray.node_resources import Need
from prunegrid.orchestrator.engines.ray.nodes import Nodes
from prunegrid.orchestrator.engines.ray.start import EngineError
from prunegrid.orchestrator.engines.ray.worker_slot import (
    EndWorker,
    HeartbeatEvent,
    KillProcess,
    LastWordsEvent,
    PrepareData,
    PreparedEvent,
    ReadLastWords,
    ReturnedEvent,
    RunAttempt,
    SlotEvent,
    SlotInstruction,
    StartedEvent,
    StartFailedEvent,
    StartWorker,
    StopAttempt,
    WorkerDiedEvent,
    WorkerLostEvent,
)
from prunegrid.workers.contract import FailureKind, WorkerSettings
from prunegrid.workers.entry import Worker
from prunegrid.workers.process import LastWords, Whereabouts, end_process, last_words
from prunegrid.workers.revision import OtherCode
from prunegrid.workers.runner import Runner

PROGRESS_EVERY_S = 1.0

#: Makes the event of a slot's call that has ended; None where it says nothing.
Reader: TypeAlias = Callable[[int, Any], SlotEvent | None]


@dataclass(kw_only=True)
class _Actor:
    handle: Any
    node: str
    where: Whereabouts | None = None  #: None until it has answered
    asked: bool = False  #: for its progress


class Actors:
    """Not thread-safe; the engine owns it."""

    def __init__(
        self, ray: Any, nodes: Nodes, need: Need, settings: WorkerSettings, runner: Runner
    ) -> None:
        self._ray = ray
        self._nodes = nodes
        self._need = need
        self._settings = settings
        self._runner = runner
        self._actors: dict[int, _Actor] = {}  #: by the slot's number
        self._running: dict[Any, int] = {}  #: a running attempt's call -> its slot
        self._calls: dict[Any, tuple[int, Reader]] = {}  #: all other calls
        self._unheard: list[int] = []  #: slots whose worker's last words can't be had
        self._asked_s = -1e9

    # ------------------------------------------------------------------ instructions

    def perform(self, instruction: SlotInstruction) -> None:
        slot = instruction.slot
        if isinstance(instruction, StartWorker):
            self._start(slot, instruction.node, instruction.share)
            return
        actor = self._actors.get(slot)
        if actor is None:
            return  # its Ray has ended, and the actor with it
        match instruction:
            case RunAttempt():
                self._running[actor.handle.run.remote(instruction.attempt)] = slot
            case PrepareData():
                self._calls[actor.handle.prepare.remote(instruction.data)] = slot, self._prepared
            case StopAttempt():
                actor.handle.request_stop.remote()
            case ReadLastWords():
                self._call_on_node(slot, actor, last_words)
            case KillProcess():
                self._call_on_node(slot, actor, end_process)
            case EndWorker():
                self._end(slot)

    def _start(self, slot: int, node: str, share: int) -> None:
        need, settings = self._need.times(share), self._settings
        memory_mib = settings.gpu_memory_mib
        settings = dataclasses.replace(
            settings,
            gpu_memory_mib=None if memory_mib is None else memory_mib * share,
            gpu_frac=min(1.0, need.gpus) if need.gpus else 1.0,
        )
        options = self._ray.remote(Worker).options(
            num_cpus=need.cpus,
            num_gpus=need.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # one runs, the other answers progress() and request_stop()
            scheduling_strategy=self._on(node),
        )
        handle = options.remote(settings, self._runner)
        self._actors[slot] = _Actor(handle=handle, node=node)
        self._calls[handle.whereabouts.remote()] = slot, self._started

    def _on(self, node: str) -> Any:
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        return affinity(node, soft=False)

    def _call_on_node(
        self, slot: int, actor: _Actor, function: Callable[[Whereabouts], LastWords]
    ) -> None:
        """In another process than the worker's own, which hangs or is dead. What ended the worker
        may end the GCS too, for which Ray would wait here without limit."""
        time.sleep(ALL_SIGNALLED_S)
        if not self._nodes.answers():
            self._unheard.append(slot)
            return
        remote = self._ray.remote(function).options(
            num_cpus=0, max_retries=0, scheduling_strategy=self._on(actor.node)
        )
        self._calls[remote.remote(actor.where)] = slot, self._last_words

    def _end(self, slot: int) -> None:
        actor = self._actors.pop(slot)
        with contextlib.suppress(Exception):
            self._ray.kill(actor.handle)
        for call in [call for call, (owner, _) in self._calls.items() if owner == slot]:
            del self._calls[call]
        for call in [call for call, owner in self._running.items() if owner == slot]:
            del self._running[call]

    def close(self) -> None:
        for slot in list(self._actors):
            self._end(slot)

    def ask(self, slot: int, method: str, argument: Any) -> Any:
        """Wait for an idle worker's answer. Raises EngineError where it failed."""
        try:
            return self._ray.get(getattr(self._actors[slot].handle, method).remote(argument))
        except self._ray.exceptions.RayError as error:
            text = f"the worker that was to {method} failed: {first_line(error)}"
            raise EngineError(text) from error

    # ------------------------------------------------------------------ events

    def answers(self) -> Iterator[SlotEvent]:
        """Of all calls that have ended, but those of attempts."""
        self._ask_progress()
        unheard, self._unheard = self._unheard, []
        for slot in unheard:
            words = LastWords(stacks="its stacks can't be had: Ray does not answer")
            yield LastWordsEvent(slot=slot, words=words, at_s=time.monotonic())
        calls = list(self._calls)
        done = self._ray.wait(calls, num_returns=len(calls), timeout=0)[0] if calls else []
        for call in done:
            if call in self._calls:  # else its slot has just been ended
                slot, read = self._calls.pop(call)
                if event := read(slot, call):
                    yield event

    def wait(self, timeout_s: float) -> Iterator[SlotEvent]:
        """The ends of attempts; waits for the first."""
        if not self._running:
            time.sleep(min(timeout_s, 0.05))
            return
        calls = list(self._running)
        ready, _ = self._ray.wait(calls, num_returns=1, timeout=timeout_s)
        if ready and len(calls) > 1:  # and all others that have ended meanwhile, without waiting
            ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        for call in ready:
            if (slot := self._running.pop(call, None)) is not None:
                yield self._ended(slot, call)

    def _ended(self, slot: int, call: Any) -> SlotEvent:
        try:
            return ReturnedEvent(slot=slot, outcome=self._ray.get(call), at_s=time.monotonic())
        except Exception as error:  # whatever Ray or unpickling raises
            node_gone = self._nodes.is_gone(self._actors[slot].node)
            kind = classify(self._ray, error, node_gone=node_gone)
            now_s, message, trace = time.monotonic(), first_line(error), str(error)
            if kind is FailureKind.CRASHED:
                return WorkerDiedEvent(slot=slot, message=message, traceback=trace, at_s=now_s)
            return WorkerLostEvent(
                slot=slot, kind=kind, message=message, traceback=trace, at_s=now_s
            )

    def _ask_progress(self) -> None:
        now_s = time.monotonic()
        if now_s - self._asked_s < PROGRESS_EVERY_S:
            return
        self._asked_s = now_s
        for slot in self._running.values():
            actor = self._actors[slot]
            if not actor.asked:
                actor.asked = True
                self._calls[actor.handle.progress.remote()] = slot, self._progress

    def _progress(self, slot: int, call: Any) -> SlotEvent | None:
        self._actors[slot].asked = False
        try:
            key, fraction, note, age_s = self._ray.get(call)
        except Exception:  # the attempt's own call will say so
            return None
        return HeartbeatEvent(
            slot=slot, key=key, fraction=fraction, note=note, age_s=age_s, at_s=time.monotonic()
        )

    def _started(self, slot: int, call: Any) -> SlotEvent:
        try:
            where: Whereabouts = self._ray.get(call)
        except Exception as error:
            reason = why_not_started(error) if is_own_failure(error) else ""
            return StartFailedEvent(slot=slot, reason=reason, at_s=time.monotonic())
        try:
            if self._settings.code is not None:
                self._settings.code.require(getattr(where, "code", None))
        except OtherCode as error:
            return StartFailedEvent(
                slot=slot, reason=str(error), other_code=True, at_s=time.monotonic()
            )
        self._actors[slot].where = where
        return StartedEvent(slot=slot, host=where.host, device=where.gpus, at_s=time.monotonic())

    def _prepared(self, slot: int, call: Any) -> SlotEvent:
        try:
            reason: str | None = self._ray.get(call)
        except Exception as error:
            reason = first_line(error)
        return PreparedEvent(slot=slot, reason=reason, at_s=time.monotonic())

    def _last_words(self, slot: int, call: Any) -> SlotEvent:
        try:
            words: LastWords = self._ray.get(call)
        except Exception as error:
            words = LastWords(stacks=f"its stacks can't be had: {type(error).__name__}")
        return LastWordsEvent(slot=slot, words=words, at_s=time.monotonic())
