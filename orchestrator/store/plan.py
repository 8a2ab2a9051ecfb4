"""The plan that a store's own grid asks for, and a grid file that is to run into a store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from prunegrid.orchestrator.errors import GridError, StoreError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.grid.first_names import with_first_names
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.store.auto_sizes import name_kept_sizes, parse_stored_grid
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.contract import TaskKind, user_code_of
from prunegrid.workers.decode import from_dict
from prunegrid.workers.keys import digest
from prunegrid.workers.user_code import UserCode, UserCodeError, beside, sources_digest

SETTLED = "grid.json"


def read_grid_for(source: Path | Grid, store: Store | None, data_dir: str | None = None) -> Grid:
    """A grid file, read; a grid as it is; each as the store means it. `data_dir`: where data sets
    are prepared; None: the default place.

    Raises GridError, which tells the sizes of an earlier version's store where the file says
    `auto`; StoreError."""
    if isinstance(source, Grid):
        return _as_meant_in(store, source)
    try:
        grid = read_grid(source, data_dir=None if data_dir is None else Path(data_dir))
    except GridError as error:
        if store is None or "got auto" not in str(error):
            raise
        raise name_kept_sizes(error, store) from None
    return _as_meant_in(store, grid)


def _as_meant_in(store: Store | None, grid: Grid) -> Grid:
    return with_first_names(grid) if store is not None and store.has_first_names else grid


def keep_grid(store: Store, grid: Grid) -> None:
    """Keep the grid as last run, settled too, so that any installation can read it; and the files
    that it brings. Raises StoreError."""
    for network in (each.network for each in grid.architectures):
        if network is None or not network.file_sha256:
            continue
        place = layout.network_file(network.file_sha256)
        if not store.files.exists(place):
            content = Path(network.file_path).read_bytes()
            if hashlib.sha256(content).hexdigest() != network.file_sha256:
                raise StoreError(f"{network.file_path} changed meanwhile: run the command again")
            store.write(place, content)
    before = _kept(store)
    sources = {} if before is None else dict(before.sources)
    for name, found in _sources(grid, Path(grid.source)).items():
        known = [] if before is None else before.of(name)
        if found not in known:
            sources[name] = " ".join((*known, found))
    kept = KeptGrid(
        text_digest=digest(grid.text),
        sources=sources,
        grid=replace(grid, text="", notes=(), source=os.path.abspath(grid.source)),
    )
    if kept != before:
        store.write(SETTLED, json.dumps(asdict(kept)).encode())
    store.set_grid(grid.text)


@dataclass(frozen=True, kw_only=True)
class KeptGrid:
    """What grid.json holds: grid.yaml as it was read by the installation that ran it."""

    text_digest: str  #: of the grid.yaml that it is of
    #: Of each function that it brings, by `_code_name`: all that results were made with, the first
    #: first, by spaces.
    sources: dict[str, str]
    grid: Grid  #: without its text

    def of(self, name: str) -> list[str]:
        return self.sources.get(name, "").split()


def merge_kept(stores: Sequence[Store], target: Store) -> None:
    """The target keeps what one of the stores read the grid as, with the digests of the user's
    functions in all of them. Raises StoreError."""
    known = [kept for store in stores if (kept := _kept(store)) is not None]
    if not known:
        return
    sources: dict[str, str] = {}
    for kept in known:
        for name in kept.sources:
            found = (*sources.get(name, "").split(), *kept.of(name))
            sources[name] = " ".join(dict.fromkeys(found))
    target.write(SETTLED, json.dumps(asdict(replace(known[0], sources=sources))).encode())


def _kept(store: Store) -> KeptGrid | None:
    """None where there is none, or a later version's."""
    try:
        raw = store.read_json(SETTLED)
        return None if raw is None else from_dict(KeptGrid, raw)
    except (StoreError, ValueError):
        return None


def _code_name(code: UserCode) -> str:
    return f"{code.target} version {code.version}"


def _sources(grid: Grid, file: Path) -> dict[str, str]:
    """The digests of the user's functions now, by `_code_name`; without those that are not on this
    machine. `file`: the grid's, which they may be beside."""
    out = {}
    with beside(file):
        for code in grid.user_code():
            with contextlib.suppress(UserCodeError):
                out[_code_name(code)] = sources_digest(code.target)
    return out


def changed_code(grid: Grid, store: Store | None) -> list[str]:
    """The user's functions whose sources changed since results in the store were made, while what
    is in the task keys stayed: one sentence each. Raises StoreError."""
    kept = None if store is None else _kept(store)
    if store is None or kept is None:
        return []
    now = _sources(grid, Path(kept.grid.source))
    changed = {
        name: code
        for code in grid.user_code()
        if (name := _code_name(code)) in now and {now[name]} < {now[name], *kept.of(name)}
    }
    if not changed:
        return []
    done, tasks = store.finished(), expand(grid).tasks
    made = _made_with(store)
    notes = []
    for name, code in changed.items():
        mine = [key for key in tasks.keys() & done if code.target in user_code_of(tasks[key])]
        same = f"{code.target} {now[name]}"
        count = sum(same not in (made.get(key) or _result_made_with(store, key)) for key in mine)
        if count:
            are, count_as = ("is", "counts") if count == 1 else ("are", "count")
            notes.append(
                f"{code.target} changed; {counted(count, 'result')} {are} older and {count_as} as "
                f"before; raise its `version` "
                f"(now {code.version}) to remake them"
            )
    return notes


def _made_with(store: Store) -> dict[str, list[str]]:
    """Of each task that a row rests on, the user's functions with their digests. Without those of
    cells whose shards differ."""
    from prunegrid.orchestrator.store.frames import read_rows

    out: dict[str, list[str]] = {}
    for folder, names in ((layout.MODEL_ROWS, "task_key"), (layout.CELL_ROWS, "task_keys")):
        rows = read_rows(store.files, folder)
        if "user_sources" not in rows:
            continue  # of earlier versions
        for keys, text in zip(rows[names], rows["user_sources"], strict=True):
            found = text.split(", ") if isinstance(text, str) else []
            if len({each.partition(" ")[0] for each in found}) == len(found):
                out |= dict.fromkeys([keys] if isinstance(keys, str) else keys, found)
    return out


def _result_made_with(store: Store, key: str) -> list[str]:
    """The same of one finished task, by its own result; nothing of one that can't be read."""
    is_attack = key.startswith(TaskKind.ATTACK)
    try:
        result = store.image_rows(key) if is_attack else store.model_record(key)
    except StoreError:
        return []
    return (result.provenance.user_sources or "").split(", ")


def other_sources(stores: Iterable[Store]) -> list[str]:
    """The user's functions that stores ran with other sources, under one version: one sentence
    each."""
    first: dict[str, tuple[str, Store]] = {}
    notes = []
    for store in stores:
        kept = _kept(store)
        for name, found in (kept.sources if kept is not None else {}).items():
            there, its_store = first.setdefault(name, (found, store))
            if there != found:
                notes.append(
                    f"{name} is other code in {store.address} than in {its_store.address}: results "
                    "of both are one grid now; raise its `version` to make them anew"
                )
    return notes


def load_grid(store: Store) -> Grid:
    """As it was last run. Raises StoreError, GridError."""
    text = store.read_text(layout.GRID)
    if text is None:
        raise StoreError(f"{store.address}: no grid was run here yet")
    kept = _kept(store)
    if kept is not None and kept.text_digest == digest(text):
        return replace(kept.grid, text=text, source=f"{store.address}/{layout.GRID}")
    return parse_stored_grid(text, store)


def load_plan(store: Store, *, whole: bool = False) -> Plan:
    """The store's grid and last selection, expanded; `whole`: without the selection.

    Raises StoreError, GridError."""
    return expand(load_grid(store), None if whole else store.selection())
