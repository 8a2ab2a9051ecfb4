"""Worst cases per image and doubled steps: planted images, and those of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.plan.convergence_checks import DoubledSteps, find_doubled
from prunegrid.orchestrator.report import load_results
from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.convergence import convergence_table
from prunegrid.orchestrator.report.evidence import (
    Evidence,
    TaskImages,
    attack_rows,
    gather,
    load_images,
)
from prunegrid.orchestrator.report.findings import Topic, findings
from prunegrid.orchestrator.report.image_outcomes import ImageOutcomes
from prunegrid.orchestrator.report.masking import with_gradient_free
from prunegrid.orchestrator.report.page import page
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.report.worst_case import worst_per_image as per_image
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.image_rows import parquet_bytes
from tests.fakes import RUNNER
from tests.grids import DOUBLED
from tests.report.synthetic import METHODS, THREATS, synthetic

N = 20


def worst_per_image(results: Results, images: dict[str, TaskImages]) -> pd.DataFrame:
    return per_image(results, ImageOutcomes(images))


def shard(broken_at: np.ndarray, *, eps: tuple[float, ...] = (), start: int = 0) -> TaskImages:
    """Images that break from these distances on; with `eps`, a fixed-eps attack's rows."""
    n, kinds = len(broken_at), eps or (np.nan,)
    distance = np.tile(broken_at, len(kinds))
    at = np.repeat(kinds, n)
    return TaskImages(
        image=np.tile(np.arange(start, start + n), len(kinds)),
        eps=at,
        distance=distance,
        broken=distance < at if eps else np.ones(n * len(kinds), bool),
        label=np.tile(np.arange(start, start + n) % 10, len(kinds)),
    )


@pytest.fixture(scope="module")
def results() -> Results:
    return synthetic(methods=METHODS[:1], rates=(1.0, 2.0), seeds=2)


def images_of(results: Results, attacks: dict[str, np.ndarray]) -> dict[str, TaskImages]:
    """For every model: which distance breaks which image."""
    out = {}
    for cell in results.cells.itertuples():
        if cell.attack in attacks:
            eps = THREATS[cell.attack, cell.norm] if cell.finds == "fixed-eps" else ()
            out[cell.task_keys[0]] = shard(attacks[cell.attack], eps=eps)
    return out


def test_an_image_stands_only_where_no_attack_breaks_it(results):
    never, always = np.inf, 0.0
    first = np.where(np.arange(N) < 5, always, never)  # breaks 0 to 4
    second = np.where((np.arange(N) >= 3) & (np.arange(N) < 10), 1.5, never)  # 3 to 9 from 1.5 on
    images = images_of(results, {"bb_l0": first, "cw_l2": second})
    worst = worst_per_image(results, images).set_index(["rate", "strength"])
    assert set(worst.attacks) == {"bb_l0+cw_l2"}
    assert worst.loc[(2.0, 1), "mean"] == pytest.approx(15 / N)  # C&W at eps 1 breaks none yet
    assert worst.loc[(2.0, 2), "mean"] == pytest.approx(10 / N)  # at 2, 0 to 9 are broken
    assert set(worst.n) == {2}


def test_fixed_eps_attacks_count_at_their_own_eps(results):
    linf = np.where(np.arange(N) % 2, 10 / 255, np.inf)  # breaks the odd ones at 16 and 32 / 255
    images = images_of(results, {"pgd_linf": linf, "cw_l2": np.full(N, np.inf)})
    worst = worst_per_image(results, images).set_index(["rate", "strength"])
    assert [worst.loc[(1.0, k), "mean"] for k in (1, 2, 3, 4)] == [1.0, 1.0, 0.5, 0.5]


def test_what_lacks_rows_is_missing_and_what_was_skipped_is_broken(results):
    stand = {"bb_l0": np.full(N, np.inf), "cw_l2": np.full(N, np.inf)}
    images = images_of(results, stand)
    assert worst_per_image(results, images_of(results, {"cw_l2": np.zeros(N)})).empty
    mine = (results.cells.rate == 2) & (results.cells.seed == 1) & (results.cells.attack == "bb_l0")
    key = results.cells[mine].task_keys.iloc[0][0]
    rest = {name: rows for name, rows in images.items() if name != key}
    gone = worst_per_image(results, rest).set_index(["rate", "strength"])
    assert gone.loc[(2.0, 1), "n"] == 1
    assert gone.loc[(1.0, 1), "n"] == 2
    cells = results.cells.copy()
    cells.loc[mine, ["n_skipped", "robust_accuracy"]] = [128, 0.0]
    skipped = worst_per_image(dataclasses.replace(results, cells=cells), rest)
    skipped = skipped.set_index(["rate", "strength"])
    assert (skipped.loc[(2.0, 1), "n"], skipped.loc[(2.0, 1), "mean"]) == (2, 0.5)
    images[key] = shard(np.full(N, np.inf), start=1)  # other images: nothing to combine
    assert worst_per_image(results, images).set_index(["rate", "strength"]).loc[(2.0, 1), "n"] == 1


def test_shards_are_joined_in_any_order_and_gaps_are_refused():
    images = {"b": shard(np.array([3.0, 4.0]), start=2), "a": shard(np.array([1.0, 2.0]))}
    rows = attack_rows(images, ["b", "a"], attack="cw_l2", norm="l2")
    assert rows.images.tolist() == [0, 1, 2, 3]
    assert rows.robust(2.5).tolist() == [False, False, True, True]
    assert attack_rows(images, ["a", "c"], attack="cw_l2", norm="l2") is None
    torn = {"a": dataclasses.replace(images["a"], image=np.array([0, 0]))}
    assert attack_rows(torn, ["a"], attack="cw_l2", norm="l2") is None


def test_twice_the_steps_that_break_more_are_found(results):
    once = np.where(np.arange(N) < 5, 0.5, 9.0)
    twice = np.where(np.arange(N) < 8, 0.5, 9.0)  # three images of twenty more
    extra = results.cells[results.cells.attack == "cw_l2"].copy()
    extra["attack"] = "cw_x2"
    extra["task_keys"] = extra["task_keys"].map(lambda keys: [f"{keys[0]}-x2"])
    both = dataclasses.replace(results, cells=pd.concat([results.cells, extra], ignore_index=True))
    images = images_of(results, {"cw_l2": once})
    images |= {f"{key}-x2": shard(twice) for key in list(images)}
    pairs = (DoubledSteps(protocol="strict", once="cw_l2", doubled="cw_x2", steps=50),)
    table = convergence_table(both, images, pairs).set_index("eps")
    assert table.loc[1.0, ["models", "converged"]].tolist() == [4, 0]
    assert table.loc[1.0, "largest_drop"] == pytest.approx(3 / N)
    same = convergence_table(both, {key: shard(once) for key in images}, pairs)
    assert set(same.converged) == {4}
    assert (same.largest_drop == 0).all()
    assert convergence_table(both, {}, pairs).empty, "no rows, no claim"


@pytest.mark.parametrize("algorithm", ["boundary_l2", "mylab.attacks:blind"])
def test_an_attack_without_gradients_that_breaks_more_is_flagged(results, algorithm):
    extra = results.cells[results.cells.attack == "cw_l2"].copy()
    extra["attack"], extra["algorithm"] = "blind", algorithm
    extra["task_keys"] = extra["task_keys"].map(lambda keys: [f"{keys[0]}-blind"])
    both = dataclasses.replace(results, cells=pd.concat([results.cells, extra], ignore_index=True))
    white = np.where(np.arange(N) < 5, 0.5, 9.0)
    images = images_of(results, {"cw_l2": white})

    def flagged(blind: np.ndarray) -> Results:
        rows = images | {f"{key}-blind": shard(blind) for key in images}
        own = frozenset([algorithm] if ":" in algorithm else [])
        return analyse(both, evidence=Evidence(images=rows, without_gradients=own)).results

    found = flagged(np.where(np.arange(N) < 8, 2.5, 9.0)).cells  # three images more, from 3 on
    marked = found[found["flags"].map(lambda flags: "gradient-free-stronger" in flags)]
    assert set(zip(marked.attack, marked.eps, strict=True)) == {("cw_l2", 3.0), ("cw_l2", 4.0)}
    assert len(marked) == 4 * 2, "each of four models"
    assert flagged(np.where(np.arange(N) < 6, 0.5, 9.0)).cells["flags"].map(len).sum() == 0
    told = [f.text for f in findings(analyse(dataclasses.replace(both, cells=found)))]
    assert any("Flag gradient-free-stronger in 8 of 64 cells" in text for text in told)
    assert with_gradient_free(both, {}).cells["flags"].map(len).sum() == 0, "no rows, no claim"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder: Path = tmp_path_factory.mktemp("doubled")
    (folder / "grid.yaml").write_text(DOUBLED)
    options = RunOptions(
        grid=folder / "grid.yaml", store=str(folder / "s"), engine="inline", runner=RUNNER
    )
    assert run_grid(options, Console(quiet=True)) == 0
    return Store.open(str(folder / "s"))


def test_a_run_with_a_doubled_label_is_understood(store):
    results = load_results(store.files)
    plan = load_plan(store)
    assert find_doubled(plan) == (
        DoubledSteps(protocol="strict", once="cw_l2", doubled="cw_l2_x2", steps=5),
    )
    evidence = gather(store.files, results, plan)
    planned = [cell.place for cell in plan.cells]
    found = analyse(results, planned=planned, evidence=evidence)
    assert set(found.cells.attack) == {"pgd_linf", "cw_l2"}, "a check is no adversary"
    assert found.missing.empty
    assert found.wanted == 48
    assert set(found.convergence.models) == {12}
    assert len(found.worst_images) == 2 * 3 * 2
    merged = found.worst_images.merge(
        found.worst, on=["method", "rate", "strength"], suffixes=("", "_set")
    )
    assert (merged["mean"] <= merged["mean_set"] + 1e-12).all()
    told = [f.text for f in findings(found) if f.topic is Topic.TRUST]
    assert any("C&W L2 with 10 steps instead of 5" in text for text in told)
    text = page(found, title="x")
    assert "Convergence, protocol strict" in text
    assert "an image stands where none of C&amp;W L2, PGD L∞ breaks it" in text


def test_merged_torn_and_foreign_image_files(store, tmp_path):
    """The rows of a merged file are those of its parts; what is not ours is left out."""
    results = load_results(store.files)
    keys = {key for keys in results.cells.task_keys for key in keys}
    loose = load_images(store.files, keys)
    assert set(loose) == keys
    other = Store.open_or_create(str(tmp_path / "s"))
    tables = [
        pa.parquet.read_table(Path(store.address) / info.path)
        for info in store.files.list("results/images")
    ]
    whole = pa.concat_tables([t.replace_schema_metadata(None) for t in tables])
    ours = whole.replace_schema_metadata({"prunegrid.schema": "1"})
    other.files.write("results/images/merged-2.parquet", parquet_bytes(whole))
    other.files.write("results/images/merged-3.parquet", b"PAR1 torn")
    assert load_images(other.files, keys) == {}
    other.files.write("results/images/merged-1.parquet", parquet_bytes(ours))
    merged = load_images(other.files, keys)
    assert set(merged) == keys
    for key, rows in loose.items():
        assert merged[key].distance.tolist() == rows.distance.tolist()
        assert merged[key].image.tolist() == rows.image.tolist()
    one = sorted(keys)[0]
    assert set(load_images(other.files, {one, "nobody"})) == {one}
