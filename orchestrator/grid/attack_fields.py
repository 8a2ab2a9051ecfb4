"""The `attacks` and `protocols` parts of a grid file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from prunegrid.orchestrator.errors import expected, nearest
from prunegrid.orchestrator.grid.fields import (
    BOOLEAN,
    TEXT,
    Field,
    Kind,
    Table,
    choice,
    mapping,
    maybe,
    number,
    optional,
)
from prunegrid.orchestrator.grid.grid import SplitName
from prunegrid.orchestrator.grid.typed_options import read_option, typed_code, typed_values
from prunegrid.orchestrator.grid.user_fields import OPTIONS, TARGET, VERSION
from prunegrid.orchestrator.grid.yaml_nodes import YamlNode
from prunegrid.workers.attacks.declaration import GIVEN
from prunegrid.workers.catalog import ATTACKS, NORMS, AttackEntry, attack_entry, own_entry
from prunegrid.workers.contract import AttackSettings, Finds, Norm, OwnAttack
from prunegrid.workers.keys import Scalar
from prunegrid.workers.user_options import read_signature

EngineName = Literal["strict", "foolbox", "foolbox-stock"]
Outputs = Literal["logits", "softmax"]
AttackedNetwork = Literal["stored", "shrunk"]
ENGINES: tuple[EngineName, ...] = ("strict", "foolbox", "foolbox-stock")
STOCK: EngineName = "foolbox-stock"
OUTPUTS: tuple[Outputs, ...] = ("logits", "softmax")
SPLITS: tuple[SplitName, ...] = ("test", "validation")


def read_size(node: YamlNode) -> int:
    """A `batch_size` or `images_per_shard`."""
    if node.is_auto:
        raise node.fail(
            "expected a whole number of at least 1, got auto, which is no longer read: "
            "'prunegrid measure GRID' prints the numbers for this machine"
        )
    return node.integer(minimum=1)


def _read_splits(node: YamlNode | None, datasets: Iterable[str]) -> dict[str, SplitName]:
    """By data set; test for those that are not named."""
    names = list(datasets)
    if node is None or not node.is_mapping:
        return dict.fromkeys(names, "test" if node is None else node.choice(SPLITS))
    splits: dict[str, SplitName] = dict.fromkeys(names, "test")
    for dataset, part in node.mapping().items():
        if dataset not in splits:
            raise part.fail(f"unknown data set {dataset!r}{nearest(dataset, names)}")
        splits[dataset] = part.choice(SPLITS)
    return splits


SIZE: Kind[int] = Kind("whole number of at least 1", read_size)


class AttackTable(Table):
    """An attack, under a label of its own; its other keys are the attack's options
    ([Attacks](attacks.md))."""

    path = "attacks.LABEL"
    attack = Field(TEXT, "name in the catalog, or `foolbox:CLASS`", default="", shown="the label")
    engine = Field(maybe(choice(ENGINES)), "what runs it", default=None, shown="the protocol's")
    batch_size = Field(maybe(SIZE), "images of a model call", default=None, shown="the protocol's")
    skip_at_or_below_accuracy = Field(
        optional(number(minimum=0, maximum=1)),
        "clean accuracy at which a model is not attacked and counts as broken",
        default=None,
    )


class OwnAttackTable(Table):
    """Beside these, of an attack that is a function of one's own ([Your own](own.md))."""

    path = "attacks.LABEL with `run`"
    run = Field(TARGET, "the function")
    norm: Field[Norm] = Field(choice(NORMS), "that its distances and eps are in")
    finds: Field[Finds] = Field(
        choice(get_args(Finds)), "one image for each eps, or the nearest one for all"
    )
    gradients = Field(BOOLEAN, "false: it needs decisions or scores alone", default=True)
    options = OPTIONS
    version = VERSION


class ProtocolTable(Table):
    """How the attacks are run and scored; without `protocols` there is one, named strict."""

    path = "protocols.NAME"
    enabled = Field(BOOLEAN, "false: checked, and not run", default=True)
    engine: Field[EngineName] = Field(
        choice(ENGINES),
        "what runs the attacks; one that lacks it is run by `foolbox-stock` where it has that",
        default="strict",
    )
    outputs: Field[Outputs] = Field(
        choice(OUTPUTS), "what the attacks differentiate through", default="logits"
    )
    network: Field[AttackedNetwork] = Field(
        choice(get_args(AttackedNetwork)),
        "what `strict` attacks: the pruned network with its zeros, or without its dead channels, "
        "verified with them ([Attacks](attacks.md#on-the-network-that-is-left))",
        default="stored",
    )
    attack_split = Field(
        maybe(mapping("`test` or `validation`, or a mapping of data sets to them")),
        "images that are attacked",
        default=None,
        shown="test",
    )
    batch_size = Field(
        maybe(SIZE),
        "images of a model call; `strict` takes multiples of 16",
        default=None,
        shown="128",
    )
    attacks = Field(
        maybe(mapping("mapping of labels to an attack's keys, or to `none`")),
        "what differs here; `none` leaves the attack out",
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class AttackDraft:
    """An attack's settings before a protocol and an architecture's eps settle them."""

    entry: AttackEntry
    options: Mapping[str, Scalar]
    engine: EngineName | None = None
    batch_size: int | None = None
    skip: float | None = None
    outputs: Outputs = "logits"
    network: AttackedNetwork = "stored"
    own: OwnAttack | None = None

    def settle(self, eps: tuple[float, ...]) -> AttackSettings:
        engine = self.engine or "strict"
        attack, edition = self.entry.called(engine)
        # Foolbox's answers are the stored network's, and a user's function may know its layers.
        ours = engine == "strict" and self.own is None
        return AttackSettings(
            attack=attack,
            edition=edition,
            engine=engine,
            outputs=self.outputs,
            options=tuple(sorted(self.options.items())),
            eps=eps if self.entry.finds == "fixed-eps" else (),
            batch_size=self.batch_size or 128,
            skip_at_or_below_accuracy=self.skip,
            own=self.own,
            network=self.network if ours else "stored",
        )


@dataclass(frozen=True, kw_only=True)
class Protocol:
    name: str
    enabled: bool  #: False: a file's settings are checked, and nothing of it is run
    attacks: Mapping[str, AttackDraft]
    splits: Mapping[str, SplitName]  #: by data set


def read_attacks(node: YamlNode) -> dict[str, AttackDraft]:
    """Label to draft; the label names the catalog's attack unless `attack` says another."""
    out = {}
    for label, part in node.mapping(what="a mapping of attacks").items():
        own = {} if part.is_null else part.mapping()
        if "run" in own:
            out[label] = _override(_read_own(own, part), part, more=OwnAttackTable.names())
            continue
        name = own["attack"].text() if "attack" in own else label
        named = own.get("attack", part)
        entry = attack_entry(name)
        if entry is None:
            raise named.fail(
                f"unknown attack: {expected(ATTACKS, name)} (or foolbox:<class> for a stock one, "
                "or `run: module:function` for one of your own)"
            )
        defaults = {option.name: option.default for option in entry.options}
        out[label] = _override(AttackDraft(entry=entry, options=defaults), part)
    if not out:
        raise node.fail("expected at least one of attacks, got none")
    return out


def _read_own(own: Mapping[str, YamlNode], node: YamlNode) -> AttackDraft:
    if "attack" in own:
        raise own["attack"].fail("expected `run` or `attack`, got both")
    table = OwnAttackTable
    target = table.run.of(own, node)
    if target.startswith("foolbox:"):
        raise own["run"].fail(
            f"expected a function of your own, got {target!r}; Foolbox's attacks are named by "
            f"`attack: {target}`"
        )
    code = typed_code(target, own, own["run"], given=GIVEN)
    how = OwnAttack(
        norm=table.norm.of(own, node),
        finds=table.finds.of(own, node),
        gradients=table.gradients.of(own, node),
        version=code.version,
    )
    entry = own_entry(target, how)
    takes_eps = "eps" in read_signature(target, GIVEN).given
    if takes_eps != (how.finds == "fixed-eps"):
        wanted = "a parameter eps" if not takes_eps else "no parameter eps"
        raise own["finds"].fail(
            f"expected {wanted} of {target} with {how.finds}, got {'one' if takes_eps else 'none'}"
        )
    options = {name: value for name, value in code.options if not isinstance(value, tuple)}
    return AttackDraft(entry=entry, options=options, own=how)


def _override(draft: AttackDraft, node: YamlNode, more: Sequence[str] = ()) -> AttackDraft:
    """`more`: keys that are read elsewhere."""
    if node.is_null:
        return draft
    options = {option.name: option for option in draft.entry.options}
    free = draft.entry.name.startswith("foolbox:")  # a stock attack checks its own settings
    values = dict(draft.options)
    if draft.own is not None:
        own = node.mapping((*AttackTable.names(), *more, "options"))
        values |= typed_values(draft.entry.name, options, own.get("options"))
        options = {}
    else:
        own = node.mapping(None if free else (*AttackTable.names(), *options))
    for name, given in own.items():
        if name in options:
            values[name] = read_option(given, options[name])
        elif free and name not in AttackTable.names():
            values[name] = _read_free(given)
    table, skip = AttackTable, draft.skip
    if "skip_at_or_below_accuracy" in own:  # `none` takes it away
        skip = table.skip_at_or_below_accuracy.of(own, node)
    engine = draft.engine
    if "engine" in own:
        engine = own["engine"].choice(draft.entry.engines)
    size = table.batch_size.of(own, node) or draft.batch_size
    new = dataclasses.replace(draft, options=values, engine=engine, batch_size=size, skip=skip)
    _check_batch(new, new.entry.name, own.get("batch_size", node))
    return new


def _read_free(node: YamlNode) -> Scalar:
    text = node.text()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    number = node.number()
    plain = "." not in text and "e" not in text
    return node.integer() if plain and number.is_integer() else number


def _check_batch(draft: AttackDraft, label: str, node: YamlNode) -> None:
    size = draft.batch_size
    if draft.engine in (None, "strict") and size is not None and size % 16:
        raise node.fail(
            f"batch_size: expected a multiple of 16 for the engine strict (its padded shape), "
            f"got {size}"
        )


def read_protocols(
    node: YamlNode | None,
    *,
    attacks: Mapping[str, AttackDraft],
    datasets: Iterable[str],
    root: YamlNode,
) -> list[Protocol]:
    """Those enabled; `datasets`: all that the grid can name.

    Without a `protocols` part: one, strict, on logits and the test split."""
    if node is None:
        parts: dict[str, YamlNode | None] = {"strict": None}
    else:
        parts = dict(node.mapping(what="a mapping of protocols"))
        if not parts:
            raise node.fail("expected at least one of protocols, got none")
    protocols = [
        _read_protocol(name, part, attacks, datasets, root) for name, part in parts.items()
    ]
    enabled = [protocol for protocol in protocols if protocol.enabled]
    if not enabled:
        raise (node or root).fail(
            f"expected at least one with `enabled: true`, got {', '.join(parts)} all disabled"
        )
    return enabled


def _read_protocol(
    name: str,
    node: YamlNode | None,
    attacks: Mapping[str, AttackDraft],
    datasets: Iterable[str],
    root: YamlNode,
) -> Protocol:
    where = node or root
    own = node.mapping(ProtocolTable.names()) if node is not None and not node.is_null else {}
    outputs = ProtocolTable.outputs.of(own, where)
    engine = ProtocolTable.engine.of(own, where)
    network = ProtocolTable.network.of(own, where)
    if network == "shrunk" and engine != "strict":
        raise own["network"].fail(f"expected stored with the engine {engine}, got shrunk")
    size = ProtocolTable.batch_size.of(own, where)
    overrides = _read_overrides(ProtocolTable.attacks.of(own, where), attacks)
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
            network=network,
        )
        _check_batch(mine, label, own.get("batch_size", where))
        settled[label] = mine
    return Protocol(
        name=name,
        enabled=ProtocolTable.enabled.of(own, where),
        attacks=settled,
        splits=_read_splits(ProtocolTable.attack_split.of(own, where), datasets),
    )


def _usable(engine: EngineName, label: str, entry: AttackEntry, node: YamlNode) -> EngineName:
    """The protocol's engine, or else the stock one where the attack has it."""
    for usable in (engine, STOCK):
        if usable in entry.engines:
            return usable
    raise node.fail(
        f"{label} has no {engine}: expected one of {', '.join(entry.engines)}; "
        f"leave it out with `attacks: {{{label}: none}}`, or give it an engine there"
    )


def _read_overrides(
    node: YamlNode | None, attacks: Mapping[str, AttackDraft]
) -> dict[str, YamlNode | None]:
    if node is None:
        return {}
    out: dict[str, YamlNode | None] = {}
    for label, part in node.mapping().items():
        if label not in attacks:
            raise part.fail(f"unknown attack: {expected(attacks, label)}")
        out[label] = part.optional(lambda n: n)
        for name in ("attack", "run"):
            if part.is_mapping and name in part.mapping():
                raise part.mapping()[name].fail(
                    f"{label} is the same attack in every protocol: expected no `{name}` here, but "
                    "a label of its own under `attacks`, and `none` in the others"
                )
    return out
