"""Attacks of Foolbox by class name: what can't be run is refused before any task starts."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.calibrate import calibrate
from prunegrid.orchestrator.commands.plan import plan as show_plan
from prunegrid.orchestrator.driver import foolbox_check
from prunegrid.orchestrator.errors import GridError, PrunegridError
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.tuning.eps_rule import Rule
from prunegrid.workers import child_process
from prunegrid.workers.catalog import attack_entry as make_entry
from tests.commands.test_run import options, run, run_grid
from tests.fakes import attempts_of
from tests.grids import SMALL


def grid(attack: str, settings: str = "", engine: str = "foolbox-stock") -> str:
    text = SMALL.replace("cw_l2: [1, 2]", "mine: [1, 2]")
    return text.replace(
        "  cw_l2: {binary_search_steps: 2, steps: 5}",
        f"  mine: {{attack: {attack!r}, engine: {engine}{settings}}}",
    )


def test_attacks_in_l1_are_taken_also_where_the_name_does_not_say_so():
    assert [make_entry(f"foolbox:{name}").norm for name in ("L1PGD", "EADAttack")] == ["l1", "l1"]


@pytest.mark.parametrize(
    ("attack", "settings", "message"),
    [
        ("foolbox:NoSuchAttack", "", "foolbox.attacks has no attack 'NoSuchAttack'; .*Attack"),
        ("foolbox:LinfPDG", "", "no attack 'LinfPDG'; did you mean LinfPGD"),
        ("foolbox:LinfPGD", ", stepz: 3", r"expected options of \[.*'steps'.*got \['stepz'\]"),
        ("foolbox:LinfPGD", ", steps: 1.5", r"LinfPGD: steps: expected int, got 1\.5"),
        ("foolbox:LinfPGD", ", random_start: 1", "random_start: expected bool, got 1"),
        ("foolbox:LinfPGD", ", restarts: true", "restarts: expected int, got True"),
        ("foolbox:SpatialAttack", "", "expected an attack in L2, got one without a norm"),
        ("foolbox:VirtualAdversarialAttack", "", "expected options of .*missing .*steps"),
    ],
)
def test_what_foolbox_lacks_is_refused_with_its_label_and_nothing_runs(
    tmp_path, attack, settings, message
):
    text = grid(attack, settings)
    line = 1 + text[: text.index("  mine: {attack")].count("\n")
    place = re.escape(f"{tmp_path}/grid.yaml:{line}: attacks.mine: ")
    with pytest.raises(GridError, match=f"^{place}.*{message}") as refused:
        run(tmp_path, text)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("cold_children")
def test_plan_refuses_the_same(tmp_path):
    file = options(tmp_path, grid("foolbox:NoSuchAttack")).grid
    with pytest.raises(GridError, match="no attack 'NoSuchAttack'"):
        show_plan(file, Console(quiet=True))


def test_calibrate_refuses_the_same_before_anything_is_trained(tmp_path):
    given = options(tmp_path, grid("foolbox:NoSuchAttack"))
    with pytest.raises(GridError, match="no attack 'NoSuchAttack'"):
        calibrate(given, {}, Rule(), Console(quiet=True))
    assert not (tmp_path / "store").exists()


def test_a_minimum_norm_attack_by_class_is_told_to_run_at_each_eps(tmp_path):
    console = Console(width=200, record=True)
    assert run_grid(options(tmp_path, grid("foolbox:DDNAttack", ", steps: 3")), console) == 0
    assert "mine: DDNAttack minimises a norm" in console.export_text()
    assert attempts_of(tmp_path / "store")


def test_without_such_an_attack_or_with_all_done_no_process_is_started(tmp_path, monkeypatch):
    text = grid("foolbox:LinfPGD", ", steps: 3")
    assert run(tmp_path, text) == 0
    before = len(Store.open(str(tmp_path / "store")).finished())

    def refuse(*args, **more):
        raise AssertionError("a process was started")

    monkeypatch.setattr(child_process.subprocess, "run", refuse)
    assert run(tmp_path, text) == 0
    assert len(Store.open(str(tmp_path / "store")).finished()) == before
    (tmp_path / "other").mkdir()
    assert run(tmp_path / "other") == 0


def test_a_child_that_fails_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(foolbox_check, "_MODULE", "prunegrid.workers.no_such_module")
    with pytest.raises(PrunegridError, match=r"Foolbox can't be asked .*no_such_module"):
        run(tmp_path, grid("foolbox:LinfPGD"))
