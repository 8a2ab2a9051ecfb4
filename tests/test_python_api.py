"""`import prunegrid`: the same results as the command line gives."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import prunegrid
from prunegrid.orchestrator import python_api
from prunegrid.orchestrator.driver.launch import RunOptions
from prunegrid.orchestrator.errors import GridError, StoreError, UsageError
from prunegrid.orchestrator.plan.dag import expand
from prunegrid.orchestrator.store.store import Store
from tests.commands.test_run import COORDINATES
from tests.fakes import RUNNER, SLOW
from tests.grids import SMALL, with_seeds

ROOT = Path(__file__).resolve().parent.parent
WITHIN_ITSELF: list[object] = []
WITHIN_ITSELF.append(WITHIN_ITSELF)


@pytest.fixture
def quick(monkeypatch):
    """Runs compute nothing."""
    options = functools.partial(RunOptions, runner=RUNNER)
    monkeypatch.setattr(python_api, "RunOptions", options)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_it_loads_nothing_heavy():
    done = python(
        "import sys, prunegrid; prunegrid.__all__; "
        "print([m for m in ('pandas', 'numpy', 'ray', 'tensorflow', 'yaml') if m in sys.modules])"
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    done = python(
        "import sys, prunegrid; prunegrid.run; "
        "print([m for m in ('ray', 'tensorflow', 'keras') if m in sys.modules])"
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_its_names_are_those_that_it_promises():
    assert prunegrid.__all__ == python_api.__all__
    for name in prunegrid.__all__:
        assert getattr(prunegrid, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        _ = prunegrid.rnu


def test_a_grid_in_python_has_the_tasks_of_its_file(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    file = prunegrid.read_grid(str(tmp_path / "small.yaml"))
    made = prunegrid.make_grid(**yaml.safe_load(SMALL))
    assert list(expand(made).tasks) == list(expand(file).tasks)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"rates": [0.5]},
            r"grid: rates.0: expected .* of at least 1, got 0.5 \(in `rates: \[0.5\]`\)",
        ),
        (
            {"raets": [1]},
            r"grid: raets: unknown key: .* did you mean 'rates'\? \(in `raets: \[1\]`\)",
        ),
        ({"seeds": object()}, "expected dicts, lists, .* got another object: <object"),
        ({"seeds": WITHIN_ITSELF}, "seeds.0: expected a whole number|one within itself"),
    ],
)
def test_an_error_shows_what_was_given(changes, said):
    with pytest.raises(GridError, match=said):
        prunegrid.make_grid(**(yaml.safe_load(SMALL) | changes))


def test_a_grid_takes_what_python_has():
    made = prunegrid.make_grid(
        **yaml.safe_load(SMALL)
        | {"seeds": range(2), "rates": np.array([1, 2, 4]), "methods": ("random-local-filter",)}
    )
    plain = prunegrid.make_grid(**yaml.safe_load(SMALL) | {"methods": ["random-local-filter"]})
    assert list(expand(made).tasks) == list(expand(plain).tasks)
    with_numbers = yaml.safe_load(SMALL) | {"rates": [np.float64(1), np.int64(2)]}
    assert prunegrid.make_grid(**with_numbers).rates == (1, 2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda g, s: prunegrid.run(None, s), r"grid: expected a grid .*, got None"),
        (lambda g, s: prunegrid.run({"seeds": [0]}, s), r"grid: expected .*, got {'seeds'"),
        (lambda g, s: prunegrid.run(g, None), "store: expected a path or an address, got None"),
        (lambda g, s: prunegrid.run(g, s, engine="rya"), "one of 'ray', 'inline', got 'rya'"),
        (lambda g, s: prunegrid.run(g, s, slots=0), "slots: expected a whole number .*, got 0"),
        (lambda g, s: prunegrid.run(g, s, slots=True), "slots: expected .*, got True"),
        (lambda g, s: prunegrid.run(g, s, slices="no"), "slices: expected True or False, got 'no'"),
        (lambda g, s: prunegrid.run(g, s, address=5), "address: expected a text or None, got 5"),
        (lambda g, s: prunegrid.run(g, s, data_dir=5), "data_dir: expected a path .*, got 5"),
        (lambda g, s: prunegrid.run(g, s, select="seed=0"), "select: expected a dict .* 'seed=0'"),
        (lambda g, s: prunegrid.run(g, s, select={"seed": []}), "expected axis=value"),
        (lambda g, s: prunegrid.run(g, s, select={"seed": {7}}), "seed=7: expected one of 0, 1"),
        (lambda g, s: prunegrid.open_store(5), "address: expected a path or an address, got 5"),
        (lambda g, s: prunegrid.read_grid(None), "expected the path of a grid file, got NoneType"),
        (lambda g, s: prunegrid.report(s, None), "out: expected a path"),
        (lambda g, s: prunegrid.report(s, "r", formats="html"), "formats: expected a list"),
        (lambda g, s: prunegrid.report(s, "r", formats=[]), r"formats: expected .*, got \[\]"),
        (lambda g, s: prunegrid.report(s, "r", against=5), "against: expected a path"),
        (lambda g, s: prunegrid.report(s, "r", contrast="ab"), "two different methods, got 'ab'"),
        (lambda g, s: prunegrid.report(s, "r", contrast=("a", "a")), "two different methods"),
        (lambda g, s: prunegrid.merge(s, "r"), "stores: expected a list of paths"),
        (lambda g, s: prunegrid.merge([], "r"), r"stores: expected .*, got \[\]"),
        (lambda g, s: prunegrid.merge([5], "r"), "stores: expected a path or an address, got 5"),
        (lambda g, s: prunegrid.merge([s], None), "into: expected a path or an address, got None"),
    ],
)
def test_each_wrong_argument_is_one_line_and_makes_nothing(
    tmp_path, quick, monkeypatch, call, said
):
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "store"
    if "report" in call.__code__.co_names or "merge" in call.__code__.co_names:
        Store.open_or_create(str(store))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(prunegrid.PrunegridError, match=said) as error:
        call(prunegrid.make_grid(**yaml.safe_load(SMALL)), store)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_from_a_grid_to_frames_and_a_report(tmp_path, quick, capsys):
    grid = prunegrid.make_grid(**yaml.safe_load(SMALL))
    store = tmp_path / "store"
    part = {"seed": 0, "attack": ["pgd_linf"]}
    first = prunegrid.run(grid, store, select=part, engine="inline")
    assert (first.ran, first.missing, first.interrupted) == (2 + 4 + 6 * 2, (), False)
    result = prunegrid.run(grid, store, engine="inline")
    assert (result.reused, result.missing, result.given_up) == (first.ran, (), ())
    assert str(store) in capsys.readouterr().out
    opened = prunegrid.open_store(store)
    assert repr(opened) == f"<store {store}>"
    cells, models = opened.cells(), opened.models()
    assert (len(models), len(cells)) == (12, 48)
    assert not cells.duplicated(COORDINATES).any()
    plain = pd.read_parquet(store / "results/cells")
    assert set(cells["cell_id"]) == set(plain["cell_id"])
    assert len(opened.images()) == 12 * 24 * (2 + 1), "PGD: a row for each eps; C&W: one"
    assert opened.verify() == []
    paths = prunegrid.report(store, tmp_path / "report", formats=["html", "csv"])
    assert paths.page is not None
    assert "small" in paths.page.read_text()
    assert {path.suffix for path in paths.files} == {".html", ".csv"}


def test_what_is_wrong_is_an_error_of_ours(tmp_path, quick):
    grid = prunegrid.make_grid(**yaml.safe_load(SMALL))
    with pytest.raises(UsageError, match=r"expected one of .*, got 'sede'"):
        prunegrid.run(grid, tmp_path / "s", select={"sede": 1}, engine="inline")
    with pytest.raises(GridError, match="there is no such file"):
        prunegrid.run("nowhere.yaml", tmp_path / "s", engine="inline")
    with pytest.raises(StoreError, match="there is no store here"):
        prunegrid.open_store(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_it_runs_outside_of_the_main_thread_too(tmp_path, quick):
    """Where no signal can be caught, as in some notebooks and in servers."""
    grid, results = prunegrid.make_grid(**yaml.safe_load(SMALL)), []
    thread = threading.Thread(
        target=lambda: results.append(prunegrid.run(grid, tmp_path / "s", engine="inline"))
    )
    thread.start()
    thread.join()
    assert results[0].missing == ()


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_in_order_and_a_second_one_at_once(tmp_path, times):
    code = textwrap.dedent(
        f"""
        import functools, sys
        sys.path.insert(0, {str(ROOT)!r})
        import prunegrid
        from prunegrid.orchestrator import python_api
        from tests.fakes import RUNNER
        python_api.RunOptions = functools.partial(python_api.RunOptions, runner=RUNNER)
        try:
            result = prunegrid.run("g.yaml", {str(tmp_path / "s")!r}, engine="inline")
            print("interrupted", result.interrupted, len(result.missing) > 0)
        except KeyboardInterrupt:
            print("at once")
        """
    )
    (tmp_path / "g.yaml").write_text(with_seeds(SLOW))
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "tasks into" in line:
                for path in iter(lambda: list((tmp_path / "s").glob("log/*")), None):
                    if path:
                        break
                os.kill(process.pid, signal.SIGINT)
            if "stopping" in line and times == 2:
                os.kill(process.pid, signal.SIGINT)
    said = "".join(lines)
    assert "interrupted True True" in said if times == 1 else "at once" in said


class Handle:
    def __init__(self, outputs: list[dict[str, str]]) -> None:
        self.outputs = outputs

    def update(self, output: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.outputs.append(output)


def test_a_notebook_shows_its_progress_in_one_place(tmp_path, quick, monkeypatch, capsys):
    outputs: list[dict[str, str]] = []
    made = []

    def display(output: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        made.append(Handle(outputs))
        outputs.append(output)
        return made[-1]

    shell = types.SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    shown = types.ModuleType("IPython.display")
    shown.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    grid = prunegrid.make_grid(**yaml.safe_load(SMALL))
    prunegrid.run(grid, tmp_path / "store", engine="inline")
    assert len(made) == 1
    last = outputs[-1]
    assert "left: done" in last["text/plain"]
    assert last["text/html"].startswith("<pre>")
    assert "\x1b" not in "".join(last.values())
    assert "tasks into" in capsys.readouterr().out
