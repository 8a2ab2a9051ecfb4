"""The list of the commands, and how a command's module is found."""

from __future__ import annotations

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


def test_a_misspelt_command_is_met_with_the_nearest():
    done = CliRunner().invoke(app, ["statsu"], env={"TERM": "dumb"})
    assert done.exit_code == 2
    assert "No such command 'statsu'. Did you mean 'status'?" in done.output
