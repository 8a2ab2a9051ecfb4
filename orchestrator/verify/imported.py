"""`verify` for imported results: the published experiment's, which no task of a grid made.

Only rows can be checked against rows; what was odd in the imported file is repeated, by name and
count.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from prunegrid.orchestrator.authors.authors import PREFIX, stored_author_findings
from prunegrid.orchestrator.grid.grid import (
    CellCoordinates,
    ModelCoordinates,
)
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.store_finding import StoreFinding
from prunegrid.workers import layout
from prunegrid.workers.image_rows import read_table

_MODEL = list(ModelCoordinates.__dataclass_fields__)
_CELL = [*_MODEL, *(name for name in CellCoordinates.__dataclass_fields__ if name != "model")]


def imported_findings(store: Store) -> Iterator[StoreFinding]:
    """Nothing where nothing was imported. Raises StoreError on a torn record of an import."""
    models = _rows(store, layout.MODEL_ROWS)
    if models is None:
        return
    cells, images = (_rows(store, folder) for folder in (layout.CELL_ROWS, layout.IMAGE_ROWS))
    yield from _in_range(models, layout.MODEL_ROWS, "accuracy")
    yield from _doubled(models, layout.MODEL_ROWS, _MODEL)
    counted = models["params_total"] / models["params_left"].where(models["params_left"] > 0)
    models = models.assign(counted=counted)
    off = models[(counted - models["effective_rate"]).abs() > 1e-9 * counted]
    for row in off.itertuples():
        message = f"effective_rate {row.effective_rate:g}, its weights say {row.counted:g}"
        yield _finding("row-mismatch", layout.MODEL_ROWS, row, message)
    if cells is not None:
        yield from _in_range(cells, layout.CELL_ROWS, "robust_accuracy")
        yield from _doubled(cells, layout.CELL_ROWS, _CELL)
        for row in cells[~cells["model_id"].isin(models["model_id"])].itertuples():
            yield _finding("parent-missing", layout.CELL_ROWS, row, f"{row.model_id} has no row")
        if images is not None:
            yield from _recounted(cells, images)
    for odd in stored_author_findings(store.files):
        yield StoreFinding(name=odd.name, where=odd.where, message=odd.message, count=odd.count)


def _rows(store: Store, folder: str) -> pd.DataFrame | None:
    frames = []
    for info in sorted(store.files.list(folder), key=lambda i: i.path):
        if info.path.rpartition("/")[2].startswith(PREFIX):
            try:
                frames.append(read_table(store.files.read(info.path)).to_pandas())
            except ValueError:
                continue  # torn: a finding of its own, like that of every file
    return pd.concat(frames, ignore_index=True) if frames else None


def _in_range(frame: pd.DataFrame, folder: str, name: str) -> Iterator[StoreFinding]:
    for row in frame[~frame[name].between(0, 1)].itertuples():
        value = getattr(row, name)
        yield _finding("out-of-range", folder, row, f"{name} {value} is not in [0, 1]")


def _doubled(frame: pd.DataFrame, folder: str, place: list[str]) -> Iterator[StoreFinding]:
    for row in frame[frame.duplicated(place)].itertuples():
        yield _finding("doubled-row", folder, row, "its place has two rows")


def _recounted(cells: pd.DataFrame, images: pd.DataFrame) -> Iterator[StoreFinding]:
    """Robust accuracy at eps is the share of images at least that far from the boundary."""
    if images["distance"].lt(0).any() or images["distance"].isna().any():
        message = "a distance is negative or not a number"
        yield StoreFinding(name="out-of-range", where=layout.IMAGE_ROWS, message=message)
    distances = {key: part.to_numpy() for key, part in images.groupby("task_key")["distance"]}
    nearest = cells[cells["finds"] == "minimum-norm"]
    for row in nearest.assign(work=nearest["task_keys"].str[0]).itertuples():
        found = distances.get(str(row.work))
        if found is None:
            if row.n_skipped == 0:
                yield _finding("task-missing", layout.CELL_ROWS, row, "its images are not here")
            continue
        again = float(np.mean(found >= row.eps))
        if again != row.robust_accuracy:
            message = f"robust_accuracy: row {row.robust_accuracy}, its images say {again}"
            yield _finding("row-mismatch", layout.CELL_ROWS, row, message)


def _finding(name: str, folder: str, row: object, message: str) -> StoreFinding:
    where = f"{folder} {getattr(row, 'cell_id', None) or getattr(row, 'model_id', '')}"
    return StoreFinding(name=name, where=where, message=message)
