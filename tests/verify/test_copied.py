"""Stores are merged by copying, with the command of docs/store.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from prunegrid.orchestrator.report import load_results
from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.write import frames
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from tests.commands.test_run import PROVENANCE, run
from tests.fakes import attempts_of

DOCS = Path(__file__).resolve().parent.parent.parent / "docs/store.md"


@pytest.fixture
def halves(tmp_path, monkeypatch) -> Path:
    """`one` and `other`: halves of a grid; `whole`: all of it."""
    monkeypatch.setattr("prunegrid.orchestrator.commands.run._report", lambda *_: None)
    for name, select in {"one": ("seed=0",), "other": ("seed=1",), "whole": ()}.items():
        assert run(tmp_path, store=str(tmp_path / name), select=select) == 0
    return tmp_path


def copy(folder: Path) -> None:
    (command,) = re.findall(r"^cp .*$", DOCS.read_text(), flags=re.MULTILINE)
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)


def findings(store: Path) -> set[str]:
    return {finding.name for finding in Verifier(Store.open(str(store))).findings()}


def tables(store: Path) -> dict[str, str]:
    """The CSV files of `prunegrid report`, without what differs between two runs."""
    found = frames(analyse(load_results(Store.open(str(store)).files)))
    kept = {name: f.drop(columns=PROVENANCE, errors="ignore") for name, f in found.items()}
    return {name: frame.to_csv() for name, frame in kept.items()}


def test_two_halves_copied_together_are_the_grid_run_whole(halves):
    copy(halves)
    assert findings(halves / "one") == set()
    assert run(halves, store=str(halves / "one")) == 0, "the whole grid"
    tries = attempts_of(halves / "one")
    assert set(tries) < set(attempts_of(halves / "whole")), "nothing of the other half is run again"
    assert findings(halves / "one") == set()
    expected = tables(halves / "whole")
    assert expected["cells"].count("\n") > 20
    assert tables(halves / "one") == expected


def test_copying_again_and_what_is_there_already_changes_nothing(halves):
    copy(halves)
    before = {path: path.read_bytes() for path in (halves / "one").rglob("*.parquet")}
    copy(halves)
    assert {path: path.read_bytes() for path in (halves / "one").rglob("*.parquet")} == before
    assert findings(halves / "one") == set()


def test_a_copy_without_the_models_is_found(halves):
    subprocess.run(["cp", "-rn", "other/results", "one/"], cwd=halves, check=True)
    assert {"parent-missing", "task-missing"} <= findings(halves / "one")
