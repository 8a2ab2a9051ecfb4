"""The rows of `results/models/` and `results/cells/`, derived from finished tasks.

A model or cell is a place in a grid; a task is work. Several places may share one task (a dense
network shared by nine methods), so rows are made by the driver from the workers' results, and
carry the task keys they rest on. Pure but for pyarrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from prunegrid.orchestrator.plan.places import CellPlace, ModelPlace, cell_id, model_id
from prunegrid.workers.attacks.checks import ZERO_GRADIENT_FRAC, rises_at
from prunegrid.workers.contract import AttackSettings
from prunegrid.workers.image_rows import (
    PROVENANCE_FIELDS,
    SCHEMA_VERSION,
    ImageRows,
    parquet_bytes,
    provenance_columns,
)
from prunegrid.workers.records import ModelRecord

_PLACE = [
    ("architecture", pa.string()),
    ("dataset", pa.string()),
    ("variant", pa.string()),
    ("method", pa.string()),
    ("rate", pa.float64()),
]

MODEL_SCHEMA = pa.schema(
    [
        ("model_id", pa.string()),
        *_PLACE,
        ("task_key", pa.string()),
        ("parent_key", pa.string()),
        ("accuracy", pa.float64()),
        ("loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("validation_loss", pa.float64()),
        ("train_loss", pa.float64()),
        ("epochs", pa.int32()),
        ("stopped_early", pa.bool_()),
        ("diverged", pa.bool_()),
        ("effective_rate", pa.float64()),
        ("speedup", pa.float64()),
        ("params_total", pa.int64()),
        ("params_left", pa.int64()),
        ("flops_total", pa.int64()),
        ("flops_left", pa.int64()),
        ("latency_ms", pa.float64()),
        ("shrunk_latency_ms", pa.float64()),
        ("latency_batch", pa.int32()),
        ("weights_sha256", pa.string()),
        *PROVENANCE_FIELDS,
    ],
    metadata={"prunegrid.schema": str(SCHEMA_VERSION)},
)

QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)

CELL_SCHEMA = pa.schema(
    [
        ("cell_id", pa.string()),
        ("model_id", pa.string()),
        *_PLACE,
        ("protocol", pa.string()),
        ("attack", pa.string()),
        ("algorithm", pa.string()),
        ("engine", pa.string()),
        ("outputs", pa.string()),
        ("split", pa.string()),
        ("norm", pa.string()),
        ("finds", pa.string()),
        ("eps", pa.float64()),
        ("model_key", pa.string()),
        ("n_images", pa.int32()),
        ("clean_accuracy", pa.float64()),
        ("robust_accuracy", pa.float64()),
        ("n_broken", pa.int32()),
        ("n_skipped", pa.int32()),
        ("n_unverified", pa.int32()),
        *[(f"distance_q{round(100 * q)}", pa.float64()) for q in QUANTILES],
        ("queries_mean", pa.float64()),
        ("zero_gradient_frac", pa.float64()),
        ("flags", pa.list_(pa.string())),
        ("task_keys", pa.list_(pa.string())),
        *PROVENANCE_FIELDS,
    ],
    metadata={"prunegrid.schema": str(SCHEMA_VERSION)},
)


def model_row(place: ModelPlace, record: ModelRecord) -> bytes:
    """One model's Parquet file."""
    return parquet_bytes(model_table(place, record))


def model_table(place: ModelPlace, record: ModelRecord) -> pa.Table:
    """One row of MODEL_SCHEMA."""
    result = record.result
    parent = getattr(record.task, "parent_key", None)
    values: dict[str, Any] = {
        "model_id": model_id(place, record.task.key),
        **_place_columns(place),
        "task_key": record.task.key,
        "parent_key": parent,
        "effective_rate": result.effective_rate,
        "speedup": result.speedup,
        "params_total": result.params_total,
        "params_left": result.params_left,
        "flops_total": sum(layer.flops_total for layer in result.layers),
        "flops_left": sum(layer.flops_left for layer in result.layers),
    }
    for name in MODEL_SCHEMA.names:
        if name not in values and hasattr(result, name):
            values[name] = getattr(result, name)
    row = {name: [value] for name, value in values.items()}
    row |= provenance_columns(record.provenance, 1)
    return pa.table([row[n] for n in MODEL_SCHEMA.names], schema=MODEL_SCHEMA)


def _place_columns(place: ModelPlace) -> dict[str, Any]:
    return {name: getattr(place, name) for name, _ in _PLACE}


@dataclass(frozen=True, kw_only=True)
class AttackTraits:
    """What the catalog says of an attack, as its rows record it."""

    norm: str
    finds: str  #: "fixed-eps" or "minimum-norm"
    gradients: bool


def cell_row(
    place: CellPlace, *, settings: AttackSettings, traits: AttackTraits, shards: Sequence[ImageRows]
) -> bytes:
    """One cell's Parquet file from all its shards."""
    return parquet_bytes(cell_table(place, settings=settings, traits=traits, shards=shards))


def cell_table(
    place: CellPlace, *, settings: AttackSettings, traits: AttackTraits, shards: Sequence[ImageRows]
) -> pa.Table:
    """One row of CELL_SCHEMA from all of a cell's shards. Raises ValueError where none of their
    rows is at its eps.

    Robust accuracy is the share of images that are not broken: for a minimum-norm attack those
    whose distance is at least eps (a misclassified image has distance 0), else those for which
    no re-checked adversarial within eps was found.
    """
    table = pa.concat_tables([shard.table for shard in shards])
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in CELL_NEEDS}
    rises = False
    if traits.finds == "fixed-eps":
        rises = rises_at(columns["eps"].astype(float), columns["broken"].astype(bool), place.eps)
        at_eps = np.isclose(columns["eps"].astype(float), place.eps, rtol=1e-9, atol=0)
        columns = {name: column[at_eps] for name, column in columns.items()}
    summary = summarise(columns, eps=place.eps, minimum_norm=traits.finds == "minimum-norm")
    first = columns["broken_first_step"] == True  # noqa: E712 - null where there is none
    lost = int((first & ~columns["broken"].astype(bool)).sum())
    last = max((shard.provenance for shard in shards), key=lambda p: p.started_at)
    task = shards[0].task
    values: dict[str, Any] = {
        "cell_id": cell_id(place, [shard.task.key for shard in shards]),
        "model_id": model_id(place.model, task.parent_key),
        **_place_columns(place.model),
        "protocol": place.protocol,
        "attack": place.attack,
        "algorithm": settings.attack,
        "engine": settings.engine,
        "outputs": settings.outputs,
        "split": task.split,
        "norm": traits.norm,
        "finds": traits.finds,
        "eps": place.eps,
        "model_key": task.parent_key,
        "flags": masking_flags(summary, settings, traits, lost_first_steps=lost, rises=rises),
        "task_keys": sorted(shard.task.key for shard in shards),
        **summary,
    }
    row = {name: [value] for name, value in values.items()}
    row |= provenance_columns(last, 1)
    row["seed"] = [place.model.seed]
    row["duration_s"] = [sum(shard.provenance.duration_s for shard in shards)]
    row["attempt"] = [max(shard.provenance.attempt for shard in shards)]
    return pa.table([row[n] for n in CELL_SCHEMA.names], schema=CELL_SCHEMA)


#: Of an image row, all that a cell is made of.
CELL_NEEDS = (
    "eps",
    "label",
    "clean_prediction",
    "distance",
    "broken",
    "verified",
    "skipped",
    "queries",
    "zero_gradient",
    "broken_first_step",
)


def summarise(
    columns: Mapping[str, np.ndarray], *, eps: float, minimum_norm: bool
) -> dict[str, Any]:
    """One cell's numbers from its image rows (arrays of one length, at least one image)."""
    n = len(columns["label"])
    if n == 0:
        raise ValueError(f"no image rows at eps {eps:g}")
    distance = columns["distance"].astype(float)
    broken = distance < eps if minimum_norm else columns["broken"].astype(bool)
    correct = columns["clean_prediction"] == columns["label"]
    summary: dict[str, Any] = {
        "n_images": n,
        "clean_accuracy": float(correct.mean()),
        "robust_accuracy": float(1 - broken.mean()),
        "n_broken": int(broken.sum()),
        "n_skipped": int(columns["skipped"].astype(bool).sum()),
        "n_unverified": int((broken & ~columns["verified"].astype(bool)).sum()),
        "queries_mean": float(columns["queries"].astype(float).mean()),
        "zero_gradient_frac": float((columns["zero_gradient"] == True).mean()),  # noqa: E712 - null
    }
    for q in QUANTILES:
        name = f"distance_q{round(100 * q)}"
        # "lower": a quantile is one image's distance, and inf stays inf instead of nan
        summary[name] = (
            float(np.quantile(distance[correct], q, method="lower"))
            if minimum_norm and correct.any()
            else None
        )
    return summary


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
    flags = ["weaker-than-first-step"] if lost_first_steps else []
    if rises:
        flags.append("not-monotone")
    if traits.gradients and settings.outputs == "softmax":
        flags.append("softmax-outputs")
    if traits.gradients and summary["zero_gradient_frac"] > ZERO_GRADIENT_FRAC:
        flags.append("zero-gradients")
    if summary["n_unverified"]:
        flags.append("unverified")
    if math.isclose(summary["clean_accuracy"], 0.0):
        flags.append("no-clean-accuracy")
    return flags
