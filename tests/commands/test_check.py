"""`prunegrid check`: a grid is tried out in small, and what fails is named with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunegrid.orchestrator.cli import app, guarded, main
from prunegrid.orchestrator.commands import check
from prunegrid.orchestrator.driver import rehearsals
from prunegrid.orchestrator.driver.rehearsals import own_parts, rehearsals_of, try_out_new
from prunegrid.orchestrator.errors import GridError
from prunegrid.orchestrator.grid.file import parse_grid, read_grid
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.workers import child_process
from prunegrid.workers.rehearsal import RehearsedPart
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
SIGNATURES = {
    "net": "input_shape, classes",
    "score": "scoring",
    "attack": "network, images, labels, eps",
    "load": "",
}
PGD = "  pgd_linf: {steps: 1, batch_size: 16}\n"
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
GUESSES = """\
seeds: [0]
rates: [1, 2]
methods: [magnitude-global-unstructured]
architectures:
  guesses:
    model: guesses.keras
    dataset: synthetic16
    attack_images: 4
    eps: {pgd_linf: [8/255]}
attacks:
  pgd_linf: {steps: 1, batch_size: 16}
"""
SIZES = """\
seeds: [0]
rates: [1, 2]
methods: [magnitude-global-unstructured]
architectures:
  cnn5:
    dataset: synthetic28
    attack_images: 16
    eps: {ATTACK: [1/255, 2/255, 4/255]}
attacks:
  ATTACK: {}
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


@pytest.mark.tf
@pytest.mark.parametrize(
    ("instead", "words"),
    [
        ("raise SystemExit(3)", r"SystemExit: 3 \(check_parts.py:9\)"),
        (
            "__import__('os')._exit(3)",
            "the child process ended with exit code 3 and gave",
        ),
        ("print('so far: 1', end='') or dict(scoring.weights)", ""),
    ],
)
def test_code_that_ends_the_process_or_prints(grid, data_dir, capsys, instead, words):
    """The last one goes well."""
    well = PARTS.replace('raise RuntimeError("no score today")', f"return {instead}")
    well = well.replace("return raise", "raise").replace('images * float("nan")', "images")
    grid.with_name("check_parts.py").write_text(well)
    asked = ["check", str(grid), "--data-dir", str(data_dir)]
    with pytest.raises(SystemExit) as ended:
        main(asked)
    code = ended.value.code
    said = " ".join("".join(capsys.readouterr()).split())
    assert bool(code) == bool(words), said
    assert re.search(words, said)


@pytest.mark.tf
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            "net",
            r"grid.yaml:8: architectures.tiny: can't be built: no end in net \(check_parts.py:6\)",
        ),
        ("score", r"score-local-unstructured to 2 on tiny: no end in score \(check_parts.py:6\)"),
        ("attack", r"bad on tiny \(strict\): no end in attack \(check_parts.py:6\)"),
        ("load", r"datasets.mine: no end in load \(check_parts.py:6\)"),
    ],
)
def test_code_that_hangs_is_named_with_its_line(
    grid, data_dir, monkeypatch, capsys, function, words
):
    """Of a network, a score, an attack and a data set. The limit is one that the others, which do
    not hang, never need."""
    well = PARTS.replace('raise RuntimeError("no score today")', "return dict(scoring.weights)")
    well = well.replace('images * float("nan")', "images").replace("import keras", "").lstrip()
    hangs = "def {0}({1}):\n    import time\n    while True:\n\n\n        time.sleep(9)\n"
    wanted = hangs.format(function, SIGNATURES[function])
    grid.with_name("check_parts.py").write_text(
        wanted + "import keras\n" + _without(well, function)
    )
    text = GRID.replace("{pgd_linf: [8/255], ", "{").replace(PGD, "")
    grid.write_text(text)
    if function == "load":
        text = text.replace("dataset: synthetic16", "dataset: mine")
        grid.write_text(text + 'datasets: {mine: {load: "check_parts:load"}}\n')
    monkeypatch.setenv("PRUNEGRID_TRY_LIMIT_S", "20")
    with pytest.raises(SystemExit) as ended:
        main(["check", str(grid), "--data-dir", str(data_dir)])
    said = " ".join("".join(capsys.readouterr()).split())
    assert ended.value.code
    assert re.search(words + " within 0:00:20; does it hang", said), said


def _without(source: str, function: str) -> str:
    """All functions but this one."""
    return "".join(p for p in re.split("(?m)^(?=def )", source) if f"def {function}(" not in p)


def test_an_interrupt_says_so(monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(child_process.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        child_process.ask_child("a.module", [])
    assert "interrupted: what was being tried out" in capsys.readouterr().err


def test_a_limit_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("PRUNEGRID_TRY_LIMIT_S", "soon")
    with pytest.raises(ValueError, match="PRUNEGRID_TRY_LIMIT_S: expected seconds, above 0"):
        child_process.ask_child("a.module", [])


@pytest.mark.tf
def test_a_run_does_not_try_out_again_what_check_found_well(grid, data_dir, monkeypatch):
    """Until the user's source changes."""
    parts = grid.with_name("check_parts.py")
    well = PARTS.replace('raise RuntimeError("no score today")', "return dict(scoring.weights)")
    parts.write_text(well.replace('images * float("nan")', "images"))
    done = CliRunner().invoke(app, ["check", str(grid), "--data-dir", str(data_dir)])
    assert done.exit_code == 0, done.output
    plan = expand(read_grid(grid))
    monkeypatch.setattr(rehearsals, "ask_child", lambda *_: pytest.fail("a child was started"))
    try_out_new(plan, str(data_dir))
    parts.write_text(parts.read_text() + "\n# changed")
    with pytest.raises(pytest.fail.Exception, match="a child was started"):
        try_out_new(plan, str(data_dir))


@pytest.mark.tf
def test_a_trained_file_is_judged_on_test_images(tmp_path, data_dir, monkeypatch):
    """One that guesses is said to, with what may be wrong."""
    import keras
    import numpy as np

    from prunegrid.workers.data.base import load
    from prunegrid.workers.rehearse import _judged
    from tests.science import data

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(one).save(tmp_path / "guesses.keras")
    path = tmp_path / "grid.yaml"
    path.write_text(GUESSES)
    asked = ["check", str(path), "--data-dir", str(data_dir), "--json"]
    parts = json.loads(CliRunner().invoke(app, asked).stdout)["parts"]
    (note,) = [part["note"] for part in parts if part["note"]]
    assert "hardly more than the" in note
    assert "float32 in [0, 1]" in note

    dataset = load(data("synthetic16", 40), str(data_dir))
    labels = np.asarray(dataset.test.labels[:256])
    said = _judged(lambda images, training: np.eye(10)[labels], dataset)  # type: ignore[arg-type]
    assert said == f"right on 100.0% of {len(labels)} test images"


def test_an_image_row_serves_all_eps_of_an_attack_at_minimum_norm():
    rows = [_rows(SIZES.replace("ATTACK", name)) for name in ("target_race_linf", "pgd_linf")]
    assert rows == ["32 image rows", "96 image rows"]


def _rows(text: str) -> str:
    plan = expand(parse_grid(text, source="grid.yaml"))
    built = RehearsedPart(where=("architectures", "cnn5"), what="cnn5", took_s=0, parameters=1)
    *_, store = check._prospect(plan, [built], 1)
    return store.rpartition(" and ")[2]


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
