"""Rows of imaginary grids: smooth curves, seeds' noise, planted shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from prunegrid.orchestrator.report.results import Results
from prunegrid.orchestrator.store.rows import CELL_SCHEMA, MODEL_SCHEMA
from prunegrid.workers.image_rows import parquet_bytes

METHODS = tuple(
    f"{selection}-{structure}"
    for structure in ("unstructured", "kernel", "filter")
    for selection in ("magnitude-global", "magnitude-local", "random-local")
)
RATES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
THREATS: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("bb_l0", "l0"): (3.0, 6.0, 9.0, 12.0),
    ("cw_l2", "l2"): (1.0, 2.0, 3.0, 4.0),
    ("pgd_linf", "linf"): (4 / 255, 8 / 255, 16 / 255, 32 / 255),
}


def synthetic(
    *,
    architectures: Sequence[str] = ("cnn5",),
    dataset: str = "mnist",
    variant: str = "standard",
    methods: Sequence[str] = METHODS[:3],
    rates: Sequence[float] = RATES[:4],
    seeds: int = 2,
    protocols: Sequence[str] = ("strict",),
    threats: Mapping[tuple[str, str], tuple[float, ...]] = THREATS,
    flags: Sequence[str] = (),
    noise: float = 0.01,
    address: str = "synthetic",
) -> Results:
    """Cells whose robust accuracy falls with eps and rate. Equal arguments, equal rows."""
    draw = np.random.default_rng(7)
    models, cells = [], []
    for architecture in architectures:
        for m, method in enumerate(methods):
            for rate in rates:
                for seed in range(seeds):
                    loss = 0.004 * (m + 1) * np.log2(rate) ** 2
                    place = {
                        "architecture": architecture,
                        "dataset": dataset,
                        "variant": variant,
                        "method": method,
                        "rate": rate,
                        "seed": seed,
                    }
                    name = f"{architecture}-{variant}-{method}-{rate:g}-{seed}"
                    shared = {**place, **_PROVENANCE, "model_id": f"model-{name}"}
                    clean = float(np.clip(0.98 - loss + noise / 5 * draw.normal(), 0, 1))
                    models.append(
                        {
                            **shared,
                            "task_key": f"prune-{name}",
                            "accuracy": clean,
                            "effective_rate": rate if m % 2 == 0 else 1 + 0.5 * (rate - 1),
                            "speedup": 0.8 * rate + 0.2,
                        }
                    )
                    for protocol in protocols:
                        cells += [
                            {
                                **shared,
                                "cell_id": f"cell-{name}-{protocol}-{attack}-{rung}",
                                "model_key": f"prune-{name}",
                                "protocol": protocol,
                                "attack": attack,
                                "algorithm": attack,
                                "engine": "strict",
                                "outputs": "logits",
                                "split": "test",
                                "norm": norm,
                                "finds": "fixed-eps" if norm == "linf" else "minimum-norm",
                                "eps": value,
                                "n_images": 128,
                                "robust_accuracy": _falling(clean, rung, loss, noise, draw),
                                "n_skipped": 0,
                                "flags": list(flags),
                                "task_keys": [f"attack-{name}-{attack}"],
                            }
                            for (attack, norm), eps in threats.items()
                            for rung, value in enumerate(eps)
                        ]
    return Results(
        address=address,
        models=pa.Table.from_pylist(models, schema=MODEL_SCHEMA).to_pandas(),
        cells=pa.Table.from_pylist(cells, schema=CELL_SCHEMA).to_pandas(),
    )


def _falling(clean: float, rung: int, loss: float, noise: float, draw: Any) -> float:
    return float(np.clip(clean - 0.2 * (rung + 1) - loss + noise * draw.normal(), 0, 1))


_PROVENANCE = {
    "git_revision": "0123456789ab",
    "versions": '{"tensorflow": "2.21.0"}',
    "device": "cpu",
    "threads": 1,
    "host": "node-1",
    "started_at": "2026-01-02T03:04:05+00:00",
    "duration_s": 1.5,
    "attempt": 1,
}


def write_store(results: Results, root: Path) -> None:
    """One merged file per kind of row."""
    for folder, frame, schema in (
        ("models", results.models, MODEL_SCHEMA),
        ("cells", results.cells, CELL_SCHEMA),
    ):
        target = root / "results" / folder
        target.mkdir(parents=True)
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        metadata = {"prunegrid.schema": "1"}
        (target / "merged.parquet").write_bytes(
            parquet_bytes(table.replace_schema_metadata(metadata))
        )


def without(results: Results, **coordinates: object) -> Results:
    """The results without the cells at these coordinates."""
    gone = pd.Series(True, index=results.cells.index)
    for name, value in coordinates.items():
        gone &= results.cells[name] == value
    assert gone.any(), f"no cell at {coordinates}"
    return Results(address=results.address, models=results.models, cells=results.cells[~gone])
