"""Who may look, who may ask for more, and what a browser may do with the answers."""

from __future__ import annotations

import pytest

from prunegrid.orchestrator.dashboard.access import (
    HEADERS,
    access_for,
    is_loopback,
    why_not_write,
)
from prunegrid.orchestrator.errors import UsageError
from tests.dashboard.client import HOST, ask

TOKEN = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
    ],
)
def test_beyond_loopback_there_is_always_a_token(host, loopback):
    assert is_loopback(host) is loopback
    token = access_for(host, allow_retry=False).token
    assert (token is None) is loopback
    if not loopback:
        assert len(token) >= 32
        assert access_for(host, allow_retry=False).token != token
        assert access_for(host, allow_retry=False, token="").token


def test_a_token_of_ones_own_is_taken_if_it_is_hard_to_guess():
    assert access_for("0.0.0.0", allow_retry=False, token=TOKEN).token == TOKEN
    assert access_for("127.0.0.1", allow_retry=False, token=TOKEN).token == TOKEN
    with pytest.raises(UsageError, match="expected at least 16 characters, got 6"):
        access_for("0.0.0.0", allow_retry=False, token="secret")


@pytest.fixture
def guarded(mixed, serve):
    return serve(mixed.address, access_for("127.0.0.1", allow_retry=True, token=TOKEN))


def test_every_answer_carries_the_rules(mixed, serve):
    app = serve(mixed.address)
    paths = ["/", "/api/status.json", "/nope", "/api/grid.json?rate=3", "/metrics", "/favicon.ico"]
    for path in paths:
        headers = ask(app, path).headers
        for name, value in HEADERS.items():
            assert headers[name] == value, path
    assert "script-src" not in HEADERS["Content-Security-Policy"], "default-src 'self' holds"
    assert "unsafe-eval" not in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8050", 200),
        ("localhost:1234", 200),
        ("[::1]:8050", 200),
        ("evil.example.org", 400),
        ("evil.example.org:8050", 400),
        ("127.0.0.1.evil.example.org", 400),
        ("", 400),
    ],
)
def test_a_name_that_is_not_ours_gets_nothing(mixed, serve, host, status):
    reply = ask(serve(mixed.address), "/api/status.json", headers={"host": host})
    assert reply.status == status
    assert (b"small" in reply.content) is (status == 200)


def test_a_proxys_name_may_be_allowed(mixed, serve):
    access = access_for("127.0.0.1", allow_retry=False, allowed=["hub.example.org"])
    app = serve(mixed.address, access)
    assert ask(app, "/metrics", headers={"host": "hub.example.org"}).status == 200


PATHS = ["/", "/api/status.json", "/metrics", "/static/app.js", "/nope", "/api/retry"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer \xe9"},
        {"cookie": f"prunegrid={TOKEN}"},
        {"cookie": "prunegrid-00000000=x; ;;=; \x01"},
    ],
    ids=["none", "wrong", "basic", "odd", "another cookie", "torn cookie"],
)
def test_without_the_token_there_is_nothing_not_even_a_404(guarded, path, headers):
    reply = ask(guarded, path, headers=headers)
    assert reply.status == 401
    assert TOKEN not in reply.text


def test_the_token_leaves_the_address_for_a_cookie(guarded):
    reply = ask(guarded, f"/?rate=2&token={TOKEN}&method=a+b")
    assert (reply.status, reply.headers["location"]) == (303, "./?rate=2&method=a+b")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    pair = cookie.partition(";")[0]
    assert ask(guarded, "/api/status.json", headers={"cookie": pair}).status == 200
    assert ask(guarded, "/api/status.json", headers={"cookie": pair[:-1]}).status == 401
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert ask(guarded, "/api/status.json", headers=bearer).status == 200
    assert ask(guarded, "/?token=wrong").status == 401


@pytest.mark.parametrize("path", ["/%0d%0aset-cookie:x", "//evil.example.org", "/%5c%5cevil"])
def test_the_way_back_leads_nowhere_else(guarded, path):
    reply = ask(guarded, f"{path}?token={TOKEN}")
    where = reply.headers["location"]
    assert where.startswith("./")
    assert not set(where[2:]) & set("/\\\r\n"), "a name beside the page, no other host"
    assert len(reply.headers.getlist("set-cookie")) == 1


GOOD = {"x-prunegrid": "1", "origin": f"http://{HOST}", "host": HOST}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"origin": f"https://{HOST}"}, None),
        ({"x-prunegrid": ""}, "X-Prunegrid"),
        ({"origin": ""}, "Origin"),
        ({"origin": "null"}, "Origin"),
        ({"origin": "http://evil.example.org"}, "Origin"),
        ({"origin": "http://127.0.0.1:9999"}, "Origin"),
        ({"origin": f"http://{HOST}.evil.example.org"}, "Origin"),
        ({"origin": f"ftp://{HOST}"}, "Origin"),
    ],
)
def test_a_write_comes_from_our_own_page_or_not_at_all(change, words):
    access = access_for("127.0.0.1", allow_retry=True)
    reason = why_not_write({**GOOD, **change}, access)
    assert (reason is None) if words is None else words in reason


def test_a_server_that_only_reads_takes_no_request():
    assert "--allow-retry" in why_not_write(GOOD, access_for("127.0.0.1", allow_retry=False))
