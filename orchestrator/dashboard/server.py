"""The server as a process: its socket, its address, its end."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from rich.console import Console

from prunegrid.orchestrator.dashboard.access import Access, access_for, token_of_environment
from prunegrid.orchestrator.dashboard.api import make_app
from prunegrid.orchestrator.dashboard.dashboard_process import end_with_parent
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.static_copy import export
from prunegrid.orchestrator.dashboard.watcher import Watcher
from prunegrid.orchestrator.errors import PrunegridError, UsageError
from prunegrid.orchestrator.store.store import Store

DEFAULT_PORT = 8050
_TRIES = 20


class ServerError(PrunegridError):
    """The server can't listen where it should."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    store: str
    host: str = "127.0.0.1"
    port: int | None = None  #: None: DEFAULT_PORT, or the next free one
    allow_retry: bool = False
    allowed_hosts: tuple[str, ...] = ()


def serve(options: ServerOptions, console: Console) -> None:
    """Until SIGTERM or Ctrl-C, which end this process.

    Raises StoreError, ServerError, UsageError before it listens.
    """
    store = Store.open(options.store)
    access = access_for(
        options.host,
        allow_retry=options.allow_retry,
        allowed=options.allowed_hosts,
        token=token_of_environment(),
    )
    listener = listen(options.host, options.port)
    port = int(listener.getsockname()[1])
    if options.port is None and port != DEFAULT_PORT:
        console.print(f"port {DEFAULT_PORT} is taken; using {port}", highlight=False)
    console.print(f"dashboard of {store.address}:", highlight=False, soft_wrap=True, markup=False)
    console.print(address_of(options.host, port, access), soft_wrap=True, markup=False)
    end_with_parent()
    app = make_app(Watcher(StoreReader(store)), access)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # addresses may hold the token
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=20,
        limit_concurrency=512,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    # There is nothing to save: a thread that still reads or imports must not hold the end up.
    sys.stdout.flush()
    os._exit(0)


def export_page(store: str, out: Path, console: Console) -> None:
    """Raises StoreError."""
    page = export(StoreReader(Store.open(store)), out)
    console.print(f"a copy to read: {page}", highlight=False, soft_wrap=True, markup=False)


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
