"""The store's rows as two frames, and the coordinates that every table of the report uses.

A row per model and a row per cell, as `orchestrator/store/rows.py` describes them. A store holds
each in a file of its own or merged; a row that is in both counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from prunegrid.orchestrator.names import attack_title, counted, eps_text
from prunegrid.orchestrator.report.statistics import sampling_half
from prunegrid.orchestrator.report.style import norm_rank
from prunegrid.orchestrator.store.frames import read_all, read_ours
from prunegrid.orchestrator.store.merged import conform
from prunegrid.orchestrator.store.rows import CELL_SCHEMA, MODEL_SCHEMA, broken_before
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.store.transfer_rows import TRANSFER_SCHEMA
from prunegrid.workers import layout
from prunegrid.workers.catalog import ARCHITECTURES, FIRST_NAMES
from prunegrid.workers.files import Files

#: What is compared with what: tables never average over these.
SETTING = ["architecture", "dataset", "variant"]
PLACE = [*SETTING, "method", "rate"]
THREAT = ["attack", "norm", "eps"]
CELL = [*PLACE, "protocol", *THREAT]


class Setting(NamedTuple):
    """One experiment: networks that differ by method, rate and seed alone."""

    architecture: str
    dataset: str
    variant: str

    @property
    def title(self) -> str:
        entry = ARCHITECTURES.get(self.architecture)
        name = entry.title if entry else self.architecture
        plain = self.variant in ("standard", "authors")
        return f"{name} on {self.dataset}" + ("" if plain else f", {self.variant}")

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The part of a frame with SETTING columns that belongs to this experiment."""
        mask = pd.Series(True, index=frame.index)
        for name, value in zip(SETTING, self, strict=True):
            mask &= frame[name] == value
        return frame[mask]


class Threat(NamedTuple):
    """One adversary: what attacks, and how far it may go."""

    attack: str
    norm: str
    eps: float

    @property
    def title(self) -> str:
        return f"{attack_title(self.attack)}, ε = {eps_text(self.norm, self.eps)}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Rows of one store; columns as MODEL_SCHEMA and CELL_SCHEMA name them."""

    address: str
    models: pd.DataFrame  #: `accuracy` is missing where a model diverged
    cells: pd.DataFrame  #: without those of diverged models
    #: Columns as TRANSFER_SCHEMA names them.
    transfers: pd.DataFrame = field(default_factory=TRANSFER_SCHEMA.empty_table().to_pandas)

    @property
    def diverged(self) -> pd.DataFrame:
        """The models whose weights are NaN."""
        return _diverged(self.models, kept=False)

    @property
    def settings(self) -> list[Setting]:
        both = [frame[SETTING] for frame in (self.models, self.cells)]
        return [Setting(*row) for row in unique_rows(pd.concat(both), SETTING)]

    def protocols(self, setting: Setting) -> list[str]:
        return sorted(setting.rows(self.cells)["protocol"].unique())


def load_results(files: Files) -> Results:
    """Every model and cell row of a store, one per place: where a place was computed again with
    other settings, the row started last counts. A torn or foreign file is left out (`verify` names
    it); columns that an older store lacks are missing values. Earlier versions gave diverged models
    the accuracy of a class chosen among NaN, and their cells 0, some attacks other names, and
    recorded no rule at exactly eps, `broken_at`."""
    models = _rows(files, layout.MODEL_ROWS, MODEL_SCHEMA, [*PLACE, "seed"])
    cells = _rows(files, layout.CELL_ROWS, CELL_SCHEMA, [*CELL, "seed"])
    transfers = _rows(files, layout.TRANSFER_ROWS, TRANSFER_SCHEMA, [*CELL, "source_rate", "seed"])
    if Store(files).has_first_names:
        strict = cells["engine"] == "strict"
        since = {first: entry.name for first, entry in FIRST_NAMES.items()}
        cells.loc[strict, "algorithm"] = cells.loc[strict, "algorithm"].replace(since)
    lost = (models["diverged"] == True) & ~np.isfinite(models["loss"])  # noqa: E712 - or null
    models.loc[lost, "accuracy"] = np.nan
    unrecorded = cells["broken_at"].isna()
    cells.loc[unrecorded, "broken_at"] = [
        broken_before(minimum_norm=finds == "minimum-norm")
        for finds in cells.loc[unrecorded, "finds"]
    ]
    kept = cells[~cells["model_id"].isin(models.loc[lost, "model_id"])].reset_index(drop=True)
    return Results(address=files.address, models=models, cells=kept, transfers=transfers)


def _rows(files: Files, folder: str, schema: pa.Schema, place: list[str]) -> pd.DataFrame:
    plain = schema.remove_metadata()
    tables = [t for t in read_all(files, folder, lambda path: _read(files, path, plain)) if t]
    frame: pd.DataFrame = (pa.concat_tables(tables) if tables else plain.empty_table()).to_pandas()
    latest = frame.sort_values("started_at", kind="stable", na_position="first")
    kept = latest.drop_duplicates(place, keep="last").index
    return frame.loc[kept.sort_values()].reset_index(drop=True)


def _read(files: Files, path: str, schema: pa.Schema) -> pa.Table | None:
    """None for a torn or foreign file. Raises FileNotFoundError."""
    table = read_ours(files, path)
    try:
        return None if table is None else conform(table, schema)
    except pa.ArrowException:  # a column of another type
        return None


def records(frame: pd.DataFrame) -> Iterator[Any]:
    """Named tuples, a row each, without the types that pandas can't know."""
    return cast(Iterator[Any], frame.itertuples(index=False))


def groups(frame: pd.DataFrame, by: list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """(values of `by`, rows) of every group, sorted."""
    return cast(Iterator[tuple[Any, pd.DataFrame]], iter(frame.groupby(by, sort=True)))


def unique_rows(frame: pd.DataFrame, columns: list[str]) -> list[Any]:
    """Distinct rows of `columns`, sorted."""
    return list(
        frame[columns].drop_duplicates().sort_values(columns).itertuples(index=False, name=None)
    )


def by_rate(frame: pd.DataFrame, rates: Iterable[float]) -> list[Any | None]:
    """The record of each rate; None where `frame` has none."""
    found = {record.rate: record for record in records(frame)}
    return [found.get(rate) for rate in rates]


def _diverged(models: pd.DataFrame, *, kept: bool) -> pd.DataFrame:
    """Models whose training diverged. `kept`: those that are judged by the weights of an earlier
    epoch, else those whose weights are NaN."""
    flag = models["diverged"] == True  # noqa: E712 - null where it is not recorded
    return models[flag & (models["accuracy"].notna() == kept)]


def diverged_texts(models: pd.DataFrame) -> list[str]:
    """`2 models diverged: random-local-filter at rate 4, seeds 0, 1`, what follows from it, and the
    same of those that are judged all the same."""
    lost, kept = (_diverged(models, kept=which) for which in (False, True))
    texts = []
    if len(lost):
        texts.append(
            f"{counted(len(lost), 'model')} diverged: {_places(lost)}. Their weights are NaN: no "
            "mean and no choice counts them"
        )
    if len(kept):
        texts.append(
            f"{counted(len(kept), 'model')} diverged later: {_places(kept)}. The weights kept from "
            "an earlier epoch are finite, and count"
        )
    return texts


def _places(models: pd.DataFrame) -> str:
    return "; ".join(
        f"{method} at rate {rate:g}, seed{'s' if len(mine) > 1 else ''} "
        + ", ".join(map(str, sorted(mine["seed"])))
        for (method, rate), mine in groups(models, ["method", "rate"])
    )


def seeds_text(n: pd.Series[int]) -> str:
    """`5 seeds`, or `3 to 5 seeds`."""
    low, high = int(n.min()), int(n.max())
    return counted(high, "seed") if low == high else f"{low} to {counted(high, 'seed')}"


def sampling_text(images: pd.Series[int]) -> str:
    """What intervals over seeds leave out, and how much that is. `images`: how many, by cell."""
    known = images.dropna()
    if known.empty:
        return "All seeds attack the same images: no interval covers their choice."
    low, high = int(known.min()), int(known.max())
    count = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"All seeds attack the same {count} images: no interval covers their choice. At {low} "
        "images the sampling error of an accuracy of 50 % is ± "
        f"{100 * sampling_half(low):.1f} points (95 %, binomial), of one nearer to 0 or 100 % less."
    )


def threats(cells: pd.DataFrame) -> list[Threat]:
    """Every (attack, eps) of some cells, by norm, then attack, then eps."""
    found = {Threat(a, n, float(e)) for a, n, e in unique_rows(cells, THREAT)}
    return sorted(found, key=lambda t: (norm_rank(t.norm), t.attack, t.eps))
