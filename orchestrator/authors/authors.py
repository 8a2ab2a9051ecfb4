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

import pyarrow as pa

from prunegrid.orchestrator.authors.imported_rows import PREFIX, RowBuilder
from prunegrid.orchestrator.authors.oddities import (
    AuthorFinding,
    author_findings,
    first_five,
    minimum_eps,
)
from prunegrid.orchestrator.authors.raw_results import AuthorsFile, read_authors_file
from prunegrid.orchestrator.errors import StoreError, UsageError
from prunegrid.orchestrator.store.rows import CELL_SCHEMA, MODEL_SCHEMA
from prunegrid.workers import layout
from prunegrid.workers.decode import parse_json
from prunegrid.workers.files import Files
from prunegrid.workers.image_rows import SCHEMA_VERSION, parquet_bytes

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
