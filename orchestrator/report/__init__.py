"""Tables, figures and findings of a store: `write_report` for files, `summary_rows` for a
terminal. All arithmetic is pure: `load_results` reads, `write.py` writes, `html.py` and
`static.py` draw."""

from prunegrid.orchestrator.report.results import Results, load_results
from prunegrid.orchestrator.report.tables import SummaryRow, summary_rows
from prunegrid.orchestrator.report.write import ReportPaths, write_report

__all__ = [
    "ReportPaths",
    "Results",
    "SummaryRow",
    "load_results",
    "summary_rows",
    "write_report",
]
