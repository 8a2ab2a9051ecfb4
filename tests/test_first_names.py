"""What `cw_l2` in `strict` means: in a store of before what made its results, since then the
paper's algorithm alone; and the former has a name that gives the same keys."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.plan import plan as show_plan
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.first_names import with_first_names
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.report import load_results
from prunegrid.orchestrator.store.plan import load_grid, read_grid_for
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.store.union import share_names
from prunegrid.workers.catalog import ATTACKS, FIRST_NAMES, attack_name, attack_of
from tests.data.make_store import GRID, run

ARCHIVE = Path(__file__).parent / "data/store-9a0cb5a.tar.gz"


@pytest.fixture
def older(tmp_path: Path) -> Store:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Store.open(str(tmp_path / "store"))


def attacks(grid):
    return {
        (attack.protocol, attack.label): attack.settings
        for plan in grid.architectures
        for attack in plan.attacks
    }


def keys(grid):
    return set(expand(grid).tasks)


def test_every_first_name_is_in_the_catalog():
    assert set(FIRST_NAMES) == {"cw_l2", "bb_l0", "pgd_linf"}
    for first, entry in FIRST_NAMES.items():
        assert ATTACKS[first].edition == 2
        assert ATTACKS[first].norm == entry.norm
        assert [o.name for o in ATTACKS[first].options] == [o.name for o in entry.options]
        assert entry.engines == ("strict",)


def test_a_store_of_before_goes_on_and_a_new_one_has_the_paper_s_algorithm(older):
    path = Path(older.address) / "grid.yaml"
    before, now = read_grid_for(path, older), read_grid_for(path, None)
    done = older.finished()
    attacked = {key for key in keys(before) if key.startswith("attack")}
    assert len(attacked & done) > len(attacked) / 3
    assert not {key for key in keys(now) if key.startswith("attack")} & done
    for grid, expected in (
        (before, "cw_walk_l2"),
        (now, "cw_l2"),
        (load_grid(older), "cw_walk_l2"),
    ):
        assert attack_name(attacks(grid)["strict", "cw_l2"]) == expected


def test_the_new_name_has_the_old_results(older):
    """Whatever the store is: the key says what ran."""
    text = (Path(older.address) / "grid.yaml").read_text()
    named = text.replace("  cw_l2: {b", "  cw_l2: {attack: cw_walk_l2, b").replace(
        "  pgd_linf: {s", "  pgd_linf: {attack: pgd_coarse_linf, s"
    )
    assert named.count("attack: ") == 2
    assert keys(parse_grid(named, source="new")) == keys(load_grid(older))


def test_plan_says_it_in_a_line(older):
    def said(store):
        out = io.StringIO()
        show_plan(Path(older.address) / "grid.yaml", Console(file=out, width=400), store=store)
        return [line for line in out.getvalue().splitlines() if "in strict" in line]

    (line,) = said(older.address)
    assert line.startswith("cw_l2, pgd_linf in strict: this store has results of what is named ")
    assert "cw_walk_l2, pgd_coarse_linf since" in line
    assert said(None) == []


def test_rows_of_before_are_read_by_the_new_name(older):
    cells = load_results(older.files).cells
    assert set(cells["algorithm"]) == {"cw_walk_l2", "pgd_coarse_linf"}
    assert set(cells["attack"]) == {"cw_l2", "pgd_linf"}


def test_foolbox_s_engine_is_as_it_was():
    text = GRID.replace("attacks:\n", "protocols: {paper: {engine: foolbox}}\nattacks:\n")
    grid = parse_grid(text, source="g")
    assert {settings.edition for settings in attacks(grid).values()} == {1}
    assert with_first_names(grid) is grid
    for settings in attacks(grid).values():
        assert attack_of(settings) is ATTACKS[settings.attack]


def test_once_is_enough():
    grid = parse_grid(GRID, source="g")
    once = with_first_names(grid)
    assert once != grid
    assert with_first_names(once) == once


def test_a_new_store_says_what_it_means(tmp_path):
    assert run(tmp_path / "new", GRID) == 0
    store = Store.open(str(tmp_path / "new"))
    assert not store.has_first_names
    assert "pgd_linf" in set(load_results(store.files).cells["algorithm"])
    assert keys(load_grid(store)) == keys(parse_grid(GRID, source="g"))


def test_stores_that_mean_different_attacks_are_not_merged(older, tmp_path):
    assert share_names([older], None)
    assert not share_names([], None)
    assert run(tmp_path / "new", GRID) == 0
    new = Store.open(str(tmp_path / "new"))
    for sources, target in (([older, new], None), ([older], new), ([new], older)):
        with pytest.raises(StoreError, match=r"before (cw_l2, )?pgd_linf meant"):
            share_names(sources, target)
    empty = Store.open_or_create(str(tmp_path / "empty"), first_names=True)
    assert empty.has_first_names
    assert share_names([older], empty)
