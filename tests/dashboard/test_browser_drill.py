"""In a real browser: from a failure to its traceback and back to work, by mouse and by keys."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prunegrid.orchestrator.dashboard.access import access_for
from prunegrid.orchestrator.dashboard.reader import StoreReader
from prunegrid.orchestrator.dashboard.static_copy import export
from prunegrid.orchestrator.store.requests import read_requests
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.checkpoints import pack
from tests.dashboard.stores import Run
from tests.grids import SMALL

pytestmark = pytest.mark.browser

TOKEN = "correct-horse-battery-staple"
ENTER, ESCAPE, RIGHT, DOWN = "\ue007", "\ue00c", "\ue014", "\ue015"
UP, HOME = "\ue013", "\ue011"
TRACEBACK = 'Traceback (most recent call last):\n  File "fit.py", line 7\nValueError: planted here'
LOG = "epoch 3\n<b>loss</b> nan"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Given up: the second dense network of the plan; what rests on it is blocked."""
    one = Run(tmp_path_factory.mktemp("kept") / "s")
    lost = lost_of(one)
    one.fail(lost, "ValueError: first", attempt=1, worker="node-a/0")
    words: dict[str, object] = {"traceback": TRACEBACK, "log": LOG}
    one.give_up(lost, "ValueError: planted", attempt=2, worker="node-b/1", **words)
    one.finish_all(but={lost})
    return Path(one.address)


def lost_of(run: Run) -> str:
    return [key for key in run.keys if key.startswith("train-")][1]


def test_from_a_square_to_a_traceback_by_keys_alone(page, run, shown):
    page.open(shown(run))
    page.wait_for(".square")
    page.script("document.querySelector('.square').focus()")
    page.keys(RIGHT, RIGHT, DOWN)
    focused = "return document.activeElement.ariaLabel ?? document.activeElement.textContent"
    assert "random-local-filter, rate 4" in page.script(focused)
    page.keys(UP, HOME, ENTER)
    page.wait_text("#panel", "Models, by seed")
    assert "magnitude-global-unstructured" in page.text(".panel-bar")
    lost = page.wait_for("a.entry.is-failed")
    assert "failed" in lost.get_attribute("aria-label")
    page.script("arguments[0].focus()", lost)
    page.keys(ENTER)
    page.wait_text(".traceback pre", "planted here")
    panel = page.text("#panel")
    assert page.text(".traceback pre") == TRACEBACK
    page.click("details[data-key=log] summary")
    assert page.text("details[data-key=log] pre") == LOG
    assert f"prunegrid retry --store {run.address} {lost_of(run)}" in panel
    assert "attempt 2" in panel
    assert "on node-b/1" in panel
    assert "ValueError: first" in panel
    page.keys(ESCAPE)
    page.wait(lambda: not page.find("#panel:not([hidden])"), "a closed panel")
    assert "magnitude-global-unstructured, rate 1" in page.script(focused)


def test_failures_by_class_and_node(page, run, shown):
    other = next(key for key in run.keys if key.startswith("attack-"))
    run.fail(other, "out of memory", attempt=3, kind="device-memory", worker="node-a/0")
    page.open(shown(run) + "?view=failures")
    page.wait_text("main", "3 failed attempts; 1 task failed")
    assert page.text(".nav-count") == "1"
    assert page.text(".breakdowns").split("\n")[:5] == [
        "By class",
        "bug",
        "2",
        "device-memory",
        "1",
    ]
    page.click(".failure .traceback summary")
    page.wait_text(".failure .traceback pre", "planted here")
    page.click(".breakdown-row", "node-a")
    page.wait(lambda: "host=node-a" in page.driver.current_url, "the node in the address")
    page.wait_text("main", "Only node-a")
    page.click(".breakdown-row", "device-memory")
    page.wait(lambda: len(page.find(".failure")) == 1, "one kind of failure on one node")
    assert "raise gpus_per_task" in page.text(".failure")
    page.click(".failure summary", "1 task")
    page.click(".failure-tasks a")
    page.wait_text("#panel", "attempt 3")


def test_retry_works_and_refuses_without_its_token(page, run, shown):
    access = access_for("127.0.0.1", allow_retry=True, token=TOKEN)
    address = shown(run, access)
    page.driver.get(address)
    assert "a token is needed" in page.text()
    assert "401" in " ".join(page.complaints())
    page.open(f"{address}?token={TOKEN}")
    assert TOKEN not in page.driver.current_url
    page.driver.get(f"{address}?id={lost_of(run)}")
    page.click(".retry .primary", "Retry this task")
    page.wait_text(".told-ok", "a running driver takes it up")
    ((_, request),) = read_requests(run.store.files)
    assert request.tasks == (lost_of(run),)
    page.driver.delete_all_cookies()
    page.click(".retry .primary", "Retry this task")
    page.wait_text(".told-bad", "a token is needed")
    assert len(read_requests(run.store.files)) == 1
    page.wait_text(".banner", "This dashboard is locked")
    assert all("401" in line for line in page.complaints())


def test_a_server_that_only_reads_has_no_button(page, run, shown):
    page.open(shown(run) + f"?id={lost_of(run)}")
    page.wait_text("#panel", "This server only reads; start it with --allow-retry")
    assert not page.find(".retry .primary")


def test_what_a_network_learned_and_what_the_attack_did_is_shown(page, run, shown):
    cell = run.plan.cells[0]
    key, model = cell.task_keys[0], run.plan.tasks[cell.task_keys[0]].parent_key
    history = [
        {"validation_accuracy": 0.5, "validation_loss": 1.0, "train_loss": 1.5},
        {"validation_accuracy": 0.875, "validation_loss": 0.25, "train_loss": 0.5},
    ]
    run.store.write(layout.model_file(model, "history.json"), json.dumps(history).encode())
    images = {"5": np.full((28, 28, 1), 0.9), "clean.5": np.zeros((28, 28, 1))}
    run.store.write(layout.adversarials(key), pack(images))
    page.open(shown(run) + f"?id={key}")
    page.wait_text("#panel", "1 image that the attack broke")
    assert "2 epochs; the last: validation accuracy 87.5 %, loss 0.250" in page.text("#panel")
    page.wait_for(".plot-history .main-svg")
    loaded = "return [...document.images].map((one) => one.complete && one.naturalWidth)"
    page.wait(lambda: page.script(loaded) == [28, 28, 28], "clean, adversarial, perturbation")


def test_a_name_with_commas_can_be_chosen_and_opened(page, tmp_path, shown):
    """Here, after a reload, and in a copy."""
    label, protocol = r"cw,l2=a\b", "a,b"
    text = SMALL.replace("cw_l2: [1, 2]", f"'{label}': [1, 2]")
    text = text.replace("cw_l2: {", f"'{label}': {{attack: cw_l2, ")
    run = Run(tmp_path / "s", f"{text}protocols: {{'{protocol}': {{}}, a: {{}}, b: {{}}}}\n")
    run.beat()
    page.open(shown(run))
    for axis, name in (("attack", label), ("protocol", protocol)):
        page.click(f"details[data-key={axis}] summary")
        chosen = f"details[data-key={axis}] label:has(input:checked)"
        (box,) = [one for one in page.find(f"details[data-key={axis}] label") if one.text == name]
        box.click()
        page.wait(lambda chosen=chosen: page.find(chosen), "a chosen name")
        page.open(page.driver.current_url)
        page.wait_text(f"details[data-key={axis}] summary", name)
    page.click(".square")
    page.wait_text("#panel", "Models, by seed")
    copy = export(StoreReader(Store.open(run.address)), tmp_path / "copy")
    page.open(copy.as_uri())
    page.wait_text("main", protocol)
    page.click(".square")
    page.wait_text("#panel", "Models, by seed")
