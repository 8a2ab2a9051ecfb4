"""Stores in any state, made as a driver makes them, by a fake that needs no TensorFlow."""

from __future__ import annotations

import json
import time
from pathlib import Path

from prunegrid.orchestrator.driver.recorder import Recorder
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand, parent_of
from prunegrid.orchestrator.store.journal import Journal
from prunegrid.orchestrator.store.lease import LEASE, Holder
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.contract import AttackTask, Failure, FailureKind
from prunegrid.workers.files import FileInfo, LocalFiles
from tests.fakes import fake_images, fake_model
from tests.grids import SMALL


class Run:
    """A driver's traces in a store, one step at a time."""

    def __init__(self, folder: Path | str, text: str = SMALL, *, tell: bool = True) -> None:
        """`tell`: that a run begins."""
        self.store = Store.open_or_create(str(folder))
        self.store.set_grid(text)
        self.store.set_selection({})
        self.plan = expand(parse_grid(text, source="grid.yaml"))
        self._recorder = Recorder(self.plan, self.store)
        self.journal = Journal(self.store)
        if tell:
            self.say("run", grid=self.plan.grid.name, tasks=len(self.plan.tasks))

    @property
    def keys(self) -> list[str]:
        return list(self.plan.tasks)

    @property
    def address(self) -> str:
        return self.store.address

    def say(self, event: str, **fields: object) -> None:
        self.journal.write(event, **fields)
        self.journal.flush(force=True)

    def start(self, key: str, attempt: int = 1) -> None:
        self.say("start", key=key, attempt=attempt)

    def finish(self, key: str, *, worker: str = "node-a/0", seconds: float = 0.5) -> None:
        """Its result, the rows that it completes, and the line in the journal, in that order."""
        task = self.plan.tasks[key]
        if isinstance(task, AttackTask):
            self.store.write(layout.image_rows(key), fake_images(task))
        else:
            self.store.write(layout.model_record(key), fake_model(task).to_json().encode())
        self._recorder.task_done(key)
        self.say("done", key=key, attempt=1, worker=worker, seconds=seconds)

    def fail(self, key: str, message: str = "ValueError: planted", **more: object) -> None:
        """A failed attempt; see `give_up`."""
        attempt = int(str(more.pop("attempt", 1)))
        worker = str(more.pop("worker", "node-b/1"))
        traceback = str(more.pop("traceback", f"Traceback (planted)\n{message}"))
        log = str(more.pop("log", ""))
        kind = FailureKind(more.pop("kind", "bug"))
        failure = Failure(
            key=key,
            kind=kind,
            message=message,
            traceback=traceback,
            host=worker.partition("/")[0],
            duration_s=0.5,
            log=log,
        )
        self.start(key, attempt)
        self.store.record_failure(failure, attempt)
        self.say(
            "failed", key=key, attempt=attempt, worker=worker, kind=kind.value, message=message
        )

    def give_up(self, key: str, message: str = "ValueError: planted", **more: object) -> None:
        self.fail(key, message, **more)
        self.say("given-up", key=key, kind="bug")

    def finish_all(self, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Every task but these and what rests on them."""
        left = set(but)
        for key, task in self.plan.tasks.items():
            if parent_of(task) in left:
                left.add(key)
            if key not in left:
                self.start(key)
                self.finish(key)

    def beat(self, *, age_s: float = 0.0, host: str = "elsewhere") -> None:
        """A heartbeat of a driver on another host, whose process can't be looked at."""
        holder = Holder(host=host, pid=1, process_start="", renewed_at_s=time.time() - age_s)
        self.store.write(LEASE, json.dumps(holder.__dict__).encode())


class AsRemote:
    """A folder behind the same calls as an object store has: no appending, no seeking. Counts
    what is read."""

    def __init__(self, folder: Path) -> None:
        self._files = LocalFiles(folder)
        self.address = "s3://fake/store"
        self.reads: list[str] = []

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        return self._files.read(path)

    def write(self, path: str, content: bytes) -> None:
        self._files.write(path, content)

    def write_once(self, path: str, content: bytes) -> bool:
        return self._files.write_once(path, content)

    def exists(self, path: str) -> bool:
        return self._files.exists(path)

    def list(self, prefix: str) -> list[FileInfo]:
        return list(self._files.list(prefix))

    def remove(self, path: str) -> None:
        self._files.remove(path)

    def rename(self, source: str, target: str) -> None:
        self._files.rename(source, target)
