"""`python -m prunegrid` is `prunegrid`."""

from prunegrid.orchestrator.cli import main

main()
