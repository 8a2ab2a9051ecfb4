"""`prunegrid dashboard`: the server as a process, or a copy of its page as files."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.dashboard.access import access_for, token_of_environment
from prunegrid.orchestrator.dashboard.api import make_app
from prunegrid.orchestrator.dashboard.dashboard_process import end_with_parent
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.server import DEFAULT_PORT, address_of, listen
from prunegrid.orchestrator.dashboard.static_copy import export
from prunegrid.orchestrator.dashboard.watcher import Watcher
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.store.store import Store


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    store: str
    host: str = "127.0.0.1"
    port: int | None = None  #: None: DEFAULT_PORT, or the next free one
    allow_retry: bool = False
    allowed_hosts: tuple[str, ...] = ()


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
    if export_to is not None:
        export_page(store, export_to, Terminal())
        return
    options = ServerOptions(
        store=store,
        host=host,
        port=port,
        allow_retry=allow_retry,
        allowed_hosts=tuple(allowed_host or ()),
    )
    serve(options, Terminal())


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
