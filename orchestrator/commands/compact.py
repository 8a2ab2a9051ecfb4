"""`prunegrid compact`: many small result files become one, under the eyes of readers.

On a disk, the merged file is made in a folder beside the old one, and the two change places in
one step of the file system (`orchestrator/store/exchange.py`). A reader that lists the folder sees
the small files or the merged one, never both. One that listed before and opens after gets "no
such file", and must ask again. Two things must not happen to that one:

- Arrow (so pandas) and DuckDB drop listed names that are gone when they look at them, and would
  read an empty folder. So the merged file's name is in the old folder too, a while before, as a
  file without rows: what is left of such a list is then the merged file, with all the rows.
- It must not read the small files of the old folder and then, by that name, the merged one of the
  new folder. So the name sorts before all others: readers open it first, and who opens the new
  one there finds none of the others.

The small files are kept aside.

An object store has no such step: there `compact` writes one whole object per kind of row under
`snapshots/`, and leaves the small ones alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from prunegrid.orchestrator.driver.lease import Lease
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.exchange import exchange_folders, probe
from prunegrid.orchestrator.store.merged import Member, MergedFiles, is_merged, merge, merged_name
from prunegrid.orchestrator.store.results import SCHEMAS
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.files import FileInfo, Files, StorageError
from prunegrid.workers.image_rows import read_table

SNAPSHOTS = "snapshots"
KEPT = "superseded/compacted"
_ASIDE = ".compact-"
#: More than any reader takes from listing a folder to looking at what it listed: at least so long,
#: and so many times as long as it took here.
PAUSE_S = 1.0
PAUSE_LOOKS = 20


@dataclass(frozen=True, kw_only=True)
class Compacted:
    folder: str
    before: int  #: files of ours, single or merged
    after: int
    rows: int


def compact(address: str, console: Console) -> None:
    """Merge a store's result files and say what was done. Raises StoreError where a driver holds
    the store, or the file system can't exchange folders."""
    store = Store.open(address)
    lease = Lease.take(store)
    try:
        done = list(compact_store(store))
    finally:
        lease.release()
    for part in done:
        kind = part.folder.rpartition("/")[2]
        if part.before == part.after:
            text = f"{kind}: nothing to merge"
        else:
            text = f"{kind}: {part.before:,} files to {part.after:,} ({part.rows:,} rows)"
        console.print(text, highlight=False)
    if store.files.folder is None:
        console.print(
            f"written to {store.address}/{SNAPSHOTS}; an object store can't exchange folders, so "
            "results/ stays as it is",
            highlight=False,
            soft_wrap=True,
        )
    elif any(part.before != part.after for part in done):
        console.print(
            f"the small files are kept in {store.address}/{KEPT}; delete that folder when you like",
            highlight=False,
            soft_wrap=True,
        )


def compact_store(store: Store) -> Iterator[Compacted]:
    """The caller holds the store's lease."""
    root = store.files.folder
    if root is not None:
        probe(root)
        _keep_unfinished(root)
    for folder in (layout.MODEL_ROWS, layout.CELL_ROWS, layout.IMAGE_ROWS):
        try:
            if root is not None:
                yield _exchange(store.files, root, folder)
            else:
                yield _snapshot(store.files, folder)
        except StorageError as error:
            raise StoreError(str(error)) from error


def _exchange(files: Files, root: Path, folder: str) -> Compacted:
    began_s = time.monotonic()
    present = {Path(file.path).name for file in files.list(folder)}
    look_s = time.monotonic() - began_s
    ours = _ours(files, folder)
    if not ours or (len(ours) == 1 and is_merged(ours[0].path)):
        return Compacted(folder=folder, before=len(ours), after=len(ours), rows=0)
    known = {Path(file.path).name for file in ours}
    aside = f"{folder.rpartition('/')[0]}/{_ASIDE}{uuid.uuid4().hex}"
    name, content = merged_name(present), merge(_members(files, ours), SCHEMAS[folder])
    files.write(f"{aside}/{name}", content)
    files.write(f"{folder}/{name}", merge([], SCHEMAS[folder]))
    time.sleep(max(PAUSE_S, PAUSE_LOOKS * look_s))
    _swap(root / folder, root / aside, known=known | {name})
    _keep(root, root / aside, folder)
    return Compacted(folder=folder, before=len(ours), after=1, rows=_rows(content))


def _rows(content: bytes) -> int:
    return int(pq.read_metadata(io.BytesIO(content)).num_rows)


def _swap(folder: Path, aside: Path, *, known: set[str]) -> None:
    """`known`: names that are merged; what else is there, torn or somebody else's, stays."""
    try:
        _link_others(folder, aside, known)
        exchange_folders(aside, folder)
        _link_others(aside, folder, known)  # what came in between
    except OSError as error:
        raise StoreError(f"can't merge {folder}: {error.strerror}") from error


def _link_others(source: Path, target: Path, known: set[str]) -> None:
    for entry in os.scandir(source):
        if entry.name not in known and not entry.name.startswith("."):
            with contextlib.suppress(FileExistsError):
                os.link(entry.path, target / entry.name)


def _keep_unfinished(root: Path) -> None:
    """Folders that a compaction which was killed left beside the results."""
    for aside in sorted((root / layout.CELL_ROWS).parent.glob(f"{_ASIDE}*")):
        _keep(root, aside, f"unfinished/{aside.name.removeprefix('.')}")


def _keep(root: Path, aside: Path, name: str) -> None:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = root / KEPT / stamp / name
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.rename(aside, kept)
    except OSError as error:
        raise StoreError(f"can't keep {aside} as {kept}: {error.strerror}") from error


def _snapshot(files: Files, folder: str) -> Compacted:
    ours = _ours(files, folder)
    if not ours:
        return Compacted(folder=folder, before=0, after=0, rows=0)
    content = merge(_members(files, ours), SCHEMAS[folder])
    files.write(f"{SNAPSHOTS}/{folder.rpartition('/')[2]}.parquet", content)
    return Compacted(folder=folder, before=len(ours), after=1, rows=_rows(content))


def _ours(files: Files, folder: str) -> list[FileInfo]:
    """Whole result files of our own making, by name; imported ones are single already."""
    merged = MergedFiles(files)
    out = []
    for file in sorted(files.list(folder), key=lambda file: file.path):
        if not file.path.endswith(".parquet") or not file.size_bytes:
            continue
        if is_merged(file.path):
            if merged.members(file) is not None:
                out.append(file)
        elif _is_ours(files, file.path):
            out.append(file)
    return out


def _is_ours(files: Files, path: str) -> bool:
    try:
        metadata = pq.read_schema(io.BytesIO(files.read(path))).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return b"prunegrid.schema" in metadata and b"prunegrid.imported" not in metadata


def _members(files: Files, ours: list[FileInfo]) -> Iterator[Member]:
    """Of merged files too; a result made again since then is the single file's."""
    merged = MergedFiles(files)
    single = {Path(file.path).stem for file in ours if not is_merged(file.path)}
    for file in ours:
        if is_merged(file.path):
            yield from (member for member in merged.all(file) if member.name not in single)
        else:
            yield Member(name=Path(file.path).stem, table=read_table(files.read(file.path)))
