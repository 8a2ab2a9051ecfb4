"""What attacks declare of themselves, and what the catalog makes of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.workers.attacks.base import Attack
from prunegrid.workers.attacks.declaration import (
    DECLARED,
    AttackEntry,
    Option,
    attack,
    count,
    real,
    switch,
)
from prunegrid.workers.catalog import ATTACKS

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def declared(monkeypatch):
    """A copy of the registry, thrown away in the end."""
    before = dict(DECLARED)
    yield DECLARED
    DECLARED.clear()
    DECLARED.update(before)


def declare(implementation, **changes):
    values = {"title": "T", "norm": "l2", "finds": "minimum-norm"}
    return attack(AttackEntry(name="mine", **(values | changes)))(implementation)


@dataclass(frozen=True, kw_only=True)
class Mine(Attack):
    steps: int = count(7, "steps", search=(5, 50), spends="steps")
    size: float = real(0.5, "step size")
    restarts: int = count(2, "random starts", spends="rounds")
    nested: bool = switch(False, "nested")

    def strict(self, network, batch, context):
        return ()


@pytest.mark.parametrize("entry", ATTACKS.values(), ids=lambda entry: entry.name)
def test_declarations_are_consistent(entry):
    for option in entry.options:
        assert option.doc
        assert option.typed(option.default) == option.default
        low = -float("inf") if option.minimum is None else option.minimum
        if option.type != "bool":
            assert option.default >= low
        if option.search is not None:
            assert low <= option.search[0] < option.search[1]
            assert option.search[0] > 0, "searched on a logarithmic scale"
    assert [o.spends for o in entry.options].count("steps") == 1
    assert entry.implementation is not None
    assert entry.make({}) == entry.implementation()


def test_a_class_is_its_declaration(declared):
    declare(Mine)
    entry = declared["mine"]
    assert entry.engines == ("strict",)
    assert entry.rounds == ("restarts", "steps"), "a budget of queries cuts the last one"
    assert entry.options[0] == Option(
        name="steps", type="int", default=7, doc="steps", minimum=1, search=(5, 50), spends="steps"
    )
    assert entry.make({"size": 1}) == Mine(size=1.0)
    assert isinstance(entry.make({"size": 1}).size, float)
    declared.clear()
    declare(Mine, foolbox_class="LinfPGD")
    assert declared["mine"].engines == ("strict", "foolbox-stock")


def test_what_cannot_be_declared(declared):
    declare(Mine)
    with pytest.raises(ValueError, match="mine: declared twice"):
        declare(Mine)
    declared.clear()

    @dataclass(frozen=True, kw_only=True)
    class Untyped(Mine):
        loose: int = 3

    with pytest.raises(ValueError, match="loose: expected count, real or switch"):
        declare(Untyped)

    @dataclass(frozen=True, kw_only=True)
    class Nothing(Attack):
        pass

    with pytest.raises(ValueError, match="expected a method strict or foolbox, or foolbox_class"):
        declare(Nothing)


def test_options_are_refused_where_they_are_none(declared):
    declare(Mine)
    with pytest.raises(ValueError, match=r"expected options .*'steps'.*got \['stepss'\]"):
        declared["mine"].make({"stepss": 3})
    for options, message in (
        ({"steps": True}, "steps: expected int, got True"),
        ({"steps": 1.5}, "steps: expected int, got 1.5"),
        ({"size": None}, "size: expected float, got None"),
        ({"nested": 1}, "nested: expected bool, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            declared["mine"].make(options)


@given(value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()))
@pytest.mark.parametrize("kind", [int, float, bool])
def test_a_typed_value_is_equal_and_of_its_type_or_refused(kind, value):
    option = Option(name="x", type=kind.__name__, default=0, doc="x")
    try:
        typed = option.typed(value)
    except ValueError:
        assert type(value) is not kind or value != value, "only nan has no equal"
        return
    assert type(typed) is kind
    assert typed == value


def test_the_catalog_needs_no_heavy_import():
    code = (
        "import sys\nimport prunegrid.workers.catalog\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'tensorflow', 'keras', 'foolbox', 'eagerpy', 'scipy', 'pandas'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
