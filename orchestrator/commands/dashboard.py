"""`prunegrid dashboard`: the server as a process, or a copy of its page as files."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.dashboard.access import Access, access_for, token_of_environment
from prunegrid.orchestrator.dashboard.api import make_app
from prunegrid.orchestrator.dashboard.dashboard_process import end_with_parent
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.static_copy import export
from prunegrid.orchestrator.dashboard.watcher import Watcher
from prunegrid.orchestrator.errors import UsageError
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.store.store import Store

DEFAULT_PORT = 8050
_TRIES = 20


class ServerError(UsageError):
    """The server can't listen where it should."""


def command(
    store: StoreOption,
    host: Annotated[
        str, typer.Option(help="Where to listen; any but loopback needs the token it prints.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="(default: 8050, or the next free one; 0: any)")
    ] = None,
    allow_retry: Annotated[
        bool, typer.Option("--allow-retry", help="Let viewers ask the driver to retry tasks.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name of this server, as a proxy has it."),
    ] = None,
    export_to: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="DIR", help="Don't serve: write a copy to read, as files, here."
        ),
    ] = None,
) -> None:
    """Watch a store in a browser: live, beside a driver or after its end."""
    console = Terminal()
    found = Store.open(store)
    if export_to is not None:
        page = export(StoreReader(found), export_to)
        console.print(f"a copy to read: {page}", soft_wrap=True)
        return
    access = access_for(
        host, allow_retry=allow_retry, allowed=allowed_host or (), token=token_of_environment()
    )
    serve(found, access, console, host=host, port=port)


def serve(store: Store, access: Access, console: Console, *, host: str, port: int | None) -> None:
    """Until SIGTERM or Ctrl-C, which end this process. `port` None: DEFAULT_PORT, or the next free
    one. Raises ServerError, UsageError before it listens."""
    listener = listen(host, port)
    number = int(listener.getsockname()[1])
    if port is None and number != DEFAULT_PORT:
        console.print(f"port {DEFAULT_PORT} is taken; using {number}")
    console.print(f"dashboard of {store.address}:", soft_wrap=True)
    console.print(address_of(host, number, access), soft_wrap=True)
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


def listen(host: str, port: int | None) -> socket.socket:
    """A bound socket. Raises ServerError where the port is taken or the host is not ours."""
    numbers = range(DEFAULT_PORT, DEFAULT_PORT + _TRIES) if port is None else range(port, port + 1)
    if not 0 <= numbers[0] < 65536:
        raise UsageError(f"--port: expected 0 (any free one) to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host, numbers[0], type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServerError(f"--host {host}: {error.strerror or error}") from error
    family, _, _, _, where = found[0]
    why = None
    for number in numbers:
        # named as TCP, or asyncio would leave small answers waiting for each other (Nagle)
        one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((where[0], number, *where[2:]))
            one.listen(128)
            return one
        except OSError as error:
            one.close()
            why = error.strerror
    named = f"{port}" if port is not None else f"{numbers[0]} to {numbers[-1]}"
    raise ServerError(f"can't listen on {host} port {named}: {why}; --port 0 takes any free one")


def address_of(host: str, port: int, access: Access) -> str:
    """What to open; with the token, which is printed here and nowhere else."""
    name = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        name = socket.gethostname()
    token = f"?token={access.token}" if access.token else ""
    return f"http://{name}:{port}/{token}"
