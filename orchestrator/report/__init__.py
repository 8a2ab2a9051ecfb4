"""Tables, figures and findings of a store: `write_report` for files, `print_report` for a terminal.

`results.py` reads rows, `analysis.py` computes everything once, `sections/` has a module for
each part of the report, `write.py` and `page.py` write what these give. All arithmetic is pure."""

from prunegrid.orchestrator.report.results import Results, load_results
from prunegrid.orchestrator.report.write import ReportPaths, write_report

__all__ = [
    "ReportPaths",
    "Results",
    "load_results",
    "write_report",
]
