"""The plan that a store's own grid asks for, and a grid file that is to run into a store."""

from __future__ import annotations

from pathlib import Path

from prunegrid.orchestrator.errors import GridError, StoreError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.store.auto_sizes import name_kept_sizes, parse_stored_grid
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout


def read_grid_for(source: Path | Grid, store: Store | None) -> Grid:
    """A grid file, read; a grid as it is. Raises GridError, which tells the sizes of an earlier
    version's store where the file says `auto`; StoreError."""
    if isinstance(source, Grid):
        return source
    try:
        return read_grid(source)
    except GridError as error:
        if store is None or "got auto" not in str(error):
            raise
        raise name_kept_sizes(error, store) from None


def load_plan(store: Store, *, whole: bool = False) -> Plan:
    """The store's grid and last selection, expanded; `whole`: without the selection.

    Raises StoreError, GridError."""
    text = store.read_text(layout.GRID)
    if text is None:
        raise StoreError(f"{store.address}: no grid was run here yet")
    return expand(parse_stored_grid(text, store), None if whole else store.selection())
