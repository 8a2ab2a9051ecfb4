"""Who may ask: allowed hosts, the access token, and where a write may come from."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prunegrid.orchestrator.errors import UsageError

TOKEN_VARIABLE = "PRUNEGRID_TOKEN"
_SHORTEST_TOKEN = 16
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")

#: What a browser may do with the answers. Nothing is loaded from elsewhere; plotly sets styles.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """`token` None: no token is needed, which is allowed on loopback only."""

    token: str | None
    allowed_hosts: tuple[str, ...]
    can_retry: bool


def access_for(
    host: str, *, allow_retry: bool, allowed: Sequence[str] = (), token: str | None = None
) -> Access:
    """`token`: from the environment. Raises UsageError for one that is too short to be safe."""
    token = token or None
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            f"{TOKEN_VARIABLE}: expected at least {_SHORTEST_TOKEN} characters, got {len(token)}"
        )
    if not is_loopback(host):
        token = token or secrets.token_urlsafe(24)
    hosts = dict.fromkeys([*_LOOPBACK_NAMES, *allowed])
    if not is_loopback(host):
        hosts |= dict.fromkeys([host, *_own_names()])
    return Access(token=token, allowed_hosts=tuple(hosts), can_retry=allow_retry)


def token_of_environment() -> str | None:
    return os.environ.get(TOKEN_VARIABLE)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _own_names() -> list[str]:
    """Names and addresses by which others may reach this machine."""
    name = socket.gethostname()
    out = [name, socket.getfqdn()]
    with contextlib.suppress(OSError):
        out += [str(info[4][0]) for info in socket.getaddrinfo(name, None)]
    return [f"[{one}]" if ":" in one else one for one in out]


class TokenGate:
    """Admits requests with the token: as `?token=`, which is replaced by a cookie and leaves the
    address; as that cookie; or as `Authorization: Bearer`."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = token
        # The cookie is not the token: it is valid for this server only, while it runs.
        self._cookie = secrets.token_urlsafe(24)
        self._name = f"prunegrid-{hashlib.sha256(self._cookie.encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._token is None:
            await self._app(scope, receive, send)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = dict(query).get("token")
        headers = Headers(scope=scope)
        if shown is not None and scope["method"] == "GET" and _same(shown, self._token):
            await self._welcome(scope, query)(scope, receive, send)
        elif self._is_known(headers):
            await self._app(scope, receive, send)
        else:
            error = "a token is needed: open the address that the server printed at its start"
            await JSONResponse({"error": error}, 401)(scope, receive, send)

    def _welcome(self, scope: Scope, query: list[tuple[str, str]]) -> Response:
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        here = scope["path"].rpartition("/")[2]
        target = f"./{here}" + (f"?{rest}" if rest else "")
        response = RedirectResponse(target, status_code=303)
        response.set_cookie(self._name, self._cookie, httponly=True, samesite="strict", path="/")
        return response

    def _is_known(self, headers: Headers) -> bool:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._token and _same(bearer.strip(), self._token):
            return True
        cookies = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except Exception:  # a hostile cookie is no cookie
            return False
        mine = cookies.get(self._name)
        return mine is not None and _same(mine.value, self._cookie)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


class SafeHeaders:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safely)


def why_not_write(headers: Mapping[str, str], access: Access) -> str | None:
    """Why a request may not change anything; None: it may. A page of another origin can't have our
    Origin, and can't set the header without a preflight request."""
    if not access.can_retry:
        return "this server only reads; start it with --allow-retry"
    if headers.get("x-prunegrid") != "1":
        return "expected the header X-Prunegrid: 1"
    origin = urlsplit(headers.get("origin", ""))
    if origin.scheme not in ("http", "https") or origin.netloc != headers.get("host", ""):
        return "expected an Origin that is this server's own"
    return None
