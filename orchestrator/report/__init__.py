"""Tables and figures of a store: `write_report` for files, `summary_rows` for a terminal."""

from orchestrator.report.tables import SummaryRow, summary_rows
from orchestrator.report.write import write_report

__all__ = ["SummaryRow", "summary_rows", "write_report"]
