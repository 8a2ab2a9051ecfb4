"""`prunegrid check`: a grid is tried out in small, and what fails is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunegrid.orchestrator.cli import app, guarded
from prunegrid.orchestrator.driver import rehearsals
from prunegrid.orchestrator.driver.rehearsals import own_parts, rehearsals_of, try_out_new
from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid, read_grid
from prunegrid.orchestrator.plan.dag import expand
from tests.grids import SMALL

GRID = """\
seeds: [0]
rates: [1, 2, 8]
methods:
  - magnitude-global-unstructured
  - {score: "check_parts:score", scope: local, structure: unstructured}
architectures:
  tiny:
    build: check_parts:net
    dataset: synthetic16
    attack_images: 4
    eps: {pgd_linf: [8/255], bad: [8/255]}
attacks:
  pgd_linf: {steps: 1, batch_size: 16}
  bad: {run: "check_parts:attack", norm: linf, finds: fixed-eps}
"""
PARTS = """
import keras

def net(input_shape, classes):
    return keras.Sequential(
        [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes)])

def score(scoring):
    raise RuntimeError("no score today")

def attack(network, images, labels, eps):
    return images * float("nan")
"""


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "check_parts.py").write_text(PARTS)
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


@pytest.mark.tf
def test_what_fails_is_named_with_its_line_before_anything_trains(grid, tmp_path, data_dir, capsys):
    done = CliRunner().invoke(app, ["check", str(grid), "--data-dir", str(data_dir), "--json"])
    answer = json.loads(done.stdout)
    assert done.exit_code == 1
    error, attack = answer["errors"]
    assert attack.startswith(f"{grid}:14: attacks.bad: bad on tiny (strict): ")
    assert "expected images in [0, 1], got pixels from nan to nan" in attack
    assert error.startswith(f"{grid}:4: methods: score-local-unstructured to 2 on tiny and 1")
    assert "RuntimeError: no score today (check_parts.py:9)" in error
    well = [part["what"] for part in answer["parts"] if not part["error"]]
    assert well == [
        "synthetic16",
        "tiny",
        "magnitude-global-unstructured to 2 on tiny",
        "magnitude-global-unstructured to 8 on tiny",
        "pgd_linf on tiny (strict)",
    ]
    store = tmp_path / "store"
    asked = ["run", str(grid), "--store", str(store), "--engine", "inline"]
    asked += ["--data-dir", str(data_dir)]
    assert guarded(lambda: app(args=asked, standalone_mode=False)) == 2
    assert "no score today" in " ".join(capsys.readouterr().err.split())
    assert not store.exists()


def test_a_run_of_what_is_built_in_tries_nothing_out(monkeypatch):
    monkeypatch.setattr(rehearsals, "ask_child", lambda *_: pytest.fail("a child was started"))
    plan = expand(parse_grid(SMALL, source="grid.yaml"))
    assert own_parts(rehearsals_of(plan, None)) == []
    try_out_new(plan, None)


@pytest.mark.tf
def test_what_was_tried_out_as_it_is_is_not_tried_again(grid, monkeypatch):
    plan = expand(read_grid(grid))
    asked = []

    def answer(module: str, rehearsed: list[object]) -> list[object]:
        asked.append(rehearsed)
        return [{"where": ["methods"], "what": "a score", "took_s": 1.0, "error": errors.pop()}]

    errors = ["", "", "a cause"]
    monkeypatch.setattr(rehearsals, "ask_child", answer)
    with pytest.raises(GridError, match=r"grid.yaml:4: methods: a score: a cause"):
        try_out_new(plan, None)
    try_out_new(plan, None)
    try_out_new(plan, None)
    assert len(asked) == 2
    (grid.parent / "check_parts.py").write_text(PARTS + "# other\n")
    try_out_new(plan, None)
    assert len(asked) == 3
