"""Whether rows that are compared were made alike: by one code, one set of libraries, one kind of
arithmetic. Means of rows that were not are warned of, wherever they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunegrid.orchestrator.names import eps_text, number_text
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
COLUMNS = ("model_id", "cell_id", "norm", "versions", *_ALIKE, *_PLACE)
#: More files than this take `status` too long.
MOST_FILES = 2000
SHOWN = 4  #: values of one column that are named


@dataclass(frozen=True, kw_only=True)
class MixedValues:
    """One column in which the rows differ."""

    column: str  #: in words, such as "tensorflow version"
    rows: Mapping[str, int]  #: by value, the most frequent first
    examples: Mapping[str, str]  #: by value, coordinates as `--select` takes them

    def __str__(self) -> str:
        named = [
            f"{value} in {count:,} row{'s' * (count != 1)} (as {self.examples[value]})"
            for value, count in list(self.rows.items())[:SHOWN]
        ]
        more = [f"{len(self.rows) - SHOWN} more"] if len(self.rows) > SHOWN else []
        return f"rows of more than one {self.column} are mixed: {', '.join(named + more)}"


def mixed_values(rows: Iterable[Mapping[str, Any]]) -> tuple[MixedValues, ...]:
    """`rows`: of models and cells, by column."""
    counts: dict[str, Counter[str]] = {}
    examples: dict[str, dict[str, str]] = {}
    for row in rows:
        for column, value in _values(row):
            counts.setdefault(column, Counter())[value] += 1
            seen = examples.setdefault(column, {})
            if value not in seen:
                seen[value] = _coordinates(row)
    return tuple(
        MixedValues(
            column=column,
            rows=dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))),
            examples=examples[column],
        )
        for column, found in counts.items()
        if len(found) > 1
    )


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row.get("device") == "imported":
        return
    for name in _ALIKE:
        value = row.get(name)
        if value is None or value in ("", 0) or value != value:
            continue
        # "(XLA)" follows from the attack and the network; a cell's shards may have several values
        text = number_text(value) if name == "threads" else str(value).removesuffix(" (XLA)")
        for each in text.split(", ") if name in ("code_digest", "arithmetic") else [text]:
            yield name.replace("_", " "), each
    try:
        versions = dict(parse_json(row.get("versions") or "{}"))
    except (ValueError, TypeError):  # a damaged row, which says nothing
        versions = {}
    for library, version in versions.items():
        if version:
            yield f"{library} version", version


def _coordinates(row: Mapping[str, Any]) -> str:
    parts = []
    for name in _PLACE:
        value = row.get(name)
        if value is not None and value == value:
            number = number_text if name in ("rate", "seed") else str
            text = eps_text(str(row.get("norm")), value) if name == "eps" else number(value)
            parts.append(f"{name}={text}")
    return ",".join(parts)


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
