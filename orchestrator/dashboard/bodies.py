"""Answers kept until something changes: computed, compressed and hashed once for all viewers."""

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
#: Smaller ones are not worth packing.
_PACK_BYTES = 500


class Body:
    """An answer's bytes, with its hash; packed when first asked for so."""

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
    """Compact. NaN and infinities, which JSON has not, are refused with ValueError."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return Body(text.encode(), "application/json")


class _Place:
    """One key's body, and who computes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stamp: Hashable = None
        self.body: Body | None = None


class BodyCache:
    """The newest body of each key; safe from any thread. Viewers who ask for the same at once
    wait for one computation; those who ask for something else don't."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()

    def get(self, key: Hashable, stamp: Hashable, make: Callable[[], Any]) -> Body:
        """The body of `make()`, made anew where `stamp` differs from when it was made."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            while len(self._places) > _KEPT:
                self._places.popitem(last=False)
        with place.lock:
            if place.body is None or place.stamp != stamp:
                value = make()
                place.body = value if isinstance(value, Body) else json_body(value)
                place.stamp = stamp
            return place.body
