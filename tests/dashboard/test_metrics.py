"""Prometheus sees the numbers of `prunegrid status --json`."""

from __future__ import annotations

import re

from prunegrid.orchestrator.commands.status import status_json
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.dashboard.status_payload import MEDIA_TYPE, metrics_text, status_payload
from prunegrid.orchestrator.store.store import Store
from tests.dashboard.client import ask
from tests.dashboard.stores import Run

_LINE = re.compile(r"(prunegrid_\w+)(?:\{(.*)\})? (\S+)")


def read(text: str) -> dict[str, float]:
    """name{labels} -> value; every line is a comment or a number."""
    out = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            name, labels, value = _LINE.fullmatch(line).groups()
            out[f"{name}{{{labels}}}" if labels else name] = float(value)
    return out


def test_the_numbers_are_those_of_status(mixed, serve):
    reply = ask(serve(mixed.address), "/metrics")
    assert reply.headers["content-type"] == MEDIA_TYPE
    found, status = read(reply.text), status_json(Store.open(mixed.address))
    expected = {
        "prunegrid_models": status["models"],
        "prunegrid_cells": status["cells"],
        "prunegrid_cells_done": status["cells_done"],
        'prunegrid_tasks{kind="train"}': status["tasks"]["train"],
        'prunegrid_tasks{kind="prune"}': status["tasks"]["prune"],
        'prunegrid_tasks{kind="attack"}': status["tasks"]["attack"],
        "prunegrid_tasks_done": status["done"],
        "prunegrid_tasks_remaining": status["remaining"],
        "prunegrid_tasks_running": len(status["running"]),
        "prunegrid_tasks_failed": len(status["failed"]),
        "prunegrid_driver_alive": status["driver"]["alive"],
        'prunegrid_eta_seconds{bound="low"}': status["eta_s"][0],
        'prunegrid_eta_seconds{bound="high"}': status["eta_s"][1],
        "prunegrid_eta_measured_ratio": status["eta_measured_frac"],
        "prunegrid_work_seconds": status["work_s"],
        "prunegrid_store_readable": 1,
        'prunegrid_tasks_by_state{state="blocked"}': 14,
    }
    assert {name: found[name] for name in expected} == expected


def test_every_metric_has_a_help_and_a_type_once(mixed, serve):
    text = ask(serve(mixed.address), "/metrics").text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert {name.partition("{")[0] for name in read(text)} == set(names)
    assert text.count("# HELP") == len(names)


def test_money_is_told_where_the_grid_names_a_price(tmp_path, serve):
    from tests.grids import SMALL

    run = Run(tmp_path / "s", SMALL + "resources: {price_per_hour: 3.6}\n")
    run.start(run.keys[0])
    run.finish(run.keys[0], seconds=100.0)
    app = serve(run.address)
    assert read(ask(app, "/metrics").text)["prunegrid_cost_spent"] == 0.1
    cost = ask(app, "/api/status.json").json()["cost"]
    assert 0 < cost["to_come"][0] <= cost["to_come"][1]


def test_a_name_can_not_end_a_label():
    snapshot = Snapshot(generation=1, at_s=1.0, problem=None)
    status = status_payload(snapshot, can_retry=False) | {"grid": 'a"} 1\nb\\'}
    text = metrics_text(snapshot, status).decode()
    assert r'prunegrid_info{grid="a\"} 1\nb\\",' in text
