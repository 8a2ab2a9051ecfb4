"""docs/architecture.svg shows the imports as they are; the arithmetic that it is drawn by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import diagram
from tools.diagram import (
    closure,
    crossings,
    draw,
    ordered,
    read_graph,
    reduced,
    rows_of,
    with_lanes,
)


def test_the_picture_is_that_of_the_imports():
    drawn = draw(read_graph(diagram.ROOT))
    assert diagram.TARGET.read_text() == drawn, "run: python -m tools.diagram"


def test_a_box_without_a_line_of_its_own_is_named():
    graph = read_graph(diagram.ROOT) | {"orchestrator/new": frozenset()}
    with pytest.raises(ValueError, match="orchestrator/new"):
        draw(graph)


def test_modules_beside_the_packages_stand_above_or_below_them(tmp_path):
    files = {
        "orchestrator/cli.py": "from prunegrid.orchestrator.errors import E",
        "orchestrator/errors.py": "",
        "orchestrator/grid/file.py": "from prunegrid.orchestrator.errors import E\nimport yaml",
        "workers/entry.py": "from prunegrid.workers.models.cnn5 import build",
        "workers/keys.py": "import hashlib",
        "workers/models/cnn5.py": "from prunegrid.workers.keys import digest",
        "workers/models/__init__.py": "",
        "workers/artifacts.py": "def f():\n    from prunegrid.workers.models import cnn5",
        "workers/export/formats.py": "from prunegrid.workers import artifacts",
        "orchestrator/commands/run.py": "from prunegrid.orchestrator.grid.file import read",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_graph(tmp_path) == {
        "orchestrator/base": frozenset(),
        "orchestrator/cli": {"orchestrator/base", "orchestrator/commands"},
        "orchestrator/commands": {"orchestrator/grid"},
        "orchestrator/grid": {"orchestrator/base"},
        "workers/artifacts": {"workers/models"},
        "workers/base": frozenset(),
        "workers/export": {"workers/artifacts"},
        "workers/models": {"workers/base"},
        "workers/task": {"workers/models"},
    }


@st.composite
def graphs(draw):
    """Without a circle: a node needs nodes of smaller numbers alone."""
    count = draw(st.integers(1, 9))
    return {
        f"n{k}": frozenset(f"n{j}" for j in range(k) if draw(st.booleans())) for k in range(count)
    }


@given(graphs())
def test_only_arrows_that_follow_from_others_are_left_out(graph):
    fewer = reduced(graph)
    assert closure(fewer) == closure(graph)
    for name, used in fewer.items():
        for other in used:
            without = fewer | {name: used - {other}}
            assert other not in closure(without)[name]


@given(graphs(), st.integers(1, 3))
def test_what_a_box_needs_lies_below_it(graph, width):
    rows = rows_of(graph, width)
    row = {name: number for number, names in enumerate(rows) for name in names}
    assert row.keys() == graph.keys()
    assert all(len(names) <= width for names in rows)
    assert all(row[name] < row[other] for name, used in graph.items() for other in used)


@given(graphs())
def test_an_order_keeps_every_place_and_crosses_no_more_arrows(graph):
    rows, arrows = with_lanes(rows_of(graph, 3), reduced(graph))
    found = ordered(rows, arrows, frozenset(), frozenset())
    assert [sorted(names) for names in found] == [sorted(names) for names in rows]
    steps = [pair for arrow in arrows for pair in zip(arrow.way, arrow.way[1:], strict=False)]
    assert crossings(found, steps) <= crossings([sorted(names) for names in rows], steps)
