"""A store with a bit of everything, and a server over it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prunegrid.orchestrator.dashboard.access import Access, access_for
from prunegrid.orchestrator.dashboard.api import make_app
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.watcher import Watcher
from prunegrid.orchestrator.store.store import Store
from tests.dashboard.browser import Page, listening, start_browser, why_none
from tests.dashboard.stores import Run


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Seed 0 of the first method done, a dense network given up after two attempts, one task
    running under a living driver, the rest waiting."""
    run = Run(tmp_path_factory.mktemp("mixed") / "store")
    dense = [key for key in run.keys if key.startswith("train-")]
    run.fail(dense[1], "ValueError: shapes (3, 4) differ", attempt=1)
    run.give_up(dense[1], "ValueError: shapes (5, 6) differ", attempt=2)
    mine = descendants(run, dense[0])
    for key in run.keys:
        if key in mine:
            run.start(key)
            run.finish(key)
    run.start(dense[2])
    run.beat()
    return run


@pytest.fixture(scope="session")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "s"
    Run(folder).finish_all()
    return folder


@pytest.fixture
def done(_whole: Path, tmp_path: Path) -> Run:
    """A store of one's own in which every task is done, at `tmp_path / "s"`."""
    shutil.copytree(_whole, tmp_path / "s")
    return Run(tmp_path / "s", tell=False)


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Run:
    """A copy of one's own of the module's store `kept`, its driver alive."""
    shutil.copytree(kept, tmp_path / "s")
    one = Run(tmp_path / "s", tell=False)
    one.beat()
    return one


def descendants(run: Run, root: str) -> set[str]:
    out = {root}
    for key, task in run.plan.tasks.items():
        if getattr(task, "parent_key", None) in out:
            out.add(key)
    return out


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """serve(address) -> the application, its watcher running."""
    watchers = []

    def start(address: str | Path, access: Access | None = None, **more: Any) -> Any:
        reader = StoreReader(Store.open(str(address)))
        watcher = Watcher(reader, every_s=more.pop("every_s", 0.02))
        watcher.start()
        watchers.append(watcher)
        while watcher.current().unread_files:
            time.sleep(0.01)
        return make_app(watcher, access or access_for("127.0.0.1", allow_retry=False, **more))

    yield start
    for watcher in watchers:
        watcher.close()


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if reason := why_none():
        pytest.skip(reason)
    driver = start_browser(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def page(_chromium: Any, shown: Any) -> Iterator[Page]:
    """A tab, which closes before the servers do; whatever its console says fails the test that
    did not ask for it."""
    one = Page(_chromium)
    yield one
    complaints = one.complaints()
    one.driver.get("about:blank")
    one.driver.delete_all_cookies()
    assert complaints == []


@pytest.fixture
def shown() -> Iterator[Callable[..., str]]:
    """shown(run) -> the address of a dashboard of its own."""
    with contextlib.ExitStack() as stack:

        def start(run: Run, access: Access | None = None, *, wrap: Any = None) -> str:
            watcher = Watcher(StoreReader(Store.open(run.address)), every_s=0.1)
            stack.callback(watcher.close)
            app = make_app(watcher, access or access_for("127.0.0.1", allow_retry=False))
            return stack.enter_context(listening(app if wrap is None else wrap(app, watcher)))

        yield start
