"""What a store knows beyond its cell rows: the attacked images, task by task, and which attacks
also ran with twice the steps. The worst case per image, masking and convergence rest on it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prunegrid.orchestrator.plan.convergence_checks import DoubledSteps, find_doubled
from prunegrid.orchestrator.plan.dag import Plan
from prunegrid.orchestrator.report.attack_rows import AttackRows
from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.store.frames import read_all
from prunegrid.orchestrator.store.rows import WITHIN
from prunegrid.workers import layout
from prunegrid.workers.files import Files

_COLUMNS = ["task_key", "image", "eps", "distance", "broken", "label"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskImages:
    """Rows of one or more shards, in any order; arrays [rows]."""

    image: NDArray[np.int64]  #: index in the split
    eps: NDArray[np.float64]  #: NaN for a minimum-norm attack
    distance: NDArray[np.float64]
    broken: NDArray[np.bool_]
    label: NDArray[np.int64]  #: -1 where it is not recorded, as in imported rows


def load_images(files: Files, tasks: Collection[str]) -> dict[str, TaskImages]:
    """The rows of these attack tasks, by task key, from loose and merged files; tasks without
    rows are left out, and so are torn and foreign files."""
    wanted = set(tasks)
    out: dict[str, TaskImages] = {}
    for found in read_all(
        files,
        layout.IMAGE_ROWS,
        lambda path: dict(_read(files, path, wanted)),
        wanted=lambda path: _may_hold(path, wanted),
    ):
        out |= found
    return out


def _may_hold(path: str, wanted: set[str]) -> bool:
    """A loose file is named by its task; another name is of a merged file."""
    stem = PurePosixPath(path).stem
    return stem in wanted or not stem.startswith("attack-")


def _read(files: Files, path: str, wanted: set[str]) -> Iterator[tuple[str, TaskImages]]:
    content = pa.BufferReader(files.read(path))
    try:
        file = pq.ParquetFile(content)
        if b"prunegrid.schema" not in (file.schema_arrow.metadata or {}):
            return
        table = file.read(columns=_COLUMNS, use_threads=False)
        keys = table.column("task_key").combine_chunks().dictionary_encode()
        values: dict[str, Any] = {
            name: _column(table, name).cast(kind).to_numpy()
            for name, kind in zip(_COLUMNS[1:], _KINDS, strict=True)
        }
    except (pa.ArrowException, OSError, KeyError):
        return
    codes = keys.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(keys.dictionary) + 1))
    for code, key in enumerate(keys.dictionary.to_pylist()):
        if key in wanted:
            mine = order[ends[code] : ends[code + 1]]
            yield key, TaskImages(**{name: column[mine] for name, column in values.items()})


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    column = table.column(name)
    return column.fill_null(-1) if name == "label" else column


_KINDS = (pa.int64(), pa.float64(), pa.float64(), pa.bool_(), pa.int64())


def rows_of(images: Mapping[str, TaskImages], cell: Any) -> AttackRows | None:
    """`attack_rows` of a record of the cells."""
    return attack_rows(
        images,
        cell.task_keys,
        attack=cell.attack,
        norm=cell.norm,
        within=cell.broken_at == WITHIN,
    )


def attack_rows(
    images: Mapping[str, TaskImages],
    tasks: Sequence[str],
    *,
    attack: str,
    norm: str,
    within: bool = False,
) -> AttackRows | None:
    """All shards of one attack on one model, sorted by image; None where a shard has no rows, or
    an image lacks an eps."""
    if not all(task in images for task in tasks):
        return None
    parts = [images[task] for task in tasks]
    image, eps, distance, broken, label = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("image", "eps", "distance", "broken", "label")
    )
    kinds = np.unique(eps[~np.isnan(eps)])
    order = np.lexsort((image, np.nan_to_num(eps)))
    found, count = np.unique(image), max(1, len(kinds))
    if len(image) != len(found) * count or np.any(image[order] != np.tile(found, count)):
        return None
    shape = (count, len(found))
    return AttackRows(
        attack=attack,
        norm=norm,
        images=found,
        labels=label[order][: len(found)],
        eps=tuple(map(float, kinds)),
        broken=broken[order].reshape(shape),
        distance=distance[order].reshape(shape),
        within=within,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    images: Mapping[str, TaskImages] = field(default_factory=dict)  #: by attack task
    doubled: tuple[DoubledSteps, ...] = ()  #: attacks that also ran with twice the steps
    without_gradients: frozenset[str] = frozenset()  #: algorithms of the grid's own


NO_EVIDENCE = Evidence()


def gather(files: Files, results: Results, plan: Plan | None) -> Evidence:
    """Of a store's cells; without a plan nothing is known of steps."""
    tasks = {key for keys in results.cells["task_keys"] if keys is not None for key in keys}
    doubled = find_doubled(plan) if plan is not None else ()
    planned = [] if plan is None else [cell.attack.settings for cell in plan.cells]
    free = {each.attack for each in planned if each.own is not None and not each.own.gradients}
    return Evidence(
        images=load_images(files, tasks), doubled=doubled, without_gradients=frozenset(free)
    )
