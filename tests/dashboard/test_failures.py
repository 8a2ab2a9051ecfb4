"""Failures that look alike are one line, with all that is needed to act."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.dashboard.answers import Answers, Query
from prunegrid.orchestrator.dashboard.failure_groups import GROUPS, TASKS, signature
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.store.store import Store
from tests.dashboard.stores import Run
from tests.grids import with_seeds


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("shapes (3, 4) differ", "shapes (15, 64) differ"),
        ("can't read /data/a/x.npz: gone", "can't read /scratch/b/y-1.npz: gone"),
        ("no weights of attack-0123456789abcdef0123", "no weights of prune-ffffffffffffffffffff"),
        ("at 0x7f00aa", "at 0x1"),
        ("slot 3-4 of gpu-12: 16.5ms", "slot 0-1 of gpu-3: 2ms"),
        ("loss 1.5e-07 at step 3", "loss 22.25 at step 99"),
        ("first line\nValue 1", "first line\nsomething else"),
    ],
)
def test_what_differs_by_numbers_and_names_alone_is_one_cause(one, other):
    assert signature("bug", one) == signature("bug", other)


def test_classes_and_words_tell_causes_apart():
    texts = [("bug", "out of memory"), ("device-memory", "out of memory"), ("bug", "no such layer")]
    assert len({signature(*text) for text in texts}) == 3
    assert signature("", "") == "failed"


def test_digits_of_a_name_stay():
    told = "SparseL1DescentAttack: no conv2d_3 of L2 in float16, 7 of 8"
    assert signature("bug", told) == (
        "bug: SparseL1DescentAttack: no conv2d_3 of L2 in float16, <n> of <n>"
    )


def test_failures_of_tasks_that_an_edit_took_out_are_left_out(tmp_path):
    """Nothing tries them again."""
    run = Run(tmp_path / "s")
    gone, stays = [key for key in run.keys if key.startswith("train-")][2:4]
    run.give_up(gone, "ValueError: planted")
    run.give_up(stays, "ValueError: planted")
    task = run.plan.tasks[gone]
    assert (task.seed, run.plan.tasks[stays].seed) == (0, 1)
    run.store.set_grid(with_seeds(1))
    found = payload(run)
    (group,) = found["groups"]
    assert [one["key"] for one in group["tasks"]] == [stays]
    assert group["retry"].split()[-1] == stays
    assert (found["attempts"], found["by_class"], group["count"]) == (1, {"bug": 1}, 1)
    run.store.set_grid(with_seeds(2))
    assert payload(run)["groups"] == []


def payload(run: Run, **query: str) -> dict:
    reader = StoreReader(Store.open(run.address))
    return Answers(reader, can_retry=False).failures(
        reader.refresh(budget_s=60), Query(tuple(query.items()))
    )


def test_a_group_says_what_where_when_and_how_to_try_again(mixed):
    found = payload(mixed)
    (group,) = found["groups"]
    assert group["signature"] == "bug: ValueError: shapes (<n>, <n>) differ"
    assert (group["count"], group["open"], group["hosts"]) == (2, 1, {"node-b": 2})
    (task,) = group["tasks"]
    assert (task["attempts"], task["state"]) == (2, "failed")
    assert group["traceback_tail"].endswith("ValueError: shapes (5, 6) differ"), "the latest"
    assert group["retry"] == f"prunegrid retry --store {mixed.address} {task['key']}"
    assert (found["by_class"], found["by_host"]) == ({"bug": 2}, {"node-b": 2})
    assert group["first_s"] <= group["last_s"]


def test_what_succeeded_in_the_end_comes_last(tmp_path):
    run = Run(tmp_path / "s")
    run.fail(run.keys[1], "OSError: passed", kind="storage")
    run.start(run.keys[1], 2)
    run.finish(run.keys[1])
    run.give_up(run.keys[0], "ValueError: still open")
    run.fail(run.keys[1], "OSError: passed", kind="storage")
    run.say("done", key=run.keys[1], attempt=1, worker="n/0", seconds=1.0)
    groups = payload(run)["groups"]
    assert [(g["class"], g["open"]) for g in groups] == [("bug", 1), ("storage", 0)]
    assert groups[1]["tasks"][0]["state"] == "done"


def test_lists_are_cut_and_paged_on_the_server(tmp_path):
    run = Run(tmp_path / "s", with_seeds(*range(4)))
    for number in range(GROUPS + 3):
        name = "".join(chr(ord("a") + int(d)) for d in str(number))
        run.journal.write("failed", key=run.keys[0], worker="n/0", kind="bug", message=name)
    for key in run.keys[1 : TASKS + 6]:
        run.journal.write("failed", key=key, worker="n/0", kind="lost", message="z")
    run.journal.flush()
    first, second = payload(run), payload(run, page="1")
    assert (first["pages"], len(first["groups"]), len(second["groups"])) == (2, GROUPS, 4)
    big = next(g for g in first["groups"] + second["groups"] if g["class"] == "lost")
    assert (len(big["tasks"]), big["more"], big["tasks"][0]["state"]) == (TASKS, 5, "waiting")
    names = {g["signature"] for g in first["groups"]} & {g["signature"] for g in second["groups"]}
    assert not names


def test_a_filter_leaves_the_failures_of_its_tasks(mixed):
    assert payload(mixed, seed="1")["attempts"] == 2
    assert payload(mixed, seed="0")["attempts"] == 0
