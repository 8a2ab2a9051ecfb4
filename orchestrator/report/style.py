"""One look for every figure: the structure is the colour, criterion and scope are the dash and
the marker. The colours are Okabe and Ito's, which colour-blind eyes can tell apart."""

from __future__ import annotations

from dataclasses import dataclass

_COLOURS = {"unstructured": "#0072B2", "kernel": "#009E73", "filter": "#D55E00"}
_OTHER = "#7a6a9a"
REFERENCE = "#8a8f98"  #: the dense model's line


@dataclass(frozen=True, kw_only=True)
class Look:
    """Of one method's line; plotly's names, and matplotlib's."""

    colour: str
    dash: str
    symbol: str
    mpl_dash: tuple[int, tuple[float, ...]]
    mpl_marker: str

    def faded(self, alpha: float) -> str:
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},{alpha:g})"


_LINES = {
    "magnitude-global": ("solid", "circle", (0, ()), "o"),
    "magnitude-local": ("dash", "square", (0, (5, 2)), "s"),
    "random-local": ("dot", "diamond", (0, (1, 1.6)), "D"),
    "random-matched": ("dashdot", "x", (0, (6, 2, 1, 2)), "X"),
}


def look_of(method: str) -> Look:
    """By a method's name, `criterion-scope-structure`; a strange name gets a look too."""
    selection, _, structure = method.rpartition("-")
    dash, symbol, mpl_dash, mpl_marker = _LINES.get(
        selection, ("longdash", "triangle-up", (0, (8, 2)), "^")
    )
    return Look(
        colour=_COLOURS.get(structure, _OTHER),
        dash=dash,
        symbol=symbol,
        mpl_dash=mpl_dash,
        mpl_marker=mpl_marker,
    )


def legend_order(methods: list[str]) -> list[str]:
    """Selection by selection, so that a legend three wide has a structure in each column."""
    structures = list(_COLOURS)

    def rank(method: str) -> tuple[int, str, int]:
        selection, _, structure = method.rpartition("-")
        place = list(_LINES).index(selection) if selection in _LINES else len(_LINES)
        return place, selection, structures.index(structure) if structure in structures else 9

    return sorted(set(methods), key=rank)
