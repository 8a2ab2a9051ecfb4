"""Requests: what is written is read, in order, once; junk harms nobody; a pause lasts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.grid import AXES
from prunegrid.orchestrator.store.requests import (
    DONE,
    FOLDER,
    PAUSED,
    REFUSED,
    Pause,
    Request,
    pause_to_come,
    read_pause,
    read_requests,
    refuse_unreadable,
    set_paused,
    settle,
    write_request,
)
from prunegrid.workers.files import LocalFiles

RETRY = Request(kind="retry", by="cli", select={"seed": ("0", "1")}, tasks=("train-0",))
GOOD = {"version": 1, "kind": "retry", "select": {}, "tasks": [], "failed": False, "by": "cli"}


@pytest.fixture
def files(tmp_path) -> LocalFiles:
    return LocalFiles(tmp_path / "s")


@settings(max_examples=30, deadline=None)
@given(
    asked=st.builds(
        Request,
        kind=st.sampled_from(["retry", "pause", "resume"]),
        by=st.text(max_size=9),
        select=st.dictionaries(st.sampled_from(AXES), st.lists(st.text(max_size=3)).map(tuple)),
        tasks=st.lists(st.text(max_size=5), max_size=3).map(tuple),
        failed=st.booleans(),
    )
)
def test_what_is_written_is_read(tmp_path_factory, asked):
    files = LocalFiles(tmp_path_factory.mktemp("s"))
    name = write_request(files, asked)
    assert read_requests(files) == [(name, asked)]


def test_requests_come_oldest_first_and_once(files):
    names = [write_request(files, Request(kind=kind, by="cli")) for kind in ("pause", "resume")]
    names.append(write_request(files, RETRY))
    assert [name for name, _ in read_requests(files)] == names
    assert [request.kind for _, request in read_requests(files)] == ["pause", "resume", "retry"]
    settle(files, names[0])
    assert [name for name, _ in read_requests(files)] == names[1:]
    assert files.exists(f"{DONE}/{names[0]}"), "what was asked is kept"


def test_a_store_that_was_asked_nothing(files):
    assert read_requests(files) == []
    assert refuse_unreadable(files) == []
    assert read_pause(files) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"version": 1, "ki', "Unterminated"),
        (b"{\xff}", "decode"),
        (b"[" * 100_000, ""),
        (b"[]", "expected an object, got list"),
        (json.dumps({**GOOD, "version": 2}).encode(), "expected version 1, got 2"),
        (json.dumps({**GOOD, "kind": "delete"}).encode(), "got 'delete'"),
        (json.dumps({**GOOD, "select": {"sed": ["0"]}}).encode(), "select: expected"),
        (json.dumps({**GOOD, "select": {"seed": "0"}}).encode(), "select.seed: expected a list"),
        (json.dumps({**GOOD, "tasks": "train-0"}).encode(), "tasks: expected a list"),
        (json.dumps({**GOOD, "tasks": [1]}).encode(), "tasks: expected a list"),
        (json.dumps({**GOOD, "failed": "no"}).encode(), "failed: expected true or false"),
    ],
)
def test_junk_is_refused_with_its_reason_and_kept_aside(files, content, why):
    files.write(f"{FOLDER}/20260101T000000.000000Z-0.json", content)
    name = write_request(files, RETRY)
    assert read_requests(files) == [(name, RETRY)]
    ((refused, reason),) = refuse_unreadable(files)
    assert why in reason
    assert files.read(f"{REFUSED}/{refused}") == content
    assert refuse_unreadable(files) == []
    assert read_requests(files) == [(name, RETRY)]


def test_a_pause_lasts_until_it_is_ended(files):
    set_paused(files, Pause(since_s=12.5, by="dashboard"))
    assert read_pause(files) == Pause(since_s=12.5, by="dashboard")
    set_paused(files, None)
    set_paused(files, None)
    assert read_pause(files) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"since_s": "x", "by": 1}'])
def test_a_torn_pause_is_a_pause(files, content):
    files.write(PAUSED, content)
    assert read_pause(files) == Pause(since_s=0.0, by="")


def test_what_waits_counts_for_what_is_to_come(files):
    write_request(files, Request(kind="pause", by="cli"))
    assert read_pause(files) is None
    assert pause_to_come(files) == Pause(since_s=0.0, by="cli")
    write_request(files, RETRY)
    assert pause_to_come(files) is not None
    write_request(files, Request(kind="resume", by="cli"))
    assert pause_to_come(files) is None
    set_paused(files, Pause(since_s=1.0, by="cli"))
    assert pause_to_come(files) is None, "the resume is the last word"
