"""What the catalog reads from the name of Foolbox's attack, compared to Foolbox itself."""

from __future__ import annotations

import inspect
import sys

import pytest

from prunegrid.workers.catalog import attack_entry


def stock() -> dict[str, type]:
    attacks = pytest.importorskip("foolbox.attacks")
    base = sys.modules["foolbox.attacks.base"].Attack
    return {
        name: found
        for name, found in vars(attacks).items()
        if inspect.isclass(found) and issubclass(found, base) and not inspect.isabstract(found)
    }


def entry(name: str):
    found = attack_entry(f"foolbox:{name}")
    assert found is not None
    return found


def test_a_short_name_has_the_norm_of_its_class():
    aliases = {name: found for name, found in stock().items() if name != found.__name__}
    assert {"PGD", "FGSM", "L2PGD"} <= set(aliases)
    for name, found in aliases.items():
        assert entry(name).norm == entry(found.__name__).norm, name


def test_an_attack_asks_for_gradients_if_its_code_does():
    """The source of the class and of its parents is the witness."""
    checked = {True: 0, False: 0}
    for name, found in stock().items():
        sources = [
            inspect.getsource(sys.modules[parent.__module__])
            for parent in found.__mro__
            if parent.__module__.startswith("foolbox.attacks")
        ]
        asks = any("and_grad" in text for text in sources)
        assert entry(name).gradients == asks, name
        checked[asks] += 1
    assert min(checked.values()) > 5
