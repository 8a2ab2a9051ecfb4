"""`prunegrid dashboard --export DIR`: the page as it is now, as files, to read and to send on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from prunegrid.orchestrator.dashboard.answers import Answers, Query
from prunegrid.orchestrator.dashboard.axes import number_text
from prunegrid.orchestrator.dashboard.offline_page import offline_page
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.dashboard.static_files import PLOTLY, StaticFiles
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.output import OwnFolder

MARKER = ".prunegrid-dashboard.json"
#: More than this many cells, and squares and failed tasks can't be opened in the copy.
MOST_CELLS = 50_000
_FAILED = 200


def export(reader: StoreReader, out: Path) -> Path:
    """Write the copy; returns its index.html. Raises StoreError where the store can't be read,
    or `out` is neither absent, empty nor an earlier copy, or can't be written."""
    folder = OwnFolder(out, marker=MARKER, what="copy")
    snapshot = reader.refresh(budget_s=3600.0)
    if snapshot.problem is not None:
        raise StoreError(snapshot.problem)
    answers = dict(all_answers(reader, snapshot))
    folder.replace(dict(_contents(answers)))
    return out / "index.html"


def all_answers(reader: StoreReader, snapshot: Snapshot) -> Iterator[tuple[str, Any]]:
    """Every address that the copy can show, and its answer."""
    answers = Answers(reader, can_retry=False)
    yield "api/status.json", {**answers.status(snapshot), "export": True}
    grid = answers.grid(snapshot, Query())
    yield "api/grid.json", grid
    threats = {
        f"robust:{attack}:{number_text(eps)}"
        for attacks in grid["eps"].values()
        for attack, values in attacks.items()
        for eps in values
        if attack in grid["attacks"]
    }
    for value in ("accuracy", *sorted(threats)):
        try:
            yield _answer(answers.grid, "grid", snapshot, {"value": value})
        except UsageError:  # an eps that the store's selection leaves out
            continue
    for name in ("curves", "timeline", "failures"):
        yield f"api/{name}.json", getattr(answers, name)(snapshot, Query())
    if snapshot.index is None or len(snapshot.index.plan.cells) > MOST_CELLS:
        return
    for facet in grid["facets"]:
        axes = ("architecture", "protocol", "variant")
        place = {axis: facet[axis] for axis in axes if facet[axis] is not None}
        for square in facet["squares"]:
            where = {**place, "method": square["method"], "rate": number_text(square["rate"])}
            yield _answer(answers.square, "square", snapshot, where)
    for key in sorted(snapshot.failed)[:_FAILED]:
        if key in snapshot.index.number:
            yield _answer(answers.cell, "cell", snapshot, {"id": key})


def _answer(make: Any, name: str, snapshot: Snapshot, query: dict[str, str]) -> tuple[str, Any]:
    items = tuple(sorted(query.items()))
    text = "&".join(f"{_encoded(key)}={_encoded(value)}" for key, value in items)
    return f"api/{name}.json?{text}", make(snapshot, Query(items))


def _encoded(text: str) -> str:
    """As a browser's URLSearchParams writes it."""
    return quote_plus(text, safe="*").replace("~", "%7E")


def _contents(answers: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Every file of the copy; answers to a query are in the page alone."""
    static = StaticFiles()
    for address, value in answers.items():
        if "?" not in address:
            text = json.dumps(value, separators=(",", ":"), allow_nan=False)
            yield address, text.encode()
    modules = {}
    for name in (*static.names(), PLOTLY):
        body = static.get(name)
        if body is not None and name != "index.html":
            yield f"static/{name}", body.content
            if name.endswith(".js") and name != PLOTLY:
                modules[name] = body.content.decode()
    page = static.get("index.html")
    icon = static.get("favicon.ico")
    assert page is not None  # there is one for stores without a page, too
    assert icon is not None
    yield "favicon.ico", icon.content
    yield "index.html", offline_page(page.content.decode(), modules, answers).encode()
