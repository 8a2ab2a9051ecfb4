"""A store's sizes: measured once, chosen once, read by whatever plans its grid."""

from __future__ import annotations

import dataclasses
import json

from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.grid.sizes import Sizes
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.decode import from_dict


def read_sizes(store: Store) -> Sizes:
    """Raises StoreError where the file is torn: with other sizes all attacks would run again."""
    text = store.read_text(layout.SIZES)
    if text is None:
        return Sizes()
    try:
        sizes = from_dict(Sizes, json.loads(text))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StoreError(f"{store.address}/{layout.SIZES} is torn or not ours: {error}") from error
    return sizes


def write_sizes(store: Store, sizes: Sizes) -> None:
    """Raises StoreError."""
    store.write(layout.SIZES, json.dumps(dataclasses.asdict(sizes), indent=1).encode())
