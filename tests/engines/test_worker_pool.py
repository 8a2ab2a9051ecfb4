"""The worker pool against a simulated cluster: whatever happens, in whatever order, every attempt
ends once, no slot is given work that it may not have, and no node holds more than it can."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.orchestrator.engines.ray import worker_pool
from prunegrid.orchestrator.engines.ray.node_resources import Need, Node, capacity
from prunegrid.orchestrator.engines.ray.worker_pool import (
    Abort,
    DataEvent,
    NodesEvent,
    Notify,
    PoolEvent,
    RequestNodes,
    SubmittedEvent,
    WorkerPool,
)
from prunegrid.orchestrator.engines.ray.worker_slot import (
    EndWorker,
    HeartbeatEvent,
    KillProcess,
    LastWordsEvent,
    PrepareData,
    PreparedEvent,
    ReadLastWords,
    ReportEnd,
    ReturnedEvent,
    RunAttempt,
    SlotState,
    StartedEvent,
    StartFailedEvent,
    StartWorker,
    StopAttempt,
    WorkerDiedEvent,
    WorkerLostEvent,
)
from prunegrid.orchestrator.scheduling.events import StopEvent, TickEvent
from prunegrid.workers.contract import Attempt, Failure, FailureKind, Outcome, Success
from prunegrid.workers.process import LastWords
from tests.engines.test_worker_slot import TASK

HALF = Need(cpus=1, gpus=0.5)


@dataclass(kw_only=True)
class Worker:
    """As the simulated cluster knows it."""

    node: str
    need: Need
    device: int | None = None  #: the GPU that it has a part of
    started: bool = False
    running: Attempt | None = None
    preparing: bool = False
    stop: bool = False
    dead: bool = False
    asked_last_words: bool = False


class Simulation:
    """Performs the pool's instructions, and asserts that they are possible."""

    def __init__(
        self, need: Need = HALF, *, elastic: bool = False, most: int | None = None
    ) -> None:
        self.need = need
        self.pool = WorkerPool(need, elastic=elastic, silence_s=100, timeout_s=300, most=most)
        self.nodes: dict[str, Node] = {}
        self.workers: dict[int, Worker] = {}
        self.prepared: Counter[str] = Counter()
        self.data = 0
        self.submitted: Counter[tuple[str, int]] = Counter()
        self.reported: Counter[tuple[str, int]] = Counter()
        self.ends: list[Outcome] = []
        self.notices: list[str] = []
        self.requested = RequestNodes(slots=0, held=0)
        self.stopped = self.aborted = False
        self.now_s = 0.0
        self._names = 0

    # ------------------------------------------------------------------ what the pool does

    def feed(self, event: PoolEvent) -> None:
        for instruction in self.pool.handle(event):
            match instruction:
                case StartWorker(slot=slot):
                    assert slot not in self.workers, "a number twice"
                    node = self.nodes[instruction.node]
                    assert not node.draining, "a worker on a node that drains"
                    assert not self.stopped, "a worker after the stop"
                    need = self.need.times(instruction.share)
                    self.workers[slot] = Worker(node=node.id, need=need)
                    here = [worker for worker in self.workers.values() if worker.node == node.id]
                    assert sum(worker.need.cpus for worker in here) <= node.cpus + 1e-6
                    assert sum(worker.need.gpus for worker in here) <= node.gpus + 1e-6
                case PrepareData(slot=slot):
                    worker = self._free(slot)
                    others = [each for each in self.workers.values() if each.preparing]
                    assert worker.node not in {each.node for each in others}, "once per node"
                    worker.preparing = True
                case RunAttempt(slot=slot):
                    worker = self._free(slot)
                    assert self.prepared[worker.node] >= self.data, "before its data is there"
                    assert not self.nodes[worker.node].draining
                    worker.running = instruction.attempt
                case StopAttempt(slot=slot):
                    worker = self.workers[slot]
                    assert worker.running is not None
                    assert not worker.stop, "asked twice"
                    worker.stop = True
                case ReadLastWords(slot=slot) | KillProcess(slot=slot):
                    worker = self.workers[slot]
                    assert worker.started
                    assert not worker.asked_last_words
                    worker.dead = worker.asked_last_words = True
                case EndWorker(slot=slot):
                    del self.workers[slot]
                case ReportEnd(ended=ended):
                    self.ends.append(ended.outcome)
                    self.reported[ended.outcome.key, ended.attempt] += 1
                case Notify(notice=notice):
                    self.notices.append(notice.text)
                case RequestNodes():
                    self.requested = instruction
                case Abort():
                    self.aborted = True
                case _:
                    raise AssertionError(f"unknown: {instruction}")
        self._check()

    def _free(self, slot: int) -> Worker:
        worker = self.workers[slot]
        assert worker.started, "work for a worker that has not started"
        assert not worker.dead
        assert not worker.stop, "work for a worker that was asked to stop"
        assert worker.running is None
        assert not worker.preparing
        return worker

    def _check(self) -> None:
        assert not self.reported - self.submitted, "reported twice, or never submitted"
        held = Counter(
            (slot.attempt.task.key, slot.attempt.number)
            for slot in self.pool.slots.values()
            if slot.attempt is not None
        )
        queued = Counter((a.task.key, a.number) for _, a in self.pool._queue)
        assert self.submitted == self.reported + held + queued, "an attempt was lost"
        assert self.pool.slots.keys() == self.workers.keys()
        for slot in self.pool.slots.values():
            assert slot.state is not SlotState.ENDED
            if slot.state is SlotState.STARTING:
                assert not self.workers[slot.number].started

    # ------------------------------------------------------------------ what happens to it

    def join(self, cpus: int = 4, gpus: int = 1) -> str:
        self._names += 1
        name = f"n{self._names}"
        self.nodes[name] = Node(id=name, host="h", cpus=cpus, gpus=gpus)
        return name

    def drain(self, name: str) -> None:
        self.nodes[name] = dataclasses.replace(self.nodes[name], draining=True)
        self.see()  # the engine looks before it does anything else

    def see(self) -> None:
        self.feed(NodesEvent(nodes=dict(self.nodes), at_s=self.now_s))

    def tick(self, passed_s: float = 0.2) -> None:
        self.now_s += passed_s
        self.see()
        self.feed(TickEvent(at_s=self.now_s))

    def submit(self, number: int, share: int = 1, attempt: int = 1) -> None:
        one = Attempt(task=dataclasses.replace(TASK, seed=number), number=attempt, share=share)
        self.submitted[one.task.key, one.number] += 1
        self.feed(SubmittedEvent(attempt=one, at_s=self.now_s))

    def note_data(self) -> None:
        self.data += 1
        data = dataclasses.replace(TASK.data, fingerprint=f"f{self.data}")
        self.feed(DataEvent(data=data, node=None, at_s=self.now_s))

    def stop(self) -> None:
        self.stopped = True
        self.feed(StopEvent(at_s=self.now_s))

    def start(self, slot: int, failure: str | None = None) -> None:
        worker = self.workers[slot]
        if failure is not None:
            event: PoolEvent = StartFailedEvent(slot=slot, reason=failure, at_s=self.now_s)
        elif self._place(worker):
            worker.started = True
            device = str(worker.device) if worker.need.gpus else ""
            event = StartedEvent(slot=slot, host="h", device=device, at_s=self.now_s)
        else:
            return  # Ray has it wait: what is left is a little of each GPU
        self.feed(event)

    def _place(self, worker: Worker) -> bool:
        """On one GPU with room, as Ray does."""
        for device in range(int(self.nodes[worker.node].gpus) if worker.need.gpus else 0):
            neighbours = [
                each.need.gpus
                for each in self.workers.values()
                if each.node == worker.node and each.device == device
            ]
            if sum(neighbours) + worker.need.gpus <= 1 + 1e-6:
                worker.device = device
                return True
        return not worker.need.gpus

    def prepare(self, slot: int, reason: str | None = None) -> None:
        worker = self.workers[slot]
        worker.preparing = False
        self.prepared[worker.node] += reason is None
        self.feed(PreparedEvent(slot=slot, reason=reason, at_s=self.now_s))

    def end(self, slot: int, kind: FailureKind | None = None) -> None:
        worker = self.workers[slot]
        attempt, worker.running = worker.running, None
        assert attempt is not None
        key = attempt.task.key
        outcome: Outcome = Success(key=key, duration_s=1, host="h", device="", summary=())
        if kind is not None:
            outcome = Failure(key=key, kind=kind, message="m", traceback="", host="h", duration_s=1)
        self.feed(ReturnedEvent(slot=slot, outcome=outcome, at_s=self.now_s))

    def answer_all(self) -> None:
        """Everything that is asked for succeeds."""
        for slot, worker in list(self.workers.items()):
            if slot not in self.workers or worker.node not in self.nodes:
                continue
            if not worker.started:
                self.start(slot)
            elif worker.preparing:
                self.prepare(slot)
            elif worker.asked_last_words:
                words = LastWords(log="l")
                self.feed(LastWordsEvent(slot=slot, words=words, at_s=self.now_s))
            elif worker.running:
                self.end(slot)

    def run_until_reported(self, passed_s: float = 5.0) -> None:
        for _ in range(400):
            if self.submitted == self.reported:
                return
            self.tick(passed_s)
            self.answer_all()
        raise AssertionError("attempts never end")

    def states(self) -> list[str]:
        return sorted(slot.state for slot in self.pool.slots.values())


def started(need: Need = HALF, *, nodes: int = 1, gpus: int = 1) -> Simulation:
    """Idle workers wherever there is room."""
    made = Simulation(need)
    for _ in range(nodes):
        made.join(gpus=gpus)
    made.tick()
    made.answer_all()
    return made


# --------------------------------------------------------------------------- in particular


def test_nodes_are_filled_and_a_lost_one_s_attempts_end_as_lost():
    run = started(nodes=2)
    assert run.states() == ["idle"] * 4
    for number in range(5):
        run.submit(number)
    assert run.states() == ["busy"] * 4
    del run.nodes["n1"]
    run.tick()
    assert [(end.kind, end.message) for end in run.ends] == [
        (FailureKind.LOST, "its node is gone")
    ] * 2
    run.run_until_reported()
    run.tick()
    assert run.states() == ["idle"] * 2


def test_a_failed_task_waits_a_while_for_another_node():
    run = started(nodes=2)
    for number in range(4):
        run.submit(number)
    run.end(0, FailureKind.BUG)
    failed = run.ends[0].key
    where = run.workers[0].node
    run.submit(0, attempt=2)
    assert run.workers[0].running is None, "its node is free, but it failed there"
    other = next(slot for slot, worker in run.workers.items() if worker.node != where)
    run.end(other)
    running = run.workers[other].running
    assert running is not None
    assert running.task.key == failed


def test_it_takes_the_same_node_when_no_other_is_free_in_time():
    run = started(nodes=2)
    for number in range(4):
        run.submit(number)
    run.end(0, FailureKind.BUG)
    run.submit(0, attempt=2)
    run.tick(worker_pool.AVOID_S + 1)
    assert run.workers[0].running is not None


@pytest.mark.parametrize("share", [2, 4])
def test_a_larger_slot_takes_its_neighbours_place_and_goes_again(share):
    """Also where a smaller one is there already: a task may lack memory twice."""
    run = started(Need(cpus=1, gpus=0.25))
    assert run.states() == ["idle"] * 4
    for wanted in (2, share):
        run.submit(1, share=wanted, attempt=wanted + 10 * share)
        for _ in range(6):
            run.tick()
            for slot, worker in list(run.workers.items()):
                if not worker.started:
                    run.start(slot)
        (slot,) = (slot for slot, worker in run.workers.items() if worker.running)
        assert run.pool.slots[slot].share == wanted
        run.end(slot, FailureKind.DEVICE_MEMORY)
    for _ in range(4):
        run.tick()
        run.answer_all()
    assert [slot.share for slot in run.pool.slots.values()] == [1] * 4


def test_a_larger_slot_waits_for_what_runs_there_and_what_runs_may_stay():
    run = started(nodes=1)
    run.submit(1)
    run.submit(2)
    run.submit(3, share=2)
    run.tick()
    assert run.states() == ["draining"] * 2
    run.stop()
    assert run.ends[-1].message == "stopped before it started"
    run = started(nodes=1)
    for number in (1, 2):
        run.submit(number)
    run.submit(3, share=2)
    run.tick()
    run.join(cpus=4, gpus=2)  # another node can have it sooner
    run.tick()
    run.run_until_reported()


def test_workers_that_can_not_start_exclude_their_node_then_end_the_run():
    run = Simulation()
    run.join()
    for _ in range(20):
        run.tick(2.0)
        for slot in list(run.workers):
            if slot in run.workers:
                run.start(slot, failure="ModuleNotFoundError: none")
    assert "no worker starts: ModuleNotFoundError: none" in run.notices[0]
    assert run.aborted


def test_a_node_that_can_not_have_the_data_is_excluded():
    run = started(nodes=2)
    run.note_data()
    run.tick()
    assert run.states() == ["idle", "idle", "preparing", "preparing"]
    bad, good = (slot for slot, worker in run.workers.items() if worker.preparing)
    run.prepare(bad, "disk full")
    run.prepare(good)
    assert "its data can't be prepared: disk full" in run.notices[-1]
    assert run.states() == ["idle"] * 2
    assert len(run.pool.usable()) == 2


def test_failures_in_a_row_exclude_a_node_that_others_do_better_than():
    run = started(nodes=2)
    number = 0
    while not run.notices:
        for slot, worker in list(run.workers.items()):
            if slot in run.workers and worker.running:
                run.end(slot, FailureKind.BUG if worker.node == "n1" else None)
        while len(run.pool.idle()):
            number += 1
            run.submit(number)
        run.tick()
        assert number < 50
    assert (
        "gets no more tasks for 10 min: 4 failures in a row, the last one bug: m" in run.notices[0]
    )
    run.run_until_reported()
    assert {worker.node for worker in run.workers.values()} == {"n2"}


def test_a_draining_node_s_attempts_are_asked_to_save_and_its_idle_slots_end():
    run = started(nodes=2)
    run.submit(1)
    (busy,) = (slot for slot, worker in run.workers.items() if worker.running)
    run.drain(run.workers[busy].node)
    run.tick()
    assert run.workers[busy].stop
    assert run.states() == ["draining", "idle", "idle"]
    run.end(busy, FailureKind.LOST)
    assert run.states() == ["idle"] * 2


def test_there_are_no_more_slots_than_were_asked_for_however_many_fit():
    run = Simulation(most=3)
    for _ in range(4):
        run.join()
        run.tick()
        run.answer_all()
    assert len(run.workers) == 3
    run.nodes.pop(next(iter(run.nodes)))
    run.tick()
    assert len(run.workers) == 3, "another node's take the place of those that are gone"


def test_where_nodes_cost_money_idle_slots_end_and_nodes_are_requested_for_work():
    run = Simulation(elastic=True)
    run.pool.demand = 5
    run.tick()
    assert run.requested == RequestNodes(slots=5, held=0)
    run.join()
    run.tick()
    run.answer_all()
    run.tick()
    assert run.requested == RequestNodes(slots=5, held=2)
    run.pool.demand = 1
    run.tick(worker_pool.SPARE_S + 1)
    assert run.requested.slots == 0
    assert len(run.workers) == 1
    run.pool.demand = 0
    run.tick()
    assert not run.workers
    assert run.notices == []


def test_it_says_once_why_nothing_can_run():
    run = started()
    del run.nodes["n1"]
    for _ in range(10):
        run.tick(worker_pool.CROWDED_S / 2)
    assert run.notices == [
        "a task needs 1 CPU and 0.5 GPU; the cluster has no node alive; waiting for one"
    ]
    name = run.join()
    run.tick()
    run.tick(worker_pool.CROWDED_S + 1)
    assert run.notices[-1] == "no worker has started for 30 s: nodes are busy, or others use them"
    run.drain(name)
    run.tick()
    assert run.notices[-1] == "every node is excluded or draining: waiting for one"


# --------------------------------------------------------------------------- invariants

ACTIONS = (
    *("submit", "submit", "submit", "larger", "tick", "tick", "tick", "long"),
    *("start", "start", "start", "prepare", "end", "end", "fail", "fail", "beat"),
    *("not started", "no code", "no data", "lost", "died", "words"),
    *("join", "gone", "drain", "data", "demand", "stop"),
)


def happen(run: Simulation, action: str, data: st.DataObject) -> None:
    starting = [slot for slot, worker in run.workers.items() if not worker.started]
    preparing = [slot for slot, worker in run.workers.items() if worker.preparing]
    running = [s for s, worker in run.workers.items() if worker.running and not worker.dead]
    dying = [slot for slot, worker in run.workers.items() if worker.asked_last_words]
    number = sum(run.submitted.values())
    # What is seen of a worker whose node is gone comes before the news, or not at all.
    match action:
        case "submit":
            run.submit(number % 7, attempt=number)
        case "larger":
            run.submit(number % 7, share=data.draw(st.integers(2, 8)), attempt=number)
        case "tick":
            run.tick(data.draw(st.floats(0, 5)))
        case "long":
            run.tick(data.draw(st.floats(5, 700)))
        case "start" if starting:
            run.see()
            if (slot := data.draw(st.sampled_from(starting))) in run.workers:
                run.start(slot)
        case "not started" | "no code" if starting:
            run.start(
                data.draw(st.sampled_from(starting)), failure="x" if action == "no code" else ""
            )
        case "prepare" | "no data" if preparing:
            slot = data.draw(st.sampled_from(preparing))
            run.prepare(slot, None if action == "prepare" else "no disk")
        case "end" if running:
            run.end(data.draw(st.sampled_from(running)))
        case "fail" if running:
            kind = data.draw(st.sampled_from(list(FailureKind)))
            run.end(data.draw(st.sampled_from(running)), kind)
        case "beat" if running:
            slot = data.draw(st.sampled_from(running))
            beat = HeartbeatEvent(
                slot=slot,
                key=data.draw(st.sampled_from([a for a, _ in run.submitted])),
                fraction=0.5,
                note="",
                age_s=data.draw(st.floats(0, 200)),
                at_s=run.now_s,
            )
            run.feed(beat)
        case "lost" if running:
            slot = data.draw(st.sampled_from(running))
            kind = data.draw(st.sampled_from([FailureKind.LOST, FailureKind.HOST_MEMORY]))
            run.feed(
                WorkerLostEvent(slot=slot, kind=kind, message="m", traceback="", at_s=run.now_s)
            )
        case "died" if running:
            slot = data.draw(st.sampled_from(running))
            run.feed(WorkerDiedEvent(slot=slot, message="m", traceback="", at_s=run.now_s))
        case "words" if dying:
            slot = data.draw(st.sampled_from(dying))
            run.feed(LastWordsEvent(slot=slot, words=LastWords(), at_s=run.now_s))
        case "join" if len(run.nodes) < 4:
            run.join(cpus=data.draw(st.integers(0, 6)), gpus=data.draw(st.integers(0, 2)))
        case "gone" if run.nodes:
            del run.nodes[data.draw(st.sampled_from(sorted(run.nodes)))]
            run.see()
        case "drain" if run.nodes:
            run.drain(data.draw(st.sampled_from(sorted(run.nodes))))
        case "data" if run.data < 2:
            run.note_data()
        case "demand":
            run.pool.demand = data.draw(st.integers(0, 9))
        case "stop" if data.draw(st.integers(0, 9)) == 0:
            run.stop()


NEEDS = st.sampled_from(
    [
        HALF,
        Need(cpus=1, gpus=0),
        Need(cpus=2, gpus=0),
        Need(cpus=1, gpus=0.25),
        Need(cpus=1, gpus=0.3),
        Need(cpus=1, gpus=1),
    ]
)


@settings(max_examples=200, deadline=None)
@given(NEEDS, st.booleans(), st.data())
def test_random_events_keep_the_invariants_and_every_attempt_ends(need, elastic, data):
    run = Simulation(need, elastic=elastic)
    run.join(cpus=4, gpus=2)
    run.tick()
    for _ in range(data.draw(st.integers(0, 80), label="steps")):
        happen(run, data.draw(st.sampled_from(ACTIONS)), data)
    # Whatever happened, all ends once there is a sound node and time passes.
    run.join(cpus=8, gpus=2)
    run.pool.demand = 9
    assert capacity(run.nodes[f"n{run._names}"], need)
    run.run_until_reported(passed_s=31.0)
