"""A store of an earlier version whose grid.yaml says `auto`, with the sizes in sizes.json."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.status import status_json
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import GridError, StoreError
from prunegrid.orchestrator.python_api import plan_of
from prunegrid.orchestrator.report import load_results, write_report
from prunegrid.orchestrator.report.evidence import gather
from prunegrid.orchestrator.store.auto_sizes import without_auto
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.contract import AttackTask
from tests.fakes import RUNNER, attempts_of

ARCHIVE = Path(__file__).parent.parent / "data/store-with-auto.tar.gz"


@pytest.fixture
def old(tmp_path) -> Store:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Store.open(str(tmp_path / "store"))


def run(store: Store, text: str) -> str:
    folder = Path(store.address).parent
    (folder / "grid.yaml").write_text(text)
    options = RunOptions(
        grid=folder / "grid.yaml", store=store.address, engine="inline", runner=RUNNER
    )
    said = io.StringIO()
    assert run_grid(options, Console(file=said, width=300)) == 0
    return said.getvalue()


def test_it_is_planned_verified_and_reported_by_its_own_sizes(old, tmp_path):
    plan = load_plan(old)
    spans = {
        (task.attack.attack, task.attack.batch_size, task.start, task.stop)
        for task in plan.tasks.values()
        if isinstance(task, AttackTask)
    }
    cw = [("cw_l2", 32, start, min(start + 32, 90)) for start in (0, 32, 64)]
    assert spans == {("pgd_linf", 32, 0, 90), *cw}
    assert list(Verifier(old).findings()) == []
    assert status_json(old)["remaining"] == 0
    results = load_results(old.files)
    assert (len(results.models), len(results.cells)) == (2, 8)
    evidence = gather(old.files, results, plan_of(old))
    write_report(results, tmp_path / "out", evidence=evidence, formats=("csv",))


def test_a_run_is_refused_and_told_the_sizes_of_its_results(old):
    text = old.read_text("grid.yaml") or ""
    with pytest.raises(GridError) as caught:
        run(old, text)
    said = str(caught.value)
    assert (
        "grid.yaml:17: protocols.strict.batch_size: expected a whole number of at least 1, got auto"
        in said
    )
    assert "'prunegrid measure GRID' prints" in said
    assert f"the results in {old.address} have cnn5: batch_size 32; " in said
    assert "cnn5 pgd_linf (strict): images_per_shard 96; " in said
    assert said.endswith("cnn5 cw_l2 (strict): images_per_shard 32")
    assert attempts_of(Path(old.address)) == {}


def test_with_these_numbers_the_same_results_count(old):
    text = old.read_text("grid.yaml") or ""
    said = run(old, without_auto(text, batch_size=32, images_per_shard=96))
    assert "2 tasks run, 4 reused" in said, "C&W alone, whose shards were others"


@pytest.mark.parametrize("content", ["{", '{"batches": 3}', None])
def test_without_its_sizes_no_result_counts_and_it_is_said(old, content):
    path = Path(old.address, "sizes.json")
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(StoreError, match=r"sizes\.json is (torn|missing)"):
        load_plan(old)
    (found,) = Verifier(old).findings()
    assert (found.name, "sizes.json is" in found.message) == ("unreadable", True)


def test_an_attack_that_was_never_measured_has_no_results_and_no_cells(old):
    path = Path(old.address, "sizes.json")
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"shards": raw["shards"][:1]}))
    assert {cell.place.attack for cell in load_plan(old).cells} == {"pgd_linf"}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("images_per_shard: auto # all", "images_per_shard: 250 # all"),
        ("{batch_size: auto, steps: 3}", "{batch_size: 128, steps: 3}"),
        ("{a: {batch_size:  'auto'}}", "{a: {batch_size:  128}}"),
        ("batch_size: automatic", "batch_size: automatic"),
        ("my_batch_size: auto", "my_batch_size: auto"),
    ],
)
def test_numbers_take_the_place_of_auto(text, numbers):
    assert without_auto(text, batch_size=128, images_per_shard=250) == numbers
