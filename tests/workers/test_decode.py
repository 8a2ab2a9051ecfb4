"""JSON becomes tasks and records again only where every type is right."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers.contract import TaskKind, task_from_dict, task_to_dict
from tests.grids import TRANSFERRED

TASKS = expand(parse_grid(TRANSFERRED, source="small.yaml")).tasks.values()
RAW = {
    kind: json.loads(json.dumps(task_to_dict(next(t for t in TASKS if t.kind is kind))))
    for kind in TaskKind
}


@pytest.mark.parametrize(
    ("kind", "field", "value", "words"),
    [
        (TaskKind.TRAIN, "seed", "0", r"TrainTask\.seed: expected int, got str"),
        (TaskKind.TRAIN, "seed", 0.5, r"TrainTask\.seed: expected int, got float"),
        (TaskKind.TRAIN, "seed", True, r"TrainTask\.seed: expected int, got bool"),
        (TaskKind.TRAIN, "architecture", None, r"architecture: expected str, got null"),
        (TaskKind.TRAIN, "data", [], r"TrainTask\.data: expected object, got array"),
        (TaskKind.ATTACK, "split", "tests", r"AttackTask\.split: invalid enum value 'tests'"),
        (TaskKind.PRUNE, "sed", 1, r"PruneTask: unknown field \['sed'\], expected \['archi"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(kind, field, value, words):
    raw = {**RAW[kind], field: value}
    with pytest.raises(ValueError, match=words):
        task_from_dict(raw)


def test_wrong_and_unknown_fields_of_parts_are_named_too():
    raw = copy.deepcopy(RAW[TaskKind.TRAIN])
    raw["training"]["max_epochs"] = 1.5
    with pytest.raises(ValueError, match=r"TrainTask\.training\.max_epochs: expected int, got flo"):
        task_from_dict(raw)
    raw = copy.deepcopy(RAW[TaskKind.TRAIN])
    raw["training"]["epochs"] = 1
    with pytest.raises(ValueError, match=r"TrainTask\.training: unknown field \['epochs'\], exp"):
        task_from_dict(raw)


def test_a_missing_field_is_named():
    raw = {name: value for name, value in RAW[TaskKind.PRUNE].items() if name != "pruning"}
    with pytest.raises(ValueError, match="PruneTask: object missing required field pruning"):
        task_from_dict(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.sampled_from(list(TaskKind)), st.data())
def test_any_json_is_a_task_or_a_value_error(kind, data):
    raw = {**RAW[kind]}
    raw[data.draw(st.sampled_from([*raw, "more"]))] = data.draw(JSON)
    try:
        task = task_from_dict(raw)
    except ValueError:
        return
    again = task_from_dict(json.loads(json.dumps(task_to_dict(task))))
    assert again == task or "NaN" in json.dumps(task_to_dict(task))
