"""Folders of this program's own files: written again, and nobody else's file is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.output import OwnFolder

MARKER = ".ours.json"


def own(path: Path) -> OwnFolder:
    return OwnFolder(path, marker=MARKER, what="report", generator="<generator>")


def test_stale_files_go_and_others_stay(tmp_path):
    out = tmp_path / "out"
    own(out).replace({"a": b"1", "b/c": b"2"})
    (out / "notes.txt").write_text("mine")
    own(out).replace({"a": b"3"})
    assert (out / "a").read_bytes() == b"3"
    assert not (out / "b/c").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert json.loads((out / MARKER).read_text()) == {"files": ["a"]}


@pytest.mark.parametrize("name", ["../precious", "/precious", "..", "b/..", "b/", "a/x", "notes"])
def test_a_marker_names_nothing_outside(tmp_path, name):
    out = tmp_path / "out"
    (tmp_path / "precious").write_text("mine")
    own(out).replace({"a": b"1", "b/c": b"2"})
    (out / MARKER).write_text(json.dumps({"files": [name, str(tmp_path / "precious")]}))
    own(out).replace({"a": b"1"})
    assert (tmp_path / "precious").read_text() == "mine"
    assert (out / "b/c").exists(), "no longer listed"


def test_a_link_leads_to_nothing_outside(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "precious").write_text("mine")
    own(out).replace({"a": b"1"})
    (out / "link").symlink_to(tmp_path / "precious")
    (out / MARKER).write_text(json.dumps({"files": ["link"]}))
    own(out).replace({})
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    for k in range(4):
        (tmp_path / f"thesis{k}.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"not a report of ours.*thesis2\.tex, \.\.\."):
        own(tmp_path)
    (tmp_path / MARKER).write_text("{")
    with pytest.raises(StoreError, match="torn"):
        own(tmp_path)


def test_a_lone_page_of_ours_needs_no_marker(tmp_path):
    (tmp_path / "index.html").write_text("<generator>")
    own(tmp_path).replace({"other.html": b""})
    assert not (tmp_path / "index.html").exists()
    (tmp_path / MARKER).unlink()
    (tmp_path / "other.html").rename(tmp_path / "index.html")
    with pytest.raises(StoreError, match="not a report of ours"):
        own(tmp_path)


def test_a_half_written_folder_is_ours(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b").write_text("in the way")
    (out / MARKER).write_text(json.dumps({"files": []}))
    with pytest.raises(StoreError, match="can't write"):
        own(out).replace({"a": b"1", "b/c": b"2"})
    (out / "b").unlink()
    own(out).replace({"d": b"1"})
    assert not (out / "a").exists(), "listed before it was written"
