"""An engine that an attack lacks is refused with the grid, not by a worker after training."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid import attack_fields
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.workers.attacks.base import Attack
from prunegrid.workers.catalog import AttackEntry, attack_entry
from tests.grids import SMALL


class OnlyStrict(Attack):
    def strict(self, network, batch, context): ...


class StrictAndFoolbox(OnlyStrict):
    def foolbox(self, network, batch, context): ...


def entry(name: str, implementation: type[Attack] | None, foolbox_class: str | None = None):
    return AttackEntry(
        name=name,
        title=name,
        norm="l2",
        finds="minimum-norm",
        implementation=implementation,
        foolbox_class=foolbox_class,
    )


#: Attacks that only some engines have, under names of their own.
ENTRIES = {
    "only_strict": entry("only_strict", OnlyStrict),
    "only_stock": entry("only_stock", None, "L2DeepFoolAttack"),
    "ours": entry("ours", StrictAndFoolbox),
}


def entry_of(name: str) -> AttackEntry | None:
    return ENTRIES.get(name) or attack_entry(name)


@pytest.fixture(autouse=True)
def catalog(monkeypatch):
    monkeypatch.setattr(attack_fields, "attack_entry", entry_of)
    monkeypatch.setattr(attack_fields, "ATTACKS", MappingProxyType(ENTRIES))


def grid(name: str, protocol: str, more: str = "{}"):
    text = SMALL.replace("cw_l2: [1, 2]", f"{name}: [1, 2]")
    text = text.replace("  cw_l2: {binary_search_steps: 2, steps: 5}", f"  {name}: {more}")
    return parse_grid(f"{text}protocols: {protocol}\n", source="small.yaml")


def engine_of(name: str, protocol: str, more: str = "{}") -> str:
    plans = grid(name, protocol, more).architectures[0].attacks
    return next(attack.settings.engine for attack in plans if attack.label == name)


@pytest.mark.parametrize(
    ("name", "engine", "used"),
    [
        ("only_strict", "strict", "strict"),
        ("only_stock", "strict", "foolbox-stock"),
        ("only_stock", "foolbox", "foolbox-stock"),
        ("ours", "foolbox", "foolbox"),
    ],
)
def test_a_protocols_engine_or_the_stock_one_where_the_attack_has_it(name, engine, used):
    assert engine_of(name, f"{{p: {{engine: {engine}}}}}") == used


@pytest.mark.parametrize(
    ("name", "engine", "has"),
    [
        ("only_strict", "foolbox", "expected one of strict;"),
        ("only_strict", "foolbox-stock", "expected one of strict;"),
        ("ours", "foolbox-stock", "expected one of strict, foolbox;"),
    ],
)
def test_an_engine_that_an_attack_lacks_is_refused(name, engine, has):
    with pytest.raises(GridError) as caught:
        grid(name, f"\n  p:\n    engine: {engine}")
    message = str(caught.value)
    assert f"protocols.p.engine: {name} has no {engine}: {has}" in message
    assert message.startswith("small.yaml:19: "), "at the line of the engine"


def test_an_attack_may_name_an_engine_that_it_has_or_be_left_out():
    assert engine_of("only_strict", "{p: {engine: foolbox}}", "{engine: strict}") == "strict"
    left_out = grid("only_strict", "{p: {engine: foolbox, attacks: {only_strict: none}}, q: {}}")
    attacked = {(a.protocol, a.label) for a in left_out.architectures[0].attacks}
    assert ("p", "only_strict") not in attacked
    assert ("q", "only_strict") in attacked
    with pytest.raises(GridError, match=r"expected one of strict, got 'foolbox'"):
        grid("only_strict", "{p: {}}", "{engine: foolbox}")
