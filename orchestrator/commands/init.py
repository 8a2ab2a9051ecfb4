"""`prunegrid init`: a grid file for a network and data, with comments, to begin with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
import yaml

from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import ArchitecturePlan
from prunegrid.workers.catalog import ARCHITECTURES, DATASETS

_MOST_IMAGES = 256


def command(
    model: Annotated[
        str,
        typer.Option(
            metavar="NETWORK", help="A file.keras, module:function, or a name of the catalog."
        ),
    ] = "cnn5",
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA", help="A file.npz, a folder of images, or a name of the catalog."
        ),
    ] = "synthetic28",
) -> None:
    """Write a grid file for your network and data, with comments; redirect it to a file here."""
    print(written(model, data), end="")


def written(model: str, data: str) -> str:
    """The grid file's text. Paths are as they are given, and so for a file in the working
    directory. Raises GridError where the network can't be built or does not take the images."""
    folder = Path.cwd() / "mine.yaml"
    first = parse_grid(_text(model, data, images=1, plan=None), source=str(folder))
    (plan,) = first.architectures
    entry = plan.data.own or DATASETS[plan.data.dataset]
    text = _text(model, data, images=min(_MOST_IMAGES, entry.test_images), plan=plan)
    parse_grid(text, source=str(folder))
    return text


def _text(model: str, data: str, *, images: int, plan: ArchitecturePlan | None) -> str:
    label, network = _network(model)
    dataset, datasets = _dataset(data)
    trained = network.startswith("model:")
    structured = plan is None or plan.facts is None or plan.facts.structured_weights > 0
    filters = "\n  - magnitude-local-filter          # whole filters of convolutions"
    schedule = (
        "fine_tuning:                 # after each prune step; the file's network has no other"
        if trained
        else "training:                    # of the unpruned networks, and after each prune step"
    )
    return f"""\
# Written by `prunegrid init`. Try it out in small:  prunegrid check THIS.yaml
# Run it, and resume it:                             prunegrid run THIS.yaml --store results
name: {label}
seeds: [0, 1, 2]             # everything is done once for each
rates: [1, 2, 4, 8, 16]      # weights before over weights left; 1 is the unpruned network
methods:
  - magnitude-global-unstructured   # the smallest weights of the whole network
  - random-local-unstructured       # for comparison{filters if structured else ""}
dense_model: shared          # all methods prune the same networks
architectures:
  {label}:
    {network}
    dataset: {dataset}
    attack_images: {images}       # the first of the test images; more make intervals smaller
    eps:                     # how far an attack may go; your network's own four:
                             #   prunegrid calibrate THIS.yaml --store results
      target_race_linf: [2/255, 4/255, 8/255, 16/255]   # largest change of a pixel in [0, 1]
      target_race_l2: [0.25, 0.5, 1, 2]                 # Euclidean
{datasets}{schedule}
  max_epochs: 30
  early_stopping_patience: 5
attacks:                     # the strongest of their norms, each one run for all eps
  target_race_linf: {{}}
  target_race_l2: {{}}
"""


def _network(model: str) -> tuple[str, str]:
    """Its label, and the line of the grid file that names it."""
    if model in ARCHITECTURES:
        return model, f"build: {model}             # of the catalog"
    if model.endswith(".keras"):
        if not Path(model).is_file():
            raise UsageError(f"--model: there is no file {model}")
        comment = "as it is trained; `weights: fresh` trains it anew"
        return _label(Path(model).stem), f"model: {_quoted(model)}  # {comment}"
    if ":" in model:
        comment = "beside this file, or installed; `options: {...}` go to it"
        return _label(model.rpartition(":")[2]), f"build: {model}  # {comment}"
    raise UsageError(
        f"--model: expected a file.keras, module:function, or one of {', '.join(ARCHITECTURES)}, "
        f"got {model!r}"
    )


def _dataset(data: str) -> tuple[str, str]:
    """Its label, and the part of the grid file that describes it."""
    if data in DATASETS:
        return data, ""
    path = Path(data)
    if path.suffix == ".npz" and path.is_file():
        source = f"{{npz: {_quoted(data)}}}  # x_train, y_train, x_test, y_test"
    elif path.is_dir():
        source = f"{{images: {_quoted(data)}}}  # a folder for each class"
    else:
        raise UsageError(
            f"--data: expected a file.npz, a folder of images, or one of {', '.join(DATASETS)}, "
            f"got {data!r}"
        )
    label = _label(path.stem)
    label = f"my-{label}" if label in DATASETS else label
    return label, f"datasets:\n  {label}: {source}\n"


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._") or "mine"


def _quoted(path: str) -> str:
    return yaml.safe_dump(path, default_style='"' if re.search(r"[^\w./-]", path) else None).split(
        "\n"
    )[0]
