"""The same grids as PNG and SVG, by matplotlib: it needs no browser and no network."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from prunegrid.orchestrator.report.curves import CurveGrid, CurvePanel
from prunegrid.orchestrator.report.results import records
from prunegrid.orchestrator.report.style import REFERENCE, look_of

#: A method's longest name with its line, at the legend's font size.
LEGEND_ENTRY_INCHES = 2.6
#: With two seeds bars may span the panel: they must not hide the lines.
BAR_ALPHA = 0.3

SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b8bcc4",
    "axes.labelcolor": "#4b5563",
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    "axes.titlesize": 8.5,
    "axes.titlecolor": "#1f2937",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,  # TrueType, which journals take; text can be searched
    "svg.hashsalt": "prunegrid",  # the same figure, the same bytes
    "text.parse_math": False,  # a "$" in a name is a "$"
}


@contextmanager
def styled() -> Iterator[None]:
    """Every figure is made and drawn under the report's settings."""
    import matplotlib as mpl

    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def drawn(figure: Any) -> dict[str, bytes]:
    """`png` (200 dpi), `svg` and `pdf` of a matplotlib figure, the same bytes for the same
    figure."""
    out = {}
    for kind, options in (
        ("png", {"dpi": 200}),
        ("svg", {"metadata": {"Date": None, "Creator": "prunegrid"}}),
        ("pdf", {"metadata": {"CreationDate": None, "Creator": "prunegrid"}}),
    ):
        sink = io.BytesIO()
        figure.savefig(sink, format=kind, **options)
        out[kind] = sink.getvalue()
    return out


def render(grid: CurveGrid, title: str) -> dict[str, bytes]:
    """`png`, `svg` and `pdf` of a grid."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(grid.panels), len(grid.panels[0])
    with styled():
        width = 2.6 * columns + 0.6
        figure = Figure(figsize=(width, 1.75 * rows + 1.3), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, sharey="row")
        lines: dict[str, Any] = {}  # by method, for the legend
        for r, row in enumerate(grid.panels):
            for c, panel in enumerate(row):
                if panel is None:
                    axes[r][c].set_visible(False)
                else:
                    lines |= _fill(axes[r][c], panel, first=not any(row[:c]), last=grid.last(r, c))
                    axes[r][c].set_ylim(0, grid.top(r))
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        figure.legend(
            [lines[method] for method in grid.methods],
            grid.methods,
            loc="outside lower left",
            ncols=max(1, int(width / LEGEND_ENTRY_INCHES)),
            frameon=False,
            fontsize=8,
            handlelength=3.2,
        )
        return drawn(figure)


def _fill(axes: Any, panel: CurvePanel, *, first: bool, last: bool) -> dict[str, Any]:
    """Returns each method's line."""
    lines = {}
    if not math.isnan(panel.reference):
        axes.axhline(100 * panel.reference, color=REFERENCE, linewidth=0.8, linestyle=":")
    for method in panel.methods:
        rows = panel.rows[panel.rows["method"] == method]
        look = look_of(method, panel.methods)
        low, mean, high = (100 * rows[name].to_numpy(float) for name in ("low", "mean", "high"))
        lines[method] = axes.errorbar(
            rows["x"],
            mean,
            yerr=np.nan_to_num([mean - low, high - mean]),  # none where there is no interval
            color=look.colour,
            ecolor=(look.colour, BAR_ALPHA),
            linestyle=look.mpl_dash,
            linewidth=1.2,
            marker=look.mpl_marker,
            markersize=2.6,
            elinewidth=0.8,
        )[0]
    for x, method, text in records(panel.lost[["x", "method", "text"]]):
        axes.annotate(
            text,
            (x, 0),
            color=look_of(method, panel.methods).colour,
            fontsize=6,
            rotation=90,
            ha="center",
            va="bottom",
        )
    if panel.compression:
        axes.set_xscale("log")
        ticks = sorted({float(v) for v in panel.rows["rate"]})
        axes.set_xticks(ticks, [f"{v:g}" for v in ticks])
        axes.set_xticks([], minor=True)
    axes.set_title(panel.title, loc="left")
    if first:
        axes.set_ylabel(panel.y_in_lines("\n"))
        axes.tick_params(labelleft=True)
    if last or not panel.title:
        axes.set_xlabel(panel.x)
    return lines
