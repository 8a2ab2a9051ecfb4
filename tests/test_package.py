"""One import name, however the program got there; and nobody else's `workers` computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.grids import SMALL

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    f"prunegrid/{path.relative_to(ROOT).as_posix()}"
    for folder in ("orchestrator", "workers")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
} | {"prunegrid/__init__.py", "prunegrid/__main__.py", "prunegrid/py.typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip builds it, by the back end of the lock file."""
    out = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return out / done.stdout.split()[-1]


def test_the_wheel_holds_one_package_and_all_of_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == SOURCES


def test_an_editable_install_puts_one_name_on_the_path(tmp_path):
    code = f"from hatchling.build import build_editable; print(build_editable({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".pth")]
        (folder,) = archive.read(path).decode().split()
    assert [p.name for p in Path(folder).iterdir() if p.name != "__pycache__"] == ["prunegrid"]


def test_the_installed_wheel_is_the_program_of_the_checkout(wheel, tmp_path):
    from prunegrid.workers.revision import source_digest

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import json, prunegrid\n"
        "from prunegrid.workers.revision import git_revision\n"
        "print(json.dumps([prunegrid.__file__, git_revision()]))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    where, revision = json.loads(done.stdout)
    assert where == str(tmp_path / "site/prunegrid/__init__.py")
    assert revision == f"source-{source_digest(ROOT)}"


HOSTILE = "raise SystemExit('code of somebody else')\n"
RUN = """
import sys
from pathlib import Path
from rich.console import Console
from prunegrid.orchestrator.commands import run
from prunegrid.orchestrator.driver.launch import RunOptions
from tests.fakes import RUNNER

run._report = lambda *_: None
sys.exit(run.run_grid(
    RunOptions(grid=Path("../grid.yaml"), store="../store", runner=RUNNER),
    Console(width=100),
))
"""


@pytest.mark.ray
def test_a_run_beside_other_packages_of_these_names_computes_with_its_own(tmp_path):
    """Ray puts the driver's folder on its workers' path: an old checkout, or a user's own
    `workers/`, lies there."""
    folder = tmp_path / "project"
    for name in ("workers", "orchestrator"):
        (folder / name).mkdir(parents=True)
        for file in ("__init__.py", "entry.py", "contract.py"):
            (folder / name / file).write_text(HOSTILE)
    (tmp_path / "grid.yaml").write_text(SMALL)
    (folder / "go.py").write_text(RUN)
    done = subprocess.run(
        [sys.executable, "go.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "store/results/cells").iterdir())) == 2 * 3 * 2 * 2 * 2
