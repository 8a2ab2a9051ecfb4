"""What a grid leaves to measurement, measured for its store: once, before anything is planned."""

from __future__ import annotations

from prunegrid.orchestrator.driver.launch import Place
from prunegrid.orchestrator.errors import PrunegridError
from prunegrid.orchestrator.grid.grid import Selection
from prunegrid.orchestrator.grid.sizes import Sizes, settle
from prunegrid.orchestrator.plan.dag import Plan, expand
from prunegrid.orchestrator.plan.sizes import choose, sizes_text, unmeasured
from prunegrid.orchestrator.store.lease import Lease
from prunegrid.orchestrator.store.sizes import read_sizes, write_sizes
from prunegrid.workers.speeds import Speed


class MeasureError(PrunegridError):
    """No worker could be measured; nothing was started."""


def have_sizes(plan: Plan, select: Selection, place: Place, lease: Lease) -> Plan:
    """The plan by its store's sizes. Those that the store lacks are measured by the first worker
    of the engine, chosen and kept there. Raises MeasureError, EngineError."""
    grid = plan.grid
    if not grid.auto:
        return plan
    sizes = read_sizes(place.store)
    plan = expand(settle(grid, sizes), select)
    if any(cell.attack.assumed for cell in plan.cells):
        sizes = _measured(plan, select, sizes, place, lease)
        plan = expand(settle(grid, sizes), select)
    for line in sizes_text(plan, sizes):
        place.console.print(line, highlight=False, markup=False, soft_wrap=True)
    return plan


def _measured(plan: Plan, select: Selection, sizes: Sizes, place: Place, lease: Lease) -> Sizes:
    engine, speeds = place.engine(), tuple[Speed, ...]()
    if probes := unmeasured(plan, sizes):
        names = ", ".join(probe.architecture for probe in probes)
        with place.console.status(f"measuring {names} on the first worker"), lease.kept():
            answer = engine.measure(probes)
        if isinstance(answer, str):
            raise MeasureError(
                f"the sizes that the grid leaves to measurement can't be had: {answer}; numbers in "
                "place of 'auto' need none"
            )
        speeds = answer
    chosen = choose(plan.grid, select, sizes, speeds, slots=engine.room)
    write_sizes(place.store, chosen)
    return chosen
