"""What a viewer may ask of the driver, as a file it will find."""

from __future__ import annotations

import json

import pytest

from prunegrid.orchestrator.dashboard.access import access_for
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.retry import parse_retry
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.store.requests import read_requests
from prunegrid.orchestrator.store.store import Store
from tests.dashboard.client import HOST, ask
from tests.dashboard.stores import Run

OWN = {"x-prunegrid": "1", "origin": f"http://{HOST}"}


@pytest.fixture(scope="module")
def snapshot(mixed):
    return StoreReader(Store.open(mixed.address)).refresh(budget_s=60)


def test_a_request_becomes_a_file(tmp_path, serve):
    run = Run(tmp_path / "s")
    app = serve(run.address, access_for("127.0.0.1", allow_retry=True))
    body = {"select": {"rate": [2, 4], "seed": ["0"]}, "tasks": [run.keys[0]], "failed": True}
    reply = ask(app, "/api/retry", method="POST", headers=OWN, body=json.dumps(body).encode())
    assert reply.status == 202
    ((name, request),) = read_requests(run.store.files)
    assert name == reply.json()["request"]
    assert (request.kind, request.by, request.failed) == ("retry", "dashboard", True)
    assert request.select == {"rate": ("2", "4"), "seed": ("0",)}
    assert request.tasks == (run.keys[0],)


@pytest.mark.parametrize(
    ("allow", "headers", "method", "status"),
    [
        (False, OWN, "POST", 403),
        (True, {}, "POST", 403),
        (True, {**OWN, "origin": "http://evil.example.org"}, "POST", 403),
        (True, OWN, "GET", 405),
        (True, OWN, "POST", 202),
    ],
)
def test_nothing_is_written_for_who_may_not(tmp_path, serve, allow, headers, method, status):
    run = Run(tmp_path / "s")
    app = serve(run.address, access_for("127.0.0.1", allow_retry=allow))
    body = b'{"failed": true}'
    reply = ask(app, "/api/retry", method=method, headers=headers, body=body)
    assert reply.status == status
    assert len(read_requests(run.store.files)) == (status == 202)


def test_a_huge_request_is_refused(tmp_path, serve):
    run = Run(tmp_path / "s")
    app = serve(run.address, access_for("127.0.0.1", allow_retry=True))
    reply = ask(app, "/api/retry", method="POST", headers=OWN, body=b" " * 70_000)
    assert reply.status == 413


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON object"),
        (b"[" * 100_000, "JSON object"),
        (b"[]", "JSON object"),
        ({}, "expected a select, tasks, or failed"),
        ({"select": {}, "tasks": [], "failed": False}, "expected a select, tasks, or failed"),
        ({"selct": {}}, "did you mean 'select'"),
        ({"failed": 1}, "failed: expected true or false"),
        ({"select": ["rate"]}, "select: expected axis"),
        ({"select": {"rat": [1]}}, "did you mean 'rate'"),
        ({"select": {"rate": 2}}, "select.rate: expected a list"),
        ({"select": {"rate": [[2]]}}, "select.rate: expected a list"),
        ({"select": {"rate": [3]}}, "rate: expected one of 1, 2, 4"),
        ({"tasks": ["../../x"]}, "expected task keys"),
        ({"tasks": ["train-"]}, "expected task keys"),
        ({"tasks": ["train-ffffffffff"]}, "names no task"),
        ({"tasks": ["x"] * 2000}, "at most 1000"),
    ],
)
def test_what_names_nothing_is_refused_with_the_reason(snapshot, body, words):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        parse_retry(snapshot, content)
