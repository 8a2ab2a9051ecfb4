"""What tasks cost: hours of GPUs or CPUs, and money where the grid file names a price. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunegrid.orchestrator.grid.grid import Price, Resources
from prunegrid.orchestrator.plan.estimates import Eta

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Hours:
    """Device-hours that tasks hold, whether or not they keep the device busy."""

    unit: Literal["GPU", "CPU"]
    spent: float  #: by attempts that ended, failed ones included, and by those that run
    to_come: Range
    expected: float  #: to come, most likely


@dataclass(frozen=True, kw_only=True)
class Cost:
    spent: float
    to_come: Range  #: from slots given back as they fall idle to all kept until the latest end
    currency: str  #: "" where the grid names none


def hours_of(resources: Resources, *, spent_s: float, eta: Eta) -> Hours:
    """`spent_s`: slot-seconds."""
    gpu = resources.gpus_per_task > 0
    each = (resources.gpus_per_task if gpu else resources.cpus_per_task) / 3600
    return Hours(
        unit="GPU" if gpu else "CPU",
        spent=spent_s * each,
        to_come=(eta.work_low_s * each, eta.work_high_s * each),
        expected=eta.work_s * each,
    )


def cost_of(price: Price | None, *, spent_s: float, eta: Eta, slots: int) -> Cost | None:
    """None without a price. Slots that were idle are not in `spent`: a journal does not tell for
    how long machines were paid."""
    if price is None:
        return None
    each = price.per_slot_hour / 3600
    most_s = max(eta.work_high_s, eta.high_s * slots)
    return Cost(
        spent=spent_s * each,
        to_come=(eta.work_low_s * each, most_s * each),
        currency=price.currency,
    )


def range_text(low: float, high: float, unit: str = "") -> str:
    """`12 to 340 USD`, to two digits or so; one number where both look the same."""
    texts = [_short(low), _short(high)]
    text = texts[0] if texts[0] == texts[1] else " to ".join(texts)
    return f"{text} {unit}".rstrip()


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.0f}"


def sureness(eta: Eta, others: str) -> str:
    """What it rests on, in words; `others`: what the part without measured tasks does."""
    percent = 100 * eta.measured_frac
    if eta.work_s == 0:
        return "nothing: nothing is left"
    if percent >= 99.5:
        return "tasks alike that were measured"
    if percent < 0.5:
        return others
    return f"tasks alike that were measured, {percent:.0f} % of it; the rest on {others}"
