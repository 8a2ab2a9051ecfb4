"""The driver's side of `requests/`: new requests are handled during the run and answered."""

from __future__ import annotations

import time
from collections.abc import Callable

from prunegrid.orchestrator.driver.retries import named_tasks
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.scheduling.events import (
    Command,
    Event,
    PauseEvent,
    ReopenCommand,
    RetryEvent,
)
from prunegrid.orchestrator.store.journal import Journal
from prunegrid.orchestrator.store.requests import (
    Pause,
    Request,
    read_pause,
    read_requests,
    refuse_unreadable,
    set_paused,
    settle,
)
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.files import StorageError

LOCAL_EVERY_S = 1.0
REMOTE_EVERY_S = 5.0


class RequestHandler:
    """Owned by the driver's loop. A store error does not end the run: the next call retries, and
    each request is handled once."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        journal: Journal,
        *,
        say: Callable[[str], None],
        feed: Callable[[Event], list[Command]],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`feed`: passes an event to the scheduler, and performs and returns its commands. `wall`:
        seconds since the epoch."""
        self._plan = plan
        self._files = store.files
        self._address = store.address
        self._journal = journal
        self._say = say
        self._feed = feed
        self._wall = wall
        self._every_s = LOCAL_EVERY_S if store.files.folder else REMOTE_EVERY_S
        self._taken: set[str] = set()
        self._looked_s = float("-inf")
        self._complained = False
        self.paused = False

    def begin(self, now_s: float) -> None:
        """Call it once the scheduler exists, before it has slots."""
        try:
            pause = read_pause(self._files)
        except StorageError:
            pause = None
        if pause is not None and not self.paused:
            self._set_paused(True, pause.by, now_s)
        elif self.paused:
            self._feed(PauseEvent(paused=True, at_s=now_s))
        self.handle_new(now_s)

    def handle_new(self, now_s: float) -> None:
        """Cheap: lists the folder at most once a second, on an object store less often."""
        if now_s - self._looked_s < self._every_s:
            return
        self._looked_s = now_s
        try:
            for name, why in refuse_unreadable(self._files):
                self._journal.write("request", name=name, refused=why)
                self._say(f"requests/{name} is no request: {why}; moved to requests/refused/")
            for name, request in read_requests(self._files):
                if name not in self._taken:
                    self._take(name, request, now_s)
                    self._taken.add(name)
                self._journal.flush(force=True)
                settle(self._files, name)
            self._complained = False
        except (StorageError, StoreError) as error:
            if not self._complained:
                self._complained = True
                self._say(f"requests can't be taken up for now: {error}")

    def _take(self, name: str, request: Request, now_s: float) -> None:
        told: dict[str, object] = {"name": name, "kind": request.kind, "by": request.by}
        if request.kind == "retry":
            told |= self._retry(request, now_s)
        else:
            wanted = request.kind == "pause"
            if wanted != self.paused:
                pause = Pause(since_s=self._wall(), by=request.by) if wanted else None
                set_paused(self._files, pause)
                self._set_paused(wanted, request.by, now_s)
        self._journal.write("request", **told)

    def _retry(self, request: Request, now_s: float) -> dict[str, object]:
        try:
            keys = named_tasks(self._plan, request)
        except UsageError as error:  # made for a wider grid, or a guess
            self._say(f"retry, asked by {request.by}: {error}")
            return {"refused": str(error)}
        states = self._feed(RetryEvent(keys=tuple(sorted(keys)), at_s=now_s))
        again = [command for command in states if isinstance(command, ReopenCommand)]
        blocked = sum(command.was == "blocked" for command in again)
        count = len(again) - blocked
        text = f"{counted(count, 'task')} {'are' if count != 1 else 'is'} tried again"
        if blocked:
            text += f", {blocked} that rest on {'them' if count != 1 else 'it'} wait for that"
        if not count:
            text = f"none of the {len(keys)} tasks named failed or waits to be tried again"
        self._say(f"retry, asked by {request.by}: {text}")
        return {"reopened": count, "unblocked": blocked}

    def _set_paused(self, paused: bool, by: str, now_s: float) -> None:
        self.paused = paused
        self._journal.write("pause" if paused else "resume", by=by)
        if paused:
            asked = f", asked by {by}" if by else ""
            self._say(
                f"paused{asked}: what runs goes on to its end, nothing new is started until "
                f"'prunegrid resume --store {self._address}'"
            )
        else:
            self._say(f"resumed, asked by {by}")
        self._feed(PauseEvent(paused=paused, at_s=now_s))
