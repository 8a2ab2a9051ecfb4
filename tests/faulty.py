"""An HTTP server in front of another on loopback, which fails the way networks and S3 do."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What may befall a request.
INTERNAL_ERROR = "500 InternalError"
SLOW_DOWN = "503 SlowDown"
DELAYED = "delayed"
RESET = "reset before the server sees it"
TORN_UPLOAD = "reset half way through what is sent"
LOST_REPLY = "done by the server, reset before its reply"
TORN_REPLY = "reset half way through its reply"
FAULTS = (INTERNAL_ERROR, SLOW_DOWN, DELAYED, RESET, TORN_UPLOAD, LOST_REPLY, TORN_REPLY)

#: Answers to a conditional PUT alone.
CONFLICT = "409 ConditionalRequestConflict"
NOT_IMPLEMENTED = "501 NotImplemented"

DELAY_S = 0.3


class FaultyServer:
    """`plan` says what befalls the next requests, in order; `always`, what befalls all others;
    `every`, that each so-manieth meets one of FAULTS in turn."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.plan: deque[str] = deque()
        self.always: str | None = None
        self.every = 0
        self.concerns: Callable[[str, str], bool] = lambda method, path: True
        self.met: list[str] = []  #: faults that a request did meet
        self.requests: list[str] = []  #: methods
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (_Handler,), {"to": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, method: str, path: str) -> str | None:
        concerned = self.concerns(method, path)  # which may make requests of its own
        with self._lock:
            self.requests.append(method)
            if not concerned:
                return None
            fault = self.plan.popleft() if self.plan else self.always
            if self.every and len(self.requests) % self.every == 0:
                fault = FAULTS[len(self.met) % len(FAULTS)]
            if fault is not None:
                self.met.append(fault)
            return fault

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def faulty(upstream: tuple[str, int]) -> Iterator[FaultyServer]:
    server = FaultyServer(upstream)
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    to: FaultyServer

    def _answer(self) -> None:
        fault = self.to.take(self.command, self.path)
        if fault == RESET:
            return self._reset()
        if fault == TORN_UPLOAD:
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            return self._reset()
        body = self._body()
        if fault in (INTERNAL_ERROR, SLOW_DOWN, CONFLICT, NOT_IMPLEMENTED):
            status, _, code = fault.partition(" ")
            xml = f"<Error><Code>{code}</Code><Message>planted</Message></Error>".encode()
            return self._reply(int(status), [("Content-Type", "application/xml")], xml)
        if fault == DELAYED:
            time.sleep(DELAY_S)
        connection = http.client.HTTPConnection(*self.to.upstream, timeout=30)
        dropped = {*_HOP_BY_HOP, "content-length"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == LOST_REPLY:
            return self._reset()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP]
        self._reply(answer.status, kept, content, torn=fault == TORN_REPLY)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _reply(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, torn: bool = False
    ) -> None:
        length = {k.lower(): v for k, v in headers}.get("content-length")
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        head_only = self.command == "HEAD"
        self.send_header("Content-Length", (length or "0") if head_only else str(len(content)))
        self.end_headers()
        if torn:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            return self._reset()
        self.wfile.write(b"" if head_only else content)

    def _reset(self) -> None:
        """A TCP reset instead of an orderly end."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.shutdown(socket.SHUT_RD)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None: ...


_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}
