"""The dashboard's addresses: each answer from the newest snapshot, nothing from Ray or a driver."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.dashboard.bodies import BodyCache
from orchestrator.dashboard.filters import selection_of
from orchestrator.dashboard.heatmap import grid_payload
from orchestrator.dashboard.security import Access, SafeHeaders, TokenGate
from orchestrator.dashboard.snapshot import Snapshot
from orchestrator.dashboard.static_files import StaticFiles
from orchestrator.dashboard.status import status_payload
from orchestrator.dashboard.watcher import Watcher
from orchestrator.errors import PrunegridError, UsageError

#: An unchanged store's status is told anew this often, for the age of its data.
_TICK_S = 5.0


def make_app(watcher: Watcher, access: Access) -> Starlette:
    """The whole server, without a socket; its life starts and ends the watcher."""
    api = _Api(watcher, access)

    @contextlib.asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        watcher.start()
        yield
        watcher.close()

    return Starlette(
        lifespan=life,
        routes=[
            Route("/", api.index),
            Route("/favicon.ico", api.icon),
            Route("/static/{name}", api.static),
            Route("/api/status.json", api.status),
            Route("/api/grid.json", api.grid),
        ],
        middleware=[
            Middleware(SafeHeaders),
            Middleware(
                TrustedHostMiddleware,
                allowed_hosts=list(access.allowed_hosts),
                www_redirect=False,
            ),
            Middleware(TokenGate, token=access.token),
        ],
        exception_handlers={
            UsageError: _told(400),
            TimeoutError: _told(503),
            PrunegridError: _told(503),
        },
    )


def _told(code: int) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, code)

    return answer


class _Api:
    """Plain functions: Starlette runs them in threads of its own."""

    def __init__(self, watcher: Watcher, access: Access) -> None:
        self._watcher = watcher
        self._access = access
        self._cache = BodyCache()
        self._files = StaticFiles()

    def _answer(self, request: Request, make: Callable[[Snapshot], Any]) -> Response:
        """Computed once per generation and address."""
        snapshot = self._watcher.current()
        key = (request.url.path, request.url.query)
        body = self._cache.get(key, snapshot.generation, lambda: make(snapshot))
        return body.response(request)

    # ------------------------------------------------------------------ the page

    def index(self, request: Request) -> Response:
        return self._file(request, "index.html")

    def icon(self, request: Request) -> Response:
        return self._file(request, "favicon.ico")

    def static(self, request: Request) -> Response:
        return self._file(request, request.path_params["name"])

    def _file(self, request: Request, name: str) -> Response:
        body = self._files.get(name)
        if body is None:
            return JSONResponse({"error": f"no file {name!r}"}, 404)
        return body.response(request)

    # ------------------------------------------------------------------ answers

    def status(self, request: Request) -> Response:
        snapshot = self._watcher.current()
        stamp = (snapshot.generation, snapshot.state, snapshot.at_s // _TICK_S)
        body = self._cache.get(
            "status", stamp, lambda: status_payload(snapshot, can_retry=self._access.can_retry)
        )
        return body.response(request)

    def grid(self, request: Request) -> Response:
        query = request.query_params
        return self._answer(
            request,
            lambda s: grid_payload(s, selection_of(query.multi_items()), query.get("value")),
        )
