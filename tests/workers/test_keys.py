"""Task keys: frozen, and a function of what determines the result alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers.contract import task_from_dict, task_key, task_to_dict
from prunegrid.workers.keys import canonical_json, derive_seed, digest, versioned

ROOT = Path(__file__).resolve().parent.parent.parent

#: The first task of each kind and architecture in the paper's grid. If this test fails, a change
#: renamed results that people have: give a new field a `versioned` default, or raise
#: STAGE_VERSIONS and say so in the release notes.
FROZEN = json.loads((ROOT / "tests/data/task_keys.json").read_text())


def paper_keys() -> dict[str, str]:
    plan = expand(read_grid(ROOT / "grid.yaml"))
    out: dict[str, str] = {}
    for key, task in plan.tasks.items():
        attack = f" {task.attack.attack}" if task.kind == "attack" else ""
        out.setdefault(f"{task.kind.value} {task.architecture}{attack}", key)
    return out


def test_the_papers_keys_are_frozen():
    assert paper_keys() == FROZEN


def test_every_task_survives_json():
    for task in expand(read_grid(ROOT / "grid.yaml")).tasks.values():
        again = task_from_dict(json.loads(json.dumps(task_to_dict(task))))
        assert again == task
        assert again.key == task.key


def test_every_field_counts():
    """Changing any one setting changes the key; how a network is found is no setting."""
    tasks = expand(read_grid(ROOT / "grid.yaml")).tasks.values()
    for kind in ("train", "prune", "attack"):
        task = next(t for t in tasks if t.kind == kind)
        for field in dataclasses.fields(task):
            for changed in changes(getattr(task, field.name)):
                other = dataclasses.replace(task, **{field.name: changed})
                said_elsewhere = field.name in task.outside_key
                assert (task_key(other) == task.key) == said_elsewhere, field.name


def changes(value):
    """Values that differ from `value` in one place."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            for changed in changes(getattr(value, field.name)):
                yield dataclasses.replace(value, **{field.name: changed})
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, str):
        yield value + "x"
    elif value is None:
        yield 1
    elif isinstance(value, tuple):
        yield (*value, ("new", 1))


def test_a_new_field_at_its_frozen_default_keeps_the_key():
    old = dataclasses.make_dataclass("T", [("a", int)], frozen=True)
    new = dataclasses.make_dataclass("T", [("a", int), ("b", int, versioned(7))], frozen=True)
    assert digest(old(1)) == digest(new(1)) == digest(new(1, 7))
    assert digest(new(1, 8)) != digest(new(1))


@given(st.integers(-(2**53), 2**53))
def test_a_whole_float_is_the_integer(number):
    assert digest([number]) == digest([float(number)])


def test_not_a_number_has_no_key():
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


@given(st.lists(st.text() | st.integers() | st.none(), min_size=1))
def test_derived_seeds_are_stateless_and_in_range(parts):
    seed = derive_seed(*parts)
    assert seed == derive_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed != derive_seed(*parts, "more")
