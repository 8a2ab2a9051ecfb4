"""The list of the commands, and how a command's module is found."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunegrid.orchestrator import commands
from prunegrid.orchestrator.cli import COMMANDS, app, load, module_name, summary

#: What several commands share.
SHARED = {"__init__", "options", "send_request"}


def test_every_module_of_commands_is_listed():
    there = {path.stem for path in Path(commands.__path__[0]).glob("*.py")}
    assert there - SHARED == {module_name(name) for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_shows_the_help_of_the_command_itself(name):
    command = load(name)
    assert command.name == name
    assert summary(name)
    assert command.help == summary(name)


def test_the_list_of_the_commands_imports_none():
    code = (
        "import sys\nfrom prunegrid.orchestrator.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('pyarrow', 'pandas', 'ray') "
        "or m.startswith('prunegrid.orchestrator.commands.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "['prunegrid.orchestrator.commands.options']"
    places = [done.stdout.index(f" {name} ") for name in COMMANDS]
    assert places == sorted(places)


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """What a bash with the completion loaded offers after a line. The words are split as bash does
    it, the commands are real."""
    folder = tmp_path_factory.mktemp("bash")
    program = folder / "prunegrid"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m prunegrid "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    shown = subprocess.run(
        ["prunegrid", "--show-completion", "bash"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / "completion.sh").write_text(shown.stdout)

    def offered(line: str) -> list[str]:
        words = line.split(" ")
        script = (
            f". {folder}/completion.sh; COMP_WORDS=({' '.join(map(shlex.quote, words))}); "
            f"COMP_CWORD={len(words) - 1}; "
            "_prunegrid_completion prunegrid; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return done.stdout.split()

    return offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("prunegrid ", list(COMMANDS)),
        ("prunegrid re", ["report", "retry", "resume"]),
        ("prunegrid run --da", ["--data-dir", "--dashboard"]),
        ("prunegrid run --engine ", ["ray", "inline"]),
        ("prunegrid import-authors --s", ["--store"]),
    ],
)
def test_bash_completes_commands_options_and_values(bash, line, some):
    assert bash(line) == some


def test_a_misspelt_command_is_met_with_the_nearest():
    done = CliRunner().invoke(app, ["statsu"], env={"TERM": "dumb"})
    assert done.exit_code == 2
    assert "No such command 'statsu'. Did you mean 'status'?" in done.output
