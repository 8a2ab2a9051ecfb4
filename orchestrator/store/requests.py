"""`requests/`: what people ask of a driver, perhaps a running one, as small files in the store.

A file is written whole, under a name that sorts by time. The driver handles it within a second or
two (on an object store, a few more), records that in its journal, and moves it to `requests/done/`.
Where no driver runs, the next one handles it. `paused.json` exists while a grid is paused, so that
a pause outlives its driver.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, get_args

from prunegrid.orchestrator.errors import expected
from prunegrid.orchestrator.grid.grid import AXES
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files

FOLDER = "requests"
DONE = "requests/done"
REFUSED = "requests/refused"
PAUSED = "paused.json"
VERSION = 1
Kind = Literal["retry", "pause", "resume"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Request:
    """`select`, `tasks` and `failed` narrow a retry: a task is tried again if it matches each of
    them that is given."""

    kind: Kind
    by: str  #: who asks: "cli" or "dashboard"
    select: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: axis -> values
    tasks: tuple[str, ...] = ()  #: first letters of task keys; (): any
    failed: bool = False  #: only failed tasks, not those that wait out a delay


@dataclass(frozen=True, kw_only=True)
class Pause:
    """No task is started."""

    since_s: float  #: seconds since the epoch; 0 where that is not known
    by: str


def write_request(files: Files, request: Request) -> str:
    """Returns the file's name. Raises StorageError."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    name = f"{stamp}-{secrets.token_hex(4)}.json"
    raw = {
        "version": VERSION,
        "kind": request.kind,
        "select": {axis: list(values) for axis, values in request.select.items()},
        "tasks": list(request.tasks),
        "failed": request.failed,
        "by": request.by,
    }
    files.write(f"{FOLDER}/{name}", json.dumps(raw).encode())
    return name


def read_requests(files: Files) -> list[tuple[str, Request]]:
    """(name, request) of waiting requests, oldest first; torn or foreign files are left out.

    Raises StorageError.
    """
    found = _read(files)
    return [(name, request) for name, request in found if isinstance(request, Request)]


def refuse_unreadable(files: Files) -> list[tuple[str, str]]:
    """Move waiting files that are no requests to `requests/refused/`; (name, why), oldest first.

    Raises StorageError.
    """
    refused = [(name, why) for name, why in _read(files) if isinstance(why, str)]
    for name, _ in refused:
        files.rename(f"{FOLDER}/{name}", f"{REFUSED}/{name}")
    return refused


def _read(files: Files) -> list[tuple[str, Request | str]]:
    """Each waiting file: a request, or why it is none."""
    out: list[tuple[str, Request | str]] = []
    for path in sorted(info.path for info in files.list(FOLDER)):
        name = path.removeprefix(f"{FOLDER}/")
        if "/" in name or not name.endswith(".json"):
            continue
        try:
            out.append((name, parse_request(parse_json(files.read(path)))))
        except FileNotFoundError:  # handled between listing and reading
            continue
        except ValueError as error:
            out.append((name, str(error)))
    return out


def parse_request(raw: object) -> Request:
    """A request from parsed JSON. Raises ValueError that says what was expected."""
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, got {type(raw).__name__}")
    if raw.get("version") != VERSION:
        raise ValueError(f"expected version {VERSION}, got {raw.get('version')!r}")
    if raw.get("kind") not in KINDS:
        raise ValueError(f"expected a kind of {', '.join(KINDS)}, got {raw.get('kind')!r}")
    select, failed = raw.get("select", {}), raw.get("failed", False)
    if not isinstance(select, dict):
        raise ValueError(f"select: expected axis -> values, got {select!r}")
    for axis in select:
        if axis not in AXES:
            raise ValueError(f"select: {expected(AXES, axis)}")
    if not isinstance(failed, bool):
        raise ValueError(f"failed: expected true or false, got {failed!r}")
    return Request(
        kind=raw["kind"],
        by=str(raw.get("by", "")),
        select={axis: _texts(f"select.{axis}", values) for axis, values in select.items()},
        tasks=_texts("tasks", raw.get("tasks", [])),
        failed=failed,
    )


def _texts(name: str, raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(one, str) for one in raw):
        raise ValueError(f"{name}: expected a list of texts, got {raw!r}")
    return tuple(raw)


def settle(files: Files, name: str) -> None:
    """Move a handled request to `requests/done/`. Raises StorageError."""
    files.rename(f"{FOLDER}/{name}", f"{DONE}/{name}")


# --------------------------------------------------------------------------- pausing


def set_paused(files: Files, pause: Pause | None) -> None:
    """For the driver, once it has handled a pause or resume. Raises StorageError."""
    if pause is None:
        files.remove(PAUSED)
        return
    raw = {"version": VERSION, "since_s": round(pause.since_s, 3), "by": pause.by}
    files.write(PAUSED, json.dumps(raw).encode())


def read_pause(files: Files) -> Pause | None:
    """The pause in effect, if any. A torn file counts as a pause: unwanted work costs more than
    waiting. Raises StorageError."""
    try:
        raw = parse_json(files.read(PAUSED))
        return Pause(since_s=float(raw["since_s"]), by=str(raw["by"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        return Pause(since_s=0.0, by="")


def pause_to_come(files: Files) -> Pause | None:
    """The pause once all waiting requests are handled too."""
    pause = read_pause(files)
    for _, request in read_requests(files):
        if request.kind == "pause":
            pause = pause or Pause(since_s=0.0, by=request.by)
        elif request.kind == "resume":
            pause = None
    return pause


def since_text(pause: Pause) -> str:
    """` since 2026-01-01 12:00:00 UTC, asked by cli`, as far as that is known."""
    at = datetime.fromtimestamp(pause.since_s, UTC)
    since = f" since {at:%Y-%m-%d %H:%M:%S} UTC" if pause.since_s else ""
    return since + (f", asked by {pause.by}" if pause.by else "")
