"""`prunegrid compact`: many small result files become few, under the eyes of readers.

On a disk, the merged files are made in a folder beside the old one, and the two change places in
one step of the file system (`renameat2` with RENAME_EXCHANGE). A reader that lists the folder
sees the small files or the merged ones, never both. One that listed before and opens after gets
"no such file", and must ask again. Some readers (Arrow, so pandas) drop listed names that are gone
when they look at them: so that these never read an empty folder, the merged files' names are in
the old folder too, first as files without rows; what is left of such a list is then all the rows.
The small files are kept aside.

An object store has no such step: there `compact` writes one whole object per kind of row under
`snapshots/`, and leaves the small ones alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from orchestrator.driver.lease import Lease
from orchestrator.errors import StoreError
from orchestrator.store.merged import PREFIX, Member, MergedFiles, is_merged, merge
from orchestrator.store.results import SCHEMAS
from orchestrator.store.store import Store
from workers import layout
from workers.files import FileInfo, Files, LocalFiles, StorageError
from workers.tables import read_table

SNAPSHOTS = "snapshots"
KEPT = "superseded/compacted"
#: Attack tasks in one merged file: about 200 000 image rows, which a reader holds in memory.
TASKS_PER_FILE = 1000
_ASIDE = ".compact-"
#: More than any reader takes from listing a folder to looking at what it listed.
PAUSE_S = 1.0


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
    if not isinstance(store.files, LocalFiles):
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
    if isinstance(store.files, LocalFiles):
        _probe(store.files.root)
    for folder in (layout.MODEL_ROWS, layout.CELL_ROWS, layout.IMAGE_ROWS):
        try:
            if isinstance(store.files, LocalFiles):
                yield _exchange(store.files, folder)
            else:
                yield _snapshot(store.files, folder)
        except StorageError as error:
            raise StoreError(str(error)) from error


def _exchange(files: LocalFiles, folder: str) -> Compacted:
    ours, merged = _ours(files, folder), MergedFiles(files)
    held = [len(merged.members(file) or ()) if is_merged(file.path) else 1 for file in ours]
    size = TASKS_PER_FILE if folder == layout.IMAGE_ROWS else max(sum(held), 1)
    if len(ours) <= -(-sum(held) // size) and all(is_merged(file.path) for file in ours):
        return Compacted(folder=folder, before=len(ours), after=len(ours), rows=0)
    aside = files.root / f"{folder.rpartition('/')[0]}/{_ASIDE}{uuid.uuid4().hex}"
    rows, names = 0, list[str]()
    members = _members(files, ours)
    while part := list(islice(members, size)):
        names.append(f"{PREFIX}{len(names):03d}.parquet")
        content = merge(part, SCHEMAS[folder])
        files.write(f"{aside.relative_to(files.root)}/{names[-1]}", content)
        rows += sum(len(member.table) for member in part)
    there = {Path(file.path).name for file in ours}
    if missing := [name for name in names if name not in there]:
        for name in missing:
            files.write(f"{folder}/{name}", merge([], SCHEMAS[folder]))
        time.sleep(PAUSE_S)
    _swap(files, folder, aside, known=there | set(names))
    return Compacted(folder=folder, before=len(ours), after=len(names), rows=rows)


def _swap(files: LocalFiles, folder: str, aside: Path, *, known: set[str]) -> None:
    try:
        for entry in os.scandir(files.root / folder):
            if entry.name not in known and not entry.name.startswith("."):
                os.link(entry.path, aside / entry.name)  # torn or somebody else's: as it was
        exchange_folders(aside, files.root / folder)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        kept = files.root / KEPT / stamp / folder
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.rename(aside, kept)
    except OSError as error:
        raise StoreError(f"can't merge {files.root / folder}: {error.strerror}") from error


def _snapshot(files: Files, folder: str) -> Compacted:
    ours = _ours(files, folder)
    if not ours:
        return Compacted(folder=folder, before=0, after=0, rows=0)
    members = list(_members(files, ours))
    target = f"{SNAPSHOTS}/{folder.rpartition('/')[2]}.parquet"
    files.write(target, merge(members, SCHEMAS[folder]))
    rows = sum(len(member.table) for member in members)
    return Compacted(folder=folder, before=len(ours), after=1, rows=rows)


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


def _probe(root: Path) -> None:
    """Raises StoreError where the file system can't exchange folders, before anything is done."""
    pair = [root / f"{_ASIDE}{uuid.uuid4().hex}" for _ in range(2)]
    try:
        for folder in pair:
            folder.mkdir()
        exchange_folders(*pair)
    except OSError as error:
        raise StoreError(f"can't write {root}: {error.strerror}") from error
    finally:
        for folder in pair:
            with contextlib.suppress(OSError):
                folder.rmdir()


_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE, AT_FDCWD


def exchange_folders(one: Path, other: Path) -> None:
    """Swap two folders in one step. Raises StoreError where the system can't, OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise StoreError("compact: this system can't exchange folders (Linux's renameat2)")
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise StoreError(
                f"compact: the file system of {other} can't exchange folders; copy the store to "
                "a local disk (ext4, xfs, btrfs) and compact it there"
            )
        raise OSError(number, os.strerror(number), str(other))
