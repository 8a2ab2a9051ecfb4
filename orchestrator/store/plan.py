"""The plan that a store's own grid asks for, or a grid file with a store's sizes."""

from __future__ import annotations

from pathlib import Path

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.file import parse_grid, read_grid
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.grid.sizes import Sizes, settle
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.store.sizes import read_sizes
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout


def read_settled(path: Path, store: Store | None) -> Grid:
    """A grid file with the sizes of the store that it is for. Raises GridError, StoreError."""
    return settle(read_grid(path), Sizes() if store is None else read_sizes(store))


def load_plan(store: Store, *, whole: bool = False) -> Plan:
    """The store's grid and last selection, expanded; `whole`: without the selection.

    Raises StoreError, GridError."""
    text = store.read_text(layout.GRID)
    if text is None:
        raise StoreError(f"{store.address}: no grid was run here yet")
    grid = parse_grid(text, source=f"{store.address}/{layout.GRID}")
    if grid.auto:
        grid = settle(grid, read_sizes(store))
    return expand(grid, None if whole else store.selection())
