"""The report's files."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import StoreError
from orchestrator.frames import read_rows
from orchestrator.report.html import page
from orchestrator.report.tables import SummaryRow, summary_rows
from orchestrator.store import Store
from workers import layout

#: In a folder's `index.html`, it says that the page is ours to replace.
_MARK = '<meta name="generator" content="prunegrid">'


def write_report(store: Store, out: Path, *, title: str) -> tuple[Path, list[SummaryRow]]:
    """Write `out`/index.html from a store's rows. Returns its path and the summary.

    Raises StoreError where `out` holds another's index.html, or can't be written.
    """
    models = read_rows(store.files, layout.MODEL_ROWS)
    cells = read_rows(store.files, layout.CELL_ROWS)
    rows = summary_rows(models, cells)
    target = out / "index.html"
    text = page(title, rows, models, cells).replace("<head>", f"<head>{_MARK}", 1)
    try:
        if target.exists() and _MARK not in target.read_text(errors="replace")[:500]:
            raise StoreError(f"{target}: not a page of ours, it is left as it is; choose another")
        out.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"can't write {target}: {error.strerror}") from error
    return target, rows
