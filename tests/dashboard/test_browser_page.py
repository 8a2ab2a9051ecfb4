"""In a real browser: whatever is in the store, wherever the page is, whoever looks at it."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from prunegrid.orchestrator.dashboard.access import access_for
from prunegrid.orchestrator.dashboard.api import make_app
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.static_copy import export
from prunegrid.orchestrator.dashboard.watcher import Watcher
from prunegrid.orchestrator.grid.grid import cell_id
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from tests.dashboard.browser import listening
from tests.dashboard.stores import Run
from tests.grids import SMALL

pytestmark = pytest.mark.browser

VIEWS = ("grid", "curves", "timeline", "failures")
PRESSED = {"button", "link", "checkbox", "combobox", "img", "gridcell", "DisclosureTriangle"}
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script><b>bold</b>'


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A bit of everything, a run going on."""
    one = Run(tmp_path_factory.mktemp("kept") / "s")
    trains = [key for key in one.keys if key.startswith("train-")]
    one.give_up(trains[1], "ValueError: planted")
    one.finish_all(but={trains[1], trains[2]})
    one.start(trains[2])
    return Path(one.address)


def test_hostile_text_stays_text(page, tmp_path, shown):
    run = Run(tmp_path / "s", SMALL.replace("name: small", f"name: '{HOSTILE}'"))
    first, second = [key for key in run.keys if key.startswith("train-")][:2]
    run.give_up(first, HOSTILE, worker=f"{HOSTILE}/0", traceback=f"Traceback\n{HOSTILE}")
    run.start(second)
    run.finish(second, worker=f"{HOSTILE}/1")
    run.say("pause", by=HOSTILE)
    run.beat(host=HOSTILE)
    address = shown(run)
    for place in (*(f"?view={view}" for view in VIEWS), f"?id={first}", f"?at.method={HOSTILE}"):
        page.open(address + place)
        page.settle()
        assert page.text(".grid-name") == HOSTILE
        assert page.script("return window.hacked ?? null") is None
        assert not page.find("img[src=x], main b b, #panel script")
        if place == "?view=failures":
            page.wait_text(".failure .cause", HOSTILE)
        if "id=" in place:
            page.wait_text(".traceback pre", HOSTILE)
    page.wait_text("#panel", "No answer")
    assert all("400 (Bad Request)" in line for line in page.complaints()), "of no such method"
    page.open(f"{address}?view=timeline")
    names = "return [...document.querySelectorAll('.ytick text')].map((one) => one.textContent)"
    lanes = page.wait(lambda: page.script(names), "lanes")
    assert sorted(lanes) == [f"{HOSTILE}/0", f"{HOSTILE}/1"]
    page.wait_text("section[data-key=time]", "pruning and fine-tuning")


def test_a_torn_and_a_vanished_store_say_so(page, run, tmp_path, shown):
    page.open(shown(run))
    page.wait_text(".pill", "LIVE")
    rows = sorted((tmp_path / "s" / layout.CELL_ROWS).iterdir())[0]
    rows.write_bytes(b"PAR1 torn")
    torn = tmp_path / "s" / layout.JOURNAL / "20990101T000000.000000Z-torn-1-0000.jsonl"
    torn.write_text('{"at": 1, "event": [\n')
    page.wait_text(".banners", f"torn result: {layout.CELL_ROWS}/")
    page.wait_text(".banners", "1 damaged lines of the journal")
    page.wait_text(".tile-health", "notice")
    (tmp_path / "s" / "grid.yaml").write_text("seeds: [0\n")
    page.wait_text(".pill", "UNREADABLE")
    page.wait_text(".banner.is-error", "The store can't be read")
    assert page.find(".square"), "the last numbers are still there"
    shutil.move(tmp_path / "s", tmp_path / "elsewhere")
    page.wait_text(".banner.is-error", "the store is gone")
    assert page.find(".square")
    shutil.move(tmp_path / "elsewhere", tmp_path / "s")
    (tmp_path / "s" / "grid.yaml").write_text(SMALL)
    run.beat()
    page.wait_text(".pill", "LIVE")


def test_a_server_that_is_gone_says_so(page, run):
    watcher = Watcher(StoreReader(Store.open(run.address)), every_s=0.1)
    with listening(make_app(watcher, access_for("127.0.0.1", allow_retry=False))) as address:
        page.open(address)
        page.wait_text(".pill", "LIVE")
    watcher.close()
    page.wait_text(".pill", "NO ANSWER")
    page.wait_text(".banner.is-error", "The server does not answer")
    assert page.find(".square")
    assert all("ERR_CONNECTION_REFUSED" in line for line in page.complaints())


def test_behind_a_proxy_with_a_prefix(page, run, shown):
    def prefixed(app, watcher):
        watcher.start()
        return Starlette(routes=[Mount("/user/me/proxy/8050", app=app)])

    page.open(shown(run, wrap=prefixed) + "user/me/proxy/8050/?view=curves")
    page.wait_for(".plot-curve .main-svg")
    page.click(".views a", "Grid")
    page.click(".square")
    page.wait_text("#panel", "Models, by seed")
    assert "/user/me/proxy/8050/?at." in page.driver.current_url


def test_the_copy_from_a_disk(page, run, tmp_path):
    copy = export(StoreReader(Store.open(run.address)), tmp_path / "copy")
    page.open(copy.as_uri())
    page.wait_text(".pill", "a copy of")
    page.click(".square")
    page.wait_text("#panel", "Models, by seed")
    for view in ("Curves", "Timeline"):
        page.click(".views a", view)
        page.wait(lambda: page.find("main .main-svg"), f"the {view} of a copy")
    page.click(".views a", "Failures")
    page.click(".failure .traceback summary")
    page.wait_text(".failure .traceback pre", "planted")


def test_a_link_to_a_cell_in_a_copy_says_where_it_is(page, run, tmp_path):
    snapshot = StoreReader(Store.open(run.address)).refresh(budget_s=60)
    cell = next(cell for cell in snapshot.index.plan.cells if cell.place.eps == 2)
    name = cell_id(cell.place, cell.task_keys)
    copy = export(StoreReader(Store.open(run.address)), tmp_path / "copy")
    page.open(f"{copy.as_uri()}?id={name}")
    page.wait_text("#panel", "Not in this copy")
    said = page.text("#panel")
    assert f"prunegrid dashboard --store {run.address}" in said
    assert f"?id={name}" in said
    assert f"prunegrid explain --store {run.address} {name}" in said
    model = cell.place.model
    at = {"architecture": "cnn5", "method": model.method, "rate": f"{model.rate:g}"}
    at |= {"seed": str(model.seed), "attack": cell.place.attack, "eps": f"{cell.place.eps:g}"}
    page.open(f"{copy.as_uri()}?{urlencode({f'at.{axis}': text for axis, text in at.items()})}")
    page.wait_text("#panel", f"explain --store {run.address} {name}")


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_every_view_fits_and_can_be_read(page, run, shown, width, dark):
    """No sideways scrolling, whatever the screen; every text has the contrast of WCAG's AA."""
    faint = Path(__file__).with_name("faint_texts.js").read_text()
    page.resize(width, 844, dark=dark)
    address = shown(run)
    square = "at.architecture=cnn5&at.method=random-local-filter&at.rate=2"
    places = [*(f"?view={view}" for view in VIEWS), "?value=accuracy", f"?{square}"]
    for place in places:
        page.open(address + place)
        page.settle()
        wide = page.script("return document.documentElement.scrollWidth")
        assert wide <= width, f"{place}: {wide} px of {width}"
        assert page.script(faint) == [], place


def test_everything_that_can_be_pressed_has_a_name(page, run, shown):
    """As a screen reader is told it."""
    address = shown(run)
    square = "?at.architecture=cnn5&at.method=random-local-filter&at.rate=2"
    for place in (*(f"?view={view}" for view in VIEWS), "?value=accuracy&each=model", square):
        page.open(address + place)
        page.settle()
        nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        pressed = [
            (node["role"]["value"], node.get("name", {}).get("value", "").strip())
            for node in nodes
            if not node["ignored"] and node["role"]["value"] in PRESSED
        ]
        assert len(pressed) > 8
        assert [role for role, name in pressed if not name] == [], place
        roles = {node["role"]["value"] for node in nodes if not node["ignored"]}
        assert {"banner", "main", "navigation", "contentinfo"} <= roles
