"""Raw results of the paper's authors, as they published them: one Parquet row per trained run.

Columns: `architecture`, `criterion`, `scope`, `structure`, `compression_rate` (nominal),
`file_row` (position in the authors' file of that method), `iteration_label` (the seed that file
claims), `accuracy`, `loss`, `params_total`, `params_left`; for a fixed-eps attack A
`A_epsilon_255` and `A_success_rate`, two lists of one length; for a minimum-norm attack A
`A_distance` and `A_success`, a value per image, or null where the attack was skipped.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prunegrid.orchestrator.errors import UsageError, expected
from prunegrid.workers.catalog import METHODS

_REQUIRED = (
    "architecture",
    "criterion",
    "scope",
    "structure",
    "compression_rate",
    "file_row",
    "accuracy",
    "params_total",
    "params_left",
)
_FIXED = ("_epsilon_255", "_success_rate")
_MINIMUM = ("_distance", "_success")


@dataclass(frozen=True, kw_only=True)
class FixedAttack:
    """Success rates of an attack that was run once per eps."""

    eps: tuple[float, ...]  #: pixels in [0, 1]
    success_rate: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class MinimumAttack:
    """Distances to the nearest adversarials that an attack found."""

    distance: NDArray[np.float64]  #: per image, in the attack's norm
    success: NDArray[np.bool_]  #: per image, as the attack itself reported it


@dataclass(frozen=True, kw_only=True, eq=False)
class AuthorRun:
    """One row of a file."""

    architecture: str
    method: str
    rate: float  #: nominal
    file_row: int
    label: int | None  #: the seed that the file claims
    accuracy: float
    loss: float
    params_total: int
    params_left: int
    fixed: Mapping[str, FixedAttack]
    minimum: Mapping[str, MinimumAttack | None]  #: None: skipped

    @property
    def effective_rate(self) -> float:
        return self.params_total / self.params_left if self.params_left else math.inf


@dataclass(frozen=True, kw_only=True)
class AuthorsFile:
    name: str
    sha256: str
    runs: tuple[AuthorRun, ...]  #: by architecture and method in file order


def read_authors_file(path: Path) -> AuthorsFile:
    """Raises UsageError, naming the file, the row and what was expected, where it is not of
    this form."""
    try:
        content = path.read_bytes()
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise UsageError(f"{path}: expected a Parquet file of results, got {error}") from error
    fixed, minimum = _attacks(path, table.schema.names)
    runs = []
    for number, row in enumerate(_rows(table)):
        try:
            runs.append(_run(row, fixed, minimum))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path}, row {number}: {error}") from error
    if not runs:
        raise UsageError(f"{path}: expected at least one row, got none")
    _check_order(path, runs)
    runs.sort(key=lambda run: (run.architecture, run.method, run.file_row))
    return AuthorsFile(name=path.name, sha256=hashlib.sha256(content).hexdigest(), runs=tuple(runs))


def _attacks(path: Path, names: list[str]) -> tuple[list[str], list[str]]:
    if missing := [name for name in _REQUIRED if name not in names]:
        raise UsageError(f"{path}: missing columns {', '.join(missing)}; got {', '.join(names)}")
    found = []
    for first, second in (_FIXED, _MINIMUM):
        attacks = [name.removesuffix(first) for name in names if name.endswith(first)]
        for attack in attacks:
            if attack + second not in names:
                raise UsageError(f"{path}: column {attack}{first} without {attack}{second}")
        found.append(attacks)
    if not any(found):
        raise UsageError(
            f"{path}: expected an attack's columns, such as pgd_linf_epsilon_255 with "
            f"pgd_linf_success_rate or cw_l2_distance with cw_l2_success, got {', '.join(names)}"
        )
    return found[0], found[1]


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as dicts; lists stay numpy arrays, which `to_pylist` would take a second to unpack."""
    frame = table.to_pandas()
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False)]


def _run(row: Mapping[str, Any], fixed: list[str], minimum: list[str]) -> AuthorRun:
    method = f"{row['criterion']}-{row['scope']}-{row['structure']}"
    if method not in METHODS:
        raise ValueError(f"pruning method: {expected(METHODS, method)}")
    architecture = row["architecture"]
    if not isinstance(architecture, str) or not architecture:
        raise ValueError(f"architecture: expected a name, got {architecture!r}")
    accuracy = _number(row, "accuracy")
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy: expected a number in [0, 1], got {accuracy}")
    rate = _number(row, "compression_rate")
    if not rate >= 1:
        raise ValueError(f"compression_rate: expected at least 1, got {rate}")
    total, left = _count(row, "params_total"), _count(row, "params_left")
    if not 0 <= left <= total:
        raise ValueError(f"params_left: expected 0 to params_total ({total}), got {left}")
    label: Any = row.get("iteration_label")
    return AuthorRun(
        architecture=architecture,
        method=method,
        rate=rate,
        file_row=_count(row, "file_row"),
        label=None if _absent(label) else _count(row, "iteration_label"),
        accuracy=accuracy,
        loss=math.nan if _absent(row.get("loss")) else _number(row, "loss"),
        params_total=total,
        params_left=left,
        fixed={a: f for a in fixed if (f := _fixed(a, row)) is not None},
        minimum={a: _minimum(a, row) for a in minimum},
    )


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        return float(row[name])
    except (ValueError, TypeError):
        raise ValueError(f"{name}: expected a number, got {row[name]!r}") from None


def _count(row: Mapping[str, Any], name: str) -> int:
    value = _number(row, name)
    if not value.is_integer():
        raise ValueError(f"{name}: expected a whole number, got {row[name]}")
    return int(value)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _pair(attack: str, row: Mapping[str, Any], ends: tuple[str, str]) -> tuple[Any, Any] | None:
    first, second = (row[attack + end] for end in ends)
    if _absent(first) or _absent(second):
        return None
    if len(first) != len(second):
        raise ValueError(
            f"{attack}: expected as many values in {attack}{ends[1]} as in {attack}{ends[0]} "
            f"({len(first)}), got {len(second)}"
        )
    return first, second


def _fixed(attack: str, row: Mapping[str, Any]) -> FixedAttack | None:
    pair = _pair(attack, row, _FIXED)
    if pair is None:
        return None
    eps, rates = (np.asarray(values, dtype=float) for values in pair)
    if len(set(eps)) != len(eps) or not np.all(eps > 0):
        raise ValueError(f"{attack}_epsilon_255: expected different numbers above 0, got {eps}")
    if not np.all((rates >= 0) & (rates <= 1)):
        raise ValueError(f"{attack}_success_rate: expected numbers in [0, 1], got {rates}")
    return FixedAttack(eps=tuple(eps / 255), success_rate=tuple(rates))


def _minimum(attack: str, row: Mapping[str, Any]) -> MinimumAttack | None:
    pair = _pair(attack, row, _MINIMUM)
    if pair is None or not len(pair[0]):
        return None
    distance = np.asarray(pair[0], dtype=float)
    if np.any(np.isnan(distance)) or np.any(distance < 0):
        raise ValueError(f"{attack}_distance: expected numbers of at least 0, got NaN or negative")
    return MinimumAttack(distance=distance, success=np.asarray(pair[1], dtype=bool))


def _check_order(path: Path, runs: list[AuthorRun]) -> None:
    """`file_row` must order the runs of a method: the choice of five rests on it."""
    seen: set[tuple[str, str, int]] = set()
    for run in runs:
        place = (run.architecture, run.method, run.file_row)
        if place in seen:
            raise UsageError(
                f"{path}: file_row {run.file_row} of {run.architecture} {run.method} is there "
                "twice; expected a position of its own for each run of a method"
            )
        seen.add(place)
