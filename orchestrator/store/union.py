"""Several stores copied into one: every task's result once, every row once.

All is compared before anything is written, so a refusal leaves the target as it was. Results are
the same where they differ in nothing but who made them, where and when; the first store's is then
kept. Nothing is ever replaced, so a merge that was cut short is finished by the same call.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa

from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.grid.grid import place_of
from prunegrid.orchestrator.store.frames import read_rows
from prunegrid.orchestrator.store.lease import find_driver
from prunegrid.orchestrator.store.plan import merge_kept, other_sources
from prunegrid.orchestrator.store.store import Store, store_errors
from prunegrid.workers import layout
from prunegrid.workers.catalog import FIRST_NAMES
from prunegrid.workers.contract import TaskKind
from prunegrid.workers.image_rows import PROVENANCE_FIELDS, parquet_bytes
from prunegrid.workers.records import ModelRecord

_ROWS = (layout.MODEL_ROWS, layout.CELL_ROWS, layout.TRANSFER_ROWS)
#: Of a result, what says who made it, where and when, and how fast that machine was.
_INCIDENTAL = {"latency_ms", "shrunk_latency_ms"}
_COLUMNS_ASIDE = {name for name, _ in PROVENANCE_FIELDS} - {"seed"} | _INCIDENTAL
#: Files copied at once: each waits for the disk, or for an answer of the object store.
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class MergeResult:
    """What a merge did."""

    tasks: int  #: results that the target did not have
    rows: int  #: rows of models and cells, likewise
    shared: int  #: results that several of the stores had
    underived: int  #: rows that rest on results of several stores, to be derived again
    is_one_grid: bool  #: all stores ran the same grid file, which the target now has


@dataclass(kw_only=True)
class StoreUnion:
    """Which store each result and row is taken from."""

    tasks: dict[str, Store] = field(default_factory=dict)
    rows: dict[str, dict[str, Store]] = field(default_factory=lambda: {f: {} for f in _ROWS})
    places: dict[str, tuple[str, Store]] = field(default_factory=dict)  #: -> the row that is there
    shared: set[str] = field(default_factory=set)
    underived: set[str] = field(default_factory=set)


def check_apart(sources: Sequence[Store], target: str) -> None:
    """Raises UsageError where a store is named twice, StoreError where one holds imported results
    or a driver runs it."""
    addresses = [store.address for store in sources]
    for address in addresses:
        if address == target or addresses.count(address) > 1:
            raise UsageError(f"merge: expected different stores, got {address} twice")
    for store in sources:
        with store_errors():
            if any(store.files.list("imported")):
                raise StoreError(
                    f"{store.address}: it holds imported results; expected results of runs: "
                    "import them into the merged store by 'prunegrid import-authors'"
                )
        holder, alive = find_driver(store)
        if alive and holder is not None:
            raise StoreError(
                f"{store.address}: a driver on {holder.host} runs it: wait for its end, or stop it"
            )


def share_names(sources: Sequence[Store], target: Store | None) -> bool:
    """Whether the merged store is to mean attacks by their first names
    (`grid/first_names.py`), as some of the sources do. `target`: where it is there already.

    Raises StoreError where other stores, or the target, mean others by names that are in use."""
    stores = [*sources, *([] if target is None else [target])]
    older = [store for store in stores if store.has_first_names]
    since = [store for store in stores if not store.has_first_names]
    for one in older:
        named = {name for store in since for name in _named_first(store)}
        if target in since:
            named |= {*_named_first(one)}
        if named:
            raise StoreError(
                f"{one.address} was made before {', '.join(sorted(named))} meant the papers' "
                "algorithms alone in strict, and another store after it: expected stores that mean "
                "the same"
            )
    return bool(older)


def _named_first(store: Store) -> Iterator[str]:
    """The names of its strict attacks that are also first names of others."""
    rows = read_rows(store.files, layout.CELL_ROWS)
    if not rows.empty:
        names = rows["algorithm"][rows["engine"] == "strict"].unique()
        yield from (name for name in names if name in FIRST_NAMES)


def compare_stores(stores: Sequence[Store], *, say: Callable[[str], None]) -> StoreUnion:
    """Raises StoreError where two stores differ in a result, or have the same model or cell by
    other work."""
    union = StoreUnion()
    for store in stores:
        _add_tasks(union, store, say)
        _add_rows(union, store)
    return union


def merge_stores(
    sources: Sequence[Store],
    target: Store,
    *,
    say: Callable[[str], None],
    compared: StoreUnion | None = None,
) -> MergeResult:
    """Copy what `target` lacks. The caller holds its lease. `compared`: of the sources, for a
    target that was just made. Raises StoreError as `compare_stores`; nothing is written then."""
    union = compared or compare_stores((target, *sources), say=say)
    tasks = [(key, store) for key, store in union.tasks.items() if store is not target]
    rows = [
        (f"{folder}/{name}.parquet", store)
        for folder in _ROWS
        for name, store in union.rows[folder].items()
        if store is not target
    ]
    _each(lambda item: _copy_task(*item, target), tasks)
    _each(lambda item: _copy_row(*item, target), rows)
    for store in sources:
        _copy_records(store, target)
    for note in other_sources((target, *sources)):
        say(note)
    return MergeResult(
        tasks=sum(layout.adversarials_file(key) is None for key, _ in tasks),
        rows=len(rows),
        shared=len(union.shared),
        underived=len(union.underived),
        is_one_grid=_keep_grid(sources, target),
    )


# --------------------------------------------------------------------------- what is the same


def _add_tasks(union: StoreUnion, store: Store, say: Callable[[str], None]) -> None:
    whole = store.whole()
    if torn := store.finished() - whole:
        say(f"{store.address}: {len(torn)} results are torn and left out; see prunegrid verify")
    for key in sorted(whole):
        if (first := union.tasks.setdefault(key, store)) is not store:
            _check_same(key, first, store)
            if layout.adversarials_file(key) is None:
                union.shared.add(key)


def _add_rows(union: StoreUnion, store: Store) -> None:
    for folder in _ROWS:
        for name in sorted(store.row_ids(folder, whole=True)):
            place = place_of(name)
            there, first = union.places.setdefault(place, (name, store))
            if there != name:
                raise StoreError(
                    f"{first.address} and {store.address} have {_named(store, folder, name)} by "
                    f"other work ({there}, {name}): expected grids of the same settings; compare "
                    "the grid.yaml of both"
                )
            if name not in union.rows[folder]:
                if union.shared and _is_mixed(union, store, folder, name):
                    union.underived.add(name)
                else:
                    union.rows[folder][name] = store
    union.underived -= {name for rows in union.rows.values() for name in rows}


def _is_mixed(union: StoreUnion, store: Store, folder: str, name: str) -> bool:
    """Whether the row rests on a result that is taken from another store: its provenance, such as
    its duration, is then another."""
    row = store.row(folder, name).to_pylist()[0]
    keys = row["task_keys"] if folder == layout.CELL_ROWS else [row["task_key"]]
    return any(union.tasks.get(key) is not store for key in keys)


def _named(store: Store, folder: str, name: str) -> str:
    """A row's coordinates, for people."""
    row = store.row(folder, name).to_pylist()[0]
    axes = (
        "architecture",
        "variant",
        "method",
        "source_rate",
        "rate",
        "seed",
        "protocol",
        "attack",
        "eps",
    )
    return ", ".join(f"{axis}={row[axis]}" for axis in axes if axis in row)


def _check_same(key: str, one: Store, other: Store) -> None:
    """Raises StoreError where the two stores' results of a task differ."""
    if layout.adversarials_file(key):
        return  # the rows tell their distances
    if key.startswith(TaskKind.TRANSFER):
        found = _different_columns(one.transfer_rows(key).table, other.transfer_rows(key).table)
    elif key.startswith(TaskKind.ATTACK):
        found = _different_columns(one.image_rows(key).table, other.image_rows(key).table)
    else:
        first, second = _facts(one.model_record(key)), _facts(other.model_record(key))
        found = [name for name in first if first[name] != second.get(name)]
    if found:
        raise StoreError(
            f"{one.address} and {other.address} hold different results of {key}: they differ in "
            f"{', '.join(found)}; expected equal ones of one key: computed on other devices or by "
            "other code ('prunegrid explain' says where), they can't be one grid"
        )


def _different_columns(one: pa.Table, other: pa.Table) -> list[str]:
    """Of those that both have; the rows in the same order."""
    if len(one) != len(other):
        return ["the number of rows"]
    names = [n for n in one.column_names if n in other.column_names and n not in _COLUMNS_ASIDE]
    first, second = one.select(names).to_pandas(), other.select(names).to_pandas()
    return [name for name in names if not first[name].equals(second[name])]


def _facts(record: ModelRecord) -> dict[str, str]:
    """As JSON, in which NaN equals NaN."""
    facts = dataclasses.asdict(record.result).items()
    return {name: json.dumps(value) for name, value in facts if name not in _INCIDENTAL}


# --------------------------------------------------------------------------- copying


def _each(copy: Callable[[tuple[str, Store]], None], items: Iterable[tuple[str, Store]]) -> None:
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for _ in pool.map(copy, items):
            pass


def _copy_task(key: str, source: Store, target: Store) -> None:
    """A model's record last, as its worker wrote it: where it is, the model is whole."""
    with store_errors():
        if kept := layout.adversarials_file(key):
            _copy_file(kept, source, target)
            return
        if key.startswith(TaskKind.TRANSFER):
            path = layout.transfer_image_rows(key)
            if not _copy_file(path, source, target):  # in a merged file
                target.files.write_once(path, parquet_bytes(source.transfer_rows(key).table))
            return
        if key.startswith(TaskKind.ATTACK):
            _copy_file(layout.adversarials(key), source, target)
            path = layout.image_rows(key)
            if not _copy_file(path, source, target):  # in a merged file
                target.files.write_once(path, parquet_bytes(source.image_rows(key).table))
            return
        record = layout.model_record(key)
        for info in source.files.list(f"{layout.MODELS}/{key}"):
            if info.path != record:
                _copy_file(info.path, source, target)
        _copy_file(record, source, target)


def _copy_row(path: str, source: Store, target: Store) -> None:
    with store_errors():
        if not _copy_file(path, source, target):
            folder, _, name = path.rpartition("/")
            table = source.row(folder, PurePosixPath(name).stem)
            target.files.write_once(path, parquet_bytes(table))


def _copy_file(path: str, source: Store, target: Store) -> bool:
    """False where the source has no such file."""
    try:
        content = source.files.read(path)
    except FileNotFoundError:
        return False
    target.files.write_once(path, content)
    return True


def _copy_records(source: Store, target: Store) -> None:
    """The networks that models rest on, what drivers did, and what failed. Where the same attempt
    failed in both stores, or a copied store's journal went on, what is new has its digest in its
    name."""
    with store_errors():
        for info in source.files.list(layout.NETWORKS):
            _copy_file(info.path, source, target)
        for folder in (layout.JOURNAL, layout.FAILURES):
            for info in source.files.list(folder):
                content = source.files.read(info.path)
                if target.files.write_once(info.path, content):
                    continue
                there = target.files.read(info.path)
                if not there.startswith(content):
                    content = content.removeprefix(there)
                    path = PurePosixPath(info.path)
                    name = f"{path.stem}-{zlib.crc32(content):08x}{path.suffix}"
                    target.files.write_once(str(path.with_name(name)), content)


def _keep_grid(sources: Sequence[Store], target: Store) -> bool:
    """The grid that all ran. Of different ones none is kept, as none asks for all that is there."""
    ran = [store for store in (target, *sources) if store.read_text(layout.GRID) is not None]
    texts = {store.read_text(layout.GRID) for store in ran}
    text = texts.pop() if len(texts) == 1 else None
    if text is None:
        return False
    first, *others = [store.selection() for store in ran]
    merge_kept(ran, target)
    target.set_grid(text)
    target.set_selection(first if all(one == first for one in others) else {})
    return True
