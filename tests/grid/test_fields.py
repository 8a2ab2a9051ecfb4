"""Fields of a grid file: declared once, read exactly, and named in the docs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.fields import Table
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.yaml_nodes import MOST, YamlNode
from tests.grids import SMALL
from tools.grid_reference import TABLES, reference

DOC = Path(__file__).resolve().parent.parent.parent / "docs/experiment.md"


def test_the_docs_have_every_field_as_the_code_has_it():
    assert DOC.read_text().endswith(reference()), (
        "write the end of docs/experiment.md anew: python -m tools.grid_reference"
    )


def test_no_table_is_left_out():
    assert set(TABLES) == set(Table.__subclasses__())
    for table in TABLES:
        assert list(table.fields()), table
        assert table.__doc__, table


def node(text: str) -> YamlNode:
    return YamlNode.parse(text, file="x.yaml")


@given(st.integers(-MOST, MOST))
def test_a_whole_number_is_read_to_the_unit(value):
    assert node(str(value)).integer() == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("2.0", 2), ("1e3", 1000), ("1_000", 1000), ("9007199254740993.0", 2**53 + 1)],
)
def test_a_whole_number_has_other_spellings(text, value):
    assert node(text).integer() == value


@pytest.mark.parametrize(
    "text",
    ["1.5", "1e-1", ".inf", "nan", "sNaN", "0x10", "one", "1e999999999", str(MOST + 1), "-1e30"],
)
def test_what_is_no_whole_number_or_too_great_is_refused(text):
    with pytest.raises(GridError, match=r"x\.yaml:1: expected a whole number"):
        node(text).integer()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_as_pythons_float(value):
    assert node(repr(value)).number() == value


def test_seeds_stay_what_they_are_and_are_bounded():
    great = f"seeds: [9007199254740993, {MOST}]"
    grid = parse_grid(SMALL.replace("seeds: [0, 1]", great), source="small.yaml")
    assert grid.seeds == (9007199254740993, MOST)
    for text in (str(MOST + 1), "99999999999999999999999"):
        with pytest.raises(GridError, match=rf":2: seeds\.0: .*at most {MOST}, got {text}"):
            parse_grid(SMALL.replace("seeds: [0, 1]", f"seeds: [{text}]"), source="small.yaml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("attack_images: 24", f"attack_images: {10**30}"),
        ("max_epochs: 2", f"max_epochs: {10**30}"),
        ("{steps: 3}", f"{{steps: {10**30}}}"),
        ("seeds:", f"resources: {{threads: {10**30}}}\nseeds:"),
        ("seeds:", f"resources: {{latency_batch: {2**31}}}\nseeds:"),
    ],
)
def test_every_whole_number_is_bounded(old, new):
    with pytest.raises(GridError, match=r"expected a whole number .*, got \d+"):
        parse_grid(SMALL.replace(old, new, 1), source="small.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max_epochs: 2", "lr_schedule: {factor: 1, patience: 1}", "between 0 and 1, got 1"),
        ("max_epochs: 2", "lr_schedule: {patience: 1}", "expected the key 'factor'"),
        (
            "max_epochs: 2",
            "adversarial: {mix: 2, eps: 1, steps: 1}",
            "above 0 and at most 1, got 2",
        ),
        ("max_epochs: 2", "lr_schedule: {factr: 0.5}", "did you mean 'factor'"),
        ("attack_images: 24", "validation_frac: 1", "between 0 and 1, got 1"),
        ("attack_images: 24", "train_images: 9", "at least 10, got 9"),
        ("attack_images: 24", "train_images: 401", "at most 400, the training images of"),
    ],
)
def test_bounds_are_told(old, new, words):
    with pytest.raises(GridError, match=words):
        parse_grid(SMALL.replace(old, new, 1), source="small.yaml")
