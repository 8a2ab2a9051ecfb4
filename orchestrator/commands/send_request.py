"""What `retry`, `pause` and `resume` share: they ask a driver, running or yet to come, and say
what that will do."""

from __future__ import annotations

from prunegrid.orchestrator.store.lease import Holder, find_driver
from prunegrid.orchestrator.store.requests import Pause, Request, pause_to_come, write_request
from prunegrid.orchestrator.store.store import Store, store_errors


def named(holder: Holder) -> str:
    return f"the driver with pid {holder.pid} on {holder.host}"


def driver_of(store: Store) -> Holder | None:
    holder, lives = find_driver(store)
    return holder if lives else None


def find_pause(store: Store) -> Pause | None:
    with store_errors():
        return pause_to_come(store.files)


def write(store: Store, request: Request) -> None:
    with store_errors():
        write_request(store.files, request)
