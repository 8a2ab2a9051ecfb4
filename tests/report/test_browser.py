"""The page in a real browser, from the disk, without a network: figures, hover, a clean console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from prunegrid.orchestrator.report import write_report
from tests.report.synthetic import METHODS, synthetic

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1300,900",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


def test_figures_are_drawn_offline_and_hover_gives_n_mean_and_interval(browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    results = synthetic(methods=METHODS[:2], seeds=3)
    page = write_report(results, tmp_path / "out", formats=("html",)).page
    browser.get(page.as_uri())
    figure = browser.find_element(By.ID, "figure-1")
    browser.execute_script("arguments[0].scrollIntoView()", figure)
    wait = WebDriverWait(browser, 20)
    wait.until(lambda driver: figure.find_elements(By.CSS_SELECTOR, "g.trace path.point"))
    assert len(figure.find_elements(By.CSS_SELECTOR, "g.trace.scatter")) == 12 * 2
    assert len(figure.find_elements(By.CSS_SELECTOR, "g.shape-group path")) == 12, "unpruned"
    point = figure.find_elements(By.CSS_SELECTOR, "g.trace path.point")[1]
    ActionChains(browser).move_to_element(point).perform()
    label = wait.until(
        lambda driver: figure.find_elements(By.CSS_SELECTOR, ".hoverlayer .hovertext")
    )[0]
    text = label.text.replace("\n", " ")
    assert "rate 2" in text
    assert "95 % interval" in text
    assert "n = 3" in text
    asked = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in asked if name.startswith("http")] == []
    problems = [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert problems == []
    assert browser.execute_script(
        "return document.documentElement.scrollWidth <= window.innerWidth"
    ), "nothing is wider than the window"


@pytest.mark.parametrize("width", [400, 1440])
def test_a_legend_of_nine_never_lies_on_its_figure(browser, tmp_path, width):
    """On a phone a figure scrolls inside of its own frame, the page does not."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    results = synthetic(methods=METHODS, rates=(1.0, 4.0), seeds=2)
    page = write_report(results, tmp_path / "out", formats=("html",)).page
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    figure = browser.find_element(By.ID, "figure-1")
    browser.execute_script("arguments[0].scrollIntoView()", figure)
    WebDriverWait(browser, 20).until(
        lambda driver: figure.find_elements(By.CSS_SELECTOR, "g.trace path.point")
    )
    boxes = """
        const box = (e) => e.getBoundingClientRect();
        const titles = [...arguments[0].querySelectorAll('.annotation-text')].map(box);
        const entries = [...arguments[0].querySelectorAll('.legendtext')].map(box);
        const rows = new Set(entries.map((e) => Math.round(e.top)));
        return [Math.max(...entries.map((e) => e.bottom)), Math.min(...titles.map((t) => t.top)),
                rows.size, document.documentElement.scrollWidth <= window.innerWidth];"""
    lowest, highest, rows, fits = browser.execute_script(boxes, figure)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert lowest <= highest
    assert rows == 3, "a structure in each column"
    assert fits, "nothing is wider than the window"
