"""`auto` in a grid: measured once per store by the engine's worker, the store's from then on."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from prunegrid.orchestrator.commands.plan import PlanOptions, plan
from prunegrid.orchestrator.commands.run import run_grid
from prunegrid.orchestrator.commands.status import status_json
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.driver.sizes import MeasureError
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers.cache import save_speed
from prunegrid.workers.contract import AttackTask
from prunegrid.workers.speeds import Speed
from tests.fakes import attempts_of
from tests.grids import AUTO

LINE = "sizes measured on Fake 9000 (fake): cnn5 batch 32, 90 images per shard (under"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def no_page(monkeypatch):
    """Runs end without their page, which takes them a second."""
    monkeypatch.setattr("prunegrid.orchestrator.commands.run._report", lambda *_: None)


def run(folder: Path, text: str = AUTO, **more) -> str:
    """The run's words; every cell must come."""
    grid = folder / "grid.yaml"
    grid.write_text(text)
    defaults = {"store": str(folder / "store"), "engine": "inline", "runner": "tests.fakes"}
    said = io.StringIO()
    options = RunOptions(grid=grid, **(defaults | more))
    assert run_grid(options, Console(file=said, width=300)) == 0
    return said.getvalue()


def planned(folder: Path, capsys, **more) -> dict:
    capsys.readouterr()
    plan(PlanOptions(grid=folder / "grid.yaml", **more), as_json=True, console=Console())
    return json.loads(capsys.readouterr().out)


def measured(folder: Path) -> int:
    return len(list((folder / "store/measured").iterdir()))


def shards(folder: Path) -> set[tuple[str, int, int, int]]:
    """Of the tasks that have a result."""
    store = Store.open(str(folder / "store"))
    done = store.finished()
    return {
        (task.attack.attack, task.attack.batch_size, task.start, task.stop)
        for task in load_plan(store).tasks.values()
        if isinstance(task, AttackTask) and task.key in done
    }


WHOLE = {("pgd_linf", 32, 0, 90), ("cw_l2", 32, 0, 90)}


@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_new_store_is_measured_once_and_keeps_its_sizes(engine, tmp_path, request):
    if engine == "ray":
        request.getfixturevalue("ray_session")
        request.getfixturevalue("no_page")
    said = run(tmp_path, engine=engine)
    assert said.count(LINE) == 1
    assert shards(tmp_path) == WHOLE
    assert measured(tmp_path) == 1
    kept = (tmp_path / "store/sizes.json").read_bytes()
    again = run(tmp_path, engine=engine)
    assert again.count(LINE) == 1
    assert "all done" in again
    assert measured(tmp_path) == 1
    assert (tmp_path / "store/sizes.json").read_bytes() == kept
    assert set(attempts_of(tmp_path / "store").values()) == {1}


@pytest.mark.usefixtures("no_page")
def test_another_machine_goes_on_with_the_stores_sizes(tmp_path, monkeypatch, capsys):
    """Where it is a thousandth as fast, in its workers and in its own cache."""
    run(tmp_path, select=("seed=0",))
    monkeypatch.setenv("FAKE_SPEED", "0.001")
    save_speed(slow(), "x")
    assert planned(tmp_path, capsys)["tasks"]["attack"] == 6 * 2 * 3
    numbers = planned(tmp_path, capsys, store=str(tmp_path / "store"))
    assert (numbers["tasks"]["attack"], numbers["done"]) == (6 * 2, 3 + 6)
    assert numbers["sizes_assumed"] is None
    assert {row["images_per_shard"] for row in numbers["sizes"]} == {96}
    run(tmp_path)
    assert shards(tmp_path) == WHOLE
    assert measured(tmp_path) == 1
    store = Store.open(str(tmp_path / "store"))
    assert status_json(store)["remaining"] == 0
    assert list(Verifier(store).findings()) == []
    assert len(pd.read_parquet(tmp_path / "store/results/cells")) == 24


def slow() -> Speed:
    return Speed(
        architecture="cnn5",
        dataset="synthetic28",
        device="Abacus",
        host=socket.gethostname(),
        threads=1,
        measured_at="2026-01-01T00:00:00+00:00",
        sizes=(16, 32, 64),
        passes_per_s=(1.0, 2.0, 2.0),
    )


@pytest.mark.usefixtures("no_page")
def test_a_number_by_hand_is_an_edit_and_the_way_back_costs_nothing(tmp_path):
    run(tmp_path)
    before = set(attempts_of(tmp_path / "store"))
    run(tmp_path, AUTO.replace("images_per_shard: auto", "images_per_shard: 45"))
    assert shards(tmp_path) == {(a, 32, *span) for a, *_ in WHOLE for span in [(0, 45), (45, 90)]}
    made = set(attempts_of(tmp_path / "store")) - before
    assert len(made) == 6 * 2 * 2, "attacks alone ran anew"
    cells = pd.read_parquet(tmp_path / "store/results/cells")
    assert len(cells) == 24, "no cell counts twice"
    run(tmp_path)
    assert shards(tmp_path) == WHOLE
    assert set(attempts_of(tmp_path / "store").values()) == {1}
    assert measured(tmp_path) == 1


@pytest.mark.usefixtures("no_page")
def test_a_wider_grid_measures_what_is_new_and_keeps_the_rest(tmp_path, monkeypatch):
    run(tmp_path)
    kept = json.loads((tmp_path / "store/sizes.json").read_text())
    monkeypatch.setenv("FAKE_SPEED", "0.001")
    wider = AUTO.replace(
        "attacks:\n",
        "  resnet8:\n    dataset: synthetic32\n    attack_images: 40\n"
        "    training: {max_epochs: 2}\n    eps: {pgd_linf: [4/255], cw_l2: [1]}\nattacks:\n",
    )
    said = run(tmp_path, wider)
    assert measured(tmp_path) == 2
    now = json.loads((tmp_path / "store/sizes.json").read_text())
    assert now["batches"][:1] == kept["batches"]
    assert now["shards"][:2] == kept["shards"]
    assert [s["architecture"] for s in now["shards"]] == ["cnn5"] * 2 + ["resnet8"] * 2
    assert (
        "; resnet8 batch 32, 32 images per shard for cw_l2 (about 2.0 min a task), 40 for" in said
    )
    assert shards(tmp_path) > WHOLE


@pytest.mark.usefixtures("no_page")
def test_a_part_is_measured_when_it_is_asked_for(tmp_path):
    """A selection without attacked architectures of its own measures no other."""
    run(tmp_path, select=("attack=cw_l2",))
    kept = json.loads((tmp_path / "store/sizes.json").read_text())
    assert [s["attack"]["attack"] for s in kept["shards"]] == ["cw_l2"]
    run(tmp_path)
    now = json.loads((tmp_path / "store/sizes.json").read_text())
    assert [s["attack"]["attack"] for s in now["shards"]] == ["cw_l2", "pgd_linf"]
    assert measured(tmp_path) == 1, "the network was measured already"


@pytest.mark.usefixtures("no_page")
def test_a_store_whose_sizes_are_torn_is_refused(tmp_path):
    run(tmp_path)
    path = tmp_path / "store/sizes.json"
    for content in ("{", '{"batches": 3}', path.read_text().replace('"images": 32', '"images": 7')):
        path.write_text(content)
        with pytest.raises(StoreError, match=r"sizes\.json is torn"):
            run(tmp_path)
        (found,) = Verifier(Store.open(str(tmp_path / "store"))).findings()
        assert (found.name, "sizes.json is torn" in found.message) == ("unreadable", True)


@pytest.mark.usefixtures("no_page")
def test_sizes_that_are_gone_are_told(tmp_path):
    run(tmp_path)
    store = Store.open(str(tmp_path / "store"))
    assert list(Verifier(store).findings()) == []
    (tmp_path / "store/sizes.json").unlink()
    (found,) = Verifier(store).findings()
    assert (found.name, found.where) == ("unreadable", "sizes.json")
    assert found.message.startswith("is missing")


@pytest.mark.usefixtures("no_page")
def test_where_nothing_can_be_measured_numbers_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SPEED", "none")
    with pytest.raises(MeasureError, match=r"planted: no memory; numbers in place of 'auto'"):
        run(tmp_path)
    assert attempts_of(tmp_path / "store") == {}
    assert not (tmp_path / "store/grid.yaml").exists(), "the store still has no grid"
    monkeypatch.delenv("FAKE_SPEED")
    run(tmp_path)
    assert shards(tmp_path) == WHOLE


def test_a_plan_says_which_sizes_are_assumed(tmp_path, capsys):
    (tmp_path / "grid.yaml").write_text(AUTO)
    numbers = planned(tmp_path, capsys)
    assert numbers["sizes_assumed"] == (
        "not measured yet: counted with batch_size 128, images_per_shard 256"
    )
    assert numbers["tasks"]["attack"] == 6 * 2
    assert {row["images_per_shard"] for row in numbers["sizes"]} == {256}
    assert {tuple(row["auto"]) for row in numbers["sizes"]} == {("batch_size", "images_per_shard")}
    save_speed(slow(), "x")
    numbers = planned(tmp_path, capsys)
    assert numbers["sizes_assumed"] == "not measured for a store yet: assumed as on this machine"
    assert {row["batch_size"] for row in numbers["sizes"]} == {32}
    said = io.StringIO()
    options = PlanOptions(grid=tmp_path / "grid.yaml")
    plan(options, as_json=False, console=Console(file=said, width=300))
    assert "sizes measured on Abacus" in said.getvalue()
    assert "assumed as on this machine; the first run measures" in said.getvalue()
