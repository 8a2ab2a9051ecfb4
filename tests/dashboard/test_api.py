"""The server as a page and a scraper see it."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from prunegrid.orchestrator.commands.status import status_json
from prunegrid.orchestrator.dashboard.access import access_for
from prunegrid.orchestrator.store.journal import read_history
from prunegrid.orchestrator.store.plan import load_plan
from prunegrid.orchestrator.store.slot_time import slot_time
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from tests.dashboard.client import ask
from tests.dashboard.stores import Run

JSON = [f"/api/{n}.json" for n in ("status", "grid", "curves", "timeline", "failures", "square")]


@pytest.fixture
def app(mixed, serve):
    return serve(mixed.address)


def test_status_is_what_the_command_says_and_more(mixed, app):
    told = ask(app, "/api/status.json").json()
    expected = json.loads(json.dumps(status_json(Store.open(mixed.address))))
    expected.pop("at_s")
    age = expected.pop("data_age_s")  # it grew between the two looks
    assert told["data_age_s"] == pytest.approx(age, abs=5)
    assert {name: told[name] for name in expected} == expected
    assert told["state"] == "live"
    assert told["tasks_by_state"] == {
        "done": 15,
        "running": 1,
        "waiting": 29,
        "blocked": 14,
        "failed": 1,
    }
    assert sum(told["tasks_by_state"].values()) == told["done"] + told["remaining"]
    assert told["cells_by_state"]["done"] == told["cells_done"] == 12
    assert sum(told["rate"]["spark"]) == 15
    assert len(told["rate"]["spark"]) == 60
    assert 0 <= told["data_age_s"] < 60
    assert told["can_retry"] is False


def test_the_timeline_says_where_the_time_of_the_slots_went(mixed, app):
    spent = ask(app, "/api/timeline.json?rate=1").json()["time"]
    expected = slot_time(read_history(mixed.store), load_plan(mixed.store).tasks).to_json()
    assert spent == expected, "of all runs, whatever the filter"
    assert spent["slots_s"] > 0


@pytest.mark.parametrize("path", [*JSON, "/metrics", "/", "/static/plotly.min.js"])
def test_what_has_not_changed_is_not_sent_again(done, serve, path):
    app = serve(done.address)
    first = ask(app, path)
    assert first.status == 200
    again = ask(app, path, headers={"if-none-match": f'"x", W/{first.headers["etag"]}'})
    if path in ("/api/status.json", "/metrics") and again.status == 200:  # five seconds later
        again = ask(app, path, headers={"if-none-match": again.headers["etag"]})
    assert (again.status, again.raw) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"
    assert ask(app, path, headers={"if-none-match": '"x"'}).status == 200


def test_a_change_is_sent(tmp_path, serve):
    run = Run(tmp_path / "s")
    app = serve(run.address)
    before = ask(app, "/api/grid.json")
    run.start(run.keys[0])
    run.finish(run.keys[0])
    for _ in range(1000):
        after = ask(app, "/api/grid.json", headers={"if-none-match": before.headers["etag"]})
        if after.status == 200:
            break
    assert after.json()["facets"][0]["squares"][0]["models"]["done"] == 1


def test_answers_are_packed_for_who_unpacks_them(app):
    plain = ask(app, "/static/plotly.min.js")
    packed = ask(app, "/static/plotly.min.js", headers={"accept-encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.raw) < len(plain.raw) / 2
    assert packed.content == plain.content
    assert packed.headers["vary"] == "Accept-Encoding"


def test_a_cell_tells_its_story(mixed, app):
    failed = ask(app, "/api/status.json").json()["failed"][0]
    task = ask(app, f"/api/cell.json?id={failed}").json()
    assert (task["state"], task["why"]) == ("failed", "failed: its attempts are used up")
    attempts = task["tasks"][0]["attempts"]
    assert [one["number"] for one in attempts] == [1, 2]
    assert attempts[0]["host"] == "node-b"
    assert attempts[1]["traceback"] == "Traceback (planted)\nValueError: shapes (5, 6) differ"
    assert task["retry"].endswith(failed)
    query = "architecture=cnn5&method=magnitude-global-unstructured&rate=2&seed=1"
    blocked = ask(app, f"/api/square.json?{query}").json()["cells"][0]
    cell = ask(app, f"/api/cell.json?id={blocked['id']}").json()
    assert (
        cell["why"] == f"waits for 2 of 2 tasks; the first: blocked: its ancestor {failed} failed"
    )
    assert [task["key"] for task in cell["tasks"]][-1] == failed
    assert (cell["place"]["rate"], cell["place"]["seed"]) == (2, 1)


def test_a_done_cell_has_its_value_its_attempts_and_its_learning_curve(mixed, app):
    query = "method=magnitude-global-unstructured&rate=2&seed=0"
    square = ask(app, f"/api/square.json?{query}").json()
    (model,) = square["models"]
    epochs = [
        {"train_loss": 2.0, "validation_loss": float("nan"), "validation_accuracy": 0.5},
        {"train_loss": 1.0, "validation_loss": 10**400, "validation_accuracy": "x"},
    ]
    path = layout.model_file(model["tasks"][0], "history.json")
    mixed.store.write(path, json.dumps(epochs).encode())
    cell = ask(app, f"/api/cell.json?id={square['cells'][0]['id'][:20]}").json()
    assert cell["state"] == "done"
    assert cell["value"] == square["cells"][0]["value"]
    assert cell["tasks"][0]["attempts"][0]["duration_s"] == 0.5
    assert cell["history"]["epoch"] == [1, 2]
    assert cell["history"]["loss"] == [2.0, 1.0]
    assert cell["history"]["val_loss"] == [None, None]
    assert cell["history"]["val_accuracy"] == [0.5, None]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/cell.json?id=train-ffffffff", 404),
        ("/api/cell.json?id=tr", 404),
        ("/api/cell.json", 404),
        ("/api/cell.json?id=train-", 400),
        ("/api/grid.json?rate=3", 400),
        ("/api/grid.json?value=robust:cw_l2:99", 400),
        ("/api/timeline.json?since_s=soon", 400),
        ("/api/failures.json?page=-1", 400),
        ("/api/failures.json?page=9", 200),
        ("/api/adversarial.png?task=../../x", 400),
        ("/api/adversarial.png?task=attack-00000000000000000000", 404),
        ("/api/adversarial.png?task=attack-00000000000000000000&kind=x", 422),
        ("/static/nope.js", 404),
        ("/static/..%2fapi.py", 404),
        ("/static/%2e%2e/api.py", 404),
        ("/static//etc/passwd", 404),
    ],
)
def test_a_bad_question_has_a_plain_answer(app, path, status):
    reply = ask(app, path)
    assert reply.status == status
    if status != 200 and not path.startswith("/static/"):
        assert reply.headers["content-type"] == "application/json"
        assert reply.json()["error"]


HOSTILE = [
    "<script>alert(1)</script>",
    "\u202e\u0000\ud7ff",
    "'; drop",
    "../" * 9,
    "%00",
    "é" * 5000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_question_breaks_the_server(app, text):
    for name in ("architecture", "rate", "eps", "value", "id", "page", "since_s", "task", "x"):
        for path in (*JSON, "/api/cell.json", "/api/adversarial.png"):
            reply = ask(app, f"{path}?{name}={quote(text)}")
            assert reply.status in (200, 400, 404), (path, name)
            assert not reply.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("text", HOSTILE[:3])
def test_hostile_text_of_a_store_stays_json(tmp_path, serve, text):
    run = Run(tmp_path / "s")
    run.give_up(run.keys[0], text, worker=text, traceback=text)
    app = serve(run.address)
    for path in (*JSON, f"/api/cell.json?id={run.keys[0]}", "/metrics"):
        reply = ask(app, path)
        assert reply.status == 200
        assert reply.headers["content-type"].split(";")[0] in ("application/json", "text/plain")
        assert reply.headers["x-content-type-options"] == "nosniff"
    group = ask(app, "/api/failures.json").json()["groups"][0]
    assert group["traceback_tail"] == text
    assert list(group["hosts"]) == [text.partition("/")[0] or "unknown"]


def test_a_store_that_vanishes_is_a_state_not_an_error(tmp_path, serve):
    run = Run(tmp_path / "s")
    run.give_up(run.keys[0])
    app = serve(run.address, access_for("127.0.0.1", allow_retry=True))
    assert ask(app, "/api/status.json").json()["state"] == "stopped"
    (tmp_path / "s").rename(tmp_path / "gone")  # at once: a look at half of it would find less
    for _ in range(1000):
        told = ask(app, "/api/status.json").json()
        if told["state"] == "unreadable":
            break
    assert told["state"] == "unreadable"
    assert "the store is gone" in told["problem"]
    assert told["tasks_by_state"]["failed"] == 1, "the last that was known"
    for path in (*JSON, "/metrics", f"/api/cell.json?id={run.keys[0]}"):
        assert ask(app, path).status == 200, path
    own = {"x-prunegrid": "1", "origin": "http://127.0.0.1:8050"}
    reply = ask(app, "/api/retry", method="POST", headers=own, body=b'{"failed": true}')
    assert reply.status == 400
    assert not (tmp_path / "s").exists(), "a reader makes no store"


def test_a_store_that_was_never_whole_is_a_state_too(tmp_path, serve):
    run = Run(tmp_path / "s")
    (tmp_path / "s/grid.yaml").write_text("name: [")
    app = serve(run.address)
    for path in (*JSON, "/metrics"):
        assert ask(app, path).status == 200, path
    assert ask(app, "/api/status.json").json()["state"] == "unreadable"
    assert ask(app, "/api/cell.json?id=train-0").status == 404
