"""The Ray engine: one long-lived worker actor per slot; the only module that imports ray.

Ray's own retries are off: each failure is classified once, here, and the scheduler decides.
Actors keep TensorFlow, data and compiled attacks warm, and stay on their GPU. Results come
back by value: an object on a lost node would take Ray 15 s to give up.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.engine import Doing, Ended
from orchestrator.errors import PrunegridError
from orchestrator.grid import Resources
from orchestrator.ray_failures import classify, first_line, never_started
from workers.contract import Attempt, DataSettings, Failure, WorkerSettings
from workers.entry import REAL_RUNNER, Worker

_RESIZE_EVERY_S = 5.0
_ASK_EVERY_S = 1.0


class EngineError(PrunegridError):
    """Ray can't be started or reached, or can't offer what the grid asks for."""


@dataclass(kw_only=True)
class _Slot:
    actor: Any
    number: int
    attempt: Attempt | None = None
    call: Any = None  #: the running attempt's object reference
    started_s: float = 0.0
    question: Any = None  #: a progress call under way
    said: tuple[str, float, str, float] = ("", 0.0, "", 0.0)
    warm: set[str] = field(default_factory=set)  #: models that this process has seen
    host: str = ""


class RayEngine:
    """See `Engine`. Raises EngineError from the constructor."""

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
        self._settings = settings
        self._resources = resources
        self._runner = runner
        self._queue: deque[Attempt] = deque()
        self._dropped: list[Attempt] = []  #: queued when the stop came; they end as LOST
        self._slots: list[_Slot] = []
        self._next_number = 0
        self._resized_s = self._asked_s = -1e9
        self._mine = not ray.is_initialized()
        if self._mine and address is None:
            start_local(cpus=local_cpus, gpus=local_gpus)
        elif self._mine:
            _join(ray, address)
        self._use_gpus = resources.gpus_per_task > 0 and self._cluster("GPU") > 0
        self._resize()
        if not self._slots:
            have = {k: v for k, v in ray.cluster_resources().items() if k in ("CPU", "GPU")}
            self.close()
            raise EngineError(
                f"no node can hold a task: it needs {resources.cpus_per_task} CPU and "
                f"{resources.gpus_per_task:g} GPU, the cluster has {have}"
            )

    def _cluster(self, name: str) -> float:
        return float(self._ray.cluster_resources().get(name, 0))

    # ------------------------------------------------------------------ slots

    @property
    def slots(self) -> int:
        return len(self._slots)

    @property
    def description(self) -> str:
        nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
        kind = f"{self._resources.gpus_per_task:g} GPU each" if self._use_gpus else "CPU"
        return f"Ray, {nodes} node{'s' * (nodes != 1)}, {self.slots} slots ({kind})"

    def _capacity(self) -> int:
        """How many actors the living nodes can hold."""
        total = 0
        for node in self._ray.nodes():
            if not node["Alive"]:
                continue
            have = node["Resources"]
            fits = have.get("CPU", 0) // self._resources.cpus_per_task
            if self._use_gpus:
                fits = min(fits, have.get("GPU", 0) // self._resources.gpus_per_task)
            total += int(fits)
        return total

    def _resize(self) -> None:
        """Nodes come and go: more actors where there is room; lost ones leave by failing."""
        if time.monotonic() - self._resized_s < _RESIZE_EVERY_S:
            return
        self._resized_s = time.monotonic()
        for _ in range(self._capacity() - len(self._slots)):
            self._slots.append(self._new_slot())

    def _new_slot(self) -> _Slot:
        actor_class = self._ray.remote(Worker).options(
            num_cpus=self._resources.cpus_per_task,
            num_gpus=self._resources.gpus_per_task if self._use_gpus else 0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # one runs, the other answers progress() and request_stop()
        )
        number = self._next_number
        self._next_number += 1
        return _Slot(actor=actor_class.remote(self._settings, self._runner), number=number)

    # ------------------------------------------------------------------ the contract

    def prepare(self, data: DataSettings) -> str | None:
        try:
            reason: str | None = self._ray.get(self._slots[0].actor.prepare.remote(data))
        except self._ray.exceptions.RayError as error:
            return f"the worker that prepares it failed: {first_line(error)}"
        return reason

    def submit(self, attempt: Attempt) -> None:
        self._queue.append(attempt)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue:
            idle = [slot for slot in self._slots if slot.attempt is None]
            if not idle:
                return
            attempt = self._queue.popleft()
            parent = getattr(attempt.task, "parent_key", None)
            slot = next((s for s in idle if parent in s.warm), idle[0])
            slot.attempt = attempt
            slot.started_s = time.monotonic()
            slot.call = slot.actor.run.remote(attempt)
            slot.warm |= {attempt.task.key, parent or ""}

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        self._resize()
        self._dispatch()
        if self._dropped:
            dropped, self._dropped = self._dropped, []
            return [never_started(attempt) for attempt in dropped]
        busy = {slot.call: slot for slot in self._slots if slot.call is not None}
        if not busy:
            time.sleep(min(timeout_s, 0.05))
            return []
        ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=timeout_s)
        if ready:  # whatever else has ended meanwhile, at no further wait
            ready, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0)
        ended = [self._collect(busy[call]) for call in ready]
        self._dispatch()
        return ended

    def _collect(self, slot: _Slot) -> Ended:
        attempt = slot.attempt
        assert attempt is not None
        try:
            outcome = self._ray.get(slot.call)
            slot.attempt = slot.call = None
        except Exception as error:  # whatever Ray or unpickling raises: the slot is of no more use
            outcome = Failure(
                key=attempt.task.key,
                kind=classify(self._ray, error),
                message=first_line(error),
                traceback=str(error),
                host=slot.host,
                duration_s=time.monotonic() - slot.started_s,
            )
            self._drop(slot)
        slot.host = outcome.host
        worker = f"{outcome.host or 'unknown'}/{slot.number}"
        return Ended(outcome=outcome, attempt=attempt.number, worker=worker)

    def _drop(self, slot: _Slot) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(slot.actor)
        self._slots.remove(slot)
        if len(self._slots) < self._capacity():
            self._slots.append(self._new_slot())

    def doing(self) -> Sequence[Doing]:
        self._ask()
        out = []
        for slot in self._slots:
            if slot.attempt is not None:
                key = slot.attempt.task.key
                said_key, fraction, note, _ = slot.said
                if said_key != key:
                    fraction, note = 0.0, "starting"
                name = f"{slot.host or 'worker'}/{slot.number}"
                out.append(Doing(key=key, worker=name, fraction=fraction, note=note))
        return out

    def _ask(self) -> None:
        """Collect answered progress calls, ask again; never wait."""
        if time.monotonic() - self._asked_s < _ASK_EVERY_S:
            return
        self._asked_s = time.monotonic()
        for slot in self._slots:
            if slot.question is not None:
                done, _ = self._ray.wait([slot.question], timeout=0)
                if not done:
                    continue
                with contextlib.suppress(Exception):
                    slot.said = self._ray.get(slot.question)
            slot.question = slot.actor.progress.remote() if slot.attempt else None

    def request_stop(self) -> None:
        self._dropped += self._queue
        self._queue.clear()
        for slot in self._slots:
            slot.actor.request_stop.remote()

    def close(self) -> None:
        for slot in self._slots:
            with contextlib.suppress(Exception):
                self._ray.kill(slot.actor)
        self._slots.clear()
        self._queue.clear()
        if self._mine and self._ray.is_initialized():
            self._ray.shutdown()


def keep_to_ourselves() -> None:
    """Before ray is imported: a Ray of our own listens on loopback alone (Ray's own switch for
    machines that join no cluster), and takes a token that only this run knows, never one from
    or into the user's home."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # CPU tasks see no GPU


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def _join(ray: Any, address: str | None) -> None:
    try:
        ray.init(address=address, **_QUIET)
    except Exception as error:
        raise EngineError(f"can't join the Ray cluster at {address!r}: {error}") from error


def start_local(*, cpus: int | None, gpus: int | None) -> Any:
    """A Ray of our own on loopback; returns the module. Its fixed start-up limit of 30 s can be
    missed on a busy machine: it tries twice. Raises EngineError."""
    keep_to_ourselves()
    import ray

    for last in (False, True):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=cpus,
                num_gpus=gpus,
                object_store_memory=100 * 2**20,
                **_QUIET,
            )
            return ray
        except Exception as error:
            with contextlib.suppress(Exception):
                ray.shutdown()
            if last:
                raise EngineError(f"can't start Ray on this machine: {error}") from error
    raise AssertionError("unreachable")
