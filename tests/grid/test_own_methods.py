"""Pruning methods by their parts: names, options, rates, task keys, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers.catalog import METHODS
from prunegrid.workers.contract import PruneTask, task_from_dict, task_to_dict
from prunegrid.workers.user_code import UserCodeError
from prunegrid.workers.user_options import read_signature
from tests.grids import SMALL

OLD = "methods: [magnitude-global-unstructured, random-local-filter]"
SCORES = '''
from typing import Annotated
from somewhere_that_is_not_installed import Limits

def hydra(
    scoring,
    *,
    epochs: Annotated[int, Limits(minimum=1, maximum=9)] = 2,
    rate: float = 0.1,
    signed: bool = False,
    start: str = "magnitude",
    most: int | None = None,
):
    """Learned scores.

    epochs: over the training images
    rate: of learning
    """

def bare(scoring, power: int):
    "Needs its option."

def untyped(scoring, *, power): pass

def other(scoring, *, shape: tuple = ()): pass
'''


@pytest.fixture
def theirs(tmp_path, monkeypatch) -> Path:
    (tmp_path / "their_scores.py").write_text(SCORES)
    (tmp_path / "their_lab.py").write_text("from their_scores import hydra as learned\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def grid(methods: str, text: str = SMALL):
    return parse_grid(text.replace(OLD, f"methods: {methods}"), source="grid.yaml")


def prunes(methods: str) -> list[PruneTask]:
    return [t for t in expand(grid(methods)).tasks.values() if isinstance(t, PruneTask)]


def keys(methods: str) -> set[str]:
    return {task.key for task in prunes(methods)}


def test_a_mapping_that_says_what_a_name_says_is_the_same_work():
    name = keys("[magnitude-global-filter]")
    assert keys("[{score: magnitude, scope: global, structure: filter}]") == name
    assert all(task.pruning.own is None for task in prunes("[magnitude-global-filter]"))
    assert keys("[taylor-local-kernel]") == keys(
        "[{score: taylor, structure: kernel, options: {batches: 8, batch_size: 64}}]"
    )


def test_options_are_in_the_key_and_a_name_is_not():
    plain = keys("[taylor-local-filter]")
    other = keys("[{score: taylor, structure: filter, name: quick, options: {batches: 2}}]")
    assert not plain & other
    one = "[{score: taylor, name: NAME, options: {batches: 2}}]"
    a, b = prunes(one.replace("NAME", "a")), prunes(one.replace("NAME", "b"))
    settings = [a[0].pruning, b[0].pruning]
    assert settings[0].method != settings[1].method
    from prunegrid.workers.keys import digest

    assert digest(settings[0]) == digest(settings[1])


def test_a_default_that_changes_is_other_work():
    """The options that a method was run with are in its tasks, defaults too."""
    (task, *_) = prunes("[obd-local-unstructured]")
    assert task.pruning.own is not None
    assert task.pruning.own.score.options == (("images", 256),)
    assert task_from_dict(task_to_dict(task)) == task


def test_a_score_of_ones_own(theirs):
    text = "[{score: 'their_scores:hydra', scope: global, options: {epochs: 3}, version: 2}]"
    planned = grid(text).pruning_methods[0]
    assert planned.entry.name == "hydra-global-unstructured"
    assert dict(planned.entry.score.options) == {
        "epochs": 3,
        "rate": 0.1,
        "signed": False,
        "start": "magnitude",
        "most": None,
    }
    assert not keys(text) & keys(text.replace("version: 2", "version: 3"))
    again = grid(text.replace("their_scores:hydra", "their_lab:learned")).pruning_methods[0]
    assert again.entry.score.options == planned.entry.score.options, "imported names are followed"


def test_rates_of_one_method():
    planned = grid(
        "[magnitude-local-filter, {score: magnitude, structure: kernel, rates: [1, 8]}, "
        "magnitude-local-2:4, {score: taylor, structure: '1:4'}]"
    )
    assert planned.rates == (1, 2, 4, 8)
    rates = {m.entry.name: m.rates for m in planned.pruning_methods}
    assert rates == {
        "magnitude-local-filter": (1, 2, 4),
        "magnitude-local-kernel": (1, 8),
        "magnitude-local-2:4": (1, 2),
        "taylor-local-1:4": (1, 4),
    }
    cells = {(c.place.model.method, c.place.model.rate) for c in expand(planned).cells}
    assert cells == {(name, rate) for name, mine in rates.items() for rate in mine}


REFUSED = {
    "misspelt score": ("[{score: tailor}]", ["'tailor'", "did you mean 'taylor'", "module:func"]),
    "no score": ("[{scope: global}]", ["'score'", "no default"]),
    "misspelt scope": ("[{score: obd, scope: globl}]", ["did you mean 'global'"]),
    "misspelt structure": ("[{score: obd, structure: filtr}]", ["did you mean 'filter'", "2:4"]),
    "a pattern of all": ("[{score: obd, structure: '4:4'}]", ["'4:4'"]),
    "a global pattern": (
        "[{score: obd, structure: '2:4', scope: global}]",
        ["local for the pattern 2:4, got global"],
    ),
    "another rate of a pattern": (
        "[{score: obd, structure: '2:4', rates: [2, 4]}]",
        ["1 and 2", "got 4"],
    ),
    "misspelt option": (
        "[{score: taylor, options: {batchs: 3}}]",
        ["methods.0.options.batchs", "did you mean 'batches'"],
    ),
    "an option of none": ("[{score: magnitude, options: {a: 3}}]", ["expected none, got 'a'"]),
    "an option of another type": (
        "[{score: taylor, options: {batches: few}}]",
        ["whole number", "'few'"],
    ),
    "twice": ("[obd-local-filter, obd-local-filter]", ["given twice"]),
    "twice with other options": (
        "[{score: obd}, {score: obd, options: {images: 9}}]",
        ["'obd-local-unstructured' is given twice", "`name` of its own"],
    ),
    "a name for what has one": (
        "[{score: magnitude, name: mine}]",
        ["'magnitude-local-unstructured' of the catalog is the same"],
    ),
    "a name of the catalog": (
        "[{score: obd, name: random-local-kernel}]",
        ["'random-local-kernel' is a method of the catalog"],
    ),
    "no module": ("[{score: 'nowhere:f'}]", ["nowhere:f", "no module"]),
    "no function": ("[{score: 'their_scores:hydr'}]", ["(hydra, bare", "got 'hydr'"]),
    "beyond its bounds": (
        "[{score: 'their_scores:hydra', options: {epochs: 10}}]",
        ["from 1 to 9, got 10"],
    ),
    "an option that is needed": ("[{score: 'their_scores:bare'}]", ["'power'", "no default"]),
    "a parameter without a type": (
        "[{score: 'their_scores:untyped'}]",
        ["parameter power", "no annotation", "their_scores.py:23"],
    ),
    "a parameter of another type": ("[{score: 'their_scores:other'}]", ["shape", "got tuple"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_method_is_refused_at_its_line(name, theirs):
    text, words = REFUSED[name]
    with pytest.raises(GridError) as refusal:
        grid(text)
    message = str(refusal.value)
    assert message.startswith("grid.yaml:4: methods")
    for word in words:
        assert word in message


def test_a_signature_is_read_and_not_imported(theirs):
    found = read_signature("their_scores:hydra", ("scoring",))
    assert found.given == ("scoring",)
    assert found.title == "Learned scores."
    epochs = found.options[0]
    assert (epochs.name, epochs.type, epochs.default) == ("epochs", "int", 2)
    assert (epochs.minimum, epochs.maximum, epochs.doc) == (1, 9, "over the training images")
    with pytest.raises(UserCodeError, match="no module of that name"):
        read_signature("their_missing:f", ())


@pytest.mark.parametrize("name", [n for n, e in METHODS.items() if e.in_paper])
def test_the_papers_methods_have_no_description_in_their_keys(name):
    assert grid(f"[{name}]").pruning_methods[0].in_catalog
