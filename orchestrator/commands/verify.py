"""`prunegrid verify`: check every claim of a store again."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from prunegrid.orchestrator.commands.options import JsonOption, StoreOption
from prunegrid.orchestrator.output import Terminal, plain, print_json, print_table
from prunegrid.orchestrator.python_api import open_store
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.store import Store
from prunegrid.orchestrator.verify.verify import Verifier
from prunegrid.workers import layout


def command(
    store: StoreOption,
    as_json: JsonOption = False,
    setting_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside",
            help="Move what is doubted to the store's torn/, so that 'run' makes it anew.",
        ),
    ] = False,
) -> None:
    """Check every claim of a store again; exit 1 on any doubt."""
    if setting_aside:
        set_aside(store, Terminal())
    else:
        raise typer.Exit(show_findings(store, as_json=as_json, console=Terminal()))


def set_aside(address: str, console: Console) -> None:
    """Until nothing is doubted but what is missing. Raises StoreError where a driver holds the
    store."""
    store = Store.open(address)
    say = plain(console)
    found = False
    with Lease.take(store, say=say) as lease:
        while moved := Verifier(store).set_aside():
            found = True
            for name in moved:
                say(f"{name}: moved to {store.address}/torn/")
            lease.check()
    again = f"prunegrid run GRID --store {address}"
    say(
        f"now run the grid again: {again}"
        if found
        else f"nothing to set aside; what is missing is made by {again}"
    )


def show_findings(address: str, *, as_json: bool, console: Console) -> int:
    """Print what was found; 0 where nothing was."""
    store = open_store(address)
    findings = store.verify()
    if as_json:
        print_json(
            {
                "findings": [asdict(finding) for finding in findings],
                "mixed": [asdict(mixed) for mixed in findings.mixed],
                "notes": findings.notes,
            }
        )
        return 1 if findings else 0
    for mixed in findings.mixed:
        console.print(f"warning: {mixed}", soft_wrap=True)
    for note in findings.notes:
        console.print(f"warning: {note}", soft_wrap=True)
    if not findings:
        checked = "the other claims checked" if findings.notes else "every claim checked"
        console.print(f"{store.address}: {checked}, no doubt found")
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
    if Store.open(address).files.exists(layout.GRID):  # imported results can't be made anew
        plain(console)(
            f"to make anew what is doubted: prunegrid verify --store {address} --set-aside; then "
            f"prunegrid run GRID --store {address}"
        )
    return 1
