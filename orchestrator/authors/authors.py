"""`prunegrid import-authors`: the paper's authors' raw results as rows of a store.

The first five runs per method and rate, in file order, are seeds 0 to 4 of variant "authors",
protocol "authors". Robust accuracy at eps is the share of images whose distance is at least eps;
an attack skipped for low clean accuracy scores 0, as the authors had it; one that is missing for
no such reason is a missing cell. What is odd in the files is recorded beside the rows, not
corrected: see `oddities.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prunegrid.orchestrator.authors.oddities import (
    SKIP_ACCURACY,
    AuthorFinding,
    SeededRun,
    author_findings,
    first_five,
    minimum_eps,
)
from prunegrid.orchestrator.authors.raw_results import AuthorsFile, read_authors_file
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.grid.grid import (
    CellCoordinates,
    ModelCoordinates,
    cell_id,
    model_id,
)
from prunegrid.orchestrator.store.rows import CELL_SCHEMA, MODEL_SCHEMA, QUANTILES, broken_at
from prunegrid.workers import layout
from prunegrid.workers.catalog import attack_entry
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files
from prunegrid.workers.image_rows import IMAGE_SCHEMA, SCHEMA_VERSION, parquet_bytes
from prunegrid.workers.keys import digest

PROTOCOL = VARIANT = "authors"
PREFIX = "imported-"  #: of the keys and files of imported rows: no task of ours made them
_DATASETS = {"cnn5": "mnist", "resnet8": "cifar10", "vgg11": "cifar10", "resnet18": "imagenette"}
_SPLITS = {"mnist": "test", "cifar10": "validation", "imagenette": "validation"}
#: Distances below this are of misclassified images: C&W's change of variable moves them a little.
_MISCLASSIFIED = 1e-3
FOLDER = "imported"  #: of the store: one JSON file per import, with its sources and findings


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What one import left in a store."""

    models: int
    cells: int
    images: int
    findings: tuple[AuthorFinding, ...]


def read_sources(paths: Sequence[Path]) -> list[AuthorsFile]:
    """Each file once. Raises UsageError where a file has another form or two hold the same
    architecture."""
    sources = {source.sha256: source for source in map(read_authors_file, paths)}
    owner: dict[str, str] = {}
    for source in sources.values():
        for architecture in {run.architecture for run in source.runs}:
            if owner.setdefault(architecture, source.sha256) != source.sha256:
                raise UsageError(f"{source.name}: {architecture} is in another file as well")
    return list(sources.values())


def import_authors(sources: Sequence[AuthorsFile], files: Files) -> Imported:
    """Write the files' rows and findings; importing the same files again changes nothing. Raises
    StoreError where the store already holds another version of an architecture."""
    _check_store(files, {run.architecture: s.sha256 for s in sources for run in s.runs})
    done = [_import(source, files) for source in sources]
    return Imported(
        models=sum(part.models for part in done),
        cells=sum(part.cells for part in done),
        images=sum(part.images for part in done),
        findings=tuple(finding for part in done for finding in part.findings),
    )


def stored_author_findings(files: Files) -> tuple[AuthorFinding, ...]:
    """The findings of every import into a store. Raises StoreError on a torn record."""
    return tuple(AuthorFinding(**raw) for record in _records(files) for raw in record["findings"])


def _records(files: Files) -> list[dict[str, Any]]:
    out = []
    for info in sorted(files.list(FOLDER), key=lambda i: i.path):
        try:
            raw = parse_json(files.read(info.path))
            out.append({name: raw[name] for name in ("sha256", "architectures", "findings")})
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{files.address}/{info.path}: torn or not ours: {error}") from error
    return out


def _check_store(files: Files, owner: dict[str, str]) -> None:
    for record in _records(files):
        for architecture in record["architectures"]:
            if owner.get(architecture, record["sha256"]) != record["sha256"]:
                raise StoreError(
                    f"{files.address}: already holds the authors' {architecture} from another "
                    "file; import this one into another store"
                )


def _import(source: AuthorsFile, files: Files) -> Imported:
    chosen = first_five(source.runs)
    eps = {
        architecture: minimum_eps(
            architecture, [run for run in source.runs if run.architecture == architecture]
        )
        for architecture in sorted({run.architecture for run in source.runs})
    }
    builder = RowBuilder(source, eps)
    for seeded in chosen:
        builder.add(seeded)
    findings = author_findings(source.runs)
    name = f"{PREFIX}{source.sha256[:12]}.parquet"
    metadata = {"prunegrid.schema": str(SCHEMA_VERSION), "prunegrid.imported": source.sha256}
    images = builder.image_table()
    for folder, table in (
        (layout.IMAGE_ROWS, images),
        (layout.MODEL_ROWS, pa.Table.from_pylist(builder.models, schema=MODEL_SCHEMA)),
        (layout.CELL_ROWS, pa.Table.from_pylist(builder.cells, schema=CELL_SCHEMA)),
    ):
        files.write(f"{folder}/{name}", parquet_bytes(table.replace_schema_metadata(metadata)))
    record = {
        "source": source.name,
        "sha256": source.sha256,
        "architectures": list(eps),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    files.write(f"{FOLDER}/{source.sha256[:12]}.json", json.dumps(record, indent=1).encode())
    return Imported(
        models=len(builder.models),
        cells=len(builder.cells),
        images=len(images),
        findings=findings,
    )


# --------------------------------------------------------------------------- rows


class RowBuilder:
    """Model, cell and image rows of one file."""

    def __init__(self, source: AuthorsFile, eps: dict[str, dict[str, tuple[float, ...]]]) -> None:
        self._eps = eps
        self._images: list[pa.Table] = []
        self.models: list[dict[str, Any]] = []
        self.cells: list[dict[str, Any]] = []
        self._provenance = {
            "git_revision": "",
            "versions": json.dumps({"imported": f"{source.name} sha256:{source.sha256[:12]}"}),
            "device": "imported",
            "threads": None,
            "host": "imported",
            "started_at": "",
            "duration_s": None,
            "attempt": 1,
        }
        self._sha256 = source.sha256
        self._n_images: dict[str, int] = {}
        for run in source.runs:
            sizes = [len(m.distance) for m in run.minimum.values() if m is not None]
            self._n_images[run.architecture] = max(
                [self._n_images.get(run.architecture, 0), *sizes]
            )

    def add(self, seeded: SeededRun) -> None:
        run = seeded.run
        dataset = _DATASETS.get(run.architecture, "unknown")
        place = ModelCoordinates(
            architecture=run.architecture,
            dataset=dataset,
            variant=VARIANT,
            method=run.method,
            rate=run.rate,
            seed=seeded.seed,
        )
        identity = [self._sha256, run.architecture, run.method, run.file_row]
        key = f"{PREFIX}{digest(identity)}"
        shared = {**dataclasses.asdict(place), **self._provenance, "model_id": model_id(place, key)}
        self.models.append(
            {
                **shared,
                "task_key": key,
                "accuracy": run.accuracy,
                "loss": run.loss,
                "effective_rate": run.effective_rate,
                "params_total": run.params_total,
                "params_left": run.params_left,
            }
        )
        for attack, fixed in run.fixed.items():
            for eps, success in zip(fixed.eps, fixed.success_rate, strict=True):
                self._cell(place, shared, key, attack, eps, robust=1 - success)
        for attack, found in run.minimum.items():
            if found is None and run.accuracy > SKIP_ACCURACY:
                continue  # missing, not skipped
            distance = None if found is None else found.distance
            for eps in self._eps[run.architecture][attack]:
                robust = 0.0 if distance is None else float(np.mean(distance >= eps))
                self._cell(place, shared, key, attack, eps, robust=robust, distance=distance)
            if found is not None:
                self._add_images(key, seeded, dataset, attack)

    def _cell(
        self,
        place: ModelCoordinates,
        shared: dict[str, Any],
        key: str,
        attack: str,
        eps: float,
        *,
        robust: float,
        distance: NDArray[np.float64] | None = None,
    ) -> None:
        entry = attack_entry(attack)
        minimum = attack in self._eps[place.architecture]
        work = f"{key}-{attack}"
        n = self._n_images[place.architecture] if distance is None else len(distance)
        cell = CellCoordinates(model=place, protocol=PROTOCOL, attack=attack, eps=eps)
        row = {
            **shared,
            "cell_id": cell_id(cell, [work]),
            "protocol": PROTOCOL,
            "attack": attack,
            "algorithm": attack,
            "engine": "foolbox",
            "outputs": "softmax",
            "split": _SPLITS.get(place.dataset, "unknown"),
            "norm": entry.norm if entry else attack.rpartition("_")[2],
            "finds": "minimum-norm" if minimum else "fixed-eps",
            "eps": eps,
            "broken_at": broken_at(PROTOCOL, minimum_norm=minimum),
            "model_key": key,
            "n_images": n or None,
            "robust_accuracy": robust,
            "n_broken": round((1 - robust) * n),
            "n_skipped": n if minimum and distance is None else 0,
            "n_unverified": round((1 - robust) * n),
            "flags": ["softmax-outputs", "unverified"],
            "task_keys": [work],
        }
        correct = None if distance is None else distance[distance > _MISCLASSIFIED]
        if correct is not None and len(correct):
            for q in QUANTILES:
                row[f"distance_q{round(100 * q)}"] = float(np.quantile(correct, q, method="lower"))
        self.cells.append(row)

    def _add_images(self, key: str, seeded: SeededRun, dataset: str, attack: str) -> None:
        found = seeded.run.minimum[attack]
        assert found is not None
        n = len(found.distance)
        values: dict[str, Any] = {
            **{name: [value] * n for name, value in self._provenance.items()},
            "task_key": [f"{key}-{attack}"] * n,
            "model_key": [key] * n,
            "attack": [attack] * n,
            "engine": ["foolbox"] * n,
            "outputs": ["softmax"] * n,
            "split": [_SPLITS.get(dataset, "unknown")] * n,
            "image": np.arange(n),
            "distance": found.distance,
            "broken": found.success,
            "verified": np.zeros(n, dtype=bool),
            "skipped": np.zeros(n, dtype=bool),
            "seed": [seeded.seed] * n,
        }
        columns = [
            pa.array(values[field.name], field.type)
            if field.name in values
            else pa.nulls(n, field.type)
            for field in IMAGE_SCHEMA
        ]
        self._images.append(pa.table(columns, schema=IMAGE_SCHEMA))

    def image_table(self) -> pa.Table:
        return pa.concat_tables(self._images) if self._images else IMAGE_SCHEMA.empty_table()
