"""Arguments and options that several commands share."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from prunegrid.orchestrator.errors import UsageError
from prunegrid.workers.files import StorageError, expanded
from prunegrid.workers.revision import git_revision


def _say_version(asked: bool) -> None:
    if asked:
        print(f"prunegrid {version('prunegrid')} ({git_revision()})")
        raise typer.Exit


GridFile = Annotated[Path, typer.Argument(metavar="GRID", help="The grid file, such as grid.yaml.")]
StoreOption = Annotated[
    str,
    typer.Option("--store", metavar="S", help="A folder, s3://bucket/path or gs://bucket/path."),
]
SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="AXIS=V[,V]",
        help="Only these coordinates: architecture, variant, method, rate, seed, protocol, "
        "attack, eps; for example architecture=cnn5,seed=0,1.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="Join this Ray cluster ('auto' or host:port); else start Ray here.",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, help="Prepared data sets of each node (default: ~/.cache/prunegrid)."
    ),
]
VersionOption = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_say_version,
        is_eager=True,
        help="The version, and the git revision that every row bears.",
    ),
]


def cluster_of(address: str | None) -> str | None:
    """The Ray cluster that --address names; None where Ray starts on this machine."""
    return None if address in (None, "", "local") else address


def absolute(folder: Path | None) -> str | None:
    """`folder` as workers need it, whose working directory is another. Raises UsageError."""
    try:
        return None if folder is None else str(expanded(folder).absolute())
    except StorageError as error:
        raise UsageError(str(error)) from error
