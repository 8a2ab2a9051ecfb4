"""What is wrong with a store or its run, in lines for the page's head. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from prunegrid.orchestrator.dashboard.run_log import RunLog, finite
from prunegrid.orchestrator.dashboard.snapshot import Problem
from prunegrid.orchestrator.driver.lease import Holder
from prunegrid.orchestrator.plan.estimates import duration_text
from prunegrid.orchestrator.scheduling.trouble import Trouble


def problems_of(
    log: RunLog,
    trouble: Trouble,
    torn: Mapping[str, str],
    *,
    alive: bool,
    left: int,
    now_s: float,
) -> tuple[Problem, ...]:
    """`torn`: result files and what is wrong with each; `left`: tasks that must run yet."""
    out = []
    if not alive and left and not log.ended:
        silent = duration_text(max(0.0, now_s - log.last_s))
        text = f"the driver ended without a word {silent} ago; 'prunegrid run' resumes"
        out.append(Problem(level="error", text=text))
    if torn:
        path, why = next(iter(torn.items()))
        more = f", and {len(torn) - 1} more" if len(torn) > 1 else ""
        text = f"torn result: {path}: {why}{more}; 'prunegrid verify' names them all"
        out.append(Problem(level="error", text=text))
    if alive:
        texts = [trouble.waiting, *trouble.fenced.values()]
        out += [Problem(level="warning", text=text) for text in texts if text]
    if log.bad:
        text = f"{log.bad} damaged lines of the journal were left out"
        out.append(Problem(level="warning", text=text))
    if log.paused:
        out.append(Problem(level="warning", text="paused: 'prunegrid resume' lets it go on"))
    return tuple(out)


def sound_holder(holder: Holder | None) -> Holder | None:
    """None for a lease that no driver of ours wrote."""
    if holder is None or finite(holder.renewed_at_s) is None:
        return None
    texts = isinstance(holder.host, str) and isinstance(holder.process_start, str)
    return holder if texts and isinstance(holder.pid, int) and 0 < holder.pid < 2**31 else None
