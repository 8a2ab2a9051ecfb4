"""Where a plan stands: states of tasks and cells, money, and what `status` and `plan` say of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from prunegrid.orchestrator.cli import app
from prunegrid.orchestrator.commands.explain import explain
from prunegrid.orchestrator.commands.plan import plan
from prunegrid.orchestrator.commands.status import status, status_json
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.plan.dag import expand, parent_of
from prunegrid.orchestrator.plan.plan_index import DONE, STATES, PlanIndex, count_states
from prunegrid.orchestrator.store.journal import Journal
from prunegrid.orchestrator.store.requests import Pause, Request, set_paused, write_request
from prunegrid.orchestrator.store.store import Store
from tests.driver.test_request_handler import Scene, tiny
from tests.grids import SMALL

PLAN = expand(parse_grid(SMALL, source="test"))
INDEX = PlanIndex(PLAN)
PRICE = "price: {per_hour: 7.2, currency: EUR, cpus_per_node: 4}\n"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_states_add_up_and_a_block_has_a_cause(data):
    keys = list(PLAN.tasks)
    draw = st.sets(st.sampled_from(keys), max_size=20)
    done, running, failed = data.draw(draw), data.draw(draw), data.draw(draw)
    left = PLAN.unfinished(done)
    at = INDEX.task_states(*(INDEX.present(keys) for keys in (done, running, failed)))
    states = {key: STATES[at[INDEX.number[key]]] for key in done | left.keys()}
    wanted = INDEX.needed(INDEX.present(done)) | (at == DONE)
    counts = count_states(at[wanted])
    assert sum(counts.values()) == len(done | left.keys())
    assert counts["done"] == len(done)
    for key, state in states.items():
        parent = parent_of(PLAN.tasks[key])
        above = states.get(parent) if parent else None
        if state == "blocked":
            assert above in ("blocked", "failed")
        if state in ("waiting", "running"):
            assert above not in ("blocked", "failed")
    rows = data.draw(st.sets(st.integers(0, len(PLAN.cells) - 1), max_size=9))
    there = np.isin(np.arange(len(PLAN.cells)), list(rows))
    cells = count_states(INDEX.cell_states(at, there))
    assert sum(cells.values()) == len(PLAN.cells)
    assert cells["done"] == len(rows)
    for state in ("failed", "blocked"):
        worst = [
            max((states[k] for k in cell.task_keys), key=STATES.index)
            for number, cell in enumerate(PLAN.cells)
            if number not in rows
        ]
        assert cells[state] == worst.count(state)


# --------------------------------------------------------------------------- status


@pytest.fixture
def scene(tmp_path) -> Scene:
    """A store with a grid, a price, and a journal that is about to be written."""
    scene = Scene(tmp_path / "s", tiny(0) + PRICE)
    scene.store.set_grid(tiny(0) + PRICE)
    return scene


def lines(scene: Scene, *entries: tuple[str, dict]) -> None:
    journal = Journal(scene.store)
    for event, fields in entries:
        journal.write(event, **fields)
    journal.close()


def test_costs_are_of_slots_and_count_failed_attempts(scene):
    train, prune = list(scene.plan.tasks)[:2]
    lines(
        scene,
        ("run", {}),
        ("slots", {"slots": 3}),
        ("start", {"key": train, "attempt": 1}),
        ("done", {"key": train, "attempt": 1, "seconds": 1000.0}),
        ("start", {"key": prune, "attempt": 1}),
        ("done", {"key": prune, "attempt": 1, "seconds": 3000.0}),
        ("end", {}),
    )
    numbers = status_json(scene.store)
    assert numbers["cost"]["spent"] == pytest.approx(4000 / 3600 * 7.2 / 4)
    assert numbers["cost"]["currency"] == "EUR"
    low, high = numbers["cost"]["to_come"]
    assert 0 < low < high
    assert numbers["hours"]["unit"] == "CPU"
    assert numbers["hours"]["spent"] == pytest.approx(4000 / 3600, abs=1e-4)
    assert numbers["slots"] == 3
    text = shown(scene.store)
    assert "cost so far 2 EUR, to come" in text
    assert "with 3 tasks at once" in text


def shown(store: Store) -> str:
    out = io.StringIO()
    status(store.address, as_json=False, console=Console(file=out, width=300))
    return out.getvalue()


def test_status_tells_of_a_pause_whoever_has_taken_it_up(scene):
    assert status_json(scene.store)["paused"] is None
    write_request(scene.store.files, Request(kind="pause", by="cli"))
    assert status_json(scene.store)["paused"] == {"since_s": 0.0, "by": "cli"}
    set_paused(scene.store.files, Pause(since_s=86_400.0, by="dashboard"))
    numbers = status_json(scene.store)
    assert numbers["paused"] == {"since_s": 86_400.0, "by": "dashboard"}
    text = shown(scene.store)
    assert "paused since 1970-01-02 00:00:00 UTC, asked by dashboard: prunegrid resume" in text
    out = io.StringIO()
    train, prune = list(scene.plan.tasks)[:2]
    explain(str(scene.root), train, Console(file=out, width=300))
    explain(str(scene.root), prune, Console(file=out, width=300))
    assert "paused since 1970-01-02" in out.getvalue()
    assert f"waiting for its parent {train}; the grid is paused" in out.getvalue()


def test_status_counts_blocked_tasks_and_cells_and_tells_its_age(scene, monkeypatch):
    train = next(iter(scene.plan.tasks))
    lines(
        scene,
        ("run", {}),
        ("start", {"key": train, "attempt": 1}),
        ("failed", {"key": train, "attempt": 1, "kind": "bug", "message": "boom"}),
        ("given-up", {"key": train, "kind": "bug"}),
    )
    numbers = status_json(scene.store, now_s=2e9)
    assert numbers["tasks_by_state"] == {
        "done": 0,
        "running": 0,
        "waiting": 0,
        "blocked": 14,
        "failed": 1,
    }
    assert numbers["cells_by_state"]["blocked"] == numbers["cells"] == 12
    assert numbers["data_age_s"] > 1e6
    with monkeypatch.context() as later:
        later.setattr("prunegrid.orchestrator.commands.status.time.time", lambda: 4e9)
        text = shown(scene.store)
    assert "1 failed, 14 blocked" in text
    assert "last sign of life" in text
    assert f"prunegrid retry --store {scene.root} --failed" in text
    lines(scene, ("reopened", {"key": train}))
    again = status_json(scene.store)
    assert again["failed"] == []
    assert again["tasks_by_state"]["blocked"] == 0
    assert again["trouble"]["failed"] == ()


# --------------------------------------------------------------------------- plan


def planned(grid: Path, **more) -> dict:
    arguments = ["plan", str(grid), "--json"]
    for name, value in more.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    from contextlib import redirect_stdout

    out = io.StringIO()
    with redirect_stdout(out):
        app(args=arguments, prog_name="prunegrid", standalone_mode=False)
    return json.loads(out.getvalue())


def test_a_grid_never_run_is_a_guess_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    grid = tmp_path / "grid.yaml"
    grid.write_text(SMALL)
    numbers = planned(grid)
    assert (numbers["eta_measured_frac"], numbers["durations"]) == (0, 0)
    low, high = numbers["hours"]["to_come"]
    assert high / low == pytest.approx(16, rel=0.1), "four times less, or four times more"
    assert numbers["rests_on"] == "a CPU core as the tables have it, within 4 times"
    assert set(numbers["eta_s"]) == {"1", "8", "64"}
    assert numbers["cost"] is None
    out = io.StringIO()
    plan(grid, Console(file=out, width=200))
    assert "this rests on a CPU core as the tables have it, within 4 times" in out.getvalue()


def test_another_stores_durations_make_it_surer_and_a_price_makes_it_money(tmp_path):
    scene = Scene(tmp_path / "s", tiny(0))
    scene.store.set_grid(tiny(0))
    lines(scene, *(("done", {"key": key, "seconds": 36.0}) for key in scene.plan.tasks))
    grid = tmp_path / "grid.yaml"
    grid.write_text(tiny(1, 2) + PRICE)  # the same work with other seeds
    numbers = planned(grid, durations_from=scene.root, slots=5)
    assert (numbers["durations"], numbers["eta_measured_frac"]) == (15, 1)
    assert numbers["work_s"] == pytest.approx(2 * 15 * 36, rel=0.02)
    low, high = numbers["cost"]["to_come"]
    assert low < 2 * 15 * 36 / 3600 * 7.2 / 4 < high
    assert set(numbers["eta_s"]) == {"5"}
    with pytest.raises(StoreError, match="no store here"):
        planned(grid, durations_from=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="--slots: expected at least 1, got 0"):
        planned(grid, slots=0)
