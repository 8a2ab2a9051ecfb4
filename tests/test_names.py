"""Names: class names are unique, file names telling, and many parameters have a reason.

The tables of exceptions are strict both ways: what was mended must leave its table.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob("orchestrator/**/*.py"), *ROOT.glob("workers/**/*.py")])
MOST_PARAMETERS = 7
#: A comment that starts with this, right above a function with more, says why.
REASON = "# Parameters:"

#: File names that occur more than once, and why they may.
SAME_FILE_NAMES = {
    "base.py": "in each folder of parts, what a part is",
    "graph.py": "in an attack's package, its compiled part",
    "plan.py": "a command's module has the command's name",
    "retry.py": "a command's module has the command's name",
    "verify.py": "a command's module has the command's name",
}


def classes(tree: ast.Module) -> set[str]:
    """Public ones, of the module itself."""
    found = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return {name for name in found if not name.startswith("_")}


def crowded(source: str) -> Iterator[str]:
    """Functions, nested ones too, that have too many parameters and no reason above them."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = node.args
        names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        if len(names) - (names[:1] in (["self"], ["cls"])) <= MOST_PARAMETERS:
            continue
        above = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
        while above and lines[above - 1].lstrip().startswith("#"):
            above -= 1
            if lines[above].lstrip().startswith(REASON):
                break
        else:
            yield node.name


def test_public_class_names_are_unique():
    places = defaultdict(set)
    for path in FILES:
        for name in classes(ast.parse(path.read_text())):
            places[name].add(str(path.relative_to(ROOT)))
    twice = {name: files for name, files in places.items() if len(files) > 1}
    assert twice == {}


def test_functions_with_many_parameters_say_why():
    found = {
        f"{path.relative_to(ROOT)}:{name}" for path in FILES for name in crowded(path.read_text())
    }
    assert found == set()


def test_module_names_are_telling():
    """Who sees a file's name alone should know which file it is."""
    places = defaultdict(set)
    for path in FILES:
        if path.name != "__init__.py":
            places[path.name].add(str(path.relative_to(ROOT)))
    twice = {name: files for name, files in places.items() if len(files) > 1}
    assert set(twice) == SAME_FILE_NAMES.keys(), twice


def test_what_counts_as_many_and_as_a_reason():
    seven = "def f(self, a, b, c, d, e, *, f, g): ..."
    assert list(crowded(seven)) == []
    eight = "@decorated\ndef f(a, b, c, d, e, *, f, g, h): ..."
    assert list(crowded(eight)) == ["f"]
    assert list(crowded(f"# A comment.\n{eight}")) == ["f"]
    assert list(crowded(f"{REASON} one per option.\n{eight}")) == []
    assert list(crowded(f"{REASON} one per option,\n# each typed.\n{eight}")) == []
    assert list(crowded(f"{REASON} of another.\nx = 1\n{eight}")) == ["f"]
    assert list(crowded(f"class C:\n    def m(self):\n        {eight.splitlines()[1]}")) == ["f"]
