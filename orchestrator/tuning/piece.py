"""What was found, as a piece of grid file; checked by reading it as the grid is read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.grid.grid import Grid, PlannedAttack
from prunegrid.orchestrator.plan.task_sizes import TaskSizes
from prunegrid.workers.contract import TrainingSettings
from prunegrid.workers.keys import Scalar


class PieceError(PrunegridError):
    """The piece of grid file does not read back as what it should say: a bug of ours."""


def attack_piece(
    grid: Grid, *, protocol: str, label: str, options: Mapping[str, Scalar], comment: str
) -> str:
    """Settings of one attack under one protocol. Raises PieceError."""
    shown = {name: value for name, value in options.items() if value is not None}
    flow = _flow(shown)
    raw = yaml.safe_load(grid.text)
    if "protocols" in raw:
        part: dict[str, Any] = {"protocols": {protocol: {"attacks": {label: shown}}}}
        text = f"protocols:\n  {_name(protocol)}:\n    attacks:\n      {_name(label)}: {flow}\n"
    else:
        part = {"attacks": {label: shown}}
        text = f"attacks:\n  {_name(label)}: {flow}\n"
    read = yaml.safe_load(text)
    if read != part:
        raise PieceError(f"expected a piece that says {part}, got {read}")
    merged = _parsed(grid, raw, read)
    for attack in _attacks(merged, protocol, label):
        found = {**dict(attack.settings.options)}
        wrong = {name: value for name, value in shown.items() if found.get(name) != value}
        if wrong:
            raise PieceError(f"{protocol}.{label}: expected {wrong} in the piece, got {found}")
    return _commented(comment) + text


def eps_piece(grid: Grid, sets: Mapping[str, Mapping[str, tuple[str, ...]]], comment: str) -> str:
    """`sets`: architecture -> attack -> eps as a grid file writes them. Raises PieceError."""
    lines = ["architectures:"]
    for architecture, attacks in sets.items():
        lines += [f"  {_name(architecture)}:", "    eps:"]
        lines += [f"      {_name(label)}: [{', '.join(eps)}]" for label, eps in attacks.items()]
    text = "\n".join(lines) + "\n"
    merged = _parsed(grid, yaml.safe_load(grid.text), yaml.safe_load(text))
    for plan in merged.architectures:
        for attack in plan.attacks:
            wanted = sets.get(plan.name, {}).get(attack.label)
            if wanted is not None and len(attack.eps) != len(wanted):
                raise PieceError(f"{plan.name} {attack.label}: expected {wanted}, got {attack.eps}")
    return _commented(comment) + text


def sizes_piece(grid: Grid, sizes: TaskSizes, comment: str) -> str:
    """MeasuredCurve batch and shard sizes. Raises PieceError."""
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
    raw = yaml.safe_load(grid.text)
    for plan in _parsed(grid, raw, part).architectures:
        for attack in plan.attacks:
            size = sizes.batch_sizes.get(attack.protocol, attack.settings.batch_size)
            if attack.settings.engine == "strict" and attack.settings.batch_size != size:
                labels = protocols[attack.protocol].setdefault("attacks", {})
                labels[attack.label] = {"batch_size": size}  # it names a size of its own
    merged = _parsed(grid, raw, part)
    for row in sizes.attacks:
        plan = next(plan for plan in merged.architectures if plan.name == row.architecture)
        attack = next(
            a for a in plan.attacks if (a.protocol, a.label) == (row.protocol, row.attack)
        )
        found = (attack.settings.batch_size, attack.images_per_shard)
        if found != (row.batch_size, row.images_per_shard):
            raise PieceError(f"{row}: expected these sizes in the piece, got {found}")
    return _commented(comment) + str(yaml.safe_dump(part, sort_keys=False))


def training_piece(
    grid: Grid, architecture: str, settings: TrainingSettings, names: list[str], comment: str
) -> str:
    """`names`: the settings that were searched. Raises PieceError."""
    shown: dict[str, Any] = {n: getattr(settings, n) for n in names if not n.startswith("lr_")}
    if any(name.startswith("lr_") for name in names):
        shown["lr_schedule"] = {
            "factor": settings.lr_factor,
            "patience": settings.lr_patience,
            "min": settings.lr_min,
        }
    text = f"architectures:\n  {_name(architecture)}:\n    training: {_flow(shown)}\n"
    merged = _parsed(grid, yaml.safe_load(grid.text), yaml.safe_load(text))
    (plan,) = [plan for plan in merged.architectures if plan.name == architecture]
    if not any(variant.training == settings for variant in plan.variants):
        raise PieceError(f"{architecture}: expected training {shown} in the piece, got another")
    return _commented(comment) + text


def _attacks(grid: Grid, protocol: str, label: str) -> list[PlannedAttack]:
    return [
        attack
        for plan in grid.architectures
        for attack in plan.attacks
        if attack.protocol == protocol and attack.label == label
    ]


def _parsed(grid: Grid, raw: Any, part: Any) -> Grid:
    text = yaml.safe_dump(_merge(raw, part), sort_keys=False)
    return parse_grid(text, source=f"{grid.source} with the piece")


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{name: _merge(base.get(name), value) for name, value in over.items()}}
    return over


def _name(name: str) -> str:
    """As a YAML key."""
    return str(yaml.safe_dump(name, default_flow_style=True).splitlines()[0])


def _flow(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {_value(value)}" for name, value in values.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _flow(value)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = f"{value:.12g}"
        mantissa, e, exponent = text.partition("e")  # YAML 1.1 wants a dot in 1.0e+07
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}" if e else text
    return str(value)


def _commented(comment: str) -> str:
    return "".join(f"# {line}\n" for line in comment.splitlines())
