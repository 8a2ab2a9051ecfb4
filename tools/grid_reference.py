"""The reference of a grid file's fields, as docs/experiment.md has it."""

from __future__ import annotations

from prunegrid.orchestrator.grid.attack_fields import AttackTable, OwnAttackTable, ProtocolTable
from prunegrid.orchestrator.grid.data_fields import DatasetTable
from prunegrid.orchestrator.grid.fields import Field, Missing, Table
from prunegrid.orchestrator.grid.file import (
    AdversarialTable,
    ArchitectureTable,
    AugmentationTable,
    GridTable,
    PruningTable,
    ScheduleTable,
    TrackTable,
    TrainingTable,
    TransferTable,
    VariantTable,
)
from prunegrid.orchestrator.grid.method_fields import MethodTable
from prunegrid.orchestrator.grid.resources import PriceTable, ResourcesTable

TABLES: tuple[type[Table], ...] = (
    GridTable,
    ArchitectureTable,
    DatasetTable,
    TrainingTable,
    AugmentationTable,
    ScheduleTable,
    AdversarialTable,
    MethodTable,
    PruningTable,
    VariantTable,
    AttackTable,
    OwnAttackTable,
    ProtocolTable,
    TransferTable,
    ResourcesTable,
    PriceTable,
    TrackTable,
)


def reference() -> str:
    """Markdown: a table for each mapping of the file."""
    parts = []
    for table in TABLES:
        rows = [
            f"| `{field.name}` | {field.kind.text} | {_default(field)} | {field.doc} |"
            for field in table.fields()
        ]
        what = " ".join((table.__doc__ or "").split())
        head = f"**`{table.path}`**: {what}" if table.path else what
        parts.append(
            "\n".join([head, "", "| key | value | default | |", "|---|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


def _default(field: Field[object]) -> str:
    default = field.default
    if field.shown is not None:
        return field.shown
    if isinstance(default, Missing):
        return default.value
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return "none" if default is None else str(default)


if __name__ == "__main__":
    print(reference(), end="")
