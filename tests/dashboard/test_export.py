"""The copy says what the server said, needs no server, and destroys nothing."""

from __future__ import annotations

import base64
import html.parser
import json
import re
from pathlib import Path

import pytest

from prunegrid.orchestrator.dashboard import bodies
from prunegrid.orchestrator.dashboard.answers import Answers, Query
from prunegrid.orchestrator.dashboard.filters import number_text
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.static_copy import MARKER, export, offline_page
from prunegrid.orchestrator.errors import StoreError
from prunegrid.orchestrator.store.store import Store
from tests.dashboard.stores import Run

PAGE = """<!doctype html><html><head><title>x</title>
<link rel="stylesheet" href="static/app.css">
<link rel="modulepreload" href="static/one.js">
<script src="static/plotly.min.js" defer></script>
<script type="module" src="static/app.js"></script></head><body></body></html>"""
APP = """import { one } from './one.js';
import * as two from "./two.js";
const late = () => import("./one.js");
export { one } from "./one.js";
const text = "from nowhere";
"""


@pytest.fixture
def page(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "page"
    folder.mkdir()
    for name, text in (("index.html", PAGE), ("app.js", APP), ("app.css", "p {}")):
        (folder / name).write_text(text)
    (folder / "favicon.svg").write_text("<svg/>")
    for name in ("one", "two"):
        (folder / f"{name}.js").write_text(f"export const {name} = 1;")
    monkeypatch.setattr(bodies, "_FOLDER", folder)
    return folder


class Scripts(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self._open: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self._open = dict(attrs)
            self.found.append((self._open, ""))

    def handle_data(self, data):
        if self._open is not None:
            self.found[-1] = (self._open, self.found[-1][1] + data)

    def handle_endtag(self, tag):
        if tag == "script":
            self._open = None


def embedded(out: Path) -> dict[str, object]:
    scripts = Scripts((out / "index.html").read_text()).found
    return json.loads(next(text for attrs, text in scripts if attrs.get("id") == "snapshot"))


def test_the_copy_holds_every_view(mixed, page, tmp_path):
    reader = StoreReader(Store.open(mixed.address))
    out = tmp_path / "copy"
    assert export(reader, out) == out / "index.html"
    found = embedded(out)
    snapshot, answers = reader.refresh(budget_s=60), Answers(reader, can_retry=False)
    assert found["api/grid.json"] == json.loads(json.dumps(answers.grid(snapshot, Query())))
    assert found["api/status.json"]["export"] is True
    assert found["api/status.json"]["done"] == 15
    square = "api/square.json?architecture=cnn5&method=random-local-filter&rate=4"
    assert len(found[square]["cells"]) == 8
    assert found["api/grid.json?value=robust%3Acw_l2%3A2"]["facets"][0]["squares"][0]["n"] == 1
    assert f"api/grid.json?value=robust%3Apgd_linf%3A{4 / 255}" in found
    (failed,) = [name for name in found if name.startswith("api/cell.json")]
    assert found[failed]["state"] == "failed"
    for name in ("status", "grid", "curves", "timeline", "failures"):
        assert json.loads((out / f"api/{name}.json").read_text()) == found[f"api/{name}.json"]
    for name in ("app.css", "app.js", "one.js", "plotly.min.js"):
        assert (out / "static" / name).is_file()
    assert (out / "favicon.ico").is_file()


def test_modules_are_in_the_page_where_a_disk_can_not_give_them(mixed, page, tmp_path):
    export(StoreReader(Store.open(mixed.address)), tmp_path / "copy")
    text = (tmp_path / "copy/index.html").read_text()
    scripts = Scripts(text).found
    kinds = [attrs.get("type") for attrs, _ in scripts]
    assert kinds.index("importmap") < kinds.index("module"), "or a browser would not heed it"
    imports = json.loads(scripts[kinds.index("importmap")][1])["imports"]
    assert scripts[kinds.index("module")] == ({"type": "module"}, 'import "prunegrid/app.js";')
    assert 'src="static/plotly.min.js"' in text
    assert "modulepreload" not in text
    app = base64.b64decode(imports["prunegrid/app.js"].partition(",")[2]).decode()
    assert re.findall(r"""["'](\S+\.js)["']""", app) == [
        "prunegrid/one.js",
        "prunegrid/two.js",
        "prunegrid/one.js",
        "prunegrid/one.js",
    ]
    assert '"from nowhere"' in app
    assert imports.keys() == {"prunegrid/app.js", "prunegrid/one.js", "prunegrid/two.js"}


def test_no_text_of_a_store_ends_the_script():
    hostile = "</script><script>alert(1)</script><!--&"
    page = offline_page(PAGE, {"a.js": hostile}, {"api/x.json": hostile, hostile: 1})
    assert hostile not in page
    assert page.count("</script>") == 4
    text = next(t for attrs, t in Scripts(page).found if attrs.get("id") == "snapshot")
    assert not set(text) & set("<>&"), "no end tag in any spelling"
    assert json.loads(text) == {"api/x.json": hostile, hostile: 1}


def test_only_what_is_ours_is_replaced(mixed, page, tmp_path):
    reader, out = StoreReader(Store.open(mixed.address)), tmp_path / "copy"
    export(reader, out)
    (out / "notes.txt").write_text("mine")
    (page / "two.js").unlink()
    (page / "app.js").write_text("")
    export(reader, out)
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "static/two.js").exists(), "a file of the earlier copy that is no more"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"new or empty folder.*thesis\.tex"):
        export(reader, tmp_path / "other")
    (out / MARKER).write_text(
        json.dumps({"files": ["../../x", "/x", "..", "static/..", "api/", "a/b"]})
    )
    (tmp_path / "x").write_text("mine")
    export(reader, out)
    assert (tmp_path / "x").read_text() == "mine"


def test_a_store_that_can_not_be_read_is_an_error(tmp_path):
    run = Run(tmp_path / "s")
    (tmp_path / "s/grid.yaml").unlink()
    with pytest.raises(StoreError, match="no grid"):
        export(StoreReader(Store.open(run.address)), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "2"), (2, "2"), (0.5, "0.5"), (4 / 255, "0.01568627450980392"), (1e-5, "0.00001"),
     (1.5e-7, "1.5e-7"), (1e21, "1e+21"), (123456789.25, "123456789.25")],
)  # fmt: skip
def test_numbers_are_written_as_a_browser_does(value, text):
    assert number_text(value) == text
