"""Transfers through the driver, with a fake runner: what runs, what is kept, what runs again."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.compact import compact
from prunegrid.orchestrator.commands.merge import merge
from prunegrid.orchestrator.commands.plan import kept_adversarials
from prunegrid.orchestrator.commands.status import read_progress
from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.plan.plan_index import PlanIndex
from prunegrid.orchestrator.store import compaction
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers import layout
from prunegrid.workers.contract import AttackTask, TaskKind
from tests.commands.test_run import cells, run
from tests.fakes import BUG, DIVERGES, attempts_of
from tests.grids import SMALL, TRANSFERRED, with_seeds

PLACE = ["architecture", "variant", "method", "source_rate", "rate", "seed", "protocol"]
PLACE += ["attack", "eps"]


def plan_of(text: str, **select):
    return expand(parse_grid(text, source="test"), {k: tuple(v) for k, v in select.items()})


def transfers(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "store/results/transfers").sort_values(PLACE)


def doubts(folder: Path, monkeypatch) -> list[str]:
    """Without asking models again: the fakes have none."""
    monkeypatch.setattr(Verifier, "_predict_again", lambda self: iter(()))
    return [str(finding) for finding in Verifier(Store.open(str(folder / "store"))).findings()]


def kinds(keys) -> Counter[str]:
    return Counter(key.partition("-")[0] for key in keys)


# --------------------------------------------------------------------------- plans


def test_keys_and_tasks_of_a_grid_without_it_are_as_before():
    plain, with_them = plan_of(SMALL), plan_of(TRANSFERRED)
    assert list(plain.tasks) == [k for k in with_them.tasks if not k.startswith("transfer")]
    assert [c.name for c in plain.cells] == [c.name for c in with_them.cells]
    assert plain.transfers == ()
    assert not any(t.keep for t in plain.tasks.values() if isinstance(t, AttackTask))
    assert all(t.keep for t in with_them.tasks.values() if isinstance(t, AttackTask))


def test_each_pruned_model_has_its_dense_ones_adversarials_and_gives_its_own():
    plan = plan_of(TRANSFERRED)
    # 2 methods x 2 seeds x 2 pruned rates x 2 attacks x 2 directions; 2 eps each
    assert plan.count(TaskKind.TRANSFER) == 32
    assert len(plan.transfers) == 64
    models = {model.task_key: model.place for model in plan.models}
    for transfer in plan.transfers:
        task = plan.tasks[transfer.task_key]
        source, target = models[task.source_key], models[task.parent_key]
        assert (transfer.place.source, transfer.place.target) == (source, target)
        assert {source.rate, target.rate} == {1.0, max(source.rate, target.rate)}
        assert source.rate != target.rate
        for key in task.attack_keys:
            assert plan.tasks[key].parent_key == task.source_key
            assert plan.tasks[key].attack == task.attack
    order = {key: i for i, key in enumerate(plan.tasks)}
    assert all(order[k] < order[key] for key in order for k in _parents(plan, key))


def _parents(plan, key):
    from prunegrid.orchestrator.plan.dag import parents_of

    return parents_of(plan.tasks[key])


def test_a_part_is_selected_by_its_pruned_models():
    plan = plan_of(TRANSFERRED, rate=["4"], seed=["0"], attack=["cw_l2"])
    assert {m.place.rate for m in plan.models} == {4.0}
    rates = {(t.place.source.rate, t.place.target.rate) for t in plan.transfers}
    assert rates == {(1.0, 4.0), (4.0, 1.0)}
    attacked = {t.parent_key for t in plan.tasks.values() if isinstance(t, AttackTask)}
    dense = {t.source_key for k, t in plan.tasks.items() if k.startswith("transfer")}
    assert dense == attacked, "the dense model is attacked for its adversarials"
    assert plan_of(TRANSFERRED, rate=["1"]).transfers == ()
    assert {t.place.eps for t in plan_of(TRANSFERRED, eps=["1"]).transfers} == {1.0}


def test_rates_without_the_dense_model_attack_it_all_the_same():
    plan = plan_of(TRANSFERRED.replace("rates: [1, 2, 4]", "rates: [2, 4]"))
    assert {m.place.rate for m in plan.models} == {2.0, 4.0}
    assert len(plan.transfers) == 64
    of_cells = {key for cell in plan.cells for key in cell.task_keys}
    more = [k for k, t in plan.tasks.items() if isinstance(t, AttackTask) and k not in of_cells]
    assert len(more) == 2 * 2 * 2 * 2, "methods, seeds, attacks, shards"


def test_a_shared_dense_model_is_attacked_once_and_shown_to_all():
    plan = plan_of(TRANSFERRED + "dense_model: shared\n")
    from_dense = {
        t.source_key
        for k, t in plan.tasks.items()
        if k.startswith("transfer") and t.source_key.startswith("train")
    }
    assert len(from_dense) == 2, "seeds"
    assert len(plan.transfers) == 64


def test_variants_stay_apart():
    text = TRANSFERRED + (
        "variants:\n  standard: {}\n  robust:\n    training:\n"
        "      adversarial: {mix: 0.5, eps: 0.1, steps: 2}\n"
    )
    plan = plan_of(text)
    assert {t.place.source.variant for t in plan.transfers} == {"standard", "robust"}
    assert all(t.place.source.variant == t.place.target.variant for t in plan.transfers)
    assert len(plan.transfers) == 128


def test_only_the_named_attacks_keep_theirs():
    plan = plan_of(SMALL + "transfer: {attacks: [pgd_linf]}\n")
    assert {t.place.attack for t in plan.transfers} == {"pgd_linf"}
    kept = {t.attack.attack for t in plan.tasks.values() if isinstance(t, AttackTask) and t.keep}
    assert kept == {"pgd_linf"}


def test_one_work_under_two_labels_keeps_them_for_both():
    text = (
        SMALL.replace("          cw_l2: [1, 2]\n", "")
        .replace("      cw_l2: [1, 2]\n", "      cw_l2: [1, 2]\n      again: [1, 3]\n")
        .replace(
            "  cw_l2: {binary_search_steps: 2, steps: 5}\n",
            "  cw_l2: {binary_search_steps: 2, steps: 5}\n"
            "  again: {attack: cw_l2, binary_search_steps: 2, steps: 5}\n",
        )
    )
    plan = plan_of(text + "transfer: {attacks: [again]}\n")
    assert all(
        t.keep is (t.attack.attack == "cw_l2")
        for t in plan.tasks.values()
        if isinstance(t, AttackTask)
    )
    assert {t.place.attack for t in plan.transfers} == {"again"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("transfer: {attacks: [pgd]}", "pgd_linf"),
        ("transfer: {protocols: [papers]}", "strict"),
        ("transfer: {attacks: []}", "transfer|empty|expected"),
        ("transfer: {from: dense}", "attacks"),
        ("transfer: perhaps", "true"),
        ("keep_adversarials: some", "true"),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(line, words):
    with pytest.raises(GridError, match=words) as caught:
        parse_grid(SMALL + line + "\n", source="test")
    assert caught.value.line is not None


def test_rates_without_a_pruned_one_are_refused():
    with pytest.raises(GridError, match="above 1"):
        parse_grid(TRANSFERRED.replace("rates: [1, 2, 4]", "rates: [1]"), source="test")


def test_plan_says_how_large_the_adversarials_are():
    plan = plan_of(TRANSFERRED)
    images = sum(
        (t.stop - t.start) * max(len(t.attack.eps), 1)
        for t in plan.tasks.values()
        if isinstance(t, AttackTask)
    )
    total, left = kept_adversarials(plan, set())
    assert total == left == images * (28 * 28 * 4 + 20)
    first = next(k for k, t in plan.tasks.items() if isinstance(t, AttackTask))
    assert kept_adversarials(plan, {first})[1] == total, "its rows alone are not them"
    assert kept_adversarials(plan, {layout.adversarials_name(first)})[1] < total
    assert kept_adversarials(plan_of(SMALL), set()) == (0, 0)


# --------------------------------------------------------------------------- runs


def test_a_run_makes_every_row_once_and_again_nothing(tmp_path, monkeypatch):
    assert run(tmp_path, TRANSFERRED) == 0
    frame = transfers(tmp_path)
    assert len(frame) == 64
    assert not frame.duplicated(PLACE).any()
    assert kinds(attempts_of(tmp_path / "store"))["transfer"] == 32
    assert (frame["n_transferred"] <= frame["n_adversarials"]).all()
    assert frame["n_adversarials"].sum() > 0
    rates = frame["n_transferred"] / frame["n_adversarials"]
    assert np.allclose(rates, frame["transfer_rate"], equal_nan=True)
    assert doubts(tmp_path, monkeypatch) == []
    assert run(tmp_path, TRANSFERRED) == 0
    assert set(attempts_of(tmp_path / "store").values()) == {1}


def test_to_ask_for_it_later_runs_attacks_once_more_and_keeps_their_rows(tmp_path, monkeypatch):
    assert run(tmp_path) == 0
    before = cells(tmp_path)
    plan = plan_of(TRANSFERRED)
    store = Store.open(str(tmp_path / "store"))
    attacks = {k for k, t in plan.tasks.items() if isinstance(t, AttackTask)}
    assert plan.lacking(store.finished()) == attacks
    assert plan_of(SMALL).lacking(store.finished()) == set()
    assert run(tmp_path, TRANSFERRED) == 0
    tries = attempts_of(tmp_path / "store")
    assert {key for key, n in tries.items() if n == 2} == attacks
    pd.testing.assert_frame_equal(cells(tmp_path), before)
    assert doubts(tmp_path, monkeypatch) == []
    assert run(tmp_path) == 0, "and without it nothing runs"
    assert run(tmp_path, TRANSFERRED) == 0
    assert attempts_of(tmp_path / "store") == tries


def test_what_was_kept_before_serves_a_transfer_that_is_asked_for_later(tmp_path):
    assert run(tmp_path, SMALL + "keep_adversarials: true\n") == 0
    assert run(tmp_path, TRANSFERRED) == 0
    assert set(attempts_of(tmp_path / "store").values()) == {1}


def test_deleted_adversarials_are_made_again_only_for_what_lacks_them(tmp_path):
    assert run(tmp_path, TRANSFERRED) == 0
    kept = sorted((tmp_path / "store" / layout.ALL_ADVERSARIALS).glob("*.npz"))
    for path in kept:
        path.unlink()
    assert run(tmp_path, TRANSFERRED) == 0
    assert set(attempts_of(tmp_path / "store").values()) == {1}, "every transfer has its result"
    plan = plan_of(TRANSFERRED)
    lost = next(key for key in plan.tasks if key.startswith("transfer"))
    (tmp_path / "store" / layout.transfer_image_rows(lost)).unlink()
    assert run(tmp_path, TRANSFERRED) == 0
    again = {k for k, n in attempts_of(tmp_path / "store").items() if n == 2}
    assert again == {lost, *plan.tasks[lost].attack_keys}
    assert run(tmp_path, TRANSFERRED + "keep_adversarials: true\n") == 0
    assert len(list((tmp_path / "store" / layout.ALL_ADVERSARIALS).glob("*.npz"))) == len(kept)


@pytest.mark.parametrize("cut", ["end", "middle"])
def test_torn_adversarials_are_made_again(cut, tmp_path):
    assert run(tmp_path, SMALL + "keep_adversarials: true\n") == 0
    path = min((tmp_path / "store" / layout.ALL_ADVERSARIALS).glob("*.npz"))
    if cut == "end":
        os.truncate(path, path.stat().st_size - 9)
    else:
        content = bytearray(path.read_bytes())
        for i in range(len(content) // 3, len(content) // 3 + 200):
            content[i] ^= 0xFF
        path.write_bytes(content)
    assert run(tmp_path, TRANSFERRED) == 0
    tries = attempts_of(tmp_path / "store")
    assert tries[path.stem] == 2
    assert len(transfers(tmp_path)) == 64


def test_merged_rows_are_not_doubled_by_attacks_that_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "PAUSE_S", 0.0)
    monkeypatch.setattr(Verifier, "_predict_again", lambda self: iter(()))
    assert run(tmp_path) == 0
    before = cells(tmp_path)
    compact(str(tmp_path / "store"), Console(quiet=True))
    assert run(tmp_path, TRANSFERRED) == 0
    assert doubts(tmp_path, monkeypatch) == []
    compact(str(tmp_path / "store"), Console(quiet=True))
    assert doubts(tmp_path, monkeypatch) == []
    pd.testing.assert_frame_equal(cells(tmp_path), before)
    assert len(transfers(tmp_path)) == 64
    assert run(tmp_path, TRANSFERRED) == 0
    assert max(attempts_of(tmp_path / "store").values()) == 2


def test_a_failed_attack_blocks_the_transfers_that_rest_on_it(tmp_path):
    text = with_seeds(0, BUG) + "transfer: true\n"
    assert run(tmp_path, text) == 1
    assert set(transfers(tmp_path)["seed"]) == {0}
    progress = read_progress(Store.open(str(tmp_path / "store")))
    keys = [k for k, t in progress.index.plan.tasks.items() if t.seed == BUG]
    states = {k.partition("-")[0]: progress.state_of(k) for k in keys}
    assert states["transfer"] == "blocked"


def test_a_diverged_model_has_no_figures_and_does_no_harm(tmp_path, monkeypatch):
    assert run(tmp_path, with_seeds(0, DIVERGES) + "transfer: true\n") == 0
    frame = transfers(tmp_path)
    lost = frame[frame.seed == DIVERGES]
    assert lost[["clean_accuracy", "transfer_rate", "robust_accuracy"]].isna().all(axis=None)
    assert (lost["n_adversarials"] == 0).all()
    assert doubts(tmp_path, monkeypatch) == []


def test_states_count_what_runs_again(tmp_path):
    assert run(tmp_path) == 0
    store = Store.open(str(tmp_path / "store"))
    plan = plan_of(TRANSFERRED)
    index = PlanIndex(plan)
    done = index.done(store.finished())
    assert {index.keys[i] for i in np.flatnonzero(done)} == plan.done(store.finished())
    needed = {index.keys[i] for i in np.flatnonzero(index.needed(done))}
    assert needed == set(plan.unfinished(store.finished()))


def test_stores_of_two_halves_become_one(tmp_path, monkeypatch):
    halves = [tmp_path / name for name in ("a", "b")]
    for half, seed in zip(halves, ("0", "1"), strict=True):
        half.mkdir()
        assert run(half, TRANSFERRED, select=(f"seed={seed}",)) == 0
    target = tmp_path / "store"
    merge([str(half / "store") for half in halves], str(target), Console(quiet=True))
    assert len(transfers(tmp_path)) == 64
    assert doubts(tmp_path, monkeypatch) == []
    assert run(tmp_path, TRANSFERRED) == 0
    assert set(attempts_of(target).values()) <= {1}
    assert load_plan(Store.open(str(target))).unfinished(Store.open(str(target)).finished()) == {}


def test_verify_sees_what_was_changed(tmp_path, monkeypatch):
    assert run(tmp_path, TRANSFERRED) == 0
    store = tmp_path / "store"
    row = min((store / layout.TRANSFER_ROWS).glob("*.parquet"))
    other = max((store / layout.TRANSFER_ROWS).glob("*.parquet"))
    row.write_bytes(other.read_bytes())
    kept = sorted((store / layout.ALL_ADVERSARIALS).glob("*.npz"))
    kept[0].write_bytes(kept[1].read_bytes())
    found = " ".join(doubts(tmp_path, monkeypatch))
    assert "row-mismatch" in found
    assert "adversarials-differ" in found
