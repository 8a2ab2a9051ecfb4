"""The whole program where its surroundings are odd: one message or an answer, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prunegrid.orchestrator.cli import main
from tests.data.make_store import GRID, run


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "store"
    assert run(path, GRID.replace("[0, 1]", "[0]")) == 0
    return path


#: The program, whose reports have no pictures, which take most of their time.
QUICK = """
from prunegrid.orchestrator.report import write
write.FORMATS = ("html",)
from prunegrid.orchestrator.cli import main
main()
"""


def prunegrid(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    program = ("-c", QUICK) if arguments[0] == "report" else ("-m", "prunegrid")
    done = subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_character_that_the_terminal_lacks_ends_nothing(encoding, store, tmp_path):
    report = ("report", "--store", store, "--out", tmp_path / "out")
    done = prunegrid(*report, cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert b"\\u03b5" in done.stdout, "an epsilon, which neither encoding has"


def test_a_working_directory_that_is_gone_is_told_in_one_line(store, tmp_path):
    script = f'mkdir gone; cd gone; rmdir ../gone; exec "$0" -m prunegrid status --store {store}'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: the working directory is gone")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("place", ["file/sub", "file/a/b", "file"])
@pytest.mark.parametrize("command", [["run", "grid.yaml"], ["status"], ["verify"], ["calibrate"]])
def test_a_store_at_or_below_a_file_is_a_wrong_argument(
    command, place, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(GRID)
    Path("file").write_text("mine")
    with pytest.raises(SystemExit) as end:
        main([*command, "--store", place])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/file: a file stands where a folder is needed\n"
    )


@pytest.mark.parametrize("option", ["--store", "--data-dir"])
def test_a_home_that_is_not_known_is_told_in_one_line(option, tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    given = {"--store": tmp_path / "store", "--data-dir": tmp_path, option: "~no-such-user/x"}
    options = [text for pair in given.items() for text in pair]
    done = prunegrid("run", "grid.yaml", "--engine", "inline", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "error: ~no-such-user/x: the home directory is not known; set HOME\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.yaml"]
