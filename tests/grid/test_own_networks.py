"""Networks of one's own in a grid file: their keys, and what is said when their sources change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.export import allow_code, export
from prunegrid.orchestrator.errors import GridError, UsageError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.plan import changed_code, keep_grid, load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.store.union import merge_stores
from prunegrid.workers import user_code
from prunegrid.workers.contract import task_from_dict, task_to_dict
from prunegrid.workers.keys import digest
from prunegrid.workers.network_facts import NetworkFacts, NetworkRequest, configuration_of
from tests.dashboard.stores import Run
from tests.grids import SMALL

OWN = SMALL.replace("cnn5:\n", "mine:\n    build: grid_nets:net\n    options: {width: 2}\n")
SOURCE = "def net(width): ...\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid file's, with the function's module. Keras is not asked: a network is its request."""
    (tmp_path / "grid_nets.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    user_code._is_library.cache_clear()

    def ask(requests: list[NetworkRequest]) -> list[NetworkFacts]:
        return [
            NetworkFacts(
                configuration=digest([r.code.options, r.code.version] if r.code else "file"),
                parameters=10,
                prunable_weights=10,
                structured_weights=0,
                forward_flops=1234,
                notes=("a note",),
            )
            for r in requests
        ]

    monkeypatch.setattr("prunegrid.orchestrator.grid.file.ask", ask)
    return tmp_path


def grid_of(folder: Path, text: str = OWN) -> Grid:
    (folder / "grid.yaml").write_text(text)
    return read_grid(folder / "grid.yaml")


def keys(grid: Grid) -> list[str]:
    return list(expand(grid).tasks)


def test_keys_follow_what_the_network_is_and_not_its_label(folder):
    first = keys(grid_of(folder))
    assert keys(grid_of(folder, OWN.replace("mine:", "other:"))) == first
    for old, new in (("width: 2", "width: 3"), ("options:", "version: 2\n    options:")):
        assert not set(keys(grid_of(folder, OWN.replace(old, new)))) & set(first)
    (folder / "grid_nets.py").write_text("def net(width): ...  # a remark\n")
    assert keys(grid_of(folder)) == first


def test_a_catalog_network_under_another_label_is_the_same_work(folder):
    plain = keys(grid_of(folder, SMALL))
    relabelled = SMALL.replace("cnn5:\n", "small:\n    build: cnn5\n")
    assert keys(grid_of(folder, relabelled)) == plain
    both = relabelled.replace("synthetic28", "synthetic32")
    assert not set(keys(grid_of(folder, both))) & set(plain), "any data, under a label of its own"


def test_layers_that_are_kept_are_in_the_key(folder):
    kept = SMALL.replace("    dataset:", "    prune_except: [logits]\n    dataset:")
    assert not set(keys(grid_of(folder, kept))) & set(keys(grid_of(folder, SMALL)))


def test_a_task_with_it_survives_json(folder):
    for task in expand(grid_of(folder)).tasks.values():
        assert task_from_dict(task_to_dict(task)) == task
        assert task.network is not None
        assert task.network.label == "mine"
        assert task.network.forward_flops == 1234


def test_a_trained_file_is_scored_and_not_trained_and_not_rewound(folder):
    (folder / "m.keras").write_bytes(b"whatever: Keras is not asked")
    text = SMALL.replace("cnn5:\n", "mine:\n    model: m.keras\n")
    (plan,) = grid_of(folder, text).architectures
    assert plan.variants[0].training.max_epochs == 0
    assert plan.variants[0].fine_tuning.max_epochs == 2
    first = set(keys(grid_of(folder, text)))
    others = set(keys(grid_of(folder, text.replace("max_epochs: 2", "max_epochs: 3"))))
    trained = {key for key in first if key.startswith("train")}
    assert trained <= others, "the file is scored once, whatever the grid's training"
    assert not {key for key in first & others if key.startswith("prune")}
    with pytest.raises(
        GridError, match=r"grid.yaml:7: .*got rewind: it has no weights from before"
    ):
        grid_of(folder, text + "pruning: {weights: rewind}\n")
    (plan,) = grid_of(folder, text.replace("m.keras", "m.keras\n    weights: fresh")).architectures
    assert plan.variants[0].training.max_epochs == 2


def test_sources_that_changed_since_are_said_until_the_version_is_raised(folder):
    grid = grid_of(folder)
    run = Run(folder / "store")
    run.store.set_grid(grid.text)
    keep_grid(run.store, grid)
    run.plan = expand(grid)
    assert changed_code(grid, run.store) == []
    for key in run.keys[:5]:
        run.finish(key)
    assert run.store.model_record(run.keys[0]).provenance.user_sources
    (folder / "grid_nets.py").write_text("def net(width): return 1\n")
    changed = grid_of(folder)
    said = [
        "grid_nets:net changed; 5 results are older and count as before; raise its `version` "
        "(now 1) to remake them"
    ]
    assert changed_code(changed, run.store) == said
    keep_grid(run.store, changed)
    for key in run.keys[5:8]:
        run.finish(key)
    assert changed_code(changed, run.store) == said, "and no results that are made with it since"
    (folder / "grid_nets.py").write_text(SOURCE)
    (note,) = changed_code(grid, run.store)
    assert "3 results are older" in note
    newer = grid_of(folder, OWN.replace("    options:", "    version: 2\n    options:"))
    assert changed_code(newer, run.store) == []
    sys.path.remove(str(folder))
    stored = load_plan(run.store).grid
    assert changed_code(stored, run.store) == [note], (
        "it is looked for beside the file that was run"
    )
    assert str(folder) not in sys.path
    (folder / "grid_nets.py").unlink()
    assert changed_code(stored, run.store) == [], "what is not there did not change"


def test_a_merged_store_knows_the_sources_of_all_its_parts(folder):
    """Results of two stores, made by two texts of a function."""
    grid = grid_of(folder)
    runs = []
    for name, text in (("one", SOURCE), ("two", "def net(width): return 1\n")):
        (folder / "grid_nets.py").write_text(text)
        run = Run(folder / name)
        keep_grid(run.store, grid)
        run.plan = expand(grid)
        runs.append(run)
        for key in run.keys[:5] if name == "one" else run.keys[5:8]:
            run.finish(key)
    target = Store.open_or_create(str(folder / "both"))
    merge_stores([run.store for run in runs], target, say=lambda _: None)
    one, two = (len(run.store.whole()) for run in runs)  # the others are not merged
    assert (one, two) == (4, 2)
    (note,) = changed_code(grid, target)
    assert f"{one} results are older" in note
    (folder / "grid_nets.py").write_text(SOURCE)
    (note,) = changed_code(grid, target)
    assert f"{two} results are older" in note


def test_what_only_a_store_names_is_not_called_to_export_it(folder):
    grid = grid_of(folder)
    run = Run(folder / "store")
    keep_grid(run.store, grid)
    run.plan = expand(grid)
    key = run.keys[0]
    run.finish(key)
    words = "grid_nets:net builds this network, .* expected --grid FILE"
    with pytest.raises(UsageError, match=words):
        export(
            run.address,
            key,
            folder / "m.keras",
            form="keras",
            latency_batch=None,
            console=Console(),
        )
    allow_code(run.plan.tasks[key], folder / "grid.yaml")
    grid_of(folder, OWN.replace("width: 2", "width: 3"))
    with pytest.raises(
        UsageError, match=r"expected grid_nets:net with .*\(width: 2\) and version 1"
    ):
        allow_code(run.plan.tasks[key], folder / "grid.yaml")


def test_a_store_is_read_without_the_function(folder):
    grid = grid_of(folder)
    run = Run(folder / "store")
    keep_grid(run.store, grid)
    (folder / "grid_nets.py").unlink()
    assert list(load_plan(run.store).tasks) == keys(grid)
    with pytest.raises(GridError, match=r"grid.yaml:7: .*grid_nets:net: no module of that name"):
        read_grid(folder / "grid.yaml")


def test_a_file_name_in_place_of_a_module_gets_a_hint(folder):
    with pytest.raises(GridError, match=r"or installed; did you mean grid_nets:net\?"):
        grid_of(folder, OWN.replace("grid_nets:net", "grid_nets.py:net"))


def test_a_setting_without_bound_enters_the_configuration():
    inf, none = ({"max_value": value} for value in (float("inf"), 6.0))
    assert configuration_of(inf) != configuration_of(none)
    assert configuration_of(inf) == configuration_of({"max_value": float("inf")})
