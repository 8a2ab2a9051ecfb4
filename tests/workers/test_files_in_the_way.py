"""A file where a folder should be, and the reverse: said at once, by the store's files, by tasks
and by the driver, since no retry mends it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.contract import Attempt, FailureKind, classify
from prunegrid.workers.files import LocalFiles, PathError
from tests import fakes
from tests.commands.test_run import options
from tests.fakes import BUG, attempts_of
from tests.grids import SMALL, with_seeds

FOUR_METHODS = (
    "methods: [magnitude-global-unstructured, random-local-filter, "
    "magnitude-local-unstructured, random-local-unstructured]"
)
TWO_METHODS = "methods: [magnitude-global-unstructured, random-local-filter]"


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda files: files.write("file/x", b""), "stands where a folder is needed"),
        (lambda files: files.write_once("file/x", b""), "stands where a folder is needed"),
        (lambda files: files.write("file/a/b/x", b""), "stands where a folder is needed"),
        (lambda files: files.rename("file", "file/x"), "stands where a folder is needed"),
        (lambda files: files.read("file/x"), "stands where a folder is needed"),
        (lambda files: files.write("folder", b""), "a folder stands where a file is needed"),
        (lambda files: files.write_once("folder", b""), "a folder stands where a file is needed"),
        (lambda files: files.read("folder"), "a folder stands where a file is needed"),
        (lambda files: files.write("x" * 5000, b""), "name is too long"),
    ],
)
def test_a_path_that_can_not_be_is_no_passing_refusal(
    act: Callable[[LocalFiles], object], reason: str, tmp_path: Path
):
    files = LocalFiles(tmp_path)
    files.write("file", b"kept")
    files.write("folder/inside", b"kept")
    with pytest.raises(PathError, match=reason) as refused:
        act(files)
    assert classify(refused.value) is FailureKind.PATH
    assert files.read("file") == files.read("folder/inside") == b"kept"


def test_an_error_of_this_kind_in_a_tasks_own_code_is_of_the_class_too(tmp_path):
    with pytest.raises(IsADirectoryError) as refused:
        tmp_path.read_bytes()
    assert classify(refused.value) is FailureKind.PATH


def test_a_store_whose_results_folder_is_a_file_is_refused_at_once(tmp_path):
    Store.open_or_create(str(tmp_path / "store"))
    (tmp_path / "store/journal").write_bytes(b"")
    out = io.StringIO()
    with pytest.raises(StoreError, match="expected folders, got a file at journal; move it away"):
        run_grid(options(tmp_path), Console(file=out, width=300))
    assert out.getvalue() == ""


def test_tasks_that_meet_it_are_tried_once_and_the_run_stops_early(tmp_path, monkeypatch):
    def run_attempt(attempt: Attempt, *arguments):
        try:
            return real(attempt, *arguments)
        except PathError as error:
            return fakes.failed(attempt, classify(error), str(error))

    real = fakes.run_attempt
    monkeypatch.setattr("tests.fakes.RUNNER.run_attempt", run_attempt)
    Store.open_or_create(str(tmp_path / "store"))
    text = SMALL.replace(TWO_METHODS, FOUR_METHODS)
    (tmp_path / "store/models").mkdir()
    for key in expand(parse_grid(text, source="test")).tasks:
        (tmp_path / "store/models" / key).write_bytes(b"")
    out = io.StringIO()
    assert run_grid(options(tmp_path, text), Console(file=out, width=300)) == 1
    assert sorted(attempts_of(tmp_path / "store").values()) == [1, 1, 1], "of eight"
    assert out.getvalue().count("stands where a folder is needed") == 2, out.getvalue()


def test_one_cause_is_said_once_with_coordinates_and_ends_the_run(tmp_path):
    out = io.StringIO()
    text = with_seeds(BUG).replace(TWO_METHODS, FOUR_METHODS)
    assert run_grid(options(tmp_path, text), Console(file=out, width=300)) == 1
    assert sorted(attempts_of(tmp_path / "store").values()) == [2, 2, 2], "of four"
    said = out.getvalue()
    assert said.count("failed: train cnn5, seed 900: bug: ValueError: planted") == 1
    assert "stopping: the first 3 tasks all failed for one cause" in said
    assert "train cnn5, seed 900 and 2 more: bug: ValueError: planted" in said
    assert said.count("planted") == 2, said


def test_where_results_are_there_tasks_that_fail_alike_end_no_run(tmp_path):
    text = with_seeds(0).replace(TWO_METHODS, FOUR_METHODS)
    assert run_grid(options(tmp_path, text), Console(quiet=True)) == 0
    wider = with_seeds(BUG, 0, 1).replace(TWO_METHODS, FOUR_METHODS)
    assert run_grid(options(tmp_path, wider), Console(quiet=True)) == 1
    done = len(attempts_of(tmp_path / "store"))
    assert done == 2 * 4 * (1 + 2 + 3 * 4) + 4, "the seed that fails, its four dense networks alone"
