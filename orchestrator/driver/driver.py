"""The driver: a thin loop between the scheduler, which decides, and an engine, which runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from prunegrid.orchestrator.driver.recorder import Recorder
from prunegrid.orchestrator.driver.request_handler import RequestHandler
from prunegrid.orchestrator.driver.retry_policy import RetryPolicy
from prunegrid.orchestrator.driver.run_view import (
    GivenUp,
    Moment,
    Observer,
    RunResult,
    Tally,
    make_view,
)
from prunegrid.orchestrator.driver.store_scan import StoreScan, scan_store, set_torn_parents_aside
from prunegrid.orchestrator.engines.engine import ALL_SIGNALLED_S, Ended, Engine, Notice
from prunegrid.orchestrator.errors import PrunegridError, TornError
from prunegrid.orchestrator.plan.dag import Plan, parents_of
from prunegrid.orchestrator.plan.descriptions import short
from prunegrid.orchestrator.plan.estimates import Durations
from prunegrid.orchestrator.scheduling.events import (
    BlockCommand,
    Command,
    EndCommand,
    Event,
    FailedEvent,
    GiveUpCommand,
    ReopenCommand,
    RetryCommand,
    RunCommand,
    SlotsEvent,
    StopEarlyCommand,
    StopEvent,
    SucceededEvent,
    TickEvent,
)
from prunegrid.orchestrator.scheduling.policies import ALIKE, POLICIES
from prunegrid.orchestrator.scheduling.scheduler import Job, Scheduler
from prunegrid.orchestrator.store.journal import Journal
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.contract import Attempt, Failure, FailureKind, Success, Task

POLL_S = 0.25
SHOW_S = 1.0
#: On a network mount a result shows at the driver up to so long after its worker wrote it: twice
#: the seconds that NFS clients keep what they know of a folder (`acdirmax`).
LATE_S = 120.0
#: At most so many passes: each makes anew what the one before found torn.
MAX_PASSES = 4


class DataError(PrunegridError):
    """A data set is not available; nothing was started."""


class CodeError(PrunegridError):
    """A worker has other code than the driver; what ran has saved its state."""


def _rounded(seconds: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items() if value is not None}


def _is_lost(ended: Ended) -> bool:
    return isinstance(ended.outcome, Failure) and ended.outcome.kind is FailureKind.LOST


class Driver:
    """One run of one plan into one store."""

    # Parameters: the parts of a run, and what tests put in their place.
    def __init__(
        self,
        plan: Plan,
        store: Store,
        engine: Engine,
        observer: Observer,
        *,
        lease: Lease,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        stop_requested: Callable[[], bool] = lambda: False,
        ranks: Mapping[str, int] | None = None,
        starting_s: float = 0.0,
    ) -> None:
        """`ranks`: tasks of a lower one run first; see `slices.py`. `starting_s`: what starting the
        engine took."""
        self._plan = plan
        self._ranks = ranks or {}
        self._store = store
        self._engine = engine
        self._observer = observer
        self._lease = lease
        self._clock = clock
        self._stop_requested = stop_requested
        self._recorder = Recorder(plan, store)
        self._journal = Journal(store)
        self._durations = Durations()
        self._say = observer.say
        self._requests = RequestHandler(
            plan, store, self._journal, say=observer.say, feed=self._feed, wall=wall
        )
        self._retried = RetryPolicy(say=observer.say, stop_requested=stop_requested)
        self._tally = Tally()
        self._started: dict[str, float] = {}
        self._places: dict[str, str] = {}  #: running task -> its worker in the journal
        self._finished: set[str] = set()
        self._late: dict[str, tuple[int, float]] = {}  #: done, but unseen: attempt, since when
        self._torn: set[str] = set()  #: tasks whose result was torn before its rows were made
        self._stopping = False
        self._stopped_early = False
        self._other_code = ""  #: of a worker, in a sentence
        self._over = False
        self._slots = -1
        self._show_due_s = 0.0
        self._starting_s = starting_s

    def run(self) -> RunResult:
        """Run until every task has ended or the run is stopped. Raises DataError, EngineError,
        CodeError, SupersededError, and StoreError where the store refuses for long."""
        began_s = self._clock()
        self._retried(self._store.sweep)
        reused: int | None = None
        for number in range(1, MAX_PASSES + 1):
            scan = self._retried(lambda: scan_store(self._plan, self._store, self._say))
            self._durations = scan.durations
            self._retried(lambda done=scan.done: self._recorder.catch_up(done))  # type: ignore[misc]
            self._retried(self._store.save_checked)
            reused = len(scan.done) if reused is None else reused
            self._run_pass(scan, number, began_s)
            if self._ending or number == MAX_PASSES or not self._repair():
                break
        self._retried(self._store.save_checked)
        self._journal.write("end", stopped=self._stopping, ran=self._tally.ran)
        self._retried(self._journal.close)
        if self._other_code:
            raise CodeError(self._other_code)
        return RunResult(
            missing=tuple(self._recorder.missing_cells()),
            given_up=tuple(self._tally.given_up),
            blocked=self._tally.blocked,
            interrupted=self._stopping,
            ran=self._tally.ran,
            reused=reused or 0,
            elapsed_s=self._clock() - began_s,
        )

    def _run_pass(self, scan: StoreScan, number: int, began_s: float) -> None:
        """Run every task that is not done."""
        todo = self._plan.unfinished(scan.finished)
        for key in self._plan.lacking(scan.finished):  # the rows stand until it has run
            self._retried(lambda key=key: self._store.unmerge(key))  # type: ignore[misc]
        jobs = [self._job(task, todo, scan) for task in todo.values()]
        self._scheduler = Scheduler(jobs, alike=None if scan.done else ALIKE)
        self._torn.clear()
        self._tally.given_up.clear()
        self._tally.blocked.clear()
        self._over, self._slots = False, -1
        name, count = self._plan.grid.name, len(self._plan.tasks)
        self._retried(self._lease.check)
        lease = self._lease.number
        starting = {"starting_s": round(self._starting_s + self._clock() - began_s, 3)}
        self._journal.write(
            "run",
            grid=name,
            tasks=count,
            todo=len(todo),
            number=number,
            lease=lease,
            **(starting if number == 1 else {}),
        )
        if todo:
            self._prepare(todo)
        self._requests.begin(self._clock())
        self._feed(SlotsEvent(slots=0, at_s=began_s))
        while not self._over:
            self._step(began_s)

    def _repair(self) -> bool:
        """Whether files were torn during the run, so that another pass must make them anew."""
        if not self._tally.ran and not self._tally.given_up:
            return False  # nothing happened since the store was scanned
        children = [
            g.key for g in self._tally.given_up if POLICIES[FailureKind(g.kind)].input_suspect
        ]
        found = self._retried(
            lambda: set_torn_parents_aside(self._plan, self._store, children, self._say)
        )
        return found > 0 or bool(self._torn) or self._retried(self._any_torn)

    def _any_torn(self) -> bool:
        store = self._store
        folders = (layout.MODEL_ROWS, layout.CELL_ROWS, layout.TRANSFER_ROWS)
        rows = sum(len(store.row_ids(f)) - len(store.row_ids(f, whole=True)) for f in folders)
        return rows > 0 or len(store.whole()) < len(store.finished())

    def _job(self, task: Task, todo: Mapping[str, Task], scan: StoreScan) -> Job:
        return Job(
            key=task.key,
            parents=tuple(parent for parent in parents_of(task) if parent in todo),
            cost_s=self._durations.expect(task)[0],
            rank=self._ranks.get(task.key, 0),
            attempts=scan.attempts.get(task.key, 0),
        )

    def _prepare(self, todo: Mapping[str, Task]) -> None:
        """One clear error before any training, not one per task."""
        sets = dict.fromkeys(task.data for task in todo.values())
        for data in sets:
            self._say(f"preparing {data.dataset}")
            reason = self._engine.prepare(data)
            if reason:
                raise DataError(f"data set {data.dataset} can't be had: {reason}")

    # ------------------------------------------------------------------ the loop

    def _step(self, began_s: float) -> None:
        self._check_stop()
        if self._engine.slots != self._slots:
            self._slots = self._engine.slots
            self._journal.write("slots", slots=self._slots)
            self._feed(SlotsEvent(slots=self._slots, at_s=self._clock()))
        self._requests.handle_new(self._clock())
        self._engine.demand(self._scheduler.demand)
        ends = [] if self._over else self._engine.poll(POLL_S)
        notices = self._engine.notices()
        self._look_for_other_code(ends, notices)
        if any(_is_lost(ended) for ended in ends) and not self._ending:
            time.sleep(ALL_SIGNALLED_S)
        self._check_stop()  # an attempt that ended because of the stop is no failure
        self._retried(self._lease.check)  # before anything is written
        for ended in ends:
            self._take(ended)
        for key, (attempt, _) in list(self._late.items()):
            self._succeed(key, attempt, self._clock())
        for notice in notices:
            self._journal.write("notice", **asdict(notice))
            self._say(notice.text)
        if not self._over:
            self._feed(TickEvent(at_s=self._clock()))
        self._retried(self._journal.flush)
        if self._over or self._clock() >= self._show_due_s:
            self._show(began_s)

    def _show(self, began_s: float) -> None:
        """Once a second; less often where showing would take over a twentieth of the time."""
        now_s, processor_s = self._clock(), time.thread_time()
        moment = Moment(
            states=self._scheduler.states,
            elapsed={key: now_s - started_s for key, started_s in self._started.items()},
            slots=max(self._slots, 0),
            doing=tuple(self._engine.doing()),
            cells_missing=self._recorder.missing_count,
            elapsed_s=now_s - began_s,
            stopping=self._stopping,
            paused=self._requests.paused,
        )
        view = make_view(self._plan, moment, self._tally, self._durations)
        self._observer.show(view)
        places = {doing.key: doing.worker for doing in view.doing}
        for key, worker in places.items() - self._places.items():
            self._journal.write("placed", key=key, worker=worker)
        self._places = places
        took_s = time.thread_time() - processor_s
        self._show_due_s = now_s + max(SHOW_S, 20 * took_s)

    @property
    def _ending(self) -> bool:
        """Nothing more starts, and what runs was asked to end."""
        return self._stopping or self._stopped_early

    def _look_for_other_code(self, ends: Sequence[Ended], notices: Sequence[Notice]) -> None:
        """Where a worker refuses to compute, the run stops: all that start later would, too."""
        failures = [ended.outcome for ended in ends if isinstance(ended.outcome, Failure)]
        found = [
            f.message.removeprefix("OtherCode: ") for f in failures if POLICIES[f.kind].ends_run
        ]
        found += [notice.text for notice in notices if notice.kind == "other-code"]
        self._other_code = self._other_code or next(iter(found), "")

    def _check_stop(self) -> None:
        asked = self._stop_requested()
        if (asked or self._other_code) and not self._stopping:
            self._stopping = True
            why = "" if asked else f"{self._other_code}; "
            self._say(f"{why}stopping: what runs saves its state; once more to stop at once")
            self._engine.request_stop()
            self._feed(StopEvent(at_s=self._clock()))

    def _take(self, ended: Ended) -> None:
        outcome, now_s = ended.outcome, self._clock()
        self._started.pop(outcome.key, None)
        common = {"key": outcome.key, "attempt": ended.attempt, "worker": ended.worker}
        if isinstance(outcome, Success):
            self._durations.add(self._plan.tasks[outcome.key], outcome.duration_s, ended.worker)
            summary = dict(outcome.summary)
            seconds = round(outcome.duration_s, 3)
            use = {} if outcome.time is None else _rounded(asdict(outcome.time))
            self._journal.write("done", **common, seconds=seconds, **{**summary, **use})
            self._succeed(outcome.key, ended.attempt, now_s)
        else:
            self._take_failure(outcome, ended, common, now_s)

    def _succeed(self, key: str, attempt: int, now_s: float) -> None:
        try:
            self._retried(lambda: self._recorder.task_done(key))
        except TornError as error:
            if self._is_late(key, attempt, now_s):
                return
            self._torn.add(key)  # its rows are written in the next pass: see _repair
            self._say(str(error))
        self._late.pop(key, None)
        self._tally.ran += key not in self._finished
        self._finished.add(key)
        self._feed(SucceededEvent(key=key, attempt=attempt, at_s=now_s))

    def _is_late(self, key: str, attempt: int, now_s: float) -> bool:
        """Whether its worker has said that it is done, and nothing is to be seen here yet."""
        _, since_s = self._late.setdefault(key, (attempt, now_s))
        folder = self._store.files.folder
        is_due = self._ending or folder is None or now_s - since_s >= LATE_S
        return not is_due and not self._retried(lambda: self._store.shows(key))

    def _take_failure(
        self, failure: Failure, ended: Ended, common: dict[str, object], now_s: float
    ) -> None:
        kind = failure.kind
        self._journal.write("failed", **common, kind=kind.value, message=failure.message)
        may_exist = POLICIES[kind].result_may_exist
        if may_exist and self._retried(lambda: self._store.has(failure.key)):
            self._journal.write("done", **common, seconds=round(failure.duration_s, 3))
            self._succeed(failure.key, ended.attempt, now_s)
            return
        if not self._ending:
            self._tally.failures[kind.value] += 1
            self._retried(lambda: self._store.record_failure(failure, ended.attempt))
        self._feed(
            FailedEvent(
                key=failure.key,
                attempt=ended.attempt,
                kind=kind,
                message=failure.message,
                at_s=now_s,
            )
        )

    def _feed(self, event: Event) -> list[Command]:
        commands = self._scheduler.handle(event)
        for command in commands:
            self._perform(command)
        return commands

    def _perform(self, command: Command) -> None:
        match command:
            case RunCommand():
                self._started[command.key] = self._clock()
                self._journal.write("start", key=command.key, attempt=command.attempt)
                task = self._plan.tasks[command.key]
                self._engine.submit(Attempt(task=task, number=command.attempt, share=command.share))
            case RetryCommand():
                self._journal.write("retry", key=command.key, kind=command.kind.value)
            case GiveUpCommand():
                self._give_up(command)
            case BlockCommand():
                self._tally.blocked[command.key] = command.ancestor
                self._journal.write("blocked", key=command.key, ancestor=command.ancestor)
            case ReopenCommand():
                self._tally.reopen(command.key)
                self._journal.write("reopened", key=command.key, was=command.was)
            case StopEarlyCommand():
                self._stopped_early = True
                self._say(
                    f"stopping: the first {command.tasks} tasks all failed for one cause, and "
                    "none has succeeded; once it is gone, the same command resumes (--select "
                    "chooses other tasks)"
                )
                self._engine.request_stop()
            case EndCommand():
                self._over = True

    def _give_up(self, command: GiveUpCommand) -> None:
        """Each cause is said once."""
        name = short(self._plan.tasks[command.key])
        item = GivenUp(key=command.key, name=name, kind=command.kind.value, message=command.message)
        if item.cause not in {known.cause for known in self._tally.given_up}:
            self._say(f"failed: {name}: {item.kind}: {item.message}")
        self._tally.given_up.append(item)
        self._journal.write("given-up", key=item.key, kind=item.kind)
