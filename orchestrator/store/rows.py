"""The rows of `results/models/` and `results/cells/`, derived from finished tasks.

A model or cell is a place in a grid; a task is work. Several places may share one task (a dense
network shared by nine methods), so the driver makes the rows from the workers' results. A row
names the tasks that it rests on. Pure but for pyarrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from prunegrid.orchestrator.grid.grid import (
    CellCoordinates,
    ModelCoordinates,
    cell_id,
    model_id,
)
from prunegrid.orchestrator.plan.dag import parent_of
from prunegrid.workers.catalog import SCORES_ALONE, attack_name
from prunegrid.workers.contract import AttackSettings, AttackTask
from prunegrid.workers.image_rows import (
    PROVENANCE_FIELDS,
    SCHEMA_VERSION,
    ImageRows,
    parquet_bytes,
    provenance_columns,
)
from prunegrid.workers.records import ModelRecord, ModelResult, Provenance

#: The flag of an attack that one without gradients outdoes.
SCORES_ALONE_STRONGER = "gradient-free-stronger"
#: Counts of broken images must differ by more than this many to raise a flag.
SLACK_IMAGES = 1
#: Above this share of images with an all-zero gradient a gradient attack says little.
ZERO_GRADIENT_FRAC = 0.01
#: Above this share of images that only a part without gradients broke, the gradients of the other
#: parts may be masked (AutoAttack's own flag).
SCORES_ALONE_FRAC = 0.002

Source = TypeVar("Source", contravariant=True)


class Column(NamedTuple, Generic[Source]):
    """One column of a row: its name, its type, and how it is computed."""

    name: str
    type: pa.DataType
    value: Callable[[Source], object]


def schema_of(columns: Sequence[Column[Source]]) -> pa.Schema:
    """Of the rows that have these columns."""
    return pa.schema(
        [(column.name, column.type) for column in columns],
        metadata={"prunegrid.schema": str(SCHEMA_VERSION)},
    )


def one_row(columns: Sequence[Column[Source]], source: Source, schema: pa.Schema) -> pa.Table:
    """One row."""
    return pa.table([[column.value(source)] for column in columns], schema=schema)


@dataclass(frozen=True, kw_only=True)
class RowSource:
    """What any row is computed from."""

    model: ModelCoordinates  #: the model's, or that of the cell's model
    provenance: Mapping[str, object]  #: by column


def _provenance(name: str, kind: pa.DataType) -> Column[RowSource]:
    return Column(name, kind, lambda row: row.provenance[name])


PLACE_COLUMNS: tuple[Column[RowSource], ...] = (
    Column("architecture", pa.string(), lambda row: row.model.architecture),
    Column("dataset", pa.string(), lambda row: row.model.dataset),
    Column("variant", pa.string(), lambda row: row.model.variant),
    Column("method", pa.string(), lambda row: row.model.method),
    Column("rate", pa.float64(), lambda row: row.model.rate),
)
PROVENANCE_COLUMNS = tuple(_provenance(name, kind) for name, kind in PROVENANCE_FIELDS)


# --------------------------------------------------------------------------- models


@dataclass(frozen=True, kw_only=True)
class ModelSource(RowSource):
    """What a model's row is computed from."""

    record: ModelRecord

    @property
    def result(self) -> ModelResult:
        return self.record.result


def _known(accuracy: float) -> float | None:
    """A diverged model has none."""
    return None if math.isnan(accuracy) else accuracy


#: A new column is one line here (and a new SCHEMA_VERSION: see tests/store/test_rows.py).
MODEL_COLUMNS: tuple[Column[ModelSource], ...] = (
    Column("model_id", pa.string(), lambda m: model_id(m.model, m.record.task.key)),
    *PLACE_COLUMNS,
    Column("task_key", pa.string(), lambda m: m.record.task.key),
    Column("parent_key", pa.string(), lambda m: parent_of(m.record.task)),
    Column("accuracy", pa.float64(), lambda m: _known(m.result.accuracy)),
    Column("loss", pa.float64(), lambda m: m.result.loss),
    Column("validation_accuracy", pa.float64(), lambda m: _known(m.result.validation_accuracy)),
    Column("validation_loss", pa.float64(), lambda m: m.result.validation_loss),
    Column("train_loss", pa.float64(), lambda m: m.result.train_loss),
    Column("epochs", pa.int32(), lambda m: m.result.epochs),
    Column("stopped_early", pa.bool_(), lambda m: m.result.stopped_early),
    Column("diverged", pa.bool_(), lambda m: m.result.diverged),
    Column("effective_rate", pa.float64(), lambda m: m.result.effective_rate),
    Column("speedup", pa.float64(), lambda m: m.result.speedup),
    Column("params_total", pa.int64(), lambda m: m.result.params_total),
    Column("params_left", pa.int64(), lambda m: m.result.params_left),
    Column("flops_total", pa.int64(), lambda m: sum(k.flops_total for k in m.result.layers)),
    Column("flops_left", pa.int64(), lambda m: sum(k.flops_left for k in m.result.layers)),
    Column("latency_ms", pa.float64(), lambda m: m.result.latency_ms),
    Column("shrunk_latency_ms", pa.float64(), lambda m: m.result.shrunk_latency_ms),
    Column("latency_batch", pa.int32(), lambda m: m.result.latency_batch),
    Column("weights_sha256", pa.string(), lambda m: m.result.weights_sha256),
    *PROVENANCE_COLUMNS,
)
MODEL_SCHEMA = schema_of(MODEL_COLUMNS)


def model_row(place: ModelCoordinates, record: ModelRecord) -> bytes:
    """One model's Parquet file."""
    return parquet_bytes(model_table(place, record))


def model_table(place: ModelCoordinates, record: ModelRecord) -> pa.Table:
    """One row of MODEL_SCHEMA."""
    provenance = by_column(record.provenance)
    source = ModelSource(model=place, record=record, provenance=provenance)
    return one_row(MODEL_COLUMNS, source, MODEL_SCHEMA)


def by_column(provenance: Provenance) -> dict[str, object]:
    """As a row's columns have it."""
    return {name: values[0] for name, values in provenance_columns(provenance, 1).items()}


# --------------------------------------------------------------------------- cells


@dataclass(frozen=True, kw_only=True)
class AttackTraits:
    """What the catalog says of an attack, as its rows record it."""

    norm: str
    finds: str  #: "fixed-eps" or "minimum-norm"
    gradients: bool


@dataclass(frozen=True, kw_only=True)
class CellSource(RowSource):
    """What a cell's row is computed from."""

    place: CellCoordinates
    settings: AttackSettings
    traits: AttackTraits
    broken_at: str | None  #: None: as rows of schema 1
    tasks: tuple[AttackTask, ...]  #: the cell's shards
    summary: Mapping[str, object]  #: see `summarise`
    flags: list[str]

    @property
    def task_keys(self) -> list[str]:
        return [task.key for task in self.tasks]


def _summary(name: str, kind: pa.DataType) -> Column[CellSource]:
    return Column(name, kind, lambda c: c.summary[name])


#: When a cell counts an image as broken, in its column `broken_at`.
WITHIN, BELOW = "distance <= eps", "distance < eps"
#: Protocols that count as the paper's authors did; all others take the threat model at its word.
AUTHORS_COUNT = ("paper", "authors")


def broken_at(protocol: str, *, minimum_norm: bool) -> str:
    """The rule of a protocol's cells."""
    return broken_before(minimum_norm=minimum_norm) if protocol in AUTHORS_COUNT else WITHIN


def broken_before(*, minimum_norm: bool) -> str:
    """The rule of the published experiment, and of all rows of schema 1, which lack the column."""
    return BELOW if minimum_norm else WITHIN


QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)

#: A new column is one line here (and a new SCHEMA_VERSION: see tests/store/test_rows.py).
CELL_COLUMNS: tuple[Column[CellSource], ...] = (
    Column("cell_id", pa.string(), lambda c: cell_id(c.place, c.task_keys)),
    Column("model_id", pa.string(), lambda c: model_id(c.model, c.tasks[0].parent_key)),
    *PLACE_COLUMNS,
    Column("protocol", pa.string(), lambda c: c.place.protocol),
    Column("attack", pa.string(), lambda c: c.place.attack),
    Column("algorithm", pa.string(), lambda c: attack_name(c.settings)),
    Column("engine", pa.string(), lambda c: c.settings.engine),
    Column("outputs", pa.string(), lambda c: c.settings.outputs),
    Column("split", pa.string(), lambda c: c.tasks[0].split),
    Column("norm", pa.string(), lambda c: c.traits.norm),
    Column("finds", pa.string(), lambda c: c.traits.finds),
    Column("eps", pa.float64(), lambda c: c.place.eps),
    Column("broken_at", pa.string(), lambda c: c.broken_at),
    Column("model_key", pa.string(), lambda c: c.tasks[0].parent_key),
    _summary("n_images", pa.int32()),
    _summary("clean_accuracy", pa.float64()),
    _summary("robust_accuracy", pa.float64()),
    _summary("n_broken", pa.int32()),
    _summary("n_skipped", pa.int32()),
    _summary("n_unverified", pa.int32()),
    *(_summary(f"distance_q{round(100 * q)}", pa.float64()) for q in QUANTILES),
    _summary("distance_pixels_q50", pa.float64()),
    _summary("robust_accuracy_pixels", pa.float64()),
    _summary("queries_mean", pa.float64()),
    _summary("backward_mean", pa.float64()),
    _summary("zero_gradient_frac", pa.float64()),
    _summary("flat_loss_frac", pa.float64()),
    _summary("n_shrunk", pa.int32()),
    _summary("n_redone", pa.int32()),
    Column("flags", pa.list_(pa.string()), lambda c: c.flags),
    Column("task_keys", pa.list_(pa.string()), lambda c: sorted(c.task_keys)),
    *PROVENANCE_COLUMNS,
)
CELL_SCHEMA = schema_of(CELL_COLUMNS)


def cell_row(
    place: CellCoordinates,
    *,
    settings: AttackSettings,
    traits: AttackTraits,
    shards: Sequence[ImageRows],
) -> bytes:
    """One cell's Parquet file from all its shards."""
    return parquet_bytes(cell_table(place, settings=settings, traits=traits, shards=shards))


def cell_table(
    place: CellCoordinates,
    *,
    settings: AttackSettings,
    traits: AttackTraits,
    shards: Sequence[ImageRows],
    unrecorded: bool = False,
) -> pa.Table:
    """One row of CELL_SCHEMA from all of a cell's shards. Raises ValueError where none of their
    rows is at its eps.

    Robust accuracy is the share of images that are not broken: for a minimum-norm attack by
    distance (a misclassified image has 0), as `broken_at` says, else those for which no re-checked
    adversarial within eps was found. `unrecorded`: the row as schema 1 had it.
    """
    minimum = traits.finds == "minimum-norm"
    rule = None if unrecorded else broken_at(place.protocol, minimum_norm=minimum)
    table = pa.concat_tables([shard.table for shard in shards], promote_options="default")
    columns = {
        name: table.column(name).to_numpy(zero_copy_only=False)
        if name in table.schema.names
        else np.full(len(table), None)  # of an earlier schema
        for name in CELL_NEEDS
    }
    rises = False
    if not minimum:
        rises = rises_at(columns["eps"].astype(float), columns["broken"].astype(bool), place.eps)
        at_eps = columns["eps"].astype(float) == place.eps
        columns = {name: column[at_eps] for name, column in columns.items()}
    summary = summarise(columns, eps=place.eps, minimum_norm=minimum, within=rule == WITHIN)
    first = columns["broken_first_step"] == True  # noqa: E712 - null where there is none
    lost = int((first & ~columns["broken"].astype(bool)).sum())
    last = max((shard.provenance for shard in shards), key=lambda p: p.started_at)
    provenance = by_column(last) | {
        "seed": place.model.seed,
        **{name: all_of(shards, name) for name in ("code_digest", "arithmetic", "user_sources")},
        # rows of schema 1 have the last shard's alone
        **({} if unrecorded else {"git_revision": all_of(shards, "git_revision") or ""}),
        "duration_s": sum(shard.provenance.duration_s for shard in shards),
        "attempt": max(shard.provenance.attempt for shard in shards),
    }
    source = CellSource(
        model=place.model,
        place=place,
        settings=settings,
        traits=traits,
        broken_at=rule,
        tasks=tuple(shard.task for shard in shards),
        summary=summary,
        flags=masking_flags(summary, settings, traits, lost_first_steps=lost, rises=rises),
        provenance=provenance,
    )
    return one_row(CELL_COLUMNS, source, CELL_SCHEMA)


def all_of(shards: Sequence[ImageRows], name: str) -> str | None:
    """What the shards' provenance says, each value once; None where none says anything."""
    texts = [text for shard in shards if (text := getattr(shard.provenance, name))]
    values = {value for text in texts for value in text.split(", ")}
    return ", ".join(sorted(values)) or None


#: Of an image row, all that a cell is made of.
CELL_NEEDS = (
    "eps",
    "label",
    "clean_prediction",
    "distance",
    "distance_pixels",
    "broken",
    "verified",
    "skipped",
    "queries",
    "backward_passes",
    "zero_gradient",
    "flat_passes",
    "broken_first_step",
    "broken_by",
    "attacked_network",
)


def summarise(
    columns: Mapping[str, np.ndarray], *, eps: float, minimum_norm: bool, within: bool = False
) -> dict[str, Any]:
    """One cell's numbers from its image rows (arrays of one length, at least one image); None for
    those that a diverged model has not. `within`: a distance of exactly eps is broken."""
    n = len(columns["label"])
    if n == 0:
        raise ValueError(f"no image rows at eps {eps:g}")
    distance = columns["distance"].astype(float)
    broken = columns["broken"].astype(bool)
    if minimum_norm:
        broken = distance <= eps if within else distance < eps
    correct = columns["clean_prediction"] == columns["label"]
    summary: dict[str, Any] = {
        "n_images": n,
        "clean_accuracy": float(correct.mean()),
        "robust_accuracy": float(1 - broken.mean()),
        "n_broken": int(broken.sum()),
        "n_skipped": int(columns["skipped"].astype(bool).sum()),
        "n_unverified": int((broken & ~columns["verified"].astype(bool)).sum()),
        "queries_mean": float(columns["queries"].astype(float).mean()),
        "backward_mean": _mean(columns["backward_passes"].astype(float)),
        "zero_gradient_frac": float((columns["zero_gradient"] == True).mean()),  # noqa: E712 - null
        "flat_loss_frac": _mean(np.minimum(columns["flat_passes"].astype(float), 1)[correct]),
        "scores_alone_frac": float((broken & (columns["broken_by"] == SCORES_ALONE)).mean()),
    }
    networks = columns["attacked_network"]
    known = any(networks)  # not in rows before schema 5
    for name in ("shrunk", "redone"):
        summary[f"n_{name}"] = int((networks == name).sum()) if known else None
    pixels = columns["distance_pixels"].astype(float)
    known = correct.any() and not np.isnan(pixels).any()
    summary["distance_pixels_q50"] = (
        float(np.quantile(pixels[correct], 0.5, method="lower")) if minimum_norm and known else None
    )
    summary["robust_accuracy_pixels"] = (
        float(((pixels > eps) if within else (pixels >= eps)).mean())
        if minimum_norm and known
        else None
    )
    if np.all(columns["skipped"].astype(bool) & (columns["clean_prediction"] == -1)):
        summary |= dict.fromkeys(("clean_accuracy", "robust_accuracy", "n_broken"))
    for q in QUANTILES:
        name = f"distance_q{round(100 * q)}"
        # "lower": a quantile is one image's distance, and inf stays inf instead of nan
        summary[name] = (
            float(np.quantile(distance[correct], q, method="lower"))
            if minimum_norm and correct.any()
            else None
        )
    return summary


def _mean(values: np.ndarray) -> float | None:
    """Of those that are known (not NaN)."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def rises_at(eps: np.ndarray, broken: np.ndarray, at: float) -> bool:
    """Whether more images stand at eps `at` than at one below it, by more than SLACK_IMAGES.

    eps [n], broken bool [n]: a fixed-eps attack's rows, each image once for every eps.
    """
    here = int((~broken[eps == at]).sum())
    below = [int((~broken[eps == value]).sum()) for value in np.unique(eps) if value < at]
    return bool(below) and here > min(below) + SLACK_IMAGES


def masking_flags(
    summary: Mapping[str, Any],
    settings: AttackSettings,
    traits: AttackTraits,
    *,
    lost_first_steps: int,
    rises: bool,
) -> list[str]:
    """Signs, visible in one attack's rows, that gradients may be masked (Carlini et al. 2019);
    the report adds those that take two attacks."""
    if summary["clean_accuracy"] is None:
        return ["diverged"]
    flags = ["weaker-than-first-step"] if lost_first_steps else []
    if rises:
        flags.append("not-monotone")
    if traits.gradients and settings.outputs == "softmax":
        flags.append("softmax-outputs")
    if traits.gradients and summary["zero_gradient_frac"] > ZERO_GRADIENT_FRAC:
        flags.append("zero-gradients")
    if traits.gradients and (summary["flat_loss_frac"] or 0.0) > ZERO_GRADIENT_FRAC:
        flags.append("flat-loss")
    if summary["scores_alone_frac"] > SCORES_ALONE_FRAC:
        flags.append(SCORES_ALONE_STRONGER)
    if summary["n_unverified"]:
        flags.append("unverified")
    if math.isclose(summary["clean_accuracy"], 0.0):
        flags.append("no-clean-accuracy")
    return flags
