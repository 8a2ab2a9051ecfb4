"""`prunegrid resume`: ask a driver to go on after `prunegrid pause`."""

from __future__ import annotations

from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.commands.send_request import driver_of, find_pause, named, write
from prunegrid.orchestrator.output import Terminal
from prunegrid.orchestrator.store.requests import Request
from prunegrid.orchestrator.store.store import Store


def command(store: StoreOption) -> None:
    """Go on after 'pause'."""
    resume(store, Terminal())


def resume(address: str, console: Console) -> None:
    store = Store.open(address)
    if find_pause(store) is None:
        console.print("not paused: nothing to resume")
        return
    write(store, Request(kind="resume", by="cli"))
    holder = driver_of(store)
    text = f"{named(holder)} goes on" if holder else "no driver is running; the next one starts"
    console.print(f"resumed: {text}", soft_wrap=True)
