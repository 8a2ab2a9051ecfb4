"""`prunegrid dashboard --export DIR`: a copy of the page as it is now, as files.

A browser loads no modules from a disk. So the modules go into the page itself, as `data:` addresses
of an import map, and every answer beside them as JSON.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from prunegrid.orchestrator.dashboard.answers import Answers, Query
from prunegrid.orchestrator.dashboard.bodies import PLOTLY, StaticFiles
from prunegrid.orchestrator.dashboard.filters import number_text
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.snapshot import Snapshot
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.grid.selection import quoted
from prunegrid.orchestrator.output import OwnFolder

MARKER = ".prunegrid-dashboard.json"
#: With more cells than this, squares and failed tasks can't be opened in the copy.
MOST_CELLS = 50_000
_FAILED = 200
#: Commands that show what a copy lacks.
_ELSEWHERE = ("dashboard", "explain")

#: Of `import ... from "./x.js"`, `import "./x.js"`, `export ... from` and `import("./x.js")`.
_IMPORT = re.compile(r"""((?:\bfrom|\bimport)\s*\(?\s*)(["'])\./([\w.\-]+\.js)\2""")
_MODULE = re.compile(
    r"""<script\b(?=[^>]*\btype=["']module["'])[^>]*\bsrc=["'](?:\./)?static/([\w.\-]+\.js)["']"""
    r"""[^>]*>\s*</script>"""
)
_PRELOAD = re.compile(r"""<link\b[^>]*\brel=["']modulepreload["'][^>]*>\s*""")
_PREFIX = "prunegrid/"


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
    store = shlex.quote(reader.store.address)
    elsewhere = {command: f"prunegrid {command} --store {store}" for command in _ELSEWHERE}
    status = answers.status(snapshot)
    yield "api/status.json", {**status, "export": True, "elsewhere": elsewhere}
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
        place = {axis: quoted(facet[axis]) for axis in axes if facet[axis] is not None}
        for square in facet["squares"]:
            where = {**place, "method": square["method"], "rate": number_text(square["rate"])}
            yield _answer(answers.square, "square", snapshot, where)
    for key in sorted(snapshot.failed)[:_FAILED]:
        if key in snapshot.index.number:
            yield _answer(answers.cell, "cell", snapshot, {"id": key})


def _answer(make: Any, name: str, snapshot: Snapshot, query: dict[str, str]) -> tuple[str, Any]:
    items = sorted(query.items())
    text = "&".join(f"{_encoded(key)}={_encoded(value)}" for key, value in items)
    return f"api/{name}.json?{text}", make(snapshot, Query(items))


def _encoded(text: str) -> str:
    """As a browser's URLSearchParams writes it."""
    return quote_plus(text, safe="*").replace("~", "%7E")


def _contents(answers: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Every file of the copy. Answers to addresses with a query are in the page only."""
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
    page, icon = static.get("index.html"), static.get("favicon.svg")
    assert page is not None
    assert icon is not None
    yield "favicon.ico", icon.content
    yield "index.html", offline_page(page.content.decode(), modules, answers).encode()


def offline_page(html: str, modules: Mapping[str, str], answers: Mapping[str, object]) -> str:
    """`modules`: the text of each script by file name; `answers`: by address."""
    imports = {_PREFIX + name: _address(text) for name, text in modules.items()}
    head = (
        f'<script type="importmap">{_embedded({"imports": imports})}</script>\n'
        f'<script type="application/json" id="snapshot">{_embedded(answers)}</script>\n'
    )
    html = _PRELOAD.sub("", html)
    first = html.lower().find("<script")
    place = first if first >= 0 else len(html)
    page = html[:place] + head + html[place:]
    return _MODULE.sub(
        lambda found: f'<script type="module">import "{_PREFIX}{found[1]}";</script>', page
    )


def _address(text: str) -> str:
    """A module that imports its neighbours by name: a `data:` address has no neighbours."""
    text = _IMPORT.sub(rf"\1\2{_PREFIX}\3\2", text)
    return f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"


def _embedded(value: object) -> str:
    """JSON that can't end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
