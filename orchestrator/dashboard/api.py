"""The dashboard's addresses. Each answer comes from the newest snapshot, never from a driver."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prunegrid.orchestrator.dashboard.access import Access, SafeHeaders, TokenGate, why_not_write
from prunegrid.orchestrator.dashboard.answers import Answers, Query
from prunegrid.orchestrator.dashboard.bodies import Body, BodyCache, StaticFiles
from prunegrid.orchestrator.dashboard.pictures import is_attack_key, picture
from prunegrid.orchestrator.dashboard.retry import RefusedError, parse_retry
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.dashboard.status_payload import MEDIA_TYPE, metrics_text
from prunegrid.orchestrator.dashboard.watcher import Watcher
from prunegrid.orchestrator.errors import PrunegridError, UsageError
from prunegrid.orchestrator.grid.selection import UnknownNameError
from prunegrid.orchestrator.store.requests import write_request
from prunegrid.workers.files import StorageError

#: The status of an unchanged store is renewed this often, for the age of its data.
_TICK_S = 5.0
#: The largest request to retry.
_MOST_BYTES = 64 * 1024


def make_app(watcher: Watcher, access: Access) -> Starlette:
    """The whole server, without a socket. Its lifespan starts and ends the watcher."""
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
            *(
                Route(f"/api/{name}.json", api.answer)
                for name in ("grid", "square", "cell", "curves", "timeline", "failures")
            ),
            Route("/api/adversarial.png", api.picture),
            Route("/api/retry", api.retry, methods=["POST"]),
            Route("/metrics", api.metrics),
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
            UnknownNameError: _told(404),
            RefusedError: _told(403),
            PrunegridError: _told(503),
            StorageError: _told(503),
        },
    )


def _told(code: int) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, code)

    return answer


class _Api:
    """Plain functions: Starlette runs each in a thread."""

    def __init__(self, watcher: Watcher, access: Access) -> None:
        self._watcher = watcher
        self._access = access
        self._answers = Answers(watcher.reader, can_retry=access.can_retry)
        self._cache = BodyCache()
        self._files = StaticFiles()

    # ------------------------------------------------------------------ the page

    def index(self, request: Request) -> Response:
        return self._file(request, "index.html")

    def icon(self, request: Request) -> Response:
        return self._file(request, "favicon.svg")

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
        return self._cache.get(
            "status", _moment(snapshot), lambda: self._answers.status(snapshot)
        ).response(request)

    def answer(self, request: Request) -> Response:
        """Any other JSON: computed once per generation and address, for all viewers."""
        snapshot = self._watcher.current()
        name = request.url.path.rpartition("/")[2].removesuffix(".json")
        query = Query(request.query_params)
        make = getattr(self._answers, name)
        key = (name, str(query))
        body = self._cache.get(key, snapshot.generation, lambda: make(snapshot, query))
        return body.response(request)

    def metrics(self, request: Request) -> Response:
        snapshot = self._watcher.current()

        def make() -> Body:
            content = metrics_text(snapshot, self._answers.status(snapshot))
            return Body(content, MEDIA_TYPE)

        return self._cache.get("metrics", _moment(snapshot), make).response(request)

    def picture(self, request: Request) -> Response:
        query = Query(request.query_params)
        key = query.get("task") or ""
        index = query.number("index") or 0.0
        if not is_attack_key(key):
            raise UsageError(f"task: expected an attack task's key, got {key[:100]!r}")
        files = self._watcher.reader.store.files
        try:
            content = picture(files, key, int(index), query.get("kind") or "adversarial")
        except FileNotFoundError as error:
            return JSONResponse({"error": f"{error}"}, 404)
        except (ValueError, StorageError) as error:
            return JSONResponse({"error": f"{error}"}, 422)
        return Body(content, "image/png").response(request)

    async def retry(self, request: Request) -> Response:
        snapshot = await run_in_threadpool(self._watcher.current)
        if reason := why_not_write(request.headers, self._access):
            raise RefusedError(reason)
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > _MOST_BYTES:
                return JSONResponse({"error": "the request is too large"}, 413)
        files = self._watcher.reader.store.files
        asked = await run_in_threadpool(parse_retry, snapshot, bytes(content))
        name = await run_in_threadpool(write_request, files, asked)
        return JSONResponse({"request": name}, 202)


def _moment(snapshot: Snapshot) -> tuple[object, ...]:
    return (snapshot.generation, snapshot.state, snapshot.at_s // _TICK_S)
