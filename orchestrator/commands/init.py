"""`prunegrid init`: a grid file for a network and data, with comments, to begin with."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
import yaml

from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import ArchitecturePlan
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.tuning.first_eps import first_eps
from prunegrid.workers.catalog import ARCHITECTURES, DATASETS

_MOST_IMAGES = 256
#: For eps: enough to see where the network breaks, in a third of the time.
_QUICK = "{targets: 4, steps: 30, leads: 2, walk: 10}"
_EPS_IMAGES = (32, 128)  #: at least, and at most, as the network's size allows
_EPS_FLOPS = 6e11  #: about a minute of a CPU core
_EPS_S = 300.0  #: more is left to `calibrate`
#: Of one image under both quick attacks: 300 passes, each with its gradient.
_FLOPS_PER_MULTIPLY_ADD = 300 * 3 * 2


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
    file = str(Path.cwd() / "mine.yaml")
    first = parse_grid(_text(model, data, images=1), source=file)
    (plan,) = first.architectures
    entry = plan.data.own or DATASETS[plan.data.dataset]
    eps = _eps(model, data, plan, entry.test_images, file)
    images = min(_MOST_IMAGES, entry.test_images)
    text = _text(model, data, images=images, plan=plan, eps=eps)
    parse_grid(text, source=file)
    return text


@dataclass(frozen=True, kw_only=True)
class _Eps:
    """What stands under a network's `eps`, and where it is from."""

    why: tuple[str, ...]  #: lines of comment
    linf: tuple[str, ...] = ("2/255", "4/255", "8/255", "16/255")
    l2: tuple[str, ...] = ("0.25", "0.5", "1", "2")


_CALIBRATE = "prunegrid calibrate THIS.yaml --store results"
_USUAL = _Eps(
    why=("usual ones, since the network is not trained yet; its own four:", f"  {_CALIBRATE}")
)


def _eps(model: str, data: str, plan: ArchitecturePlan, test_images: int, file: str) -> _Eps:
    """By calibrate's rule, of a network that is trained; usual ones else."""
    if plan.network is None or not plan.network.trained or plan.facts is None:
        return _USUAL
    cost = plan.facts.forward_flops * _FLOPS_PER_MULTIPLY_ADD
    images = min(_EPS_IMAGES[1], test_images, max(_EPS_IMAGES[0], int(_EPS_FLOPS / max(cost, 1))))
    text = _text(model, data, images=images, options=_QUICK)
    try:
        with Terminal(stderr=True).status(f"eps for {plan.name}: attacks on {images} images"):
            found = first_eps(text, file, timeout_s=_EPS_S)
    except ValueError as error:
        return replace(_USUAL, why=(f"usual ones: none found by calibrate's rule, since {error}",))
    return _Eps(
        why=(
            f"by calibrate's rule from {images} test images ({found.clean:.1%} right): the",
            "  weakest costs at most 5 points, the strongest leaves about 25 %; surer:",
            f"  {_CALIBRATE}",
        ),
        linf=found.eps["target_race_linf"],
        l2=found.eps["target_race_l2"],
    )


def _text(
    model: str,
    data: str,
    *,
    images: int,
    plan: ArchitecturePlan | None = None,
    eps: _Eps = _USUAL,
    options: str = "{}",
) -> str:
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
    why = "\n".join(f"      # {line}" for line in eps.why)
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
    attack_images: {images:<14}# the first of the test images; more make intervals smaller
    eps:                     # how far an attack may go
{why}
      target_race_linf: [{", ".join(eps.linf)}]   # largest change of a pixel in [0, 1]
      target_race_l2: [{", ".join(eps.l2)}]   # Euclidean
{datasets}{schedule}
  max_epochs: 30
  early_stopping_patience: 5
attacks:                     # the strongest of their norms, each one run for all eps
  target_race_linf: {options}
  target_race_l2: {options}
protocols:
  strict:
    network: shrunk          # attacks run without dead channels where that pays, and are verified
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
