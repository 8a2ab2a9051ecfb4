"""retry, pause and resume on the command line: what they say, what they refuse, what they leave
for the next run."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.cli import app, guarded
from prunegrid.orchestrator.commands.pause import pause
from prunegrid.orchestrator.commands.resume import resume
from prunegrid.orchestrator.commands.retry import NothingToDoError
from prunegrid.orchestrator.commands.retry import retry as ask_retry
from prunegrid.orchestrator.driver.run_view import RunResult
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.grid import cell_id
from prunegrid.orchestrator.store.lease import LEASE
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.requests import Pause, read_requests, set_paused
from prunegrid.orchestrator.store.store import Store, this_host
from prunegrid.workers.process_id import process_start
from tests.driver.test_request_handler import Scene, tiny
from tests.fakes import BROKEN, CAUSE, attempts_of


def run(folder: Path) -> RunResult:
    """As `prunegrid run`, without its page and table."""
    scene = Scene(folder / "s", tiny(0, BROKEN))
    scene.store.set_grid(tiny(0, BROKEN))
    return scene.run()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    Store.open_or_create(str(folder / "s")).files.write(CAUSE, b"")
    assert run(folder).missing
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A grid of which one seed's training was given up, 14 tasks being blocked by that."""
    shutil.copytree(made, tmp_path / "f")
    return tmp_path / "f"


def told(function, *arguments, **more) -> str:
    out = io.StringIO()
    function(*arguments, console=Console(file=out, width=200), **more)
    return out.getvalue()


def retry(folder: Path, *tasks: str, select=(), failed=False) -> str:
    store = str(folder / "s")
    return told(ask_retry, store, select=select, failed=failed, tasks=tasks)


def given_up(folder: Path) -> str:
    store = Store.open(str(folder / "s"))
    plan = load_plan(store)
    (key,) = (k for k, t in plan.tasks.items() if t.seed == BROKEN and t.kind == "train")
    return key


def waiting(folder: Path):
    return [request for _, request in read_requests(Store.open(str(folder / "s")).files)]


def test_a_retry_without_a_driver_waits_for_the_next_run_which_makes_all(folder):
    text = retry(folder, failed=True)
    assert text.startswith("1 task will be tried again, then 14 tasks that rest on it: no driver")
    (request,) = waiting(folder)
    assert (request.kind, request.failed, request.by) == ("retry", True, "cli")
    (folder / "s" / CAUSE).unlink()
    assert not run(folder).missing
    assert waiting(folder) == []
    assert attempts_of(folder / "s")[given_up(folder)] == 3


@pytest.mark.parametrize("select", [[f"seed={BROKEN}"], ["attack=cw_l2"], ["rate=4"]])
def test_a_selection_finds_the_cause_of_what_is_blocked(folder, select):
    assert retry(folder, select=select).startswith("1 task will be tried again, then 14 tasks")
    assert waiting(folder)[0].select == {select[0].split("=")[0]: (select[0].split("=")[1],)}


def test_a_task_may_be_named_by_its_first_letters_or_by_a_cell(folder):
    key = given_up(folder)
    assert retry(folder, key[:12]).startswith("1 task will be tried again")
    plan = load_plan(Store.open(str(folder / "s")))
    cell = next(c for c in plan.cells if c.place.model.seed == BROKEN)
    assert retry(folder, cell_id(cell.place, cell.task_keys)).startswith("1 task will")
    assert [set(r.tasks) for r in waiting(folder)] == [{key[:12]}, set(cell.task_keys)]


def test_a_retry_of_what_needs_none_names_what_was_given_up(folder):
    with pytest.raises(NothingToDoError) as caught:
        retry(folder, select=["seed=0"])
    text = str(caught.value)
    assert "nothing to try again: 15 tasks match: 15 done" in text
    assert f"failed are {given_up(folder)}" in text
    assert waiting(folder) == [], "nothing was asked of any driver"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "expected --failed, --select or names of tasks"),
        ({"select": ["sed=0"]}, "did you mean 'seed'"),
        ({"select": ["seed=7"]}, "seed=7: expected one of 0, 990"),
        ({"tasks": [""]}, "no task of the store's grid begins with ''"),
    ],
)
def test_a_retry_of_nothing_that_is_there_is_refused(folder, more, words):
    with pytest.raises(UsageError, match=words):
        retry(folder, *more.pop("tasks", ()), **more)
    assert waiting(folder) == []


def test_a_misspelt_task_gets_the_nearest_name(folder):
    key = given_up(folder)
    with pytest.raises(UsageError, match=f"did you mean '{key}'"):
        retry(folder, key[:-1] + "x")


def test_what_a_living_driver_will_do_names_it(folder):
    holder = {
        "host": this_host(),
        "pid": 1,
        "process_start": process_start(1),
        "renewed_at_s": time.time(),
    }
    (folder / "s" / LEASE).write_text(json.dumps(holder))
    assert "the driver with pid 1 on" in retry(folder, failed=True)
    store = str(folder / "s")
    assert "starts nothing new; what runs goes on" in told(pause, store)
    assert "goes on" in told(resume, store)


def test_pause_and_resume_say_where_they_change_nothing(folder):
    store = str(folder / "s")
    assert "not paused: nothing to resume" in told(resume, store)
    assert "no driver is running; the next one will wait" in told(pause, store)
    assert "paused already, asked by cli" in told(pause, store)
    assert "resumed: no driver is running" in told(resume, store)
    assert "not paused" in told(resume, store)
    assert [request.kind for request in waiting(folder)] == ["pause", "resume"]
    set_paused(Store.open(store).files, Pause(since_s=0.5, by="dashboard"))
    set_paused(Store.open(store).files, None)
    assert run(folder).given_up, "what was asked and taken back holds nobody"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["retry", "--failed"], 0),
        (["retry", "--select", "seed=0"], 1),
        (["retry", "train-x"], 2),
        (["retry"], 2),
        (["pause"], 0),
        (["resume"], 0),
    ],
)
def test_exit_codes(folder, arguments, code, capsys):
    line = [*arguments, "--store", str(folder / "s")]
    assert guarded(lambda: app(args=line, prog_name="prunegrid", standalone_mode=False)) == code
    assert capsys.readouterr().err.startswith("error: ") == (code != 0)
