"""Asks an application without a socket: what goes in and out is ASGI."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers

HOST = "127.0.0.1:8050"


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: Headers
    raw: bytes

    @property
    def content(self) -> bytes:
        packed = self.headers.get("content-encoding") == "gzip"
        return gzip.decompress(self.raw) if packed else self.raw

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


def ask(
    app: Any,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Reply:
    """`path` with its query. An exception inside the application is raised here."""
    return asyncio.run(_ask(app, path, method, {"host": HOST} | dict(headers or {}), body))


async def _ask(app: Any, path: str, method: str, headers: Mapping[str, str], body: bytes) -> Reply:
    bare, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(bare),
        "raw_path": bare.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8050),
    }
    sent = [{"type": "http.request", "body": body, "more_body": False}]
    got: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return sent.pop() if sent else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        got.append(message)

    await app(scope, receive, send)
    start = next(message for message in got if message["type"] == "http.response.start")
    parts = [m.get("body", b"") for m in got if m["type"] == "http.response.body"]
    return Reply(status=start["status"], headers=Headers(raw=start["headers"]), raw=b"".join(parts))
