"""`prunegrid verify`: check every claim of a store again."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.commands.options import JsonOption, StoreOption
from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.output import Terminal, print_json, print_table
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.store_finding import StoreFinding
from prunegrid.orchestrator.verify.verify import Verifier


def command(store: StoreOption, as_json: JsonOption = False) -> None:
    """Check every claim of a store again; exit 1 on any doubt."""
    raise typer.Exit(show_findings(store, as_json=as_json, console=Terminal()))


def show_findings(address: str, *, as_json: bool, console: Console) -> int:
    """Print what was found; 0 where nothing was."""
    store = Store.open(address)
    verifier = Verifier(store)
    try:
        findings = list(verifier.findings())
    except PrunegridError as error:
        findings = [StoreFinding(name="unreadable", where=address, message=str(error))]
    if as_json:
        print_json(
            {
                "findings": [asdict(finding) for finding in findings],
                "mixed": [asdict(mixed) for mixed in verifier.mixed],
            }
        )
        return 1 if findings else 0
    for mixed in verifier.mixed:
        console.print(f"warning: {mixed}", soft_wrap=True)
    if not findings:
        console.print(f"{store.address}: every claim checked, no doubt found")
        return 0
    counts: Counter[str] = Counter()
    for finding in findings:
        counts[finding.name] += finding.count
    for name, count in counts.most_common():
        console.print(f"{count} x {name}")
    table = Table("finding", "where", "what", box=None)
    for finding in findings[:50]:
        table.add_row(finding.name, finding.where, finding.message)
    print_table(console, table)
    if len(findings) > 50:
        console.print(f"... and {len(findings) - 50} more (--json has all)")
    return 1
