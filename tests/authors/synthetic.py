"""Results in the authors' form, of an architecture that they have not: what was seen of their
files, planted one oddity at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
RATES = (1, 2, 4)
SEEDS = 5
IMAGES = 20
EPS_255 = (0.25, 0.5, 1.0, 2.0)


def rows(architecture: str = "wide9") -> list[Row]:
    """A whole grid of nine methods, without any oddity."""
    draw = np.random.default_rng(5)
    out = []
    for criterion, scope in (("magnitude", "local"), ("magnitude", "global"), ("random", "local")):
        for structure in ("unstructured", "kernel", "filter"):
            places = [(seed, rate) for seed in range(SEEDS) for rate in RATES]
            for position, (seed, rate) in enumerate(places):
                distance = draw.exponential(3.0, IMAGES)
                distance[:2] = 0.0
                out.append(
                    {
                        "architecture": architecture,
                        "criterion": criterion,
                        "scope": scope,
                        "structure": structure,
                        "compression_rate": rate,
                        "file_row": position,
                        "iteration_label": seed,
                        "accuracy": 0.9 - 0.01 * rate + 0.01 * draw.random(),
                        "loss": draw.random(),
                        "params_total": 1000,
                        "params_left": round(1000 / rate),
                        "pgd_linf_epsilon_255": list(EPS_255),
                        "pgd_linf_success_rate": sorted(draw.random(len(EPS_255)).tolist()),
                        "cw_l2_distance": distance.tolist(),
                        "cw_l2_success": [True] * IMAGES,
                    }
                )
    return out


def write(path: Path, changed: Callable[[list[Row]], list[Row] | None] | None = None) -> Path:
    """`changed` edits the rows, in place or anew."""
    made = rows()
    if changed is not None:
        made = changed(made) or made
    pq.write_table(pa.Table.from_pylist(made), path)
    return path
