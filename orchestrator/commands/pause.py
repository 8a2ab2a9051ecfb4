"""`prunegrid pause`: ask a driver, running or yet to come, to start nothing new."""

from __future__ import annotations

from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.commands.send_request import driver_of, find_pause, named, write
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.store.requests import Request, since_text
from prunegrid.orchestrator.store.store import Store


def command(store: StoreOption) -> None:
    """Start nothing new until 'resume'; what runs goes on to its end."""
    pause(store, Terminal())


def pause(address: str, console: Console) -> None:
    store = Store.open(address)
    if found := find_pause(store):
        console.print(f"paused already{since_text(found)}")
        return
    write(store, Request(kind="pause", by="cli"))
    holder = driver_of(store)
    if holder is not None:
        text = f"{named(holder)} starts nothing new; what runs goes on to its end"
    else:
        text = "no driver is running; the next one will wait"
    console.print(f"paused: {text}", soft_wrap=True)
    console.print(f"go on with: prunegrid resume --store {address}")
