"""What a pruning method is: a score, a scope and a structure. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prunegrid.workers.user_code import UserCode

#: "unstructured", "kernel", "filter", "none", or a pattern such as "2:4": of each four weights in
#: a row along the inputs, two are kept.
Structure: TypeAlias = str
Scope = Literal["local", "global", "matched"]

STRUCTURES: tuple[Structure, ...] = ("unstructured", "kernel", "filter")
SCOPES: tuple[Scope, ...] = ("local", "global", "matched")
#: Fine-tunes as often as the others, and prunes nothing.
CONTROL = "fine-tuning-only"
_PATTERN = re.compile(r"([1-9]\d?):([1-9]\d?)")


def pattern_of(structure: Structure) -> tuple[int, int] | None:
    """How many weights of how many are kept; None where the structure is no such pattern."""
    found = _PATTERN.fullmatch(structure)
    if found is None or int(found[1]) >= int(found[2]):
        return None
    return int(found[1]), int(found[2])


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """A method of the catalog, or one that a grid describes."""

    criterion: str  #: the score's name in tables
    score: UserCode  #: see `workers/pruning/scores.py`
    scope: Scope  #: "matched": random, with the layer-wise proportions of magnitude-global
    structure: Structure
    in_paper: bool = False
    label: str = ""  #: where a grid gives it a name of its own

    @property
    def name(self) -> str:
        if self.structure == "none":
            return CONTROL
        return self.label or f"{self.criterion}-{self.scope}-{self.structure}"

    @property
    def rate(self) -> float | None:
        """The one rate that a pattern has; None: it has any."""
        pattern = pattern_of(self.structure)
        return None if pattern is None else pattern[1] / pattern[0]

    @property
    def outside_key(self) -> tuple[str, ...]:
        return ("criterion", "in_paper", "label")
