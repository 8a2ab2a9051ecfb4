"""Only what is new, only whole lines; over a folder and over an object store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.orchestrator.store.journal import JournalReader
from prunegrid.workers.files import LocalFiles
from tests.dashboard.stores import AsRemote

PART = "journal/20260101T000000.000000Z-h-1-0000.jsonl"
NEXT = "journal/20260102T000000.000000Z-h-2-0000.jsonl"


@pytest.fixture(params=["folder", "object store"])
def files(request, tmp_path):
    return LocalFiles(tmp_path) if request.param == "folder" else AsRemote(tmp_path)


def events(lines) -> list[object]:
    return [entry["n"] for entry in lines.entries]


def text(*numbers: int) -> bytes:
    return b"".join(json.dumps({"n": n}).encode() + b"\n" for n in numbers)


def test_each_line_comes_once_and_a_torn_one_when_it_is_whole(files):
    tail = JournalReader(files)
    assert events(tail.poll()) == []
    files.write(PART, text(1, 2) + b'{"n"')
    assert events(tail.poll()) == [1, 2]
    assert events(tail.poll()) == []
    files.write(PART, text(1, 2) + b'{"n": 3}\n')
    assert events(tail.poll()) == [3]


def test_files_come_in_the_order_of_their_drivers(files):
    files.write(NEXT, text(3))
    files.write(PART, text(1, 2))
    assert events(JournalReader(files).poll()) == [1, 2, 3]


@pytest.mark.parametrize("change", ["shrunk", "gone"])
def test_a_journal_that_lost_something_is_read_from_the_start(files, change):
    tail = JournalReader(files)
    files.write(PART, text(1, 2))
    files.write(NEXT, text(3))
    tail.poll()
    if change == "shrunk":
        files.write(PART, text(1))
    else:
        files.remove(PART)
    lines = tail.poll()
    assert lines.restarted
    assert events(lines) == ([1, 3] if change == "shrunk" else [3])
    assert not tail.poll().restarted


def test_damaged_lines_are_counted_and_the_rest_is_read(files):
    files.write(PART, text(1) + b"\xff\xfe{torn\n[1]\n\n" + b"[" * 100_000 + b"\n" + text(2))
    lines = JournalReader(files).poll()
    assert events(lines) == [1, 2]
    assert lines.bad == 3


def test_an_object_that_did_not_grow_is_not_read_again(tmp_path):
    files = AsRemote(tmp_path)
    files.write(PART, text(1))
    files.write(NEXT, text(2))
    tail = JournalReader(files)
    tail.poll()
    files.write(NEXT, text(2, 3))
    files.reads.clear()
    assert events(tail.poll()) == [3]
    assert files.reads == [NEXT]


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 120), max_size=5))
def test_however_it_grows_the_lines_are_the_same(cuts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tail")
    whole = text(*range(10))
    tail, got = JournalReader(LocalFiles(folder)), []
    path = Path(folder / PART)
    path.parent.mkdir(parents=True)
    for cut in [*sorted(cuts), len(whole)]:
        path.write_bytes(whole[:cut])
        got += events(tail.poll())
    assert got == list(range(10))
