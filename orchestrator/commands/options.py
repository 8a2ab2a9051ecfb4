"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
