"""Code that a user brings: found, known by its sources, called, and carried to workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from prunegrid.workers.user_code import (
    UserCode,
    UserCodeError,
    collect,
    look_beside,
    sources_digest,
)

NETS = """
from mylab_test.parts import UNITS
def net(classes, width=1):
    return UNITS, classes, width
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a package and a module of their own, found as beside a grid file."""
    (tmp_path / "mylab_test").mkdir()
    for name, text in {
        "mylab_test/__init__.py": "",
        "mylab_test/nets.py": NETS,
        "mylab_test/parts.py": "UNITS = 3\n",
        "mylab_test/notes.txt": "read by nets.py\n",
        "alone_test.py": "import json\nimport mylab_test.nets\ndef f():\n    return 1\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    look_beside(tmp_path / "grid.yaml")
    yield tmp_path
    for name in [n for n in sys.modules if n.partition(".")[0] in ("mylab_test", "alone_test")]:
        del sys.modules[name]


CODE = UserCode(target="mylab_test.nets:net", options=(("width", 2),))


def test_it_is_called_with_what_it_takes(folder):
    assert CODE.call(classes=10, input_shape=(1, 1, 1)) == (3, 10, 2)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (UserCode(target="mylab_test.nets:nte"), "expected a function of .* did you mean 'net'"),
        (UserCode(target="mylab_test.no:net"), "has no module 'mylab_test.no'; expected it beside"),
        (UserCode(target=CODE.target, options=(("w", 1),)), "expected options of width, got w"),
    ],
)
def test_what_fails_is_said(folder, code, words):
    with pytest.raises(UserCodeError, match=words):
        code.call(classes=10)


def test_a_parameter_that_nobody_gives_is_named(folder):
    with pytest.raises(UserCodeError, match="nothing is given for its parameter classes"):
        CODE.call(input_shape=(1, 1, 1))


def test_an_error_names_its_place(folder):
    (folder / "mylab_test/nets.py").write_text("def net():\n    return 1 / 0\n")
    with pytest.raises(UserCodeError, match=r"ZeroDivisionError: division by zero \(nets.py:2\)"):
        UserCode(target=CODE.target).call()


def test_sources_are_those_of_all_that_it_imports_of_its_own(folder):
    before = sources_digest("alone_test:f")
    (folder / "mylab_test/notes.txt").write_text("other\n")
    assert sources_digest("alone_test:f") == before
    (folder / "mylab_test/parts.py").write_text("UNITS = 4\n")
    assert sources_digest("alone_test:f") != before
    (folder / "mylab_test/parts.py").write_text("UNITS = \n")
    with pytest.raises(UserCodeError, match=r"SyntaxError: .* \(parts.py:1\)"):
        sources_digest("alone_test:f")


def test_what_is_beside_the_grid_hides_nothing_that_is_installed(folder):
    (folder / "numpy.py").write_text("raise RuntimeError('hostile')\n")
    (folder / "prunegrid").mkdir()
    (folder / "prunegrid/__init__.py").write_text("raise RuntimeError('hostile')\n")
    carried = collect(["alone_test:f", "prunegrid.workers.pruning.scores:magnitude"])
    assert {name for name, _ in carried.files} == {
        "alone_test.py",
        "mylab_test/__init__.py",
        "mylab_test/nets.py",
        "mylab_test/notes.txt",
        "mylab_test/parts.py",
    }
    code = "import numpy, prunegrid.workers.keys; print(numpy.__name__)"
    path = ":".join(map(str, sys.path))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "numpy\n", done.stderr


def test_it_travels_to_a_process_that_has_none_of_it(folder, tmp_path):
    """And there another file of the same name does not count."""
    stale = tmp_path / "stale"
    stale.mkdir()
    (stale / "alone_test.py").write_text("def f():\n    return 'stale'\n")
    (tmp_path / "carried").write_bytes(pickle.dumps(collect([CODE.target, "alone_test:f"])))
    code = (
        "import pickle\nfrom pathlib import Path\n"
        "from prunegrid.workers.user_code import UserCode\n"
        f"carried = pickle.loads(Path({str(tmp_path / 'carried')!r}).read_bytes())\n"
        "carried.check()\n"
        "print(UserCode(target='mylab_test.nets:net').call(classes=7))\n"
        "import alone_test; print(alone_test.f())\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": f"{root / 'src'}:{stale}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "(3, 7, 1)\n1\n", done.stderr


def test_a_worker_without_it_says_so_before_anything_trains(folder, monkeypatch):
    """What is installed here does not travel."""
    from prunegrid.workers.user_code import TravellingCode

    with pytest.raises(UserCodeError, match="has no module 'elsewhere_test'"):
        TravellingCode(targets=("elsewhere_test.nets:net",)).check()
