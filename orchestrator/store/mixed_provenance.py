"""Whether rows that are compared were made alike: by one code, one set of libraries, one kind of
arithmetic. Means of rows that were not are warned of, wherever they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from prunegrid.orchestrator.names import counted, eps_text, number_text
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.store.store import Store
from prunegrid.workers import layout
from prunegrid.workers.decode import parse_json

if TYPE_CHECKING:
    import pandas as pd

#: Columns in which all rows of one grid should agree. Where an earlier version left none, or no
#: grid made the row, nothing is known.
_ALIKE = ("git_revision", "code_digest", "device", "threads", "arithmetic")
_PLACE = ("architecture", "variant", "method", "rate", "seed", "protocol", "attack", "eps")
#: What is looked at of a row.
COLUMNS = ("model_id", "cell_id", "norm", "versions", "user_sources", *_ALIKE, *_PLACE)
#: More files than this take `status` too long.
MOST_FILES = 2000
SHOWN = 4  #: values of one column that are named, and coordinates of one axis

#: Coordinates of a row, as `--select` takes them; None on the axes that a model has not.
_Place: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True)
class MixedValues:
    """One column in which the rows differ."""

    column: str  #: in words, such as "tensorflow version"
    rows: Mapping[str, Sequence[str]]  #: ids by value, the most frequent value first
    places: Mapping[str, str]  #: by value, which rows have it, in words

    def __str__(self) -> str:
        named = [
            f"{value} in {counted(len(ids), 'row')} ({self.places[value]})"
            for value, ids in list(self.rows.items())[:SHOWN]
        ]
        more = [f"{len(self.rows) - SHOWN} more"] if len(self.rows) > SHOWN else []
        return f"rows of more than one {self.column} are mixed: {', '.join(named + more)}"


def mixed_values(rows: Iterable[Mapping[str, Any]]) -> tuple[MixedValues, ...]:
    """`rows`: of models and cells, by column."""
    found: dict[str, dict[str, list[tuple[str, _Place]]]] = {}
    for row in rows:
        known = str(row.get("cell_id") or row.get("model_id") or ""), _place(row)
        for column, value in _values(row):
            found.setdefault(column, {}).setdefault(value, []).append(known)
    return tuple(
        _mixed(column, by_value) for column, by_value in found.items() if len(by_value) > 1
    )


def _mixed(column: str, by_value: Mapping[str, list[tuple[str, _Place]]]) -> MixedValues:
    everywhere = Counter(dict(known for known in chain(*by_value.values())).values())
    ordered = sorted(by_value.items(), key=lambda item: (-len(item[1]), item[0]))
    return MixedValues(
        column=column,
        rows={value: [name for name, _ in known] for value, known in ordered},
        places={
            value: _which({place for _, place in known}, len(known), everywhere)
            for value, known in ordered
        },
    )


def _which(places: Set[_Place], count: int, everywhere: Mapping[_Place, int]) -> str:
    """Which `count` rows are at `places`, of those that are `everywhere`: by the axes on which
    they have not all coordinates."""
    axes = {}
    for axis, name in enumerate(_PLACE):
        here = {place[axis] for place in places}
        if here != {place[axis] for place in everywhere}:
            axes[axis] = name, here
    inside = [p for p in everywhere if all(p[axis] in here for axis, (_, here) in axes.items())]
    parts = []
    for name, here in axes.values():
        texts = sorted(text for text in here if text is not None)
        rest = ",..." if len(texts) > SHOWN else ""
        if texts:
            parts.append(f"{name}={','.join(texts[:SHOWN])}{rest}")
    selection = " ".join(parts)
    if selection and sum(everywhere[place] for place in inside) == count:
        return f"all of {selection}"
    example = min(places, key=lambda place: [text or "" for text in place])
    named = ",".join(f"{n}={t}" for n, t in zip(_PLACE, example, strict=True) if t is not None)
    return f"among {selection}; one is {named}" if selection else f"one is {named}"


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row.get("device") == "imported":
        return
    for name in _ALIKE:
        value = row.get(name)
        if value is None or value in ("", 0) or value != value:
            continue
        # "(XLA)" follows from the attack and the network; a cell's shards may have several values
        text = number_text(value) if name == "threads" else str(value).removesuffix(" (XLA)")
        several = name in ("git_revision", "code_digest", "arithmetic")
        for each in text.split(", ") if several else [text]:
            yield name.replace("_", " "), each
    sources = row.get("user_sources")
    if isinstance(sources, str):
        for each in filter(None, sources.split(", ")):
            target, _, digest = each.rpartition(" ")
            yield f"source of {target}", digest
    try:
        versions = dict(parse_json(row.get("versions") or "{}"))
    except (ValueError, TypeError):  # a damaged row, which says nothing
        versions = {}
    for library, version in versions.items():
        if version:
            yield f"{library} version", version


def _place(row: Mapping[str, Any]) -> _Place:
    texts: list[str | None] = []
    for name in _PLACE:
        value = row.get(name)
        if value is None or value != value:
            texts.append(None)
        elif name == "eps":
            texts.append(eps_text(str(row.get("norm")), value))
        else:
            texts.append(number_text(value) if name in ("rate", "seed") else str(value))
    return tuple(texts)


def rows_of(*frames: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What `mixed_values` looks at, of frames with rows of models and cells."""
    for frame in frames:
        columns = [name for name in COLUMNS if name in frame]
        yield from (
            {str(k): v for k, v in row.items()} for row in frame[columns].to_dict("records")
        )


def planned_rows(rows: Iterable[Mapping[str, Any]], plan: Plan) -> Iterator[Mapping[str, Any]]:
    """Those of the store's current grid."""
    names = {model.name for model in plan.models} | {cell.name for cell in plan.cells}
    return (row for row in rows if (row.get("cell_id") or row.get("model_id")) in names)


def mixed_lines(store: Store, plan: Plan) -> list[str]:
    """Of a store's current grid, for people; none where all rows are alike."""
    from prunegrid.orchestrator.store.frames import read_rows

    folders = (layout.MODEL_ROWS, layout.CELL_ROWS)
    files = sum(len(list(store.files.list(folder))) for folder in folders)
    if files > MOST_FILES:
        return [f"not looked at: whether {files:,} row files were made alike; `verify` does"]
    rows = rows_of(*(read_rows(store.files, folder) for folder in folders))
    return [str(mixed) for mixed in mixed_values(planned_rows(rows, plan))]
