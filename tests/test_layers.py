"""Who may import whom (DESIGN): read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob("orchestrator/**/*.py"), *ROOT.glob("workers/**/*.py")])
STANDARD_LIBRARY_ONLY = {"contract", "keys", "results", "layout", "context"}
PURE = {
    "grid",
    "dag",
    "events",
    "scheduler",
    "estimates",
    "errors",
    "fences",
    "room",
    "durations",
    "guesses",
    "costs",
    "slices",
    "retries",
    "journal_state",
}
PURE_TUNING = {"space", "study", "objective", "ladder", "bisection", "piece", "plan", "panels"}
RAY = ("engine_ray", "ray_")
HEAVY = {"tensorflow", "keras", "foolbox", "tensorflow_datasets"}


def imports(path: Path) -> set[str]:
    """Full dotted names of everything that a file imports, anywhere in it."""
    out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            out |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return out


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_layers(path):
    package = path.relative_to(ROOT).parts[0]
    top = tops(path)
    if package == "workers":
        assert "orchestrator" not in top, "workers never import the orchestrator"
    if package == "orchestrator":
        assert not top & HEAVY, "the driver never imports TensorFlow"
    if path.parent.name not in ("orchestrator", "tuning") or not path.stem.startswith(RAY):
        assert "ray" not in top, "only the Ray engine and the search over Ray Tune import ray"
    if (
        package == "workers"
        and path.parent.name == "workers"
        and path.stem in STANDARD_LIBRARY_ONLY
    ):
        assert top <= set(sys.stdlib_module_names) | {"workers"}
    pure = {"orchestrator": PURE, "tuning": PURE_TUNING}.get(path.parent.name, ())
    if package == "orchestrator" and path.stem in pure:
        impure = {"time", "os", "pathlib", "random", "socket", "subprocess", "numpy", "yaml"}
        if path.parent.name == "tuning":  # arithmetic on arrays, and YAML as text
            impure -= {"numpy", "yaml"}
        assert not top & impure, "pure: no input or output, no clock"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "grid.yaml"]], ids=" ".join)
def test_the_driver_answers_without_heavy_imports(arguments):
    code = (
        "import sys\nfrom orchestrator.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "print(sorted(m for m in sys.modules if m in "
        "('tensorflow', 'keras', 'foolbox', 'ray')), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
