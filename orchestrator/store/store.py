"""The store: what is done, as files. Ray holds no state that matters.

A task is done when its result file is there and whole: `models/<key>/result.json` of a train or
prune task, `results/images/<key>.parquet` of an attack. Rows of models and cells are derived
from them, and derived again where a crash left one out.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.address import files_at, strangers
from prunegrid.orchestrator.store.failures import read_failures
from prunegrid.orchestrator.store.results import StoredResults
from prunegrid.workers import layout
from prunegrid.workers.contract import Failure
from prunegrid.workers.files import StorageError

MARKER = "store.json"
SELECTION = "selection.json"
FORMAT = 1


class Store(StoredResults):
    """One store, opened. Safe to use from one driver; any number may read beside it."""

    # ------------------------------------------------------------------ opening

    @classmethod
    def open(cls, address: str) -> Store:
        """An existing store. Raises StoreError where there is none, or it is not ours."""
        store = cls.find(address)
        if store is None:
            raise StoreError(
                f"{address}: there is no store here (expected a folder with {MARKER}); "
                f"'prunegrid run GRID --store {address}' makes one"
            )
        return store

    @classmethod
    def find(cls, address: str) -> Store | None:
        """As `open`, but None where there is no store yet."""
        store = cls(files_at(address))
        return store if store._check_marker() else None

    @classmethod
    def open_or_create(cls, address: str) -> Store:
        """As `open`, but an absent or empty folder becomes a store."""
        files = files_at(address)
        store = cls(files)
        if store._check_marker():
            return store
        if others := strangers(files):
            raise StoreError(
                f"{files.address}: not a prunegrid store: it holds {', '.join(others)} and no "
                f"{MARKER}; expected a new or empty folder"
            )
        made = {"format": FORMAT, "made_at": datetime.now(UTC).isoformat(timespec="seconds")}
        store.write(MARKER, json.dumps(made).encode())
        return store

    def _check_marker(self) -> bool:
        try:
            raw = json.loads(self.files.read(MARKER))
        except FileNotFoundError:
            return False
        except StorageError as error:
            raise StoreError(str(error)) from error
        except ValueError as error:
            raise StoreError(f"{self.address}/{MARKER} is torn or not ours: {error}") from error
        version = raw.get("format") if isinstance(raw, dict) else None
        if version != FORMAT:
            raise StoreError(
                f"{self.address}: expected store format {FORMAT}, got {version!r}: "
                "made by another version of prunegrid"
            )
        return True

    # ------------------------------------------------------------------ plain files

    def read_text(self, path: str) -> str | None:
        try:
            return self.files.read(path).decode()
        except FileNotFoundError:
            return None
        except StorageError as error:
            raise StoreError(str(error)) from error

    def set_grid(self, text: str) -> None:
        """Keep the grid as last run; an older, different one moves to `history/`."""
        old = self.read_text(layout.GRID)
        if old == text:
            return
        if old is not None:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            self.write(f"history/grid-{stamp}.yaml", old.encode())
        self.write(layout.GRID, text.encode())

    def set_selection(self, selection: Mapping[str, tuple[str, ...]]) -> None:
        """Remember which part of the grid was last asked for; `status` counts that."""
        text = json.dumps({axis: list(values) for axis, values in selection.items()})
        if self.read_text(SELECTION) != text:
            self.write(SELECTION, text.encode())

    def selection(self) -> dict[str, tuple[str, ...]]:
        try:
            raw = json.loads(self.read_text(SELECTION) or "{}")
            return {str(axis): tuple(map(str, values)) for axis, values in raw.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise StoreError(f"{self.address}/{SELECTION} is torn: {error}") from error

    def record_failure(self, failure: Failure, attempt: int) -> None:
        content = json.dumps({**dataclasses.asdict(failure), "attempt": attempt, "at": time.time()})
        self.write(layout.failure_file(failure.key, attempt), content.encode())

    def failures(self, key: str) -> list[dict[str, object]]:
        """Every recorded attempt that failed, oldest first; torn ones are left out."""
        return list(read_failures(self.files, key))


def this_host() -> str:
    return socket.gethostname()
