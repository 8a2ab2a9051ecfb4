"""`--select`: which coordinates of a grid a command is about. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from prunegrid.orchestrator.errors import UsageError, expected, nearest
from prunegrid.orchestrator.grid.grid import AXES, Grid, Selection


def parse_selection(texts: Iterable[str]) -> Selection:
    """`architecture=resnet18,seed=0,1` to axis -> values. Raises UsageError."""
    out: dict[str, list[str]] = {}
    axis = ""
    for text in texts:
        for part in text.split(","):
            name, equals, value = part.strip().partition("=")
            if equals:
                axis = name.strip()
                if axis not in AXES:
                    raise UsageError(f"--select: {expected(AXES, axis)}")
            else:
                value = name
            if not axis or not value.strip():
                raise UsageError(f"--select: expected axis=value[,value...], got {text!r}")
            out.setdefault(axis, []).append(value.strip())
    return {name: tuple(values) for name, values in out.items()}


class Wanted:
    """A checked selection: which coordinates it lets through."""

    def __init__(self, grid: Grid, select: Selection) -> None:
        attacks = [attack for a in grid.architectures for attack in a.attacks]
        eps = {value for attack in attacks for value in attack.eps}
        valid: dict[str, list[str]] = {
            "architecture": [a.name for a in grid.architectures],
            "variant": list(dict.fromkeys(v.name for a in grid.architectures for v in a.variants)),
            "method": list(grid.methods),
            "protocol": list(dict.fromkeys(attack.protocol for attack in attacks)),
            "attack": list(dict.fromkeys(attack.label for attack in attacks)),
        }
        self._names: dict[str, frozenset[str]] = {}
        for axis, choices in valid.items():
            for value in select.get(axis, ()):
                if value not in choices:
                    raise UsageError(f"--select {axis}={value}: {expected(choices, value)}")
            self._names[axis] = frozenset(select.get(axis, choices))
        self._rates = _numbers("rate", select, grid.rates)
        self._seeds = _numbers("seed", select, grid.seeds)
        self._eps = _numbers("eps", select, sorted(eps))

    def chain(self, architecture: str, variant: str, method: str, seed: int) -> bool:
        names = self._names
        return (
            architecture in names["architecture"]
            and variant in names["variant"]
            and method in names["method"]
            and seed in self._seeds
        )

    def rate(self, rate: float) -> bool:
        return rate in self._rates

    def attack(self, protocol: str, label: str) -> bool:
        return protocol in self._names["protocol"] and label in self._names["attack"]

    def eps(self, eps: float) -> bool:
        return eps in self._eps


def _numbers(axis: str, select: Selection, choices: Iterable[float]) -> frozenset[float]:
    values = list(choices)
    if axis not in select:
        return frozenset(values)
    out = set()
    for text in select[axis]:
        top, _, bottom = text.partition("/")
        try:
            number = float(top) / float(bottom) if bottom else float(text)
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"--select {axis}={text}: expected a number") from None
        near = [value for value in values if abs(value - number) <= 1e-9 * max(1.0, abs(number))]
        if not near:
            names = [f"{value:g}" for value in values]
            listed = ", ".join(names)
            raise UsageError(
                f"--select {axis}={text}: expected one of {listed}{nearest(text, names)}"
            )
        out.update(near)
    return frozenset(out)
