"""A store as the program left it at 9a0cb5a, before its redesign: the same keys, rows and numbers.

`tests/data/store-9a0cb5a.tar.gz` has the store (small grid, imaginary results; seed 900 fails for
good, 910 once; seed 1 is not selected) and, under `expected/`, what that revision said of it: its
rows, the report's CSV files, `status --json`. Never made anew. Since then columns were added, the
intervals of accuracies (`low`, `high`) are Wilson's, and values without spread have no half width.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.status import status
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.report import load_results, write_report
from prunegrid.orchestrator.report.evidence import gather
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from tests.fakes import RUNNER, attempts_of

ARCHIVE = Path(__file__).parent / "data/store-9a0cb5a.tar.gz"
#: Of `status --json`: what depends on when it is asked.
OF_THE_MOMENT = {"at_s", "data_age_s"}


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The folder with `store` and `expected`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_it_is_small():
    assert ARCHIVE.stat().st_size < 300_000


def test_it_verifies(before):
    assert list(Verifier(Store.open(str(before / "store"))).findings()) == []


def test_its_report_has_the_same_numbers(before, tmp_path):
    files = Store.open(str(before / "store")).files
    results = load_results(files)
    out = tmp_path / "report"
    write_report(results, out, evidence=gather(files, results, None), formats=("csv",))
    expected = {path.name: path for path in (before / "expected/report/csv").iterdir()}
    assert {path.name for path in (out / "csv").iterdir()} >= set(expected), "and newer tables"
    for name, path in expected.items():
        got, wanted = pd.read_csv(out / "csv" / name), pd.read_csv(path)
        if name == "findings.csv":
            said = [in_old_words(old) for text in got.text for old in unfolded(text)]
            assert set(said) >= set(map(in_old_words, wanted.text))
            continue
        for column in wanted.columns:
            if column.endswith("half"):
                wanted[column] = wanted[column].mask(wanted[column] == 0)
        kept = wanted.columns.difference(["low", "high"], sort=False)
        pd.testing.assert_frame_equal(got[kept], wanted[kept], check_exact=False, rtol=1e-12)


def unfolded(text: str) -> list[str]:
    """A finding that says how far one may prune under the average and under the worst attack in
    one sentence, in the two that they were, with the numbers of each."""
    lead, second = "Adversary unknown, average case", ". Under the worst attack the same, robust "
    average, found, worst = text.removesuffix(".").partition(second)
    if not found:
        return [text]
    other = re.sub(r"robust .*?(?=, n = )", lambda _: f"robust {worst}", average)
    other = other.replace(lead, "Adversary unknown, worst attack")
    return [f"{average}.", f"{other}."]


def in_old_words(text: str) -> str:
    """A finding without its intervals, which are of another kind since, without the clean accuracy
    on the attacked images, and without the typical interval."""
    text = re.sub(
        r"clean \S+ \([^)]*\) % on the same images, (.*) % on the whole.*split", r"clean \1 %", text
    )
    text = re.sub(
        r" \(([\d.]+–[\d.]+|no spread|untestable)\)| ± [\d.]+(?= %)| ± 0.0(?= p)", "", text
    )
    return re.sub(r"; the 95 % interval.*few seeds", "; few seeds", text)


def test_its_status_is_the_same(before):
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        status(str(before / "store"), as_json=True, console=Console(file=out, width=100))
    got = json.loads(out.getvalue())
    expected = json.loads((before / "expected/status.json").read_text())
    # The state has one name since.
    expected["trouble"]["failed"] = expected["trouble"].pop("quarantined")
    assert {k: got[k] for k in expected if k not in OF_THE_MOMENT} == {
        k: v for k, v in expected.items() if k not in OF_THE_MOMENT
    }


def resume(before: Path, *select: str) -> int:
    store = before / "store"
    options = RunOptions(
        grid=store / "grid.yaml",
        store=str(store),
        engine="inline",
        runner=RUNNER,
        select=select,
    )
    return run_grid(options, Console(quiet=True))


def test_it_resumes_where_it_was(before):
    """What is done is not run again, whatever failed is, and no row changes; then seed 1 joins."""
    store = before / "store"
    rows = {path: path.read_bytes() for path in (store / "results").rglob("*.parquet")}
    assert resume(before, "seed=0,900,910") == 1
    assert set(attempts_of(store)) == set(
        json.loads((before / "expected/status.json").read_text())["failed"]
    )
    assert {path: path.read_bytes() for path in rows} == rows
    assert resume(before, "seed=0,1,910") == 0
    for kind in ("models", "cells", "images"):
        expected = pd.read_csv(before / f"expected/{kind}.csv")
        got = pd.read_parquet(store / "results" / kind)
        assert len(got) == len(expected) * 3 // 2
        assert [name for name in got.columns if name in expected] == list(expected.columns)


def test_its_report_says_how_it_counted_at_exactly_eps(before, tmp_path):
    """And what the report advises mends it: rows derived anew, no task run again."""
    store = before / "store"

    def told(out: Path) -> bool:
        files = Store.open(str(store)).files
        results = load_results(files)
        write_report(results, out, evidence=gather(files, results, None), formats=("html",))
        return "counted a distance of exactly ε as robust" in (out / "index.html").read_text()

    assert told(tmp_path / "one")
    tasks = {path: path.read_bytes() for path in (store / "results/images").rglob("*.parquet")}
    shutil.rmtree(store / "results/cells")
    resume(before, "seed=0,910")
    assert {path: path.read_bytes() for path in tasks} == tasks
    again = pd.read_parquet(store / "results/cells")
    assert set(again["broken_at"]) == {"distance <= eps"}
    assert not told(tmp_path / "two")
