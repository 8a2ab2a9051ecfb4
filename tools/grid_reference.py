"""The reference of a grid file's fields, as docs/experiment.md has it."""

from __future__ import annotations

from prunegrid.orchestrator.grid.attack_fields import AttackTable, ProtocolTable
from prunegrid.orchestrator.grid.fields import Table
from prunegrid.orchestrator.grid.file import (
    AdversarialTable,
    ArchitectureTable,
    GridTable,
    PruningTable,
    ScheduleTable,
    TrainingTable,
    VariantTable,
)
from prunegrid.orchestrator.grid.resources import PriceTable, ResourcesTable

TABLES: tuple[type[Table], ...] = (
    GridTable,
    ArchitectureTable,
    TrainingTable,
    ScheduleTable,
    AdversarialTable,
    PruningTable,
    VariantTable,
    AttackTable,
    ProtocolTable,
    ResourcesTable,
    PriceTable,
)


def reference() -> str:
    """Markdown: a table for each mapping of the file."""
    parts = []
    for table in TABLES:
        rows = [
            f"| `{field.name}` | {field.kind.text} | {field.default_text} | {field.doc} |"
            for field in table.fields()
        ]
        what = " ".join((table.__doc__ or "").split())
        head = f"**`{table.path}`**: {what}" if table.path else what
        parts.append(
            "\n".join([head, "", "| key | value | default | |", "|---|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
