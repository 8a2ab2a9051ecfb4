"""What a run looks like while it runs: a live display on a terminal and in a notebook, plain lines
elsewhere."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from prunegrid.orchestrator.driver.run_view import RunView
from prunegrid.orchestrator.names import counted
from prunegrid.orchestrator.output import NotebookOutput, in_notebook
from prunegrid.orchestrator.plan.estimates import duration_text, eta_text

PLAIN_EVERY_S = 10.0
_STATES = (("done", "green"), ("running", "cyan"), ("waiting", "dim"), ("failed", "red"))


class Display:
    """An Observer; use it as a context manager."""

    def __init__(self, console: Console, *, title: str) -> None:
        self._console = console
        self._title = title
        self._live: Live | None = None
        self._notebook = NotebookOutput() if in_notebook() else None
        self._said_s = -1e9

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def show(self, view: RunView) -> None:
        if self._live is not None:
            self._live.update(render(view, self._title))
        elif self._notebook is not None:
            self._notebook.show(render(view, self._title))
        elif time.monotonic() - self._said_s >= PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            self.say(one_line(view))


def totals(view: RunView) -> dict[str, int]:
    """Tasks by what a person wants to know; ready and delayed ones wait too."""
    out = {"done": 0, "running": 0, "waiting": 0, "failed": 0, "blocked": 0}
    for counts in view.counts.values():
        for state, number in counts.items():
            out[state if state in out else "waiting"] += number
    return out


def one_line(view: RunView) -> str:
    count = totals(view)
    total = sum(count.values())
    parts = [
        f"[{duration_text(view.elapsed_s)}] {count['done']}/{counted(total, 'task')}",
        f"{view.cells_total - view.cells_missing}/{counted(view.cells_total, 'cell')}",
        f"{count['running']} running",
    ]
    if view.failures:
        parts.append(counted(view.failures, "failed attempt"))
    if count["failed"] or count["blocked"]:
        parts.append(f"tasks: {count['failed']} failed, {count['blocked']} blocked")
    if view.paused:
        parts.append("paused")
    return f"{', '.join(parts)}; left: {eta_text(view.eta)}"


def _folding(columns: int) -> Table:
    return Table.grid(*(Column(overflow="fold") for _ in range(columns)), padding=(0, 2))


def render(view: RunView, title: str) -> RenderableType:
    count = totals(view)
    total = max(sum(count.values()), 1)
    head = _folding(5)
    head.add_row(
        Text(title, style="bold"),
        ProgressBar(total=total, completed=count["done"], width=40),
        Text(f"{100 * count['done'] // total} %"),
        Text(f"left: {eta_text(view.eta)}"),
        Text(f"elapsed {duration_text(view.elapsed_s)}", style="dim"),
    )
    kinds = Table(box=None, padding=(0, 2), header_style="dim")
    kinds.add_column("tasks")
    for state, style in _STATES:
        kinds.add_column(state, justify="right", style=style)
    for kind, counts in view.counts.items():
        waiting = counts["waiting"] + counts["ready"] + counts["delayed"]
        failed = counts["failed"] + counts["blocked"]
        numbers = (counts["done"], counts["running"], waiting, failed)
        kinds.add_row(kind, *(str(number) if number else "·" for number in numbers))
    done_cells = view.cells_total - view.cells_missing
    kinds.add_row("cells", str(done_cells), "", str(view.cells_missing), "")
    doing = _folding(4)
    for item in view.doing[:16]:
        doing.add_row(
            Text(item.worker, style="dim"),
            Text(view.names[item.key]),
            ProgressBar(total=1.0, completed=item.fraction, width=12),
            Text(item.note, style="dim"),
        )
    lines: list[RenderableType] = [head, kinds, doing]
    if view.failures:
        lines.append(Text(f"{view.failures} attempts failed", style="yellow"))
    if view.paused:
        lines.append(Text("paused: 'prunegrid resume' goes on", style="yellow"))
    if view.stopping:
        lines.append(Text("stopping: Ctrl-C again stops at once", style="yellow"))
    return Group(*lines)
