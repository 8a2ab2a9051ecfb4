"""What `retry`, `pause` and `resume` share: they ask a driver, running or yet to come, and say
what that will do."""

from __future__ import annotations

from datetime import UTC, datetime

from prunegrid.orchestrator.driver.lease import Holder, is_alive, read_holder
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.requests import Pause, Request, pause_to_come, write_request
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers.files import StorageError


def since_text(pause: Pause) -> str:
    """` since 2026-01-01 12:00:00 UTC, asked by cli`, as far as that is known."""
    at = datetime.fromtimestamp(pause.since_s, UTC)
    since = f" since {at:%Y-%m-%d %H:%M:%S} UTC" if pause.since_s else ""
    return since + (f", asked by {pause.by}" if pause.by else "")


def named(holder: Holder) -> str:
    return f"the driver with pid {holder.pid} on {holder.host}"


def driver_of(store: Store) -> Holder | None:
    holder = read_holder(store)
    return holder if holder is not None and is_alive(holder) else None


def find_pause(store: Store) -> Pause | None:
    try:
        return pause_to_come(store.files)
    except StorageError as error:
        raise StoreError(str(error)) from error


def write(store: Store, request: Request) -> None:
    try:
        write_request(store.files, request)
    except StorageError as error:
        raise StoreError(str(error)) from error
