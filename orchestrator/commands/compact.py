"""`prunegrid compact`: merge a store's result files, and say what was done."""

from __future__ import annotations

from rich.console import Console

from prunegrid.orchestrator.commands.options import StoreOption
from prunegrid.orchestrator.output import Terminal, plain
from prunegrid.orchestrator.store.compaction import KEPT, SNAPSHOTS, compact_store
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.store import Store


def command(store: StoreOption) -> None:
    """Merge many small result files into few; readers may go on reading."""
    compact(store, Terminal())


def compact(address: str, console: Console) -> None:
    """Merge a store's result files and say what was done. Raises StoreError where a driver holds
    the store, or the file system can't exchange folders."""
    store = Store.open(address)
    done = []
    with Lease.take(store, say=plain(console)) as lease:
        for part in compact_store(store):
            done.append(part)
            lease.check()
    for part in done:
        kind = part.folder.rpartition("/")[2]
        if part.before == part.after:
            text = f"{kind}: nothing to merge"
        else:
            text = f"{kind}: {part.before:,} files to {part.after:,} ({part.rows:,} rows)"
        console.print(text)
    if store.files.folder is None:
        console.print(
            f"written to {store.address}/{SNAPSHOTS}; an object store can't exchange folders, so "
            "results/ stays as it is",
            soft_wrap=True,
        )
    elif any(part.before != part.after for part in done):
        console.print(
            f"the small files are kept in {store.address}/{KEPT}; delete that folder when you like",
            soft_wrap=True,
        )
