"""What happens to a run whose workers have other code than its driver: nothing is computed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.grids import SMALL

ROOT = Path(__file__).resolve().parent.parent.parent
CHANGED = "the code changed since the driver started: expected"
AGAIN = "run the same command again to go on with the new code"
TINY = """\
name: tiny
seeds: [0]
rates: [1]
methods: [magnitude-global-unstructured]
architectures:
  cnn5:
    dataset: synthetic28
    attack_images: 8
    training: {max_epochs: 1, batch_size: 64}
    eps: {pgd_linf: [8/255]}
attacks: {pgd_linf: {steps: 1}}
"""
RUN = """
import os, sys
from pathlib import Path
from rich.console import Console
from prunegrid.orchestrator.cli import guarded
from prunegrid.orchestrator.commands import run
from prunegrid.orchestrator.driver.launch import RunOptions

{before}
run._report = lambda *_: None
options = RunOptions(grid=Path({grid!r}), store={store!r}, {options})
code = []
failed = guarded(lambda: code.append(run.run_grid(options, Console(width=100))))
sys.exit(failed or code[0])
"""
#: A runner whose first worker edits the code, as a user would in mid-run, and is killed.
EDITING = """
import os, signal, time
from pathlib import Path
from prunegrid.workers import keys
from tests import fakes

def run_attempt(attempt, settings, beat, stop_requested):
    if attempt.task.seed == 0:
        edited = Path(keys.__file__).resolve()
        edited.write_text(edited.read_text() + "# edited\\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return fakes.run_attempt(attempt, settings, beat, stop_requested)

class EditingRunner(fakes.FakeRunner):
    run_attempt = staticmethod(run_attempt)
"""


def copy_package(folder: Path) -> Path:
    """The package of this checkout, as an installation has it."""
    package = folder / "prunegrid"
    shutil.copytree(ROOT / "src/prunegrid", package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def drive(folder: Path, *, path: Path, before: str = "", grid: str = TINY, options: str) -> str:
    """Run a grid in a driver of its own, whose package is below `path`; what it says. The last
    line is its exit code."""
    (folder / "grid.yaml").write_text(grid)
    script = RUN.format(
        before=before,
        grid=str(folder / "grid.yaml"),
        store=str(folder / "store"),
        options=options,
    )
    (folder / "go.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-P", str(folder / "go.py")],
        cwd=folder / "here",
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(path), str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.stdout}{done.stderr}\n{done.returncode}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path


@pytest.mark.tf
def test_an_edit_before_a_module_is_imported_ends_the_run_and_the_next_goes_on(folder):
    """The driver's own process computes; the modules that do are imported with the first task."""
    path = folder / "site"
    edited = copy_package(path) / "workers/stages.py"
    edit = f"with open({str(edited)!r}, 'a') as file: file.write('# edited' + chr(10))\n"
    options = 'engine="inline"'
    said = drive(folder, path=path, before=edit, options=options)
    assert said.endswith("\n1"), said
    assert CHANGED in said
    assert AGAIN in said
    assert f"in {edited.parent}" in said
    results = [p for p in (folder / "store").rglob("*") if p.suffix in (".parquet", ".npz")]
    assert results == []
    said = drive(folder, path=path, options=options)
    assert said.endswith("\n0"), said


@pytest.mark.ray
def test_a_worker_that_starts_after_an_edit_ends_the_run_in_order(folder):
    path = folder / "site"
    package = copy_package(path)
    (folder / "editing.py").write_text(EDITING)
    grid = SMALL.replace("seeds: [0, 1]", "seeds: [903, 0]")  # 903 runs until it is stopped
    said = drive(
        folder,
        path=path,
        before="from editing import EditingRunner",
        grid=grid,
        options="runner=EditingRunner()",
    )
    assert said.endswith("\n1"), said
    assert CHANGED in said
    assert AGAIN in said
    assert f"in {package / 'workers'}" in said
    assert "stopping: what runs saves its state" in said


@pytest.mark.ray
@pytest.mark.parametrize("version", ["edited", "older"])
def test_a_package_of_this_name_beside_the_driver_computes_nothing(folder, version):
    """Ray puts the driver's folder on its workers' path."""
    copy_package(folder / "site")
    other = copy_package(folder / "here") / "workers"
    got = f"in {other}"
    (other / "layout.py").write_text((other / "layout.py").read_text() + "# edited\n")
    if version == "older":  # than the digest: it neither tells nor refuses
        got = "an older version's"
        lines = (other / "process.py").read_text().splitlines(keepends=True)
        kept = [x for x in lines if not x.startswith(("    code: Code", "        code=CODE"))]
        assert len(kept) == len(lines) - 2
        (other / "process.py").write_text("".join(kept))
    said = drive(
        folder,
        path=folder / "site",
        before="from tests.fakes import RUNNER",
        grid=SMALL,
        options="runner=RUNNER",
    )
    assert said.endswith("\n1"), said
    assert "a worker has other code than the driver: expected" in said
    assert got in said
    assert list((folder / "store/results").rglob("*.parquet")) == []
