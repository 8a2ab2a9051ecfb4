"""A cache of answers: each is computed, compressed and hashed once for all viewers."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

_KEPT = 256
#: Smaller answers are not compressed.
_PACK_BYTES = 500


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

    def response(self, request: Request, *, cache: str = "no-cache") -> Response:
        """200, or 304 where the viewer has it already."""
        headers = {"ETag": self.etag, "Cache-Control": cache, "Vary": "Accept-Encoding"}
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
