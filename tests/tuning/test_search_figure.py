"""A search's figure: its panels, and what the two renderers make of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.orchestrator.grid.file import parse_grid
from prunegrid.orchestrator.tuning.objective import compare
from prunegrid.orchestrator.tuning.search_figure import (
    FigurePanels,
    log_ticks,
    page,
    panels_of,
    static,
)
from prunegrid.orchestrator.tuning.search_plan import SearchOptions, attack_studies
from prunegrid.orchestrator.tuning.trials import Rival, SearchOutcome, TrialRow, best
from prunegrid.orchestrator.tuning.wording import attack_report, trial_line
from tests.grids import SMALL
from tests.report.test_browser import browser  # noqa: F401

GRID = SMALL.replace("steps: 5}", "steps: 500}")


def outcome(ours: np.ndarray, theirs: np.ndarray, **wish) -> SearchOutcome:
    """16 trials, each second one stopped early; one failed."""
    values = {"attack": "cw_l2", "trials": 16, "budget": "400"}
    (study,), _ = attack_studies(parse_grid(GRID, source="g"), SearchOptions(**(values | wish)))
    trials = {
        n: TrialRow(
            trial=n,
            options=study.options(n),
            state="failed" if n == 5 else "complete" if n % 2 == 0 else "stopped early",
            size=12,
            value=math.inf if n == 5 else 2 - n / 100,
            tie=0.0,
            queries_mean=300.0,
            test_accuracy=None,
        )
        for n in range(16)
    }
    winner = best(trials)
    assert winner is not None
    rivals = (
        Rival(
            role="held-out tuned", options=winner.options, queries_mean=300.0, distances=ours,
            comparison=None,
        ),
        Rival(
            role="held-out cut", options=study.options(0), queries_mean=390.0, distances=theirs,
            comparison=compare(ours, theirs, eps=study.eps),
        ),
    )  # fmt: skip
    return SearchOutcome(study=study, trials=trials, best=winner, rivals=rivals)


THEIRS = np.linspace(1, 3, 24).reshape(2, 12)


def test_every_trial_with_a_value_is_one_point_of_every_option():
    found = panels_of(outcome(0.9 * THEIRS, THEIRS))
    *options, paired = found.panels
    assert {p.x for p in options} >= {"stepsize", "initial_const", "steps"}
    for panel in options:
        count = {points.role: len(points.x) for points in panel.points}
        assert count == {"stopped early": 7, "complete": 6, "grid": 1, "best": 1}
    assert paired.diagonal
    assert [len(points.x) for points in paired.points] == [24]
    assert "at most 400 queries an image" in found.title


def test_images_on_which_the_tuned_attack_is_weaker_are_told_apart():
    ours = 0.9 * THEIRS
    ours[0, :3] *= 2
    ours[1, 0] = math.nan
    ours[1, 1] = math.inf
    paired = panels_of(outcome(ours, THEIRS)).panels[-1]
    count = {points.name: len(points.x) for points in paired.points}
    assert sum(count.values()) == 22
    assert count["held-out image, tuned weaker"] == 3


def test_the_page_needs_no_network_and_escapes_what_a_grid_says():
    found = panels_of(outcome(0.9 * THEIRS, THEIRS))
    text = page(FigurePanels(title="<b>x</b>", panels=found.panels))
    assert "<title>&lt;b&gt;x&lt;/b&gt;</title>" in text
    assert "<b>x</b>" not in text
    assert "cdn.plot.ly" not in text.replace("plotly.js", "").split("Plotly.newPlot")[-1]
    files = static(found)
    assert files["figure.png"].startswith(b"\x89PNG")
    assert b"stepsize" in files["figure.svg"] or b"<path" in files["figure.svg"]


def test_a_setting_that_the_grid_has_not_and_an_attack_that_fails_are_left_out():
    found = outcome(0.9 * THEIRS, THEIRS)
    none = dataclasses.replace(found.trials[0], options={**found.trials[0].options, "stepsize": 0})
    panels = panels_of(dataclasses.replace(found, trials={**found.trials, 0: none}))
    (panel,) = [panel for panel in panels.panels if panel.x == "stepsize"]
    assert "grid" not in {points.role for points in panel.points}
    assert page(panels)

    failed = {n: dataclasses.replace(t, value=math.inf) for n, t in found.trials.items()}
    lost = dataclasses.replace(found, trials=failed, best=failed[0])
    panels = panels_of(lost)
    assert all(not panel.points for panel in panels.panels if not panel.diagonal)
    assert page(panels)
    assert static(panels)["figure.png"]


@pytest.mark.browser
def test_the_page_is_drawn_offline_and_a_point_tells_its_settings(browser, tmp_path):  # noqa: F811
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    found = outcome(0.9 * THEIRS, THEIRS)
    path = tmp_path / "figure.html"
    path.write_text(page(panels_of(found)))
    browser.get(path.as_uri())
    points = WebDriverWait(browser, 20).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "g.trace path.point")
    )
    options = len(panels_of(found).panels) - 1
    assert len(points) == 15 * options + 24
    ActionChains(browser).move_to_element(points[0]).perform()
    hover = WebDriverWait(browser, 20).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "g.hovertext")
    )
    for words in ("stopped early, 12 images", "stepsize", "initial_const"):
        assert words in hover[0].text
    assert browser.title == panels_of(found).title
    assert browser.get_log("browser") == []


@given(st.floats(1e-6, 1e6), st.floats(1.5, 1e6))
def test_a_logarithmic_axis_has_ticks_enough_and_not_too_many(low, ratio):
    ticks = log_ticks(low, low * ratio)
    assert 1 <= len(ticks) <= 16
    assert ticks == sorted(set(ticks))
    if ratio >= 2.1:
        assert len(ticks) >= 2
    assert all(low / 1.11 <= tick <= low * ratio * 1.11 for tick in ticks)


def test_the_report_says_what_was_found_with_its_interval():
    lines = attack_report(outcome(0.9 * THEIRS, THEIRS))
    text = "\n".join(lines)
    assert "best of 16 trials (7 stopped early)" in text
    assert "on 12 held-out images, 300 queries each" in text
    assert "10.0 % nearer (ratio 0.900, 95 % interval 0.900 to 0.900)" in text
    assert "at least as strong on 24 of 24 images, strictly on 24" in text
    assert "the grid's settings at the same budget (390 queries each)" in text


def test_robust_accuracies_are_said_in_points():
    ours, theirs = 0.5 * THEIRS, THEIRS
    text = "\n".join(attack_report(outcome(ours, theirs, objective="robust", eps=1.6)))
    assert (theirs >= 1.6).mean() == 17 / 24
    assert "robust accuracy at 1.6: 0.0 % against 70.8 %: -70.8 points" in text


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (14, "<- best so far"),
        (3, "stopped at 12 images"),
        (5, "failed: planted"),
        (99, "trial 99: planted"),
    ],
)
def test_a_line_per_trial(number, words):
    found = outcome(0.9 * THEIRS, THEIRS)
    line = trial_line(found.study, found.trials, number, "planted")
    assert words in line
    assert line.startswith("  16/16")
