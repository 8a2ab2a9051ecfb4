"""The server as a process: its address, its port, its end."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunegrid.orchestrator.cli import main
from prunegrid.orchestrator.commands.dashboard import DEFAULT_PORT, ServerError, address_of, listen
from prunegrid.orchestrator.dashboard.access import access_for
from prunegrid.orchestrator.errors import UsageError
from tests.test_loopback import LOOPBACK, listening

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "correct-horse-battery-staple"


class Server:
    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prunegrid", "dashboard", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if match := re.search(r"http://(\S+):(\d+)/(\S*)", line):
                self.host, self.port, self.query = match[1], int(match[2]), match[3]
                break

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        self.open = connection  # a viewer who stays
        return reply.status, reply.read()

    def end(self, number: int) -> float:
        """Seconds until it was gone."""
        began_s = time.monotonic()
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=90)[0]
        return time.monotonic() - began_s


@pytest.fixture
def server(mixed) -> Iterator[type]:
    made = []

    def start(*arguments: str, **environment: str) -> Server:
        one = Server("--store", mixed.address, *arguments, **environment)
        made.append(one)
        return one

    yield start
    for one in made:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_listens_on_loopback_alone_and_ends_at_once_while_watched(server, number):
    one = server("--port", "0")
    assert one.get("/api/status.json")[0] == 200
    found = listening({one.process.pid})
    assert len(found) == 1
    assert set(found.values()) <= LOOPBACK
    assert one.end(number) < 8, "a viewer who stays kept it alive"
    assert "Traceback" not in one.said
    assert one.process.returncode in (0, -number)


def test_a_token_is_asked_for_and_never_logged(server):
    one = server("--port", "0", PRUNEGRID_TOKEN=TOKEN)
    assert one.query == f"?token={TOKEN}"
    assert one.get("/api/status.json")[0] == 401
    assert one.get(f"/?token={TOKEN}")[0] == 303
    assert one.get("/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
    one.end(signal.SIGTERM)
    assert one.said.count(TOKEN) == 1, "its address, printed once"


def test_a_taken_port_is_one_line(server, mixed):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one = server("--port", str(port))
        output = one.said + one.process.communicate(timeout=90)[0]
    assert one.process.returncode == 2
    assert output.strip().count("\n") == 0
    assert f"can't listen on 127.0.0.1 port {port}: Address already in use" in output


def test_where_no_port_is_asked_for_the_next_free_one_is_taken():
    first = listen("127.0.0.1", None)
    second = listen("127.0.0.1", None)
    try:
        ports = [one.getsockname()[1] for one in (first, second)]
        assert DEFAULT_PORT <= ports[0] < ports[1] <= DEFAULT_PORT + 20
    finally:
        first.close()
        second.close()


def test_a_host_or_port_that_can_not_be_is_refused():
    with pytest.raises(ServerError, match=r"--host no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0)
    with pytest.raises(UsageError, match=r"--port: expected .* got 70000"):
        listen("127.0.0.1", 70000)


@pytest.mark.parametrize(
    ("host", "token", "expected"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:80/"),
        ("::1", None, "http://[::1]:80/"),
        ("10.0.0.7", TOKEN, f"http://10.0.0.7:80/?token={TOKEN}"),
        ("0.0.0.0", TOKEN, f"http://{socket.gethostname()}:80/?token={TOKEN}"),
    ],
)
def test_the_address_can_be_opened_as_it_is_printed(host, token, expected):
    access = access_for(host, allow_retry=False, token=token)
    assert address_of(host, 80, access) == expected


def test_no_store_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["dashboard", "--store", str(tmp_path / "no")])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "there is no store here" in said.err
    assert said.out == ""
