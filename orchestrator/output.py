"""What other programs and people read: the terminal, JSON on standard output, folders of files."""

from __future__ import annotations

import copy
import functools
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from prunegrid.orchestrator.errors import NotOursError, StoreError
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import write_aside

#: Columns of text may be folded to this width.
FOLDED = 16


def printable(text: str) -> str:
    """With `\\x1b` and the like for characters that a terminal would obey, or not show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


class Terminal(Console):
    """Standard output or error. Names and messages, which come from anywhere, are shown as they
    are: nothing in them is markup, and nothing steers the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def in_notebook() -> bool:
    """Whether this is a notebook's kernel, whose outputs may change once they are shown."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class NotebookOutput:
    """One output of a notebook's cell, shown again and again in its place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, renderable: RenderableType) -> None:
        from IPython.display import display

        page = Terminal(record=True, file=io.StringIO(), width=100, force_jupyter=False)
        page.print(renderable)
        shown = page.export_text(clear=False, styles=False)
        html = page.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        output = {"text/plain": shown, "text/html": html}
        if self._handle is None:
            self._handle = display(output, raw=True, display_id=True)
        else:
            self._handle.update(output, raw=True)


def print_table(console: Console, table: Table, *, keys: int = 1) -> None:
    """Numbers (right-aligned columns) are never cut; texts are folded, and so are numbers of
    several words where a `min_width` says so. Columns that do not fit beside the others are
    printed below them, after the first `keys` columns again."""
    whole, widths = [], []  # each column's width at best, and at least
    for column in table.columns:
        column.overflow = "fold"
        is_number = column.justify == "right" and column.min_width is None
        column.no_wrap = column.no_wrap or is_number
        sizes = [console.measure(text) for text in (column.header, *column.cells)]
        if column.min_width is not None:  # no word of it is folded
            column.min_width = max(column.min_width, *(size.minimum for size in sizes))
        whole.append(2 + max(column.min_width or 0, *(size.maximum for size in sizes)))
        least = whole[-1] if column.no_wrap else 2 + (column.min_width or FOLDED)
        widths.append(min(whole[-1], least))
    parts: list[list[int]] = [[]]
    room = console.width - sum(widths[:keys])
    for number in range(keys, len(widths)):
        if parts[-1] and sum(widths[i] for i in parts[-1]) + widths[number] > room:
            parts.append([])
        parts[-1].append(number)
    for part in parts:
        shown = copy.copy(table)
        shown.title = table.title if part is parts[0] else None
        numbers = [*range(keys), *part]
        shown.columns = [copy.copy(table.columns[i]) for i in numbers]
        fits = sum(whole[i] for i in numbers) <= console.width
        for number, column in enumerate(shown.columns):
            column._index = number
            if column.min_width is not None and not (fits or column.no_wrap):
                column.width = column.min_width
        console.print(shown)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def plain(console: Console) -> Callable[[str], None]:
    """Prints a line as it is, on as few lines as the terminal makes of it."""
    return functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)


class OwnFolder:
    """A folder of files that this program wrote. Its marker lists them, so that writing again
    replaces these files and no others."""

    def __init__(self, path: Path, *, marker: str, what: str, generator: str = "") -> None:
        """`what` the files are, for messages; a lone index.html that holds `generator` near its
        beginning is ours without a marker.

        Raises NotOursError where the folder is neither absent, empty nor ours, or can't be read.
        """
        self._path = path
        self._marker = path / marker
        self._old = self._claim(what, generator)

    def _claim(self, what: str, generator: str) -> list[str]:
        """The files that the folder's marker lists."""
        out = self._path
        try:
            names = sorted(path.name for path in out.iterdir()) if out.exists() else []
            if self._marker.name in names:
                raw = parse_json(self._marker.read_bytes())
                return [str(path) for path in raw["files"]]
            if generator and names == ["index.html"]:
                text = (out / "index.html").read_text(encoding="utf-8", errors="replace")
                if generator in text[:1000]:
                    return names
        except (ValueError, KeyError, TypeError) as error:
            raise NotOursError(f"{self._marker}: torn: {error}; choose another folder") from error
        except OSError as error:
            raise NotOursError(f"{out}: can't be read: {error.strerror or error}") from error
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise NotOursError(
                f"{out}: not a {what} of ours, it is left as it is: expected a new or empty folder "
                f"or an earlier {what}; it holds {shown}"
            )
        return []

    def replace(self, files: Mapping[str, bytes]) -> None:
        """Write `files`, by path inside the folder, and delete those of before that are not among
        them. Raises StoreError where the folder can't be written."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            # The marker is written first: a folder that a crash leaves half written is ours.
            self._mark({*self._old, *files})
            for name, content in files.items():
                write_aside(self._path / name, content)
            for name in set(self._old) - set(files):
                self._remove(name)
            self._mark(set(files))
        except OSError as error:
            raise StoreError(f"can't write {self._path}: {error.strerror or error}") from error

    def _mark(self, names: set[str]) -> None:
        write_aside(self._marker, json.dumps({"files": sorted(names)}, indent=1).encode())

    def _remove(self, name: str) -> None:
        """A marker may name anything: nothing outside of the folder is deleted."""
        target = (self._path / name).resolve()
        if self._path.resolve() in target.parents and target.is_file():
            target.unlink(missing_ok=True)
