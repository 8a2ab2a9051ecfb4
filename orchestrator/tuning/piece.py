"""What was found, as a piece of grid file; checked by reading it as the grid is read. Pure.

Each function raises GridError for values that no grid may have, PieceError where the grid overrides
what the piece says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from rich.console import Console

from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.plan.task_sizes import TaskSizes
from prunegrid.workers.contract import TrainingSettings
from prunegrid.workers.keys import Scalar


class PieceError(PrunegridError):
    """With the piece, the grid does not say what was found."""


def attack_piece(
    grid: Grid, *, protocol: str, label: str, options: Mapping[str, Scalar], comment: str
) -> str:
    """Settings of one attack under one protocol."""
    shown = {name: value for name, value in options.items() if value is not None}
    every = (attack for plan in grid.architectures for attack in plan.attacks)
    own = any(attack.label == label and attack.settings.own is not None for attack in every)
    part: dict[str, Any] = {"attacks": {label: {"options": shown} if own else shown}}
    if "protocols" in _load(grid.text):
        part = {"protocols": {protocol: part}}
    text, merged = _piece(grid, part, comment)
    for attack in (attack for plan in merged.architectures for attack in plan.attacks):
        found = dict(attack.settings.options)
        if (attack.protocol, attack.label) == (protocol, label) and not shown.items() <= (
            found.items()
        ):
            raise PieceError(f"{protocol}.{label}: expected {shown} in the piece, got {found}")
    return text


def eps_piece(grid: Grid, sets: Mapping[str, Mapping[str, Iterable[str]]], comment: str) -> str:
    """`sets`: architecture -> attack -> eps as a grid file writes them."""
    part = {
        architecture: {
            "eps": {label: [_load(text) for text in eps] for label, eps in attacks.items()}
        }
        for architecture, attacks in sets.items()
    }
    return _piece(grid, {"architectures": part}, comment)[0]


def sizes_piece(grid: Grid, sizes: TaskSizes, comment: str) -> str:
    """Measured batch and shard sizes."""
    attacks = [attack for plan in grid.architectures for attack in plan.attacks]
    protocols: dict[str, Any] = {}
    for protocol, size in sizes.batch_sizes.items():
        mine = {a.label: a.settings.engine for a in attacks if a.protocol == protocol}
        if set(mine.values()) == {"strict"}:
            protocols[protocol] = {"batch_size": size}
        else:  # a stock attack's results depend on its batch: that one stays as it is
            strict = [label for label, engine in mine.items() if engine == "strict"]
            protocols[protocol] = {"attacks": {label: {"batch_size": size} for label in strict}}
    part: dict[str, Any] = {
        "architectures": {n: {"images_per_shard": size} for n, size in sizes.shard_sizes.items()}
    }
    if protocols:
        part["protocols"] = protocols
    for plan in _piece(grid, part, comment)[1].architectures:
        for attack in plan.attacks:
            size = sizes.batch_sizes.get(attack.protocol, attack.settings.batch_size)
            if attack.settings.engine == "strict" and attack.settings.batch_size != size:
                labels = protocols[attack.protocol].setdefault("attacks", {})
                labels[attack.label] = {"batch_size": size}  # it names a size of its own
    text, merged = _piece(grid, part, comment)
    found = {
        (plan.name, a.protocol, a.label, a.settings.batch_size, a.images_per_shard)
        for plan in merged.architectures
        for a in plan.attacks
    }
    for row in sizes.attacks:
        names = (row.architecture, row.protocol, row.attack)
        if (*names, row.batch_size, row.images_per_shard) not in found:
            raise PieceError(f"{row}: expected these sizes in the piece, got others")
    return text


def training_piece(
    grid: Grid, architecture: str, settings: TrainingSettings, names: list[str], comment: str
) -> str:
    """`names`: the settings that were searched."""
    shown: dict[str, Any] = {n: getattr(settings, n) for n in names if not n.startswith("lr_")}
    if any(name.startswith("lr_") for name in names):
        shown["lr_schedule"] = {
            "factor": settings.lr_factor,
            "patience": settings.lr_patience,
            "min": settings.lr_min,
        }
    part = {"architectures": {architecture: {"training": shown}}}
    text, merged = _piece(grid, part, comment)
    (plan,) = [plan for plan in merged.architectures if plan.name == architecture]
    if not any(variant.training == settings for variant in plan.variants):
        raise PieceError(f"{architecture}: expected training {shown} in the piece, got another")
    return text


def show_piece(piece: str, grid: Grid, console: Console) -> None:
    """Without its comments, which the command has said."""
    lines = [line for line in piece.splitlines() if not line.startswith("#")]
    console.print(f"\nfor {grid.source}:", *lines, sep="\n", soft_wrap=True)


class _Loader(yaml.SafeLoader):
    """Dates are text, as in a grid file."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if not tag.endswith(":timestamp")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _load(text: str) -> Any:
    return yaml.load(text, _Loader)


def _piece(grid: Grid, part: Any, comment: str) -> tuple[str, Grid]:
    """`part` as text, under the comment, and the grid with it."""
    text = dumped(part)
    both = _merge(_load(grid.text), _load(text))
    merged = parse_grid(
        yaml.safe_dump(both, sort_keys=False), source=f"{grid.source} with the piece"
    )
    return "".join(f"# {line}\n" for line in comment.splitlines()) + text, merged


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{name: _merge(base.get(name), value) for name, value in over.items()}}
    return over


def dumped(part: Any) -> str:
    """As YAML: the innermost mappings and lists in a line, `none` for None, 12 digits."""
    return str(yaml.safe_dump(_plain(part), sort_keys=False, default_flow_style=None, width=10_000))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, float):
        return float(f"{value:.12g}")
    return "none" if value is None else value
