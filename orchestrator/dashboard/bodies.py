"""Bodies of answers, each computed, compressed and hashed once for all viewers; and the page's own
files, with plotly.js from the installed package: nothing comes from a network."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

_KEPT = 256
#: Smaller answers are not compressed.
_PACK_BYTES = 500
_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PLOTLY = "plotly.min.js"


class Body:
    """An answer's bytes and hash; compressed at the first request that accepts it."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self.content = content
        self.media_type = media_type
        self.etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
        self._packed: bytes | None = None

    def packed(self) -> bytes:
        if self._packed is None:
            self._packed = gzip.compress(self.content, compresslevel=6, mtime=0)
        return self._packed

    def response(self, request: Request) -> Response:
        """200, or 304 where the viewer has it already."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
        if self.etag in [tag.removeprefix("W/") for tag in known]:
            return Response(status_code=304, headers=headers)
        content = self.content
        if len(content) >= _PACK_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
            content = self.packed()
            headers["Content-Encoding"] = "gzip"
        return Response(content, media_type=self.media_type, headers=headers)


def json_body(value: object) -> Body:
    """Compact. Raises ValueError for NaN and infinities, which JSON lacks."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return Body(text.encode(), "application/json")


class _Entry:
    """One key's body, and who computes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stamp: Hashable = None
        self.body: Body | None = None


class BodyCache:
    """The newest body of each key; safe from any thread. Simultaneous requests for one key wait for
    one computation; requests for other keys don't wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, stamp: Hashable, make: Callable[[], Any]) -> Body:
        """The body of `make()`, made anew where `stamp` differs from when it was made."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > _KEPT:
                self._entries.popitem(last=False)
        with entry.lock:
            if entry.body is None or entry.stamp != stamp:
                value = make()
                entry.body = value if isinstance(value, Body) else json_body(value)
                entry.stamp = stamp
            return entry.body


class StaticFiles:
    """By name; each is read once, and again after it has changed."""

    def __init__(self) -> None:
        self._bodies: dict[str, tuple[int, Body]] = {}

    def names(self) -> list[str]:
        """Of the page's own files."""
        return sorted(p.name for p in _FOLDER.iterdir() if p.suffix in _TYPES and p.is_file())

    def get(self, name: str) -> Body | None:
        """None where there is no such file."""
        path = plotly_file() if name == PLOTLY else _FOLDER / name
        if name != PLOTLY and name not in self.names():
            return None
        changed_ns = path.stat().st_mtime_ns
        known = self._bodies.get(name)
        if known is None or known[0] != changed_ns:
            known = (changed_ns, Body(path.read_bytes(), _TYPES[path.suffix]))
            self._bodies[name] = known
        return known[1]


def plotly_file() -> Path:
    """plotly.js inside the installed plotly package, without importing that."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / PLOTLY
