"""Draw docs/architecture.svg from the imports of `orchestrator/` and `workers/`.

    python -m tools.diagram

A box is a package, or several modules that lie beside the packages; packages that import each other
are one box. An arrow is an import; one that follows from others is left out. Boxes lie in rows:
whatever a box imports lies below it, or, of the other half, beside it. The same source always gives
the same bytes.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs/architecture.svg"

Graph = Mapping[str, frozenset[str]]  #: what each box imports

#: One line for each box.
ROLES = {
    "orchestrator/cli": "the command line",
    "orchestrator/python_api": "import prunegrid",
    "orchestrator/commands": "options and output",
    "orchestrator/tuning": "settings and eps by search",
    "orchestrator/dashboard": "a store in the browser",
    "orchestrator/verify": "each claim checked again",
    "orchestrator/authors": "published results, read",
    "orchestrator/driver": "the loop of a run",
    "orchestrator/tracking": "MLflow and its like",
    "orchestrator/report": "tables, figures, findings",
    "orchestrator/engines": "attempts over Ray, inline",
    "orchestrator/store": "results, journal, requests",
    "orchestrator/scheduling": "which task next (pure)",
    "orchestrator/plan": "models, cells, tasks (pure)",
    "orchestrator/grid": "the grid file, checked",
    "orchestrator/base": "names, output",
    "workers/task": "a task, arrival to result",
    "workers/export": "models as plain files",
    "workers/attacks": "adversarials, each verified",
    "workers/pruning": "scores and masks",
    "workers/training": "the training loop",
    "workers/artifacts": "stored models",
    "workers/models": "architectures",
    "workers/data": "data sets",
    "workers/catalog": "names a grid may use",
    "workers/base": "tasks, keys, files, rows",
}
#: Boxes of the modules beside the packages of orchestrator/ that stand above packages; the rest is
#: the base.
TOP = {
    "cli": "orchestrator/cli",
    "main": "orchestrator/cli",
    "python_api": "orchestrator/python_api",
}

WIDTH, HEIGHT = 178, 48  #: of a box, px
GAP_X, GAP_Y = 12, 32
LANE = 16  #: width that an arrow takes where it passes a row
HALVES = {"orchestrator": 3, "workers": 2}  #: boxes in a row, at most


def imports(path: Path) -> set[str]:
    """Dotted names of this project's modules that a file imports, anywhere in it, without the
    `prunegrid.` before them."""
    out: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            out |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = "prunegrid."
    return {name.removeprefix(own) for name in out if name.startswith(own)}


def read_graph(root: Path) -> dict[str, frozenset[str]]:
    """Every box with the boxes that it imports."""
    needs: dict[str, set[str]] = {}
    packages: set[str] = set()
    for half in HALVES:
        for path in sorted((root / half).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if len(parts) > 2:
                packages.add("/".join(parts[:2]))
            if parts[1] != "__init__":
                names = {"/".join(name.split(".")[:2]) for name in imports(path)}
                needs.setdefault("/".join(parts[:2]), set()).update(names)
    box = {name: name for name in packages} | _beside(needs, packages)
    graph: dict[str, set[str]] = {one: set() for one in box.values()}
    for name, used in needs.items():
        graph[box[name]] |= {box[other] for other in used if other in box} - {box[name]}
    # cli.py imports a command by its name, where it is asked for
    graph["orchestrator/cli"].add("orchestrator/commands")
    return {name: frozenset(graph[name]) for name in sorted(graph)}


def _beside(needs: Mapping[str, set[str]], packages: set[str]) -> dict[str, str]:
    """The box of each module that lies beside the packages.

    In workers/, those that no package needs are the task's way; those that need no package but the
    catalog are the base; one that is both above a package and below another is a box of its own.
    """
    closed = closure({name: frozenset(used & needs.keys()) for name, used in needs.items()})
    parts = {name for name in packages if name.startswith("workers/")} - {"workers/catalog"}
    used = frozenset[str]().union(*(closed[name] for name in parts))
    out = {}
    for name in needs.keys() - packages:
        half, _, module = name.partition("/")
        if half == "orchestrator":
            out[name] = TOP.get(module, "orchestrator/base")
        elif not closed[name] & parts:
            out[name] = "workers/base"
        else:
            out[name] = name if name in used else "workers/task"
    return out


def closure(graph: Graph) -> dict[str, frozenset[str]]:
    """Everything that each node needs, at any distance; in a circle also itself."""
    out = dict(graph)
    for through in graph:
        for name, used in out.items():
            if through in used:
                out[name] = used | out[through]
    return out


def condensed(graph: Graph) -> dict[str, frozenset[str]]:
    """With one box, `a+b`, in place of boxes of one half that import each other."""
    closed = closure(graph)
    together = {
        name: sorted(other for other in closed[name] if name in closed[other]) or [name]
        for name in graph
    }
    box = {
        name: "+".join([names[0], *(other.partition("/")[2] for other in names[1:])])
        for name, names in together.items()
    }
    out: dict[str, set[str]] = {one: set() for one in sorted(box.values())}
    for name, used in graph.items():
        out[box[name]] |= {box[other] for other in used} - {box[name]}
    return {name: frozenset(used) for name, used in out.items()}


def reduced(graph: Graph) -> dict[str, frozenset[str]]:
    """Without the arrows that follow from others. `graph` has no circle."""
    closed = closure(graph)
    return {
        name: frozenset(used - frozenset[str]().union(*(closed[other] for other in used)))
        for name, used in graph.items()
    }


def rows_of(graph: Graph, width: int) -> list[list[str]]:
    """Rows from the top, of at most `width` boxes; whatever a box needs is in a row below its own
    (Coffman and Graham). `graph` has no circle."""
    inner = {name: used & graph.keys() for name, used in graph.items()}
    users = {name: {user for user, used in inner.items() if name in used} for name in inner}
    depth: dict[str, int] = {}
    for name in sorted(inner, key=lambda one: len(closure(inner)[one])):
        depth[name] = 1 + max((depth[other] for other in inner[name]), default=-1)
    rows: list[list[str]] = []
    placed: set[str] = set()
    left = sorted(inner, key=lambda one: (-depth[one], one))
    while left:
        free = [name for name in left if users[name] <= placed][:width]
        rows.append(free)
        placed |= set(free)
        left = [name for name in left if name not in placed]
    return rows


@dataclass(frozen=True, kw_only=True)
class Arrow:
    source: str
    target: str
    lanes: tuple[str, ...] = ()  #: the places where it passes the rows between

    @property
    def way(self) -> tuple[str, ...]:
        return (self.source, *self.lanes, self.target)


def with_lanes(rows: Sequence[Sequence[str]], graph: Graph) -> tuple[list[list[str]], list[Arrow]]:
    """The rows with a place for each arrow that passes them, and the arrows."""
    row = {name: number for number, names in enumerate(rows) for name in names}
    out = [list(names) for names in rows]
    arrows = []
    for source in row:
        for target in sorted(graph[source] & row.keys()):
            between = range(row[source] + 1, row[target])
            lanes = tuple(f"{source}>{target}>{number}" for number in between)
            for number, lane in zip(between, lanes, strict=True):
                out[number].append(lane)
            arrows.append(Arrow(source=source, target=target, lanes=lanes))
    return out, arrows


def ordered(
    rows: list[list[str]], arrows: Sequence[Arrow], left: frozenset[str], right: frozenset[str]
) -> list[list[str]]:
    """Each row in an order in which few arrows cross; boxes in `left` and `right` tend to that
    side."""
    steps = [pair for arrow in arrows for pair in itertools.pairwise(arrow.way)]
    beside: dict[str, list[str]] = {name: [] for names in rows for name in names}
    for one, other in steps:
        beside[one].append(other)
        beside[other].append(one)

    def cost(rows: Sequence[Sequence[str]]) -> int:
        hidden = sum(
            (len(names) - 1 - k) * (name in right) + k * (name in left)
            for names in rows
            for k, name in enumerate(names)
        )
        return crossings(rows, steps) + 3 * hidden

    best = now = [sorted(names) for names in rows]
    for pull in (0.0, 0.3, 0.6, 1.0) * 6:
        place = {n: k / max(len(names) - 1, 1) for names in now for k, n in enumerate(names)}
        for index in [*range(len(now)), *reversed(range(len(now)))]:

            def middle(
                name: str, place: dict[str, float] = place, pull: float = pull
            ) -> tuple[float, str]:
                around = [place[other] for other in beside[name]] or [0.5]
                side = (name in right) - (name in left)
                return sum(around) / len(around) + pull * side, name

            now = [*now[:index], sorted(now[index], key=middle), *now[index + 1 :]]
            for k, name in enumerate(now[index]):
                place[name] = k / max(len(now[index]) - 1, 1)
        if cost(now) < cost(best):
            best = now
    return best


def crossings(rows: Sequence[Sequence[str]], steps: Iterable[tuple[str, str]]) -> int:
    place = {name: (i, k) for i, names in enumerate(rows) for k, name in enumerate(names)}
    spans = [(place[one][0], place[one][1], place[other][1]) for one, other in steps]
    return sum(
        a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0
        for a, b in itertools.combinations(spans, 2)
    )


def centres(rows: Sequence[Sequence[str]], arrows: Sequence[Arrow]) -> tuple[int, dict[str, float]]:
    """The width that the rows take, and the x of each place in it, near those that its arrows come
    from or go to."""
    size = {name: LANE if ">" in name else WIDTH for names in rows for name in names}
    width = max(sum(size[name] + GAP_X for name in names) - GAP_X for names in rows)
    x: dict[str, float] = {}
    for names in rows:
        taken = sum(size[name] for name in names) + GAP_X * (len(names) - 1)
        at = (width - taken) / 2
        for name in names:
            x[name] = at + size[name] / 2
            at += size[name] + GAP_X
    beside: dict[str, list[str]] = {name: [] for name in x}
    for one, other in (pair for arrow in arrows for pair in itertools.pairwise(arrow.way)):
        beside[one].append(other)
        beside[other].append(one)
    for _ in range(30):
        for names in rows:
            wish = [_mean([x[other] for other in beside[name]], x[name]) for name in names]
            gaps = [
                (size[one] + size[other]) / 2 + GAP_X for one, other in itertools.pairwise(names)
            ]
            x.update(zip(names, _apart(wish, gaps), strict=True))
            _push_inside(x, names, gaps, size, width)
    return width, x


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _apart(wish: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places nearest to `wish`, by least squares, with these gaps at least between
    neighbours: blocks that would overlap become one (pool adjacent violators)."""
    offsets = list(itertools.accumulate(gaps, initial=0.0))
    blocks: list[tuple[float, int]] = []
    for value in (w - o for w, o in zip(wish, offsets, strict=True)):
        mean, count = value, 1
        while blocks and blocks[-1][0] >= mean:
            before, many = blocks.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        blocks.append((mean, count))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return [value + offset for value, offset in zip(flat, offsets, strict=True)]


def _push_inside(
    x: dict[str, float],
    names: Sequence[str],
    gaps: Sequence[float],
    size: Mapping[str, float],
    width: int,
) -> None:
    x[names[0]] = max(x[names[0]], size[names[0]] / 2)
    for k in range(1, len(names)):
        x[names[k]] = max(x[names[k]], x[names[k - 1]] + gaps[k - 1])
    x[names[-1]] = min(x[names[-1]], width - size[names[-1]] / 2)
    for k in range(len(names) - 2, -1, -1):
        x[names[k]] = min(x[names[k]], x[names[k + 1]] - gaps[k])


STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57606a; }
.name { font: 600 15px ui-monospace, Menlo, Consolas, monospace; fill: #1f2328; }
.title { font: 600 16px ui-monospace, Menlo, Consolas, monospace; fill: #1f2328; }
.page { fill: #ffffff; }
.half { fill: #f6f8fa; stroke: #d0d7de; }
.orchestrator { fill: #ddf4ff; stroke: #54aeff; }
.workers { fill: #fff1e5; stroke: #e0823d; }
.arrow { fill: none; stroke: #6e7781; stroke-width: 1.4; }
.across { fill: none; stroke: #bc4c00; stroke-width: 1.6; }
.head { fill: #6e7781; }
.head-across { fill: #bc4c00; }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1; }
  .name, .title { fill: #f0f6fc; }
  .page { fill: #0d1117; }
  .half { fill: #151b23; stroke: #3d444d; }
  .orchestrator { fill: #12283d; stroke: #1f6feb; }
  .workers { fill: #3d2512; stroke: #bd561d; }
  .arrow { stroke: #9198a1; }
  .across { stroke: #f0883e; }
  .head { fill: #9198a1; }
  .head-across { fill: #f0883e; }
}
"""


def draw(graph: Graph) -> str:
    """The picture. Raises ValueError where a box has no line in ROLES."""
    if missing := sorted(graph.keys() - ROLES.keys()):
        raise ValueError(f"expected a line in ROLES for each box, got none for {missing}")
    graph = condensed(graph)
    arrows = reduced(graph)
    at: dict[str, tuple[float, float]] = {}
    lines: list[str] = []
    halves: list[str] = []
    left, step, top = 0, HEIGHT + GAP_Y, 76
    across = [
        (one, two) for one in arrows for two in sorted(arrows[one]) if _half(one) != _half(two)
    ]
    gutter = 12 * (len(across) + 1)
    first_row = gutter_ends = 0
    bottom = 0.0
    for half, most in HALVES.items():
        own = {name: used for name, used in arrows.items() if _half(name) == half}
        rows, inner = with_lanes(rows_of(own, most), own)
        rows = ordered(
            rows, inner, frozenset(two for _, two in across), frozenset(one for one, _ in across)
        )
        width, x = centres(rows, inner)
        if half == "workers":  # its first row lies beside the box that needs it
            users = [at[one][1] for one, two in across if two in rows[0]]
            first_row = round((min(users, default=top) - top) / step)
        for number, names in enumerate(rows, start=first_row):
            for name in names:
                at[name] = (left + GAP_X + x[name], top + number * step)
        lines += [_curve(arrow, at) for arrow in inner]
        end = top + (first_row + len(rows) - 1) * step + HEIGHT + GAP_X
        start = top + first_row * step - 36
        halves.append(
            f'<rect class="half" x="{left + 1}" y="{start}" width="{width + 2 * GAP_X - 2}" '
            f'height="{end - start}" rx="8"/>'
            f'<text class="title" x="{left + GAP_X}" y="{start + 22}">{half}/</text>'
        )
        bottom = max(bottom, end)
        left += width + 2 * GAP_X + gutter
        gutter_ends = left if half == "orchestrator" else gutter_ends
    across.sort(key=lambda pair: (at[pair[1]][1], at[pair[0]][1]))
    lines += [
        _across(at[one], at[two], gutter_ends - 12 * (k + 1)) for k, (one, two) in enumerate(across)
    ]
    total = left - gutter
    boxes = [_box(name, *at[name]) for name in graph]
    says = (
        "An arrow is an import; one that follows from others is left out.",
        "The orchestrator decides and never imports TensorFlow.",
        "The workers compute and never import the orchestrator.",
    )
    note = [
        f'<text x="{total - 430}" y="{50 + 22 * k}">{escape(text)}</text>'
        for k, text in enumerate(says)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {bottom + 4:g}" '
            f'width="{total}" height="{bottom + 4:g}" role="img" '
            'aria-label="Packages of prunegrid and their imports">',
            "<!-- drawn by tools/diagram.py from the imports; do not edit -->",
            f"<style>{STYLE}</style>",
            "<defs>",
            _head("head"),
            _head("head-across"),
            "</defs>",
            f'<rect class="page" width="{total}" height="{bottom + 4:g}"/>',
            *halves,
            *note,
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _half(name: str) -> str:
    return name.partition("/")[0]


def _head(name: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path class="{name}" d="M0 0L8 4L0 8z"/></marker>'
    )


def _box(name: str, x: float, y: float) -> str:
    half, _, own = name.partition("/")
    shown = {
        "orchestrator/cli": "cli.py main.py",
        "orchestrator/base": "errors.py ...",
        "workers/task": "entry.py ...",
        "workers/base": "contract.py ...",
        "workers/artifacts": "artifacts.py",
    }.get(name, f"{own}/")
    role = ROLES.get(name, "import each other")
    if "+" in own:
        shown = " ".join(f"{one}/" for one in own.split("+"))
    left = x - WIDTH / 2
    return (
        f'<rect class="{half}" x="{left:.1f}" y="{y:.1f}" width="{WIDTH}" height="{HEIGHT}" '
        f'rx="6"/><text class="name" x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle">'
        f'{escape(shown)}</text><text x="{x:.1f}" y="{y + 38:.1f}" text-anchor="middle">'
        f"{escape(role)}</text>"
    )


def _curve(arrow: Arrow, at: Mapping[str, tuple[float, float]]) -> str:
    """From the lower edge of one box, through its lanes, to the upper edge of another. Both ends
    lean to the side that the arrow comes from, so that arrows of one box stand apart."""
    way = arrow.way
    (x, y), (after, _) = at[way[0]], at[way[1]]
    x += _lean(after - x)
    y += HEIGHT
    path = f"M{x:.1f} {y:.1f}"
    for name in way[1:]:
        next_x, next_y = at[name]
        if name == arrow.target:
            next_x += _lean(at[way[-2]][0] - next_x)
        middle = (y + next_y) / 2
        path += f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}"
        x, y = next_x, next_y
        if name in arrow.lanes:
            y += HEIGHT
            path += f"V{y:.1f}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def _lean(distance: float) -> float:
    return max(-WIDTH / 3, min(WIDTH / 3, distance / 4))


def _across(one: tuple[float, float], two: tuple[float, float], lane: float) -> str:
    """From the right edge of a box, along a lane between the halves, to the left edge of a box of
    the other one."""
    x, y = one[0] + WIDTH / 2, one[1] + HEIGHT / 2
    to_x, to_y = two[0] - WIDTH / 2, two[1] + HEIGHT / 2
    if y == to_y:
        path = f"M{x:.1f} {y:.1f}H{to_x:.1f}"
    else:
        bend = min(6.0, abs(to_y - y) / 2)
        turn = bend if to_y > y else -bend
        path = (
            f"M{x:.1f} {y:.1f}H{lane - bend:.1f}q{bend:.1f} 0 {bend:.1f} {turn:.1f}"
            f"V{to_y - turn:.1f}q0 {turn:.1f} {bend:.1f} {turn:.1f}H{to_x:.1f}"
        )
    return f'<path class="across" d="{path}" marker-end="url(#head-across)"/>'


def main() -> None:
    TARGET.write_text(draw(read_graph(ROOT)))
    print(f"written: {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
