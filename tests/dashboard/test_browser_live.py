"""In a real browser: the page follows a run, and loses nothing of what its reader did."""

from __future__ import annotations

import re
import time
import uuid
from itertools import islice

import pytest

from tests.dashboard.stores import Run

pytestmark = pytest.mark.browser


class Driver:
    """Ends one task after the other of a plan, as a driver would."""

    def __init__(self, folder) -> None:
        self.run = Run(folder)
        self._left = iter(self.run.keys)
        self.run.beat()

    def finish(self, number: int = 60) -> None:
        for key in islice(self._left, number):
            self.run.start(key)
            self.run.finish(key, seconds=0.001)
        self.run.beat()


@pytest.fixture
def driver(tmp_path):
    return Driver(tmp_path / "s")


def labels(page) -> list[str]:
    return page.script("return [...document.querySelectorAll('.square')].map((b) => b.ariaLabel)")


def test_a_live_grid_changes_without_a_reload(page, driver, shown):
    page.open(shown(driver.run))
    page.wait_text(".pill", "LIVE")
    page.wait_text(".tile-progress", "0 of 60 tasks")
    page.wait(lambda: len(page.find("button.square")) == 6, "a square per method and rate")
    assert all("8 cells: 8 waiting" in label for label in labels(page))
    page.script("window.mark = 'same page'")
    driver.finish(30)
    page.wait_text(".tile-progress", "50.0 %")
    page.wait(lambda: page.driver.title.startswith("50.0 % small"), "the tab's title")
    page.wait(lambda: any("8 cells: 8 done" in label for label in labels(page)), "a whole square")
    assert any("waiting" in label for label in labels(page))
    driver.finish()
    page.wait_text(".tile-eta", "None")
    page.wait(lambda: all("8 done" in label for label in labels(page)), "a whole grid")
    assert page.script("return window.mark") == "same page"


def test_curves_grow(page, driver, shown):
    driver.finish(40)
    page.open(shown(driver.run) + "?view=curves")
    points = """return [...document.querySelectorAll('.plot-curve')]
        .flatMap((one) => one.data ?? []).reduce((sum, line) => sum + line.x.length, 0)"""
    some = page.wait(lambda: page.script(points), "curves")
    page.script("window.mark = document.querySelector('.plot-curve')")
    driver.finish()
    # Five figures of two methods at three rates; of some the first screen shows none yet.
    page.wait(lambda: page.script(points) > some, "more points")
    rows = page.script("return document.querySelector('.numbers tbody').textContent")
    assert re.search(r"magnitude-global-unstructured\d\d\.\d", rows), "the same numbers as a table"
    assert page.script("return window.mark.isConnected"), "figures stay where they are"


def test_a_zoom_by_the_mouse_survives_refreshes(page, driver, shown):
    for _ in range(20):  # some seconds: a window in the address is to a tenth of one
        driver.finish(2)
        time.sleep(0.1)
    page.open(shown(driver.run) + "?view=timeline")
    surface = page.wait_for(".plot-timeline .nsewdrag")
    ends = """return document.querySelector('.plot-timeline')?.layout?.xaxis.range
        .map((end) => new Date(String(end).replace(' ', 'T')).getTime())"""
    page.wait(lambda: page.script(ends), "its ends")
    # The timeline grows on; what counts is the one that the mouse was pressed on.
    look = f"window.ends = (() => {{ {ends} }})()"
    page.script(f"document.addEventListener('mousedown', () => {{ {look} }}, true)")
    page.drag(surface, 0.1, 0.9)  # wide: a machine may be slow, and a gap is no window
    page.wait(lambda: "window=" in page.driver.current_url, "the zoom in the address")
    before = page.script("return window.ends")

    def zoomed() -> list[float]:
        now = page.script(ends)
        if not now:  # it is drawn anew
            return []
        shares = [(end - before[0]) / (before[1] - before[0]) for end in now]
        settled = all(end % 100 == 0 for end in now)  # ms: as the address has them
        return settled and shares == pytest.approx([0.1, 0.9], abs=0.1) and now

    there = page.wait(zoomed, "the window that was dragged")
    driver.finish(5)
    page.rounds(4)
    assert page.script(ends) == there
    page.driver.refresh()
    page.wait_for(".plot-timeline .nsewdrag")
    page.wait(zoomed, "the same window from the address")
    page.click(".controls .button")
    page.wait(lambda: "window=" not in page.driver.current_url, "all of it again")


def test_a_curve_stays_zoomed(page, driver, shown):
    driver.finish(40)
    page.open(shown(driver.run) + "?view=curves")
    surface = page.wait_for(".plot-curve .nsewdrag")
    page.drag(surface, 0.4, 0.9)
    ends = "return document.querySelector('.plot-curve').layout.xaxis.range"
    page.wait(lambda: page.script(ends)[0] > 0.1, "a zoom")
    there = page.script(ends)
    points = "return JSON.stringify(document.querySelector('.plot-curve').data.map((one) => one.y))"
    before = page.script(points)
    driver.finish(19)
    page.wait(lambda: page.script(points) != before, "new points")
    assert page.script(ends) == there


def test_what_is_chosen_and_focused_survives_refreshes(page, driver, shown):
    page.open(shown(driver.run))
    page.click("summary", "Seed")
    page.click(".menu[open] .check", "1")
    page.wait(lambda: page.driver.current_url.endswith("?seed=1"), "the filter in the address")
    page.wait(lambda: all("4 cells" in label for label in labels(page)), "one seed's cells")
    driver.finish(20)
    page.wait_text(".tile-progress", "20 of 60 tasks")
    assert page.find(".menu[open] input:checked"), "the menu is still open"
    page.keys("\ue00c")  # Escape
    page.click(".square")
    page.wait_text("#panel", "Models, by seed")
    scroll = "return document.activeElement.id"
    assert page.script(scroll) == "panel-title"
    driver.finish(20)
    page.wait_text(".tile-progress", "40 of 60 tasks")
    assert page.script(scroll) == "panel-title"
    assert len(page.find(".square.chosen")) == 1
    address = page.driver.current_url
    page.open(address)
    page.wait_text("#panel", "Models, by seed")
    assert page.text(".menu.chosen .menu-value") == "1"
    page.driver.back()
    page.driver.forward()
    page.wait_text("#panel", "Models, by seed")


def test_small_squares_stay_drawn(page, driver, shown):
    driver.finish(30)
    page.open(shown(driver.run) + "?each=cell")
    drawn = "return [...document.querySelectorAll('canvas.mosaic')].map((one) => one.toDataURL())"
    page.wait_for("canvas.mosaic")
    page.rounds(1)
    before = page.script(drawn)
    assert len(before) == 6
    assert len(set(before)) >= 2, "done and waiting"
    page.rounds(2)
    assert page.script(drawn) == before
    driver.finish()
    page.wait(lambda: len(set(page.script(drawn))) == 1, "all of them done")
    blank = """const canvas = document.querySelector('canvas.mosaic').cloneNode();
        return canvas.toDataURL()"""
    assert page.script(blank) not in {*before, *page.script(drawn)}


def test_a_run_in_a_bucket(page, s3_bucket, shown):
    driver = Driver(f"{s3_bucket}/{uuid.uuid4().hex}")
    page.open(shown(driver.run))
    page.wait_text(".tile-progress", "0 of 60 tasks")
    driver.finish(20)
    page.wait_text(".tile-progress", "20 of 60 tasks")
