"""What a calibration says to people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from prunegrid.orchestrator.tuning.ladder import Rule, eps_as_written
from prunegrid.orchestrator.tuning.security import Calibration, Step, doubts


def lines_of(found: Calibration, rule: Rule, *, whose: str) -> list[str]:
    """One architecture's attack: the set in use and the proposed one, with what each leaves."""
    curve = found.curve
    models = f"{curve.models} dense model{'s' * (curve.models != 1)}"
    head = f"{curve.architecture} {curve.attack}  ({models}, clean {100 * curve.clean:.1f} %)"
    out = [head]
    same = [s.eps for s in found.present] == [s.eps for s in found.proposed]
    if found.present:
        out.append(f"  {whose:10}{_set(found.present, curve.norm)}")
        out += [f"  {'':10}! {doubt}" for doubt in doubts(found.present, curve.clean, rule)]
    if found.present and same:
        out.append(f"  {'proposed':10}the same")
        return out
    out.append(f"  {'proposed':10}{_set(found.proposed, curve.norm)}")
    out += [f"  {'':10}! {doubt}" for doubt in doubts(found.proposed, curve.clean, rule)]
    return out


def _set(steps: Iterable[Step], norm: str) -> str:
    return "  ".join(
        f"{eps_as_written(step.eps, norm):>9}: {100 * step.robust:5.1f} %" for step in steps
    )


def show(
    found: Iterable[Calibration], rule: Rule, console: Console, *, whose: str = "in use"
) -> None:
    console.print(
        "robust accuracy of the dense models at each eps; the rule: the weakest costs at most "
        f"{100 * rule.marginal:g} points, the strongest leaves about {100 * rule.left:g} %, and "
        f"less than {100 * rule.most_left:g} %",
        highlight=False,
        soft_wrap=True,
    )
    for item in found:
        for line in lines_of(item, rule, whose=whose):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
