"""The plan that a store's own grid asks for, and a grid file that is to run into a store."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from prunegrid.orchestrator.errors import GridError, StoreError
from prunegrid.orchestrator.grid.file import read_grid
from prunegrid.orchestrator.grid.first_names import with_first_names
from prunegrid.orchestrator.grid.grid import Grid
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.store.auto_sizes import name_kept_sizes, parse_stored_grid
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.contract import task_to_dict
from prunegrid.workers.decode import from_dict
from prunegrid.workers.keys import digest
from prunegrid.workers.user_code import UserCode, UserCodeError, sources_digest

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
    known = {} if before is None else before.sources
    sources = {name: known.get(name, found) for name, found in _sources(grid).items()}
    plain = replace(grid, text="", notes=())
    kept = KeptGrid(text_digest=digest(grid.text), sources=sources, grid=plain)
    if kept != before:
        store.write(SETTLED, json.dumps(asdict(kept)).encode())
    store.set_grid(grid.text)


@dataclass(frozen=True, kw_only=True)
class KeptGrid:
    """What grid.json holds: grid.yaml as it was read by the installation that ran it."""

    text_digest: str  #: of the grid.yaml that it is of
    #: Of each function that it brings, by `_code_name`: when results were first made with it.
    sources: dict[str, str]
    grid: Grid  #: without its text


def _kept(store: Store) -> KeptGrid | None:
    """None where there is none, or a later version's."""
    try:
        raw = store.read_json(SETTLED)
        return None if raw is None else from_dict(KeptGrid, raw)
    except (StoreError, ValueError):
        return None


def _code_name(code: UserCode) -> str:
    return f"{code.target} version {code.version}"


def _sources(grid: Grid) -> dict[str, str]:
    """The digests of the user's functions now; without those that are not on this machine."""
    out = {}
    for code in grid.user_code():
        with contextlib.suppress(UserCodeError):
            out[_code_name(code)] = sources_digest(code.target)
    return out


def changed_code(grid: Grid, store: Store | None) -> list[str]:
    """The user's functions whose sources changed since results in the store were made, while what
    is in the task keys stayed: one sentence each."""
    kept = None if store is None else _kept(store)
    if store is None or kept is None:
        return []
    now = _sources(grid)
    changed = {
        name: code
        for code in grid.user_code()
        if kept.sources.get(name := _code_name(code), now.get(name)) != now.get(name)
    }
    if not changed:
        return []
    done, tasks = store.finished(), expand(grid).tasks
    notes = []
    for code in changed.values():
        mine = f'"{code.target}"'
        count = sum(mine in json.dumps(task_to_dict(tasks[key])) for key in tasks.keys() & done)
        if count:
            notes.append(
                f"{code.target} changed, and {count} results are older; they count as before: "
                f"raise its `version` (now {code.version}) to make them anew"
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
