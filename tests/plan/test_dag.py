"""A grid as tasks: who is whose parent, what is shared, and what a variant changes."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.workers.contract import (
    AdversarialTraining,
    AttackTask,
    PruneTask,
    TaskKind,
    TrainTask,
)
from tests.grids import SMALL


def plan_of(more: str = "") -> Plan:
    return expand(parse_grid(SMALL + more, source="test"))


def prunes(plan: Plan) -> list[PruneTask]:
    return [task for task in plan.tasks.values() if isinstance(task, PruneTask)]


def test_a_chain_prunes_rate_after_rate():
    plan = plan_of()
    assert (len(plan.models), len(plan.cells)) == (2 * 2 * 3, 2 * 2 * 3 * 4)
    for task in prunes(plan):
        parent = plan.tasks[task.parent_key]
        if task.pruning.rate == 2:
            assert isinstance(parent, TrainTask)
            assert task.pruning.parent_rate == 1
        else:
            assert isinstance(parent, PruneTask)
            assert (parent.pruning.rate, task.pruning.parent_rate) == (2, 2)
            assert parent.pruning.method == task.pruning.method
        assert parent.seed == task.seed


def test_one_shot_prunes_each_rate_from_the_dense_model():
    for task in prunes(plan_of("pruning: {schedule: one-shot}\n")):
        assert isinstance(plan_of().tasks.get(task.parent_key), TrainTask), "as in a chain"
        assert task.pruning.parent_rate == 1


@pytest.mark.parametrize(("dense", "trainings"), [("per_method", 4), ("shared", 2)])
def test_dense_models_are_one_per_method_or_one_per_seed(dense, trainings):
    plan = plan_of(f"dense_model: {dense}\n")
    assert plan.count(TaskKind.TRAIN) == trainings
    assert plan.count(TaskKind.PRUNE) == 2 * 2 * 2
    attacked = {task.parent_key for task in plan.tasks.values() if isinstance(task, AttackTask)}
    assert len(attacked) == trainings + 8, "a shared model is attacked once"


@pytest.mark.parametrize("weights", ["retain", "rewind", "reinitialize"])
def test_what_fine_tuning_starts_from_is_part_of_the_work(weights):
    keys = {task.key for task in prunes(plan_of(f"pruning: {{weights: {weights}}}\n"))}
    other = "rewind" if weights == "retain" else "retain"
    assert keys.isdisjoint(t.key for t in prunes(plan_of(f"pruning: {{weights: {other}}}\n")))


def test_adversarial_fine_tuning_is_an_axis_beside_the_standard_one():
    """Same dense models; of both variants every pruned one, and every cell."""
    how = "{mix: 0.25, eps: 2/255, steps: 7}"
    plan = plan_of(f"variants: {{standard: {{}}, hard: {{fine_tuning: {{adversarial: {how}}}}}}}\n")
    assert plan.count(TaskKind.TRAIN) == plan_of().count(TaskKind.TRAIN)
    assert len(prunes(plan)) == 2 * len(prunes(plan_of()))
    assert len(plan.cells) == 2 * len(plan_of().cells)
    assert {task.key for task in prunes(plan_of())} < set(plan.tasks), "the standard ones as before"
    found = {task.training.adversarial for task in prunes(plan)}
    assert found == {
        None,
        AdversarialTraining(mix=0.25, eps=2 / 255, steps=7, rel_stepsize=0.25),
    }
    for task in plan.tasks.values():
        assert not isinstance(task, TrainTask) or task.training.adversarial is None


def test_shards_are_the_attacked_images_once_each():
    plan = plan_of()
    for cell in plan.cells:
        shards = [plan.tasks[key] for key in cell.task_keys]
        assert all(isinstance(shard, AttackTask) for shard in shards)
        images = [i for s in shards if isinstance(s, AttackTask) for i in range(s.start, s.stop)]
        assert images == list(range(24))


def test_tasks_may_be_wanted_without_models_and_cells():
    """Their parents are not in the plan: they have their results elsewhere."""
    whole = plan_of()
    attacks = {key: t for key, t in whole.tasks.items() if isinstance(t, AttackTask)}
    plan = Plan(grid=whole.grid, models=(), cells=(), tasks=attacks, wanted=tuple(attacks))
    assert plan.unfinished(()) == attacks
    first, *rest = attacks
    assert list(plan.unfinished({first})) == rest


def attacks(plan: Plan) -> dict[str, AttackTask]:
    return {key: t for key, t in plan.tasks.items() if isinstance(t, AttackTask)}


def test_what_is_attacked_is_part_of_the_work_where_something_is_pruned():
    """The option's default, and what is said of a dense model, leave every key as it was."""
    before = plan_of()
    assert set(plan_of("protocols: {strict: {network: stored}}").tasks) == set(before.tasks)
    after = plan_of("protocols: {strict: {network: shrunk}}")
    same = attacks(before).keys() & attacks(after).keys()
    assert {attacks(after)[key].parent_key for key in same} == {
        key for key, task in before.tasks.items() if isinstance(task, TrainTask)
    }
    assert {attacks(after)[key].attack.network for key in same} == {"stored"}
    other = attacks(after).keys() - same
    assert len(other) == len(attacks(before)) - len(same) > 0
    assert {attacks(after)[key].attack.network for key in other} == {"shrunk"}


def test_foolbox_s_attacks_are_of_the_stored_network():
    from prunegrid.orchestrator.errors import GridError

    text = "protocols: {p: {engine: foolbox, network: shrunk}}"
    with pytest.raises(GridError, match="expected stored with the engine foolbox, got shrunk"):
        plan_of(text)
    mixed = plan_of("protocols: {p: {network: shrunk, attacks: {cw_l2: {engine: foolbox}}}}")
    kinds = {(t.attack.engine, t.attack.network) for t in attacks(mixed).values()}
    assert kinds == {("strict", "shrunk"), ("strict", "stored"), ("foolbox", "stored")}
