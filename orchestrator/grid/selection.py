"""Which coordinates of a grid are meant, and which name. Pure.

`--select`, `explain` and `export` by coordinates, retry requests and the dashboard's filters all
come here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from prunegrid.orchestrator.errors import UsageError, expected, nearest
from prunegrid.orchestrator.grid.grid import (
    AXES,
    CellCoordinates,
    Grid,
    ModelCoordinates,
    Selection,
)
from prunegrid.orchestrator.names import named_numbers, number_text

#: A place on an axis: a name, a rate, a seed, an eps.
AxisValue: TypeAlias = str | int | float
_TOKEN = re.compile(r"\\.|.", re.DOTALL)
_LISTED = 4


# --------------------------------------------------------------------------- texts


def parse_selection(texts: Iterable[str], *, option: str = "--select") -> Selection:
    """`architecture=resnet18,seed=0,1` to axis -> values. A backslash before a comma or an equals
    sign makes it part of a name. Raises UsageError, which begins with `option`."""
    out: dict[str, list[str]] = {}
    axis = ""
    for text in texts:
        for part in _split(text, ","):
            head, *rest = _split(part, "=")
            if rest:
                axis = _plain(head)
                if axis not in AXES:
                    raise UsageError(f"{option}: {expected(AXES, axis)}")
            value = _plain("=".join(rest) if rest else head)
            if not axis or not value:
                raise UsageError(f"{option}: expected axis=value[,value...], got {text!r}")
            out.setdefault(axis, []).append(value)
    return {name: tuple(values) for name, values in out.items()}


def parse_filter(query: Iterable[tuple[str, str]]) -> Selection:
    """The axes among the names of a URL's query; other names are left to others."""
    out: dict[str, list[str]] = {}
    for name, text in query:
        if name in AXES:
            values = map(_plain, _split(text, ","))
            out.setdefault(name, []).extend(value for value in values if value)
    return {axis: tuple(values) for axis, values in out.items() if values}


def quoted(name: str) -> str:
    """A name as `parse_selection` and `parse_filter` take it."""
    return re.sub(r"[\\,=]", r"\\\g<0>", name)


def _split(text: str, separator: str) -> list[str]:
    """At each separator without a backslash before it; backslashes stay."""
    parts = [""]
    for token in _TOKEN.findall(text):
        if token == separator:
            parts.append("")
        else:
            parts[-1] += token
    return parts


def _plain(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part.strip(), flags=re.DOTALL)


# --------------------------------------------------------------------------- values


def match(text: str, values: Sequence[AxisValue], *, where: str) -> AxisValue:
    """The one of an axis's values that a text names: `8/255`, `8.0` and `0.0313725` work as
    `named_numbers` says. Raises UsageError, which begins with `where`."""
    numbers = [value for value in values if not isinstance(value, str)]
    if not numbers:
        if text in values:
            return text
        raise UsageError(f"{where}: {expected([quoted(str(value)) for value in values], text)}")
    try:
        found = named_numbers(text, numbers)
    except ValueError:
        raise UsageError(f"{where}: expected a number, got {text!r}") from None
    if not found:
        raise UsageError(f"{where}: {expected(map(number_text, numbers), text)}")
    if len(found) > 1:
        several = ", ".join(map(number_text, found))
        raise UsageError(f"{where}: {text} may be any of {several}; give more digits")
    return found[0]


class GridSelection:
    """A selection checked against a grid: which coordinates it lets through."""

    def __init__(self, grid: Grid, select: Selection, *, option: str = "--select") -> None:
        """Raises UsageError where the selection names what the grid has not."""
        known = _axes(grid)
        self._wanted: dict[str, frozenset[AxisValue]] = {
            axis: frozenset(match(t, known[axis], where=f"{option} {axis}={t}") for t in texts)
            for axis, texts in select.items()
        }

    def lets(self, **coordinates: AxisValue) -> bool:
        """Some of a model's or cell's coordinates, by axis."""
        wanted = self._wanted
        return all(v in wanted[axis] for axis, v in coordinates.items() if axis in wanted)

    def lets_model(self, place: ModelCoordinates) -> bool:
        return self.lets(**vars(place))

    def lets_cell(self, place: CellCoordinates) -> bool:
        return self.lets(**vars(place)) and self.lets_model(place.model)


def _axes(grid: Grid) -> dict[str, Sequence[AxisValue]]:
    attacks = [attack for a in grid.architectures for attack in a.attacks]
    return {
        "architecture": [a.name for a in grid.architectures],
        "variant": list(dict.fromkeys(v.name for a in grid.architectures for v in a.variants)),
        "method": grid.methods,
        "rate": grid.rates,
        "seed": grid.seeds,
        "protocol": list(dict.fromkeys(attack.protocol for attack in attacks)),
        "attack": list(dict.fromkeys(attack.label for attack in attacks)),
        "eps": sorted({eps for attack in attacks for eps in attack.eps}),
    }


# --------------------------------------------------------------------------- names


class UnknownNameError(UsageError):
    """No task, model or cell of the plan has this name."""


def names_like(text: str, names: Iterable[str]) -> list[str]:
    """The name itself where it is one of `names`, else those that begin with it; none for ""."""
    found = [name for name in names if name.startswith(text)] if text else []
    return [text] if text in found else found


def one_name(text: str, names: Sequence[str], *, of: str) -> str:
    """The one name that `text` is, or begins. `of`: what has these names, such as "task or cell".

    Raises UnknownNameError where there is none, UsageError where there are several.
    """
    found = names_like(text, names)
    if len(found) == 1:
        return found[0]
    shown = repr(text[:100])
    if not found:
        alike = [name for name in names if name[:6] == text[:6]]
        hint = nearest(text[:100], alike)
        raise UnknownNameError(f"{shown} names no {of} of the store's grid{hint}")
    few = ", ".join(found[:_LISTED])
    raise UsageError(f"{shown} names {len(found)}, such as {few}; give more of it")
