"""The authors' raw results, imported, beside the published tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from prunegrid.orchestrator.authors.authors import (
    import_authors,
    read_sources,
    stored_author_findings,
)
from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.report.paper import PaperVerdict, compare_with_paper
from prunegrid.orchestrator.report.paper_tables import find_misprints, paper_cells
from prunegrid.orchestrator.report.results import load_results
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.files import LocalFiles


def published(shared: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(shared / "reference" / name)


@pytest.fixture(scope="module")
def imported(shared, tmp_path_factory) -> LocalFiles:
    """A store with the authors' ResNet18."""
    store = Store.open_or_create(str(tmp_path_factory.mktemp("authors") / "s"))
    import_authors(read_sources([shared / "reference/authors_resnet18.parquet"]), store.files)
    return store.files


def test_the_transcribed_tables_are_the_published_ones(shared):
    cells = paper_cells()
    table1 = published(shared, "published_table1.csv")
    ours = {(c.method, c.rate): c.accuracy for c in cells if c.table == 1}
    for row in table1.itertuples():
        method = f"{row.criterion}-{row.scope}-{row.structure}"
        assert ours[method, row.compression_rate] == row.clean_accuracy_percent
    assert len(ours) == len(table1) == 63
    table2 = published(shared, "published_table2.csv")
    ours2 = Counter(c.accuracy for c in cells if c.table == 2)
    assert ours2 == Counter(table2.accuracy_percent)


def test_misprints_are_found_from_the_margins_alone():
    found = {(m.cell.accuracy, round(m.implied, 2)) for m in find_misprints(paper_cells())}
    assert found == {(33.19, 33.91), (26.44, 26.33), (37.73, 37.27)}


def test_the_authors_results_reproduce_the_tables(imported):
    (compared,) = compare_with_paper(load_results(imported))
    assert compared.count(1) == {PaperVerdict.AGREES: 63}
    assert compared.count(2) == {PaperVerdict.AGREES: 62, PaperVerdict.MISPRINT: 3}
    assert len(compared.misprints) == 3
    (shift,) = compared.shifts
    assert shift.attack == "pgd_linf"
    assert (shift.agree_shifted, shift.agree_as_printed) == (20, 0)
    said = " ".join(compared.sentences())
    assert "Table 1: 63 of 63 cells agree" in said
    assert "3 are misprints" in said
    assert "Shifted labels: PGD" in said
    misprints = [line for line in compared.sentences() if line.startswith("Misprint")]
    for where in ("B&B L0 120, rate 4", "B&B L0 170, rate 4", "rate 2: printed 37.73"):
        assert sum(where in line for line in misprints) == 1, (where, misprints)


def test_a_changed_result_no_longer_agrees(shared, tmp_path):
    """The comparison can fail: one run's accuracy moved by a point."""
    raw = pd.read_parquet(shared / "reference/authors_resnet18.parquet")
    first = raw.index[raw.compression_rate == 4][0]
    raw.loc[first, "accuracy"] += 0.01
    raw.to_parquet(tmp_path / "changed.parquet")
    store = Store.open_or_create(str(tmp_path / "s"))
    import_authors(read_sources([tmp_path / "changed.parquet"]), store.files)
    (compared,) = compare_with_paper(load_results(store.files))
    assert compared.count(1)[PaperVerdict.AGREES] == 62
    assert compared.count(1)[PaperVerdict.DIFFERS] == 1


def test_what_a_grid_run_by_hand_does_is_named_and_kept(imported):
    findings = stored_author_findings(imported)
    names = Counter(finding.name for finding in findings)
    assert names["repeated-labels"] >= 9
    text = " ".join(f"{f.name} {f.where}" for f in findings)
    assert "random-local-unstructured" in text


def test_the_same_form_of_another_architecture(shared, tmp_path):
    raw = pd.read_parquet(shared / "reference/authors_cnn5.parquet")
    raw["architecture"] = "vgg11"
    raw.to_parquet(tmp_path / "other.parquet")
    store = Store.open_or_create(str(tmp_path / "s"))
    done = import_authors(read_sources([tmp_path / "other.parquet"]), store.files)
    assert done.models > 0
    results = load_results(store.files)
    assert set(results.models["architecture"]) == {"vgg11"}
    assert compare_with_paper(results) == ()


def test_importing_again_changes_nothing(shared, tmp_path):
    store = Store.open_or_create(str(tmp_path / "s"))
    path = [shared / "reference/authors_resnet18.parquet"]
    first = import_authors(read_sources(path), store.files)
    before = {info.path for info in store.files.list("results")}
    again = import_authors(read_sources(path), store.files)
    assert again == first
    assert {info.path for info in store.files.list("results")} == before


def test_a_file_of_another_form_is_refused(tmp_path):
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "other.parquet")
    store = Store.open_or_create(str(tmp_path / "s"))
    with pytest.raises(PrunegridError, match=r"other\.parquet"):
        import_authors(read_sources([tmp_path / "other.parquet"]), store.files)
