"""The `attacks` and `protocols` parts of a grid file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from prunegrid.orchestrator.errors import expected, nearest
from prunegrid.orchestrator.grid.grid import Split
from prunegrid.orchestrator.grid.yaml_nodes import Node
from prunegrid.workers.catalog import ATTACKS, DATASETS, AttackEntry, Option, attack_entry
from prunegrid.workers.contract import AttackSettings
from prunegrid.workers.keys import Scalar

EngineName = Literal["strict", "foolbox", "foolbox-stock"]
Outputs = Literal["logits", "softmax"]
ENGINES: tuple[EngineName, ...] = ("strict", "foolbox", "foolbox-stock")
STOCK: EngineName = "foolbox-stock"
COMMON_KEYS = ("attack", "engine", "batch_size", "skip_at_or_below_accuracy")
PROTOCOL_KEYS = ("enabled", "engine", "outputs", "attack_split", "batch_size", "attacks")


@dataclass(frozen=True, kw_only=True)
class AttackDraft:
    """An attack's settings before a protocol and an architecture's eps settle them."""

    entry: AttackEntry
    options: Mapping[str, Scalar]
    engine: EngineName | None = None
    batch_size: int | None = None
    skip: float | None = None
    outputs: Outputs = "logits"

    def settle(self, eps: tuple[float, ...]) -> AttackSettings:
        return AttackSettings(
            attack=self.entry.name,
            engine=self.engine or "strict",
            outputs=self.outputs,
            options=tuple(sorted(self.options.items())),
            eps=eps if self.entry.finds == "fixed-eps" else (),
            batch_size=self.batch_size or 128,
            skip_at_or_below_accuracy=self.skip,
        )


@dataclass(frozen=True, kw_only=True)
class Protocol:
    name: str
    enabled: bool  #: False: a file's settings are checked, and nothing of it is run
    attacks: Mapping[str, AttackDraft]
    splits: Mapping[str, Split]  #: by data set
    default_split: Split

    def split(self, dataset: str) -> Split:
        return self.splits.get(dataset, self.default_split)


def read_attacks(node: Node) -> dict[str, AttackDraft]:
    """Label to draft; the label names the catalog's attack unless `attack` says another."""
    out = {}
    for label, part in node.mapping(what="a mapping of attacks").items():
        own = {} if part.is_null else part.mapping()
        name = own["attack"].text() if "attack" in own else label
        named = own.get("attack", part)
        entry = attack_entry(name)
        if entry is None:
            raise named.fail(
                f"unknown attack: {expected(ATTACKS, name)} (or foolbox:<class> for a stock one)"
            )
        defaults = {option.name: option.default for option in entry.options}
        out[label] = _override(AttackDraft(entry=entry, options=defaults), part)
    if not out:
        raise node.fail("expected at least one of attacks, got none")
    return out


def _override(draft: AttackDraft, node: Node) -> AttackDraft:
    if node.is_null:
        return draft
    options = {option.name: option for option in draft.entry.options}
    free = draft.entry.name.startswith("foolbox:")  # a stock attack checks its own settings
    own = node.mapping(None if free else (*COMMON_KEYS, *options))
    values = dict(draft.options)
    for name, part in own.items():
        if name in options:
            values[name] = _read_option(part, options[name])
        elif name not in COMMON_KEYS:
            values[name] = _read_free(part)
    engine, size, skip = draft.engine, draft.batch_size, draft.skip
    if "engine" in own:
        engine = cast(EngineName, own["engine"].choice(draft.entry.engines))
    if "batch_size" in own:
        size = read_size(own["batch_size"])
    if "skip_at_or_below_accuracy" in own:
        skip = own["skip_at_or_below_accuracy"].optional(lambda n: n.number(minimum=0, maximum=1))
    new = dataclasses.replace(draft, options=values, engine=engine, batch_size=size, skip=skip)
    _check_batch(new, new.entry.name, own.get("batch_size", node))
    return new


def read_size(node: Node) -> int:
    """A `batch_size` or `images_per_shard`."""
    if node.is_auto:
        raise node.fail(
            "expected a whole number of at least 1, got auto, which is no longer read: "
            "'prunegrid measure GRID' prints the numbers for this machine"
        )
    return node.integer(minimum=1)


def _read_option(node: Node, option: Option) -> Scalar:
    if option.type == "bool":
        return node.boolean()
    low = None if option.minimum is None else int(option.minimum)
    high = None if option.maximum is None else int(option.maximum)
    if option.type == "int":
        return node.integer(minimum=low, maximum=high)
    return node.number(minimum=option.minimum, maximum=option.maximum)


def _read_free(node: Node) -> Scalar:
    text = node.text()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    number = node.number()
    return int(number) if number.is_integer() and "." not in text and "e" not in text else number


def _check_batch(draft: AttackDraft, label: str, node: Node) -> None:
    size = draft.batch_size
    if draft.engine in (None, "strict") and size is not None and size % 16:
        raise node.fail(
            f"batch_size: expected a multiple of 16 for the engine strict (its padded shape), "
            f"got {size}"
        )


def read_protocols(
    node: Node | None, *, attacks: Mapping[str, AttackDraft], root: Node
) -> list[Protocol]:
    """Those enabled. Without a `protocols` part: one, strict, on logits and the test split."""
    if node is None:
        parts: dict[str, Node | None] = {"strict": None}
    else:
        parts = dict(node.mapping(what="a mapping of protocols"))
        if not parts:
            raise node.fail("expected at least one of protocols, got none")
    protocols = [_read_protocol(name, part, attacks, root) for name, part in parts.items()]
    enabled = [protocol for protocol in protocols if protocol.enabled]
    if not enabled:
        raise (node or root).fail(
            f"expected at least one with `enabled: true`, got {', '.join(parts)} all disabled"
        )
    return enabled


def _read_protocol(
    name: str, node: Node | None, attacks: Mapping[str, AttackDraft], root: Node
) -> Protocol:
    own = node.mapping(PROTOCOL_KEYS) if node is not None and not node.is_null else {}
    where = node or root
    outputs: Outputs = "logits"
    if "outputs" in own:
        outputs = cast(Outputs, own["outputs"].choice(("logits", "softmax")))
    engine: EngineName = "strict"
    if "engine" in own:
        engine = cast(EngineName, own["engine"].choice(ENGINES))
    size = read_size(own["batch_size"]) if "batch_size" in own else None
    overrides = _read_overrides(own.get("attacks"), attacks)
    settled = {}
    for label, draft in attacks.items():
        if label in overrides and overrides[label] is None:
            continue  # `label: none` leaves the attack out of this protocol
        mine = draft
        if (part := overrides.get(label)) is not None:
            mine = _override(draft, part)
        mine = dataclasses.replace(
            mine,
            engine=mine.engine or _usable(engine, label, mine.entry, own.get("engine", where)),
            batch_size=mine.batch_size or size,
            outputs=outputs,
        )
        _check_batch(mine, label, own.get("batch_size", where))
        settled[label] = mine
    splits, default = _read_splits(own.get("attack_split"))
    enabled = own["enabled"].boolean() if "enabled" in own else True
    return Protocol(
        name=name, enabled=enabled, attacks=settled, splits=splits, default_split=default
    )


def _usable(engine: EngineName, label: str, entry: AttackEntry, node: Node) -> EngineName:
    """The protocol's engine, or else the stock one where the attack has it."""
    for usable in (engine, STOCK):
        if usable in entry.engines:
            return usable
    raise node.fail(
        f"{label} has no {engine}: expected one of {', '.join(entry.engines)}; "
        f"leave it out with `attacks: {{{label}: none}}`, or give it an engine there"
    )


def _read_overrides(
    node: Node | None, attacks: Mapping[str, AttackDraft]
) -> dict[str, Node | None]:
    if node is None:
        return {}
    out: dict[str, Node | None] = {}
    for label, part in node.mapping().items():
        if label not in attacks:
            raise part.fail(f"unknown attack: {expected(attacks, label)}")
        out[label] = part.optional(lambda n: n)
    return out


def _read_splits(node: Node | None) -> tuple[dict[str, Split], Split]:
    names = ("test", "validation")
    if node is None:
        return {}, "test"
    if not node.is_mapping:
        return {}, cast(Split, node.choice(names))
    splits: dict[str, Split] = {}
    for dataset, part in node.mapping().items():
        if dataset not in DATASETS:
            raise part.fail(f"unknown data set {dataset!r}{nearest(dataset, DATASETS)}")
        splits[dataset] = cast(Split, part.choice(names))
    return splits, "test"
