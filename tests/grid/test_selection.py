"""One selection: whoever takes coordinates or names reads and matches them alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.commands.explain import cell_at
from prunegrid.orchestrator.commands.export import model_key
from prunegrid.orchestrator.dashboard.filters import tasks_of, view_of
from prunegrid.orchestrator.driver.retries import named_tasks
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.selection import (
    UnknownNameError,
    match,
    names_like,
    one_name,
    parse_filter,
    parse_selection,
)
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.plan_index import PlanIndex
from prunegrid.orchestrator.store.requests import Request
from tests.grids import SMALL

TEXT = SMALL.replace("[4/255, 8/255]", "[8/255, 0.0313725490]").replace("2, 4]", "2, 8]")
GRID = parse_grid(TEXT, source="small.yaml")
PLAN = expand(GRID)
INDEX = PlanIndex(PLAN)

Place = dict[str, object]


def coordinates(cell) -> Place:
    place = cell.place
    own = {name: getattr(place.model, name) for name in ("variant", "method", "rate", "seed")}
    own["architecture"] = place.model.architecture
    return {**own, "protocol": place.protocol, "attack": place.attack, "eps": place.eps}


def by_select(text: str) -> set[str]:
    return {cell.name for cell in expand(GRID, parse_selection([text])).cells}


def by_explain(text: str) -> set[str]:
    """Every cell that explain finds once `text` is made whole by the other coordinates."""
    given_axes = parse_selection([text])
    out = set()
    for cell in PLAN.cells:
        rest = {a: v for a, v in coordinates(cell).items() if a not in given_axes}
        whole = ",".join([text, *(f"{a}={v!s}" for a, v in rest.items())])
        try:
            out.add(cell_at(PLAN, whole).name)
        except UsageError as error:
            if "names 0 cells" not in str(error):
                raise
    return out


def by_filter(text: str) -> set[str]:
    query = [(axis, ",".join(texts)) for axis, texts in parse_selection([text]).items()]
    view = view_of(INDEX, parse_filter(query))
    return {cell.name for cell, wanted in zip(PLAN.cells, view.cells, strict=True) if wanted}


@pytest.mark.parametrize("find", [by_select, by_explain, by_filter])
@pytest.mark.parametrize(
    ("text", "axis", "value"),
    [
        ("eps=8/255", "eps", 8 / 255),
        ("eps=0.03137254901960784", "eps", 8 / 255),
        ("eps=0.0313725490", "eps", 0.0313725490),
        ("eps=3.1372549e-2", "eps", 0.0313725490),
        ("eps=2.0", "eps", 2),
        ("rate=8.0", "rate", 8),
        ("rate=16/2", "rate", 8),
        ("seed=1.0", "seed", 1),
    ],
)
def test_a_coordinate_is_found_by_each_of_its_spellings(find, text, axis, value):
    expected = {cell.name for cell in PLAN.cells if coordinates(cell)[axis] == value}
    assert find(text) == expected
    assert expected


def test_models_and_retries_take_the_same_spellings():
    (model,) = (
        model
        for model in PLAN.models
        if (model.place.rate, model.place.seed, model.place.method) == (8, 1, "random-local-filter")
    )
    assert model_key(PLAN, "rate=8.0,seed=1,method=random-local-filter") == model.task_key
    select = parse_selection(["rate=8.0", "eps=8/255"])
    asked = named_tasks(PLAN, Request(kind="retry", by="test", select=select))
    assert asked == set(expand(GRID, select).tasks)
    assert asked == tasks_of(INDEX, view_of(INDEX, select))


def refusal(find, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        find(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "find",
    [
        by_select,
        by_filter,
        lambda text: cell_at(PLAN, text),
        lambda text: model_key(PLAN, text),
        lambda text: named_tasks(
            PLAN, Request(kind="retry", by="test", select=parse_selection([text]))
        ),
    ],
    ids=["select", "filter", "explain", "export", "retry"],
)
def test_every_refusal_says_what_was_expected(find):
    assert "expected one of 1, 2, 8, got '3'" in refusal(find, "rate=3")
    assert "expected one of 0.031372549, 8/255, 1, 2, got '0.03'" in refusal(find, "eps=0.03")
    assert "expected a number, got 'two'" in refusal(find, "rate=two")
    assert "did you mean 'random-local-filter'" in refusal(find, "method=random-local-flter")
    assert "may be any of 0.031372549, 8/255; give more" in refusal(find, "eps=0.0313725")


# --------------------------------------------------------------------------- texts

LABELS = st.text(st.sampled_from("ab1,=\\ \"'ε"), min_size=1).filter(lambda t: t == t.strip())


def escaped(label: str) -> str:
    for special in ("\\", ",", "="):
        label = label.replace(special, "\\" + special)
    return label


@given(st.lists(LABELS, min_size=1), st.lists(LABELS, min_size=1))
def test_any_label_can_be_selected(attacks, variants):
    text = f"attack={','.join(map(escaped, attacks))},variant={','.join(map(escaped, variants))}"
    expected = {"attack": tuple(attacks), "variant": tuple(variants)}
    assert parse_selection([text]) == expected
    query = [(axis, ",".join(map(escaped, labels))) for axis, labels in expected.items()]
    assert parse_filter(query) == expected


def test_a_label_with_a_comma_selects_its_cells():
    text = SMALL.replace("cw_l2: [1, 2]", "'c&w, quick': [1, 2]").replace(
        "  cw_l2: {", "  'c&w, quick': {attack: cw_l2, "
    )
    grid = parse_grid(text, source="small.yaml")
    plan = expand(grid, parse_selection([r"attack=c&w\, quick,seed=0"]))
    assert {cell.place.attack for cell in plan.cells} == {"c&w, quick"}
    with pytest.raises(UsageError, match=r"attack=c&w: expected one of .*c&w\\, quick"):
        expand(grid, parse_selection(["attack=c&w, quick"]))


@pytest.mark.parametrize("text", ["seed", "seed=", "seed=0,,1", ",seed=0", "=0", ""])
def test_half_a_selection_is_refused(text):
    with pytest.raises(UsageError, match="--select: expected"):
        parse_selection([text])


# --------------------------------------------------------------------------- values and names


@given(st.lists(st.floats(1, 1e6) | st.integers(0, 2**63), min_size=1, unique=True), st.data())
def test_every_value_is_matched_by_its_text(values, data):
    value = data.draw(st.sampled_from(values))
    assert match(str(value), values, where="x") == value


def test_a_great_seed_is_matched_to_the_unit():
    seeds = [2**53, 2**53 + 1]
    assert match(str(2**53 + 1), seeds, where="seed") == 2**53 + 1


@given(st.lists(st.text("ab-", min_size=1), unique=True), st.text("ab-"))
def test_names_like_a_text_begin_with_it(names, text):
    found = names_like(text, names)
    assert set(found) <= {name for name in names if name.startswith(text)}
    assert (text in names) <= (found == [text])
    assert bool(text) or not found


def test_a_whole_name_is_not_one_of_several():
    assert one_name("cell-a", ["cell-a", "cell-ab"], of="cell") == "cell-a"


def test_a_name_that_there_is_not():
    with pytest.raises(UnknownNameError, match=r"names no cell .*did you mean 'train-aab'"):
        one_name("train-aac", ["train-aab", "prune-b"], of="cell")
    with pytest.raises(UsageError, match=r"names 2, such as train-a, train-b; give more of it"):
        one_name("train-", ["train-a", "train-b"], of="task")
