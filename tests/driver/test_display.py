"""What a run shows: counts that add up, failures, the ETA, and tasks in words."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from prunegrid.orchestrator.driver.display import Display, one_line, render, totals
from prunegrid.orchestrator.driver.run_view import GivenUp, RunView
from prunegrid.orchestrator.engines.engine import RunningTask
from prunegrid.orchestrator.plan.estimates import Eta, eta_text


def view(**changes) -> RunView:
    values = {
        "counts": {
            "train": Counter(done=2),
            "prune": Counter(done=3, running=1, waiting=4, failed=1),
            "attack": Counter(ready=5, delayed=1, blocked=7),
        },
        "cells_total": 48,
        "cells_missing": 40,
        "slots": 2,
        "doing": (RunningTask(key="prune-1", worker="host/0", fraction=0.5, note="epoch 3/12"),),
        "names": {"prune-1": "prune cnn5 random-local-filter to 4, seed 0"},
        "failures": 3,
        "given_up": (GivenUp(key="prune-9", name="a prune", kind="bug", message="boom"),),
        "elapsed_s": 125.0,
        "eta": Eta(low_s=60, high_s=150, likely_s=85, work_s=300, critical_s=50, measured_frac=0.9),
        "stopping": False,
    }
    return RunView(**(values | changes))


def drawn(what: RunView, *, title: str = "demo", width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(what, title))
    return console.file.getvalue()


def test_waiting_is_all_that_is_neither_running_nor_over():
    assert totals(view()) == {"done": 5, "running": 1, "waiting": 10, "failed": 1, "blocked": 7}


def test_the_live_display_says_how_far_what_runs_and_what_failed():
    text = drawn(view())
    for words in (
        "20 %",
        "about 85 s (60 s to 2.5 min)",
        "prune cnn5 random-local-filter to 4",
        "epoch 3/12",
    ):
        assert words in text
    assert "3 attempts failed" in text
    assert "stopping" not in text
    assert "Ctrl-C again" in drawn(view(stopping=True))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_cut_on_a_narrow_terminal(width):
    text = drawn(view(), title="a-grid-with-a-rather-long-name", width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_plain_line_says_the_same():
    assert one_line(view()) == (
        "[2.1 min] 5/24 tasks, 8/48 cells, 1 running, 3 failed attempts, "
        "tasks: 1 failed, 7 blocked; left: about 85 s (60 s to 2.5 min)"
    )


def test_a_range_of_one_number_is_one():
    eta = Eta(low_s=60, high_s=60, likely_s=60, work_s=60, critical_s=60, measured_frac=0.1)
    assert eta_text(eta) == "about 60 s"
    assert eta_text(Eta(low_s=0, high_s=0, work_s=0, critical_s=0, measured_frac=1)) == "done"


def test_off_a_terminal_it_prints_lines_and_not_too_many():
    out = io.StringIO()
    with Display(Console(file=out), title="demo") as display:
        for _ in range(50):
            display.show(view())
    assert out.getvalue().count("\n") == 1


def test_markup_in_a_name_stays_text():
    text = drawn(view(names={"prune-1": "[red]evil[/red]"}))
    assert "[red]evil[/red]" in text


def test_a_pause_is_said():
    assert "paused" not in one_line(view()) + drawn(view())
    assert "paused; left:" in one_line(view(paused=True))
    assert "prunegrid resume" in drawn(view(paused=True))
