"""`prunegrid merge`: parts of a grid that ran apart are the grid run whole."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import uuid
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import prunegrid
from prunegrid.orchestrator.commands.compact import compact
from prunegrid.orchestrator.commands.merge import merge
from prunegrid.orchestrator.commands.status import status_json
from prunegrid.orchestrator.errors import NotOursError, StoreError, UsageError
from prunegrid.orchestrator.report import load_results
from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.write import frames
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from tests.commands.test_run import COORDINATES, PROVENANCE, run
from tests.fakes import BUG, attempts_of
from tests.grids import SMALL, with_seeds

SHARED = SMALL + "dense_model: shared\n"
HALVES = {
    "one": ("method=random-local-filter",),
    "other": ("method=magnitude-global-unstructured",),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name, select in {**HALVES, "whole": ()}.items():
        assert run(folder, SHARED, store=str(folder / name), select=select) == 0
    return folder


@pytest.fixture
def halves(made, tmp_path) -> Path:
    """`one` and `other`: halves of a grid that have dense models in common; `whole`: all of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def merged(folder: Path, *names: str, into: str = "both") -> str:
    """Stores in that folder, or at an address. Returns what was said."""
    text = io.StringIO()
    console = Console(file=text, width=200)
    *stores, target = (n if "://" in n else str(folder / n) for n in (*names, into))
    code = merge(stores, target, console)
    assert code == 0, text.getvalue()
    return text.getvalue()


def contents(store: Path) -> dict[str, bytes]:
    paths = (path for path in store.rglob("*") if path.is_file() and "lease" not in str(path))
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def tables(store: Path) -> dict[str, str]:
    """The CSV files of `prunegrid report`, without what differs between two runs."""
    found = frames(analyse(load_results(Store.open(str(store)).files)))
    kept = {name: f.drop(columns=PROVENANCE, errors="ignore") for name, f in found.items()}
    return {name: frame.to_csv() for name, frame in kept.items()}


def findings(store: Path) -> list[str]:
    return [str(finding) for finding in Verifier(Store.open(str(store))).findings()]


@pytest.mark.usefixtures("no_figure_files")
def test_two_halves_run_apart_are_merged_verified_and_reported_as_one(halves):
    said = merged(halves, "one", "other")
    assert "results were in several" in said, "the dense models and their attacks"
    assert "every claim checked, no doubt found" in said
    both, whole = halves / "both", halves / "whole"
    expected = tables(whole)
    assert expected["cells"].count("\n") > 20
    assert tables(both) == expected
    pages = [prunegrid.report(store, halves / f"report-{store.name}") for store in (both, whole)]
    assert [path.name for path in pages[0].files] == [path.name for path in pages[1].files]
    status = status_json(Store.open(str(both)))
    assert (status["remaining"], status["cells_done"]) == (0, status["cells"])
    assert run(halves, SHARED, store=str(both)) == 0
    assert attempts_of(both) == {}, "the whole grid: nothing is left to run"
    history = read_history(Store.open(str(both)))
    assert len(history.by_start) == sum(
        len(read_history(Store.open(str(halves / name))).by_start) for name in HALVES
    )


def test_merging_again_changes_nothing_and_a_cut_merge_is_finished(halves):
    merged(halves, "one", "other")
    before = contents(halves / "both")
    assert "0 results and 0 rows" in merged(halves, "one", "other")
    assert contents(halves / "both") == before
    lost = sorted((halves / "both").rglob("*.parquet"))[::3]
    for path in lost:
        path.unlink()
    merged(halves, "one", "other")
    assert contents(halves / "both").keys() == before.keys()
    assert findings(halves / "both") == []


def test_the_stores_that_are_merged_stay_as_they_are(halves):
    before = [contents(halves / name) for name in HALVES]
    merged(halves, "one", "other")
    assert [contents(halves / name) for name in HALVES] == before


def test_compacted_stores_are_merged_too(halves):
    compact(str(halves / "one"), Console(quiet=True))
    merged(halves, "one", "other")
    assert tables(halves / "both") == tables(halves / "whole")


#: A quarter of it.
FEW = SHARED.replace("seeds: [0, 1]", "seeds: [0]").replace("rates: [1, 2, 4]", "rates: [1, 2]")


def cells_of(store: Path) -> pd.DataFrame:
    """Without what differs between two runs."""
    frame = pd.read_parquet(store / "results/cells").drop(columns=PROVENANCE)
    return frame.sort_values(COORDINATES).reset_index(drop=True)


def test_buckets_are_merged_as_folders_are(tmp_path, s3_bucket):
    """A folder into a bucket; that and a folder into a bucket; a bucket into a folder."""
    for name, select in HALVES.items():
        assert run(tmp_path, FEW, store=str(tmp_path / name), select=select) == 0
    merged(tmp_path, "one", "other")
    at = f"{s3_bucket}/{uuid.uuid4().hex}"
    merged(tmp_path, "one", into=f"{at}/one")
    assert "no doubt found" in merged(tmp_path, f"{at}/one", "other", into=f"{at}/both")
    merged(tmp_path, f"{at}/both", into="back")
    both, back = contents(tmp_path / "both"), contents(tmp_path / "back")
    assert {path: back.get(path) for path in both if path != "store.json"} == {
        path: content for path, content in both.items() if path != "store.json"
    }
    begun = len(read_history(Store.open(f"{at}/both")).by_start)
    assert run(tmp_path, FEW, store=f"{at}/both") == 0
    assert len(read_history(Store.open(f"{at}/both")).by_start) == begun, "nothing ran again"
    with pytest.raises(UsageError, match="expected different stores"):
        prunegrid.merge([f"{at}/both/"], f"{at}/both")


def test_three_parts_and_a_store_to_add_to(tmp_path):
    """The third part by its attack alone: its models are in the first part too."""
    parts = {"a": ("rate=1", "attack=cw_l2"), "b": ("attack=pgd_linf",), "c": ("rate=2",)}
    for name, select in {**parts, "whole": ()}.items():
        assert run(tmp_path, FEW, store=str(tmp_path / name), select=select) == 0
    merged(tmp_path, *parts)
    expected = cells_of(tmp_path / "whole")
    pd.testing.assert_frame_equal(cells_of(tmp_path / "both"), expected)
    before = contents(tmp_path / "a")
    merged(tmp_path, "b", "c", into="a")
    after = contents(tmp_path / "a")
    assert {path for path in before if after[path] != before[path]} <= {"selection.json"}
    pd.testing.assert_frame_equal(cells_of(tmp_path / "a"), expected)


def test_a_store_of_an_earlier_version_is_merged_with_a_new_one(tmp_path):
    """Its rows stay as they were written, with fewer columns. What it calls `cw_l2` has a name of
    its own since."""
    with tarfile.open(Path(__file__).parent.parent / "data/store-9a0cb5a.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    old = tmp_path / "store"
    text = (old / "grid.yaml").read_text()
    text = text.replace("{steps: 3}", "{attack: pgd_coarse_linf, steps: 3}")
    text = text.replace("{binary_search", "{attack: cw_walk_l2, binary_search")
    assert run(tmp_path, text, store=str(tmp_path / "new"), select=("seed=1",)) == 0
    merged(tmp_path, "store", "new")
    both = contents(tmp_path / "both")
    rows = {path: new for path, new in contents(old).items() if path.startswith("results/")}
    assert rows.items() <= both.items()
    assert set(pd.read_parquet(tmp_path / "both/results/cells")["seed"]) > {0, 1}
    assert findings(tmp_path / "both") == []


def test_what_a_grid_brings_is_merged_whether_or_not_the_grids_are_one(halves, capsys):
    """Networks are needed wherever their models are; other code under one version is said."""
    for number, name in enumerate(HALVES):
        networks = halves / name / "networks"
        networks.mkdir()
        (networks / f"{number}.keras").write_bytes(b"a network")
        kept = halves / name / "grid.json"
        raw = json.loads(kept.read_text())
        raw["sources"] = {"mine.py:score version 1": f"digest {number}", "same version 1": "x"}
        kept.write_text(json.dumps(raw))
    merged(halves, "one", "other")
    said = capsys.readouterr().out
    one, other = (halves / name for name in HALVES)
    assert f"mine.py:score version 1 is other code in {other} than in {one}" in said
    assert said.count("other code") == 1
    assert prunegrid.open_store(halves / "both").verify() == []
    grid = halves / "one/grid.yaml"
    grid.write_text(f"{grid.read_text()}# other\n")
    assert "grids differ" in merged(halves, "one", "other", into="parts")
    for into in ("both", "parts"):
        names = {path.name for path in (halves / into / "networks").iterdir()}
        assert names == {"0.keras", "1.keras"}


def test_a_cell_whose_shards_come_from_two_stores_is_derived_again(halves):
    """Its provenance is of both, so neither store's row tells it."""
    cells = pd.read_parquet(halves / "whole/results/cells")
    name, (key, *_) = cells["cell_id"][0], cells["task_keys"][0]
    shutil.rmtree(halves / "one")
    shutil.copytree(halves / "whole", halves / "one")
    shutil.rmtree(halves / "one/results/cells")
    for path in (halves / "one/results/images").iterdir():
        if path.stem != key:
            path.unlink()
    _set_host(halves / f"one/results/images/{key}.parquet", "elsewhere", "2999-01-01T00:00:00Z")
    merged(halves, "one", "whole")
    row = pd.read_parquet(halves / f"both/results/cells/{name}.parquet")
    assert row["host"].tolist() == ["elsewhere"], "of the shard that began last"


def _set_host(path: Path, host: str, started_at: str) -> None:
    """As if another machine had computed the images."""
    table = pq.read_table(path)
    frame = {name: table.column(name).to_pylist() for name in table.column_names}
    frame |= {"host": [host] * len(table), "started_at": [started_at] * len(table)}
    metadata = dict(table.schema.metadata)
    told = json.loads(metadata[b"prunegrid.provenance"]) | {"host": host, "started_at": started_at}
    metadata[b"prunegrid.provenance"] = json.dumps(told, sort_keys=True).encode()
    columns = [frame[name] for name in table.column_names]
    schema = table.schema.with_metadata(metadata)
    pq.write_table(type(table).from_arrays(columns, schema=schema), path)


@pytest.mark.parametrize("what", ["model", "images"])
def test_different_results_of_one_task_are_refused_and_nothing_is_written(halves, what):
    if what == "model":
        path = sorted((halves / "other/models").glob("train-*/result.json"))[0]
        raw = json.loads(path.read_text())
        raw["result"]["accuracy"] = 0.123
        path.write_text(json.dumps(raw))
        key, column = path.parent.name, "accuracy"
    else:
        shared = {p.name for p in (halves / "one/results/images").iterdir()}
        path = next(
            p for p in sorted((halves / "other/results/images").iterdir()) if p.name in shared
        )
        table = pq.read_table(path)
        index = table.column_names.index("queries")
        more = pc.add(table["queries"], pa.scalar(1, pa.int32()))
        changed = table.set_column(index, table.schema.field(index), more)
        pq.write_table(changed, path)
        key, column = path.stem, "queries"
    with pytest.raises(
        StoreError, match=rf"hold different results of {key}: they differ in {column}"
    ):
        prunegrid.merge([halves / "one", halves / "other"], halves / "both")
    assert not (halves / "both").exists()


def test_a_cell_by_other_settings_is_refused_with_its_coordinates(halves):
    other = SHARED.replace("{steps: 3}", "{steps: 4}")
    assert run(halves, other, store=str(halves / "changed"), select=HALVES["one"]) == 0
    with pytest.raises(
        StoreError, match=r"have architecture=cnn5, .*attack=pgd_linf.* by other work"
    ):
        prunegrid.merge([halves / "one", halves / "changed"], halves / "both")


def test_grids_that_differ_are_merged_without_one(halves):
    for seed in (0, 1):
        assert run(halves, with_seeds(seed), store=str(halves / f"seed{seed}")) == 0
    assert "grids differ" in merged(halves, "seed0", "seed1")
    assert not (halves / "both/grid.yaml").exists()
    assert prunegrid.open_store(halves / "both").cells()["seed"].nunique() == 2
    assert run(halves, SMALL, store=str(halves / "both")) == 0
    assert attempts_of(halves / "both") == {}
    assert findings(halves / "both") == []


def test_failures_of_both_stores_are_kept(tmp_path):
    for name in ("one", "other"):
        assert run(tmp_path, with_seeds(BUG), store=str(tmp_path / name)) == 1
    with pytest.raises(StoreError, match="no finished model"):
        prunegrid.report(tmp_path / "one", tmp_path / "r")
    merged(tmp_path, "one", "other")
    count = {
        name: len(list((tmp_path / name / "failures").glob("*/*"))) for name in ("one", "both")
    }
    assert count["both"] == 2 * count["one"] > 0


def test_what_is_no_pair_of_stores_is_refused(halves):
    one = halves / "one"
    with pytest.raises(UsageError, match=r"expected different stores, got .*one twice"):
        prunegrid.merge([one, one], halves / "both")
    with pytest.raises(UsageError, match="expected different stores"):
        prunegrid.merge([halves / "other", one], one)
    with pytest.raises(NotOursError, match="there is no store here"):
        prunegrid.merge([one, halves / "none"], halves / "both")
    store = Store.open(str(one))
    with Lease.take(store, say=print), pytest.raises(StoreError, match=r"a driver on .* runs it"):
        prunegrid.merge([one, halves / "other"], halves / "both")
