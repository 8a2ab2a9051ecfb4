"""The command line: the list of the commands. Each is a module of `commands/` of its name."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup

from prunegrid.orchestrator import commands
from prunegrid.orchestrator.commands.options import VersionOption
from prunegrid.orchestrator.errors import PrunegridError, UsageError
from prunegrid.orchestrator.output import Terminal
from prunegrid.workers.files import StorageError

#: In the order of `--help`. The module's function `command` has the options; its docstring is
#: the help.
COMMANDS = (
    "init",
    "check",
    "plan",
    "run",
    "prepare",
    "measure",
    "status",
    "explain",
    "export",
    "verify",
    "dashboard",
    "compact",
    "merge",
    "report",
    "import-authors",
    "retry",
    "pause",
    "resume",
    "tune",
    "calibrate",
)


def module_name(name: str) -> str:
    return name.replace("-", "_")


def summary(name: str) -> str:
    """A command's docstring, read from its source: importing all commands takes seconds."""
    source = Path(commands.__path__[0], f"{module_name(name)}.py")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "command":
            return ast.get_docstring(node) or ""
    raise AttributeError(f"{source}: expected a function named command")


def load(name: str) -> TyperCommand:
    """A command with its options."""
    module = import_module(f"{commands.__name__}.{module_name(name)}")
    app = typer.Typer(add_completion=False)
    app.command(name)(module.command)
    loaded = typer.main.get_command(app)
    assert isinstance(loaded, TyperCommand)
    return loaded


class CommandGroup(TyperGroup):
    """Imports the one command that is asked for."""

    def list_commands(self, ctx: object) -> list[str]:
        """For `--help`, and to suggest a name where another was misspelt."""
        self.commands.update({name: TyperCommand(name, help=summary(name)) for name in COMMANDS})
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        if cmd_name not in COMMANDS:
            self.list_commands(ctx)
            return None
        listed = self.commands.get(cmd_name)
        return listed if isinstance(listed, TyperCommand) else load(cmd_name)


app = typer.Typer(
    name="prunegrid",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def prunegrid(version: VersionOption = False) -> None:
    """What does compressing this network do to its robustness? Train, prune and attack whole
    grids of networks over Ray."""


def guarded(command: Callable[[], object]) -> int:
    """Run a command; what a user can mend is one line on standard error, not a traceback."""
    try:
        _check_folder()
        command()
    except (PrunegridError, StorageError) as error:
        Terminal(stderr=True).print(f"error: {error}", soft_wrap=True)
        return error.exit_code if isinstance(error, PrunegridError) else 1
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return 0


def _check_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"the working directory is gone ({error.strerror}); enter another"
        ) from error


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `prunegrid`; exits with 0, 1, 2 or 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # no character that it lacks ends a run
            stream.reconfigure(errors="backslashreplace")
    sys.exit(guarded(lambda: app(args=arguments, prog_name="prunegrid")))


if __name__ == "__main__":
    main()
