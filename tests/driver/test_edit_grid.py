"""The same store, another grid: wider, narrower, edited, and back. Nothing is redone, nothing a
run made is lost, no cell counts twice, and every grid that was run is kept."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

from prunegrid.orchestrator.grid.grid import cell_id
from prunegrid.orchestrator.store.plan import load_plan
from tests.driver.test_request_handler import Scene, tiny
from tests.fakes import attempts_of

COORDINATES = ["architecture", "variant", "method", "rate", "seed", "protocol", "attack", "eps"]
EDITS = {
    "as it was": lambda text: text,
    "a seed more": lambda text: text.replace("seeds: [0]", "seeds: [0, 1]"),
    "a rate more": lambda text: text.replace("rates: [1, 2, 4]", "rates: [1, 2, 4, 8]"),
    "a rate less": lambda text: text.replace("rates: [1, 2, 4]", "rates: [1, 2]"),
    "a rate between": lambda text: text.replace("rates: [1, 2, 4]", "rates: [1, 2, 3, 4]"),
    "other steps": lambda text: text.replace("{steps: 3}", "{steps: 4}"),
    "an eps more": lambda text: text.replace("cw_l2: [1, 2]", "cw_l2: [0.5, 1, 2]"),
    "an attack less": lambda text: (
        text.replace("  cw_l2: {binary_search_steps: 2, steps: 5}\n", "")
        .replace("          cw_l2: [1, 2]\n", "")
        .replace("      cw_l2: [1, 2]\n", "")
    ),
    "other training": lambda text: text.replace("max_epochs: 2", "max_epochs: 3"),
    "another method": lambda text: text.replace(
        "methods: [random-local-filter]", "methods: [magnitude-global-unstructured]"
    ),
    "a price": lambda text: (
        text + "price: {per_hour: 1, currency: USD, cpus_per_node: 2}\nresources: {threads: 2}\n"
    ),
}


def run(root: Path, text: str) -> Scene:
    """As `prunegrid run`, without its page and table."""
    scene = Scene(root, text)
    scene.store.set_grid(text)
    result = scene.run()
    assert not result.missing
    return scene


def files(root: Path, *folders: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def check(root: Path, before: dict[str, bytes]) -> dict[str, bytes]:
    """Every work is there once, as it was; every planned cell has its one row."""
    made = files(root, "models", "results/images", "history")
    assert before.items() <= made.items(), "something that was made changed, or is gone"
    assert set(attempts_of(root).values()) == {1}, "something was redone"
    frame = pd.read_parquet(root / "results/cells")
    assert not frame.duplicated(COORDINATES).any()
    rows = {path.stem for path in (root / "results/cells").iterdir()}
    plan = load_plan(Scene(root).store)
    assert {cell_id(cell.place, cell.task_keys) for cell in plan.cells} <= rows
    return made


@pytest.mark.parametrize(
    "edit", ["a seed more", "a rate between", "other steps", "an attack less", "other training"]
)
def test_an_edit_keeps_what_was_there_and_the_way_back_costs_nothing(edit, tmp_path):
    root, text = tmp_path / "s", tiny(0)
    changed = EDITS[edit](text)
    assert changed != text
    run(root, text)
    before = check(root, {})
    first = files(root, "results/cells")
    run(root, changed)
    made = check(root, before)
    ran = sum(attempts_of(root).values())
    run(root, text)
    check(root, made)
    assert sum(attempts_of(root).values()) == ran, "what was there once ran again"
    back = files(root, "results/cells")
    assert first.keys() <= back.keys(), "the first grid's cells are there again"
    assert len(list((root / "history").iterdir())) == 2, "both edits are kept"


@pytest.mark.parametrize(
    ("edit", "new"),
    [
        ("a seed more", 15),
        ("a rate more", 5),
        ("a rate less", 0),
        ("a rate between", 10),
        ("other steps", 6),
        ("an eps more", 0),
        ("an attack less", 0),
        ("a price", 0),
    ],
)
def test_an_edit_runs_what_it_adds_and_no_more(edit, new, tmp_path):
    root, text = tmp_path / "s", tiny(0)
    run(root, text)
    assert sum(attempts_of(root).values()) == 15
    run(root, EDITS[edit](text))
    assert sum(attempts_of(root).values()) == 15 + new


def test_rows_of_another_work_step_aside_and_are_kept(tmp_path):
    root, text = tmp_path / "s", tiny(0)
    run(root, text)
    old = files(root, "results/cells")
    run(root, EDITS["other steps"](text))
    aside = files(root, "superseded")
    gone = old.keys() - files(root, "results/cells").keys()
    assert len(gone) == 3 * 2, "three models, two eps of the attack"
    assert {f"superseded/{name}" for name in gone} == aside.keys()
    assert {f"superseded/{name}": old[name] for name in gone} == aside


@pytest.mark.parametrize("seed", range(2))
def test_any_order_of_edits_keeps_everything(seed, tmp_path):
    root, made = tmp_path / "s", {}
    draw = random.Random(seed)
    for _ in range(4):
        text = tiny(0)
        for name in draw.sample(list(EDITS), 2):
            text = EDITS[name](text)
        run(root, text)
        made = check(root, made)
