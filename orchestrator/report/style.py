"""How methods and attacks look, and in which order they stand, in every table and figure: the
structure is the colour, criterion and scope are the dash and the marker. The colours are Okabe and
Ito's, which colour-blind eyes can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: By structure, in the order of tables.
_COLOURS = {"unstructured": "#0072B2", "kernel": "#009E73", "filter": "#D55E00", "2:4": "#CC79A7"}
#: Of names without a structure, such as variants, in their order beside each other.
_OTHERS = ("#7a6a9a", "#56B4E9", "#E69F00", "#5b8c3a", "#8c564b")
REFERENCE = "#8a8f98"  #: the dense model's line

#: Of attacks, in tables and figures.
_NORMS = ("l0", "l2", "l1", "linf")


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


#: By criterion and scope, in the order of legends.
_LINES = {
    "magnitude-global": ("solid", "circle", (0, ()), "o"),
    "magnitude-local": ("dash", "square", (0, (5, 2)), "s"),
    "random-local": ("dot", "diamond", (0, (1, 1.6)), "D"),
    "random-matched": ("dashdot", "x", (0, (6, 2, 1, 2)), "X"),
    "taylor-global": ("solid", "triangle-up", (0, ()), "^"),
    "taylor-local": ("dash", "triangle-down", (0, (5, 2)), "v"),
    "obd-global": ("solid", "star", (0, ()), "*"),
    "obd-local": ("dash", "cross", (0, (5, 2)), "P"),
    "l2-global": ("solid", "hexagon", (0, ()), "h"),
    "l2-local": ("dash", "pentagon", (0, (5, 2)), "p"),
}
#: Of other names, by turns.
_MORE_SYMBOLS = (
    ("triangle-left", "<"),
    ("triangle-right", ">"),
    ("octagon", "8"),
    ("diamond-tall", "d"),
)


def look_of(method: str, beside: Sequence[str] = ()) -> Look:
    """By a method's name, `criterion-scope-structure`; an unknown name gets a look too, another
    colour than the unknown names `beside` it."""
    selection, _, structure = method.rpartition("-")
    more, more_mpl = _MORE_SYMBOLS[sum(map(ord, method)) % len(_MORE_SYMBOLS)]
    dash, symbol, mpl_dash, mpl_marker = _LINES.get(
        selection, ("longdash", more, (0, (8, 2)), more_mpl)
    )
    unknown = sorted(n for n in beside if n.rpartition("-")[2] not in _COLOURS)
    place = unknown.index(method) if method in unknown else 0
    return Look(
        colour=_COLOURS.get(structure, _OTHERS[place % len(_OTHERS)]),
        dash=dash,
        symbol=symbol,
        mpl_dash=mpl_dash,
        mpl_marker=mpl_marker,
    )


def norm_rank(norm: str) -> int:
    return _NORMS.index(norm) if norm in _NORMS else len(_NORMS)


def method_order(methods: Iterable[str]) -> list[str]:
    """Structure by structure, then by name: as the paper's figures list them."""
    return sorted(set(methods), key=lambda method: (_structure_rank(method), method))


def legend_order(methods: Iterable[str]) -> list[str]:
    """Selection by selection, so that a legend three wide has a structure in each column."""
    selections = list(_LINES)

    def rank(method: str) -> tuple[int, str, int]:
        selection = method.rpartition("-")[0]
        place = selections.index(selection) if selection in _LINES else len(selections)
        return place, selection, _structure_rank(method)

    return sorted(set(methods), key=rank)


def _structure_rank(method: str) -> int:
    structure = method.rpartition("-")[2]
    return list(_COLOURS).index(structure) if structure in _COLOURS else len(_COLOURS)
