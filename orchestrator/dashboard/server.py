"""Where the server listens: its socket and its address."""

from __future__ import annotations

import socket

from prunegrid.orchestrator.dashboard.access import Access
from prunegrid.orchestrator.errors import UsageError

DEFAULT_PORT = 8050
_TRIES = 20


class ServerError(UsageError):
    """The server can't listen where it should."""


def listen(host: str, port: int | None) -> socket.socket:
    """A bound socket. Raises ServerError where the port is taken or the host is not ours."""
    first = DEFAULT_PORT if port is None else port
    last = first + (_TRIES if port is None else 1)
    if not 0 <= first < 65536:
        raise UsageError(f"--port: expected 0 (any free one) to 65535, got {port}")
    try:
        family, _, _, _, where = socket.getaddrinfo(host, first, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ServerError(f"--host {host}: {error.strerror or error}") from error
    for number in range(first, last):
        # named as TCP, or asyncio would leave small answers waiting for each other (Nagle)
        one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((where[0], number, *where[2:]))
            one.listen(128)
        except OSError as error:
            one.close()
            if number + 1 == last:
                named = f"{first}" if port is not None else f"{first} to {last - 1}"
                raise ServerError(
                    f"can't listen on {host} port {named}: {error.strerror}; "
                    "--port 0 takes any free one"
                ) from error
        else:
            return one
    raise AssertionError("unreachable")


def address_of(host: str, port: int, access: Access) -> str:
    """What to open; with the token, which is printed here and nowhere else."""
    name = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        name = socket.gethostname()
    token = f"?token={access.token}" if access.token else ""
    return f"http://{name}:{port}/{token}"
