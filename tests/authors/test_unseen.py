"""Files in the authors' form that nobody has seen: every oddity is named and counted, another form
is refused in one line, and what is imported can be verified and reported."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunegrid.orchestrator.authors.authors import import_authors, read_sources
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.report import load_results, write_report
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from tests.authors.synthetic import RATES, SEEDS, Row, rows, write


def imported(tmp_path: Path, changed=None) -> Store:
    store = Store.open_or_create(str(tmp_path / "s"))
    import_authors(read_sources([write(tmp_path / "f.parquet", changed)]), store.files)
    return store


def counts(store: Store) -> dict[str, int]:
    found: Counter[str] = Counter()
    for finding in Verifier(store).findings():
        found[finding.name] += finding.count
    return dict(found)


def of(made: list[Row], method: str, rate: float) -> list[Row]:
    keys = ("criterion", "scope", "structure")
    names = ("-".join(row[key] for key in keys) for row in made)
    pairs = zip(made, names, strict=True)
    return [row for row, name in pairs if (name, row["compression_rate"]) == (method, rate)]


def each(made: list[Row], **values) -> None:
    for row in made:
        row.update(values)


METHOD = "random-local-filter"
ODDITIES = {
    "seed labels repeat": (
        lambda m: each(of(m, METHOD, 2), iteration_label=0),
        "repeated-labels",
        4,
    ),
    "a sixth run": (
        lambda m: [*m, *({**of(m, METHOD, r)[0], "file_row": 90 + r, "loss": 9.0} for r in RATES)],
        "extra-runs",
        3,
    ),
    "a run is missing": (lambda m: m[:-1], "missing-runs", 1),
    "a method never ran": (
        lambda m: [row for row in m if row["structure"] != "kernel"],
        "missing-runs",
        3 * len(RATES) * SEEDS,
    ),
    "a chain stops": (lambda m: m[:-1], "unfinished-chains", 1),
    "a run twice": (
        lambda m: [*m, {**of(m, METHOD, 4)[4], "file_row": 99, "iteration_label": 9}],
        "identical-results",
        1,
    ),
    "an attack never ran": (
        lambda m: each(of(m, METHOD, 2)[:3], cw_l2_distance=None, cw_l2_success=None),
        "missing-cells",
        3,
    ),
    "an attack was skipped": (
        lambda m: each(of(m, METHOD, 4), accuracy=0.3, cw_l2_distance=None, cw_l2_success=None),
        "skipped-attacks",
        5,
    ),
    "less is pruned than asked": (
        lambda m: each(of(m, METHOD, 4), params_left=960),
        "effective-compression",
        5,
    ),
    "nothing is left": (
        lambda m: each(of(m, METHOD, 4), params_left=0),
        "effective-compression",
        5,
    ),
    "eps of another length": (
        lambda m: each(
            of(m, METHOD, 2), pgd_linf_epsilon_255=[0.125, 4], pgd_linf_success_rate=[0.1, 0.9]
        ),
        "mixed-eps",
        5,
    ),
    "fewer images": (
        lambda m: each(of(m, METHOD, 2), cw_l2_distance=[1.0] * 7, cw_l2_success=[True] * 7),
        "mixed-images",
        5,
    ),
    "a failed attack's distance": (
        lambda m: each(of(m, METHOD, 2)[:1], cw_l2_distance=[0.1] * 20, cw_l2_success=[False] * 20),
        "failed-attack-scored",
        20,
    ),
    "success falls with eps": (
        lambda m: each(of(m, METHOD, 2)[:2], pgd_linf_success_rate=[0.9, 0.5, 0.3, 0.1]),
        "not-monotone",
        2,
    ),
}


def test_a_whole_file_has_no_finding(tmp_path):
    assert counts(imported(tmp_path)) == {}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_each_oddity_is_named_and_counted(oddity, tmp_path):
    change, name, count = ODDITIES[oddity]
    store = imported(tmp_path, change)
    assert counts(store).get(name) == count


OTHER_FORMS = {
    "no rate": ("missing columns compression_rate", lambda m: [m_without(row) for row in m]),
    "a word for a number": (
        "row 0: compression_rate: expected a number, got 'two'",
        lambda m: each(m, compression_rate="two"),
    ),
    "percent": (
        r"row 0: accuracy: expected a number in \[0, 1\], got 87",
        lambda m: each(m, accuracy=87.0),
    ),
    "no accuracy": ("row 3: accuracy: expected", lambda m: each(m[3:4], accuracy=None)),
    "no count": ("row 3: params_left: expected a whole", lambda m: each(m[3:4], params_left=None)),
    "half a row": (
        "row 3: file_row: expected a whole number, got 3.5",
        lambda m: each(m[3:4], file_row=3.5),
    ),
    "no name": ("row 3: architecture: expected a name", lambda m: each(m[3:4], architecture=None)),
    "a strange method": (
        "row 3: pruning method: .* got 'magnitude-local-channel'.*did you mean",
        lambda m: each(m[3:4], structure="channel"),
    ),
    "more left than there was": (
        r"params_left: expected 0 to params_total \(1000\), got 1001",
        lambda m: each(m[3:4], params_left=1001),
    ),
    "lists of two lengths": (
        r"cw_l2: expected as many values in cw_l2_success as in cw_l2_distance \(20\), got 1",
        lambda m: each(m[3:4], cw_l2_success=[True]),
    ),
    "no distance": (
        "cw_l2_distance: expected numbers of at least 0, got NaN",
        lambda m: each(m[3:4], cw_l2_distance=[float("nan")] * 20),
    ),
    "an eps twice": (
        "pgd_linf_epsilon_255: expected different numbers",
        lambda m: each(m[3:4], pgd_linf_epsilon_255=[1.0, 1.0, 2.0, 4.0]),
    ),
    "a position twice": (
        "file_row 1 of wide9 .* is there twice",
        lambda m: each(m[:1], file_row=1),
    ),
}


def m_without(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "compression_rate"}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_another_form_is_refused_in_one_line(form, tmp_path):
    message, change = OTHER_FORMS[form]
    with pytest.raises(UsageError, match=message) as caught:
        imported(tmp_path, change)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "s/results").rglob("*.parquet"))


def test_a_changed_row_of_an_import_is_found(tmp_path):
    store = imported(tmp_path)
    (path,) = (tmp_path / "s/results/cells").iterdir()
    table = pq.read_table(io.BytesIO(path.read_bytes()))
    values = table.column("robust_accuracy").to_pylist()
    first = table.column("attack").to_pylist().index("cw_l2")
    values[first] = 0.123
    index = table.schema.get_field_index("robust_accuracy")
    pq.write_table(table.set_column(index, "robust_accuracy", pa.array(values)), path)
    assert counts(store)["row-mismatch"] == 1


def test_an_oddly_filled_grid_is_reported(tmp_path):
    """Gaps; beside it an architecture that has one dense model and one attack."""
    store = imported(
        tmp_path,
        lambda m: [
            *[row for row in m if row["file_row"] != 4],
            {**rows("lonely")[0], "cw_l2_distance": None, "cw_l2_success": None},
        ],
    )
    results = load_results(store.files)
    analysis = write_report(results, tmp_path / "out", formats=("html", "csv", "latex")).analysis
    assert {s.architecture for s in analysis.results.settings} == {"wide9", "lonely"}
    assert len(analysis.missing) == 9 * 8
    assert "72 of" in (tmp_path / "out/index.html").read_text()


def test_one_dense_model_is_reported(tmp_path):
    store = imported(tmp_path, lambda m: m[:1])
    results = load_results(store.files)
    assert len(write_report(results, tmp_path / "out").files) > 10
    no_cell = Results(address="", models=results.models, cells=results.cells.iloc[:0])
    assert len(write_report(no_cell, tmp_path / "none").files) > 5
