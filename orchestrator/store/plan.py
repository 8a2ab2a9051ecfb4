"""The plan that a store's own grid asks for."""

from __future__ import annotations

from orchestrator.errors import StoreError
from orchestrator.grid.file import parse_grid
from orchestrator.plan.dag import Plan, expand
from orchestrator.store.store import Store
from workers import layout


def load_plan(store: Store, *, whole: bool = False) -> Plan:
    """The store's grid and last selection, expanded; `whole`: without the selection.

    Raises StoreError, GridError."""
    text = store.read_text(layout.GRID)
    if text is None:
        raise StoreError(f"{store.address}: no grid was run here yet")
    grid = parse_grid(text, source=f"{store.address}/{layout.GRID}")
    return expand(grid, None if whole else store.selection())
