"""Compaction: many small result files become one, while others read them.

On a disk, the merged file is made in a folder beside the old one, and the two change places in
one step of the file system (Linux's `renameat2`). A reader that lists the folder sees
the small files or the merged one, never both. A reader with an old listing gets FileNotFoundError
and must list again. Two things must not happen to it:

- Arrow (so pandas) and DuckDB skip listed names that no longer exist, and would read an empty
  folder. So the old folder gets the merged file's name some time before, as a file without rows:
  of such a listing the merged file remains, with all rows.
- It must not read small files of the old folder and then, by that name, the merged file of the new
  one. So the name sorts before all others: readers open it first, and a reader that opens the new
  one finds none of the small files.

The small files are kept aside.

An object store has no such step: there `compact` writes one object per kind of row under
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
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.orchestrator.errors import StoreError, TornError
from prunegrid.orchestrator.store.merged import Member, MergedFiles, is_merged, merge, merged_name
from prunegrid.orchestrator.store.store import SCHEMAS, Store, store_errors
from prunegrid.workers import layout
from prunegrid.workers.files import FileInfo, Files, temporary_name
from prunegrid.workers.image_rows import read_table

SNAPSHOTS = "snapshots"
KEPT = "superseded/compacted"
_ASIDE = ".compact-"
#: Longer than any reader takes from listing a folder to opening what it listed: at least so many
#: seconds, and so many times the seconds that a listing took here.
PAUSE_S = 1.0
PAUSE_LOOKS = 20
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE, AT_FDCWD


@dataclass(frozen=True, kw_only=True)
class Compacted:
    folder: str
    before: int  #: files of ours, single or merged
    after: int
    rows: int


_OF_TRANSFERS = (layout.TRANSFER_ROWS, layout.TRANSFER_IMAGE_ROWS)


def compact_store(store: Store) -> Iterator[Compacted]:
    """The caller holds the store's lease."""
    root = store.files.folder
    if root is not None:
        _check_exchange(root)
        _keep_unfinished(root)
    for folder in SCHEMAS:
        with store_errors():
            if folder in _OF_TRANSFERS and not any(store.files.list(folder)):
                continue
            try:
                if root is not None:
                    done = _exchange(store.files, root, folder)
                else:
                    done = _snapshot(store.files, folder)
            except ValueError as error:
                raise TornError(f"can't merge {folder}: {error}; see prunegrid verify") from error
        yield done


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
    """`known`: names that are merged. Other files, torn or foreign, stay in the folder."""
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
    """Move folders that a killed compaction left beside the results."""
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
    """Whole result files of our own, by name. Imported ones are single already."""
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
    """Of merged files too. Where a result was made again since, the single file counts."""
    merged = MergedFiles(files)
    single = {Path(file.path).stem for file in ours if not is_merged(file.path)}
    for file in ours:
        if is_merged(file.path):
            yield from (member for member in merged.all(file) if member.name not in single)
        else:
            yield _single(files, file.path)


def _single(files: Files, path: str) -> Member:
    try:
        return Member(name=Path(path).stem, table=read_table(files.read(path)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def exchange_folders(one: Path, other: Path) -> None:
    """Raises StoreError where the system can't, OSError."""
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


def _check_exchange(root: Path) -> None:
    """Raises StoreError where the file system can't exchange folders, before anything is done."""
    pair = [root / temporary_name("exchange") for _ in range(2)]
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
