"""What commands print on a terminal: no table is cut at any width, and no name steers it."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import pytest
from rich.table import Table

from prunegrid.orchestrator.cli import app, guarded
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.output import Terminal, print_table
from tests.data.make_store import GRID
from tests.fakes import BROKEN, CAUSE, RUNNER

#: As a text of YAML: a colour, a window's title, BEL, NUL, markup, an emoji, a right-to-left mark.
HOSTILE = r"\e[31m\e]0;x\a\0[/red][bold]:smile:\u202e"
SHOWN = r"\x1b[31m\x1b]0;x\x07\x00[/red][bold]:smile:\u202e"
WIDTHS = [60, 80, 120]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """The place of a store beside its grid, in which every name of one's own choice is HOSTILE."""
    text = GRID.replace("name: old", f'name: "{HOSTILE}"').replace("[0, 1]", f"[0, {BROKEN}]")
    text = text.replace("cw_l2: {binary", f'"{HOSTILE}": {{attack: cw_l2, binary')
    text = text.replace("cw_l2: [1, 2]", f'"{HOSTILE}": [1, 2]')
    store = tmp_path_factory.mktemp("hostile") / "store"
    store.with_name("grid.yaml").write_text(text, encoding="utf-8")
    return store


def of_run(store: Path) -> RunOptions:
    grid = store.with_name("grid.yaml")
    return RunOptions(grid=grid, store=str(store), engine="inline", runner=RUNNER)


def printed(arguments: list[str], capsys) -> str:
    with contextlib.suppress(SystemExit):
        guarded(lambda: app(args=arguments, prog_name="prunegrid"))
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return out.out + out.err


@pytest.mark.usefixtures("reported", "no_figure_files")
@pytest.mark.parametrize("width", WIDTHS)
def test_no_command_cuts_a_table_or_lets_a_name_steer_the_terminal(
    width, hostile, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", str(width))
    store, grid = tmp_path / "store", str(hostile.with_name("grid.yaml"))
    whole = Path(grid).read_text(encoding="utf-8")
    (tmp_path / "grid.yaml").write_text(whole.replace(f", {BROKEN}]", "]"), encoding="utf-8")
    text = {"plan": printed(["plan", grid], capsys)}
    assert run_grid(of_run(store), Terminal()) == 0
    (store / CAUSE).touch()
    shutil.copy(grid, tmp_path)
    assert run_grid(of_run(store), Terminal()) == 1
    text["run"] = capsys.readouterr().out
    at = ["--store", str(store)]
    failed = next((store / "failures").glob("train-*")).name
    text["status"] = printed(["status", *at], capsys)
    text["explain"] = printed(["explain", failed, *at], capsys)
    text["explain a cell"] = printed(
        ["explain", f"seed={BROKEN},rate=1,eps=1,method=random-local-filter", *at], capsys
    )
    text["verify"] = printed(["verify", *at], capsys)
    text["report"] = printed(["report", *at, "--out", str(tmp_path / "out")], capsys)
    text["calibrate"] = printed(["calibrate", *at], capsys)
    text["error"] = printed(["plan", grid, "--select", "attack=x"], capsys)
    for name, told in text.items():
        odd = {c for c in told if not c.isprintable() and c != "\n"}
        assert not odd, (name, odd)
        assert "…" not in told, name
    for name in ("plan", "run", "status", "explain a cell", "error"):
        assert SHOWN in text[name].replace("\n", ""), name
    assert re.search(r"\b100\.0|\b\d\d\.\d", text["report"])


@pytest.mark.parametrize("width", WIDTHS)
def test_a_tables_columns_go_below_each_other_where_they_must(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    table = Table("name", "what", title="title", box=None)
    for k in range(8):
        table.add_column(f"n{k}", justify="right")
    rows = [[f"row{i}", "word " * 9, *(f"{i}{k}.5 ± 12.{k}" for k in range(8))] for i in range(3)]
    for row in rows:
        table.add_row(*row)
    print_table(Terminal(), table)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    for row in rows:
        for number in row[2:]:
            assert number in text
    parts = text.count(" name ")
    assert text.count("title") == 1
    assert text.count("row0") == text.count("row2") == parts
    assert parts == {60: 3, 80: 2, 120: 2}[width]
