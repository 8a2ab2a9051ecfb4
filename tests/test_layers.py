"""Who may import whom (docs/layout.md): read from the source, so that lazy imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob("orchestrator/**/*.py"), *ROOT.glob("workers/**/*.py")])
WORKERS_STANDARD_LIBRARY_ONLY = {
    "contract",
    "keys",
    "records",
    "layout",
    "context",
    "speeds",
    "runner",
    "cache",
    "revision",
    "user_code",
    "user_options",
    "dataset_entry",
    "method_entry",
    "child_process",
    "network_facts",
}
#: Rooms of orchestrator/, from the ground up: each may import those before it, never those after.
ROOMS = [
    "errors",
    "output",
    "names",
    "grid",
    "plan",
    "scheduling",
    "store",
    "tracking",
    "engines",
    "driver",
    "report",
    "authors",
    "verify",
    "dashboard",
    "tuning",
    "python_api",
    "commands",
    "cli",
    "main",
]
#: No input or output, no clock: whole rooms, and single modules of others.
PURE = {"plan", "scheduling"}
PURE_MODULES = {
    "errors",
    "grid.grid",
    "grid.selection",
    "driver.retries",
    "engines.ray.node_exclusion",
    "engines.ray.node_resources",
    "engines.ray.slot_resizer",
    "engines.ray.worker_pool",
    "engines.ray.worker_slot",
    "store.history",
    "store.plan_progress",
    "store.run_health",
    "store.slot_time",
    "tuning.space",
    "tuning.study",
    "tuning.objective",
    "tuning.eps_rule",
    "tuning.piece",
    "tuning.search_plan",
    "tuning.wording",
}
IMPURE = {"time", "os", "pathlib", "random", "socket", "subprocess"}
HEAVY = {"tensorflow", "keras", "foolbox", "tensorflow_datasets"}


def imports(path: Path) -> set[str]:
    """Full dotted names of everything that a file imports, anywhere in it; of this project's own
    without the `prunegrid.` before them."""
    out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            out |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("prunegrid.") for name in out}


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    """As seen from the package: `grid.selection`, `errors`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_layers(path):
    package = path.relative_to(ROOT).parts[0]
    module = module_of(path)
    room = module.split(".")[0]
    top = tops(path)
    if package == "workers":
        assert "orchestrator" not in top, "workers never import the orchestrator"
        if module in WORKERS_STANDARD_LIBRARY_ONLY:
            assert top <= set(sys.stdlib_module_names) | {"workers"}
    else:
        assert not top & HEAVY, "the driver never imports TensorFlow"
        if room in PURE or module in PURE_MODULES:
            assert not top & IMPURE, "pure: no input or output, no clock"
    if not module.startswith("engines.ray") and module != "tuning.ray_search":
        assert "ray" not in top, "only the Ray engine and the search over Ray Tune import ray"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_stand_on_those_below(path):
    if path.relative_to(ROOT).parts[0] != "orchestrator" or path.name == "__init__.py":
        return
    room = module_of(path).split(".")[0]
    used = {name.split(".")[1] for name in imports(path) if name.startswith("orchestrator.")}
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    assert used <= allowed, f"{room} may import {sorted(allowed)}"


def test_no_two_modules_need_each_other():
    """Not even for types: a circle, however long, is one module in several files."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    needs = {name: imports(path) & modules.keys() - {name} for name, path in modules.items()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "grid.yaml"]], ids=" ".join)
def test_the_driver_answers_without_heavy_imports(arguments):
    code = (
        "import sys\nfrom prunegrid.orchestrator.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "print(sorted(m for m in sys.modules if m in "
        "('tensorflow', 'keras', 'foolbox', 'ray')), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_the_page_about_the_layout_names_every_room_in_order():
    table = (ROOT / "docs/layout.md").read_text().split("## `workers/`")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name.strip("/").removesuffix(".py") for row in rows for name in row.split("`")[1::2]]
    assert named == ROOMS
    there = {path.name.removesuffix(".py") for path in (ROOT / "orchestrator").iterdir()}
    assert there - {"__init__", "__pycache__"} == set(ROOMS)
