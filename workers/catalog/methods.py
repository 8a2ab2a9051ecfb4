"""Pruning methods that a grid can name: criterion, scope and structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Structure = Literal["unstructured", "kernel", "filter", "none"]
Criterion = Literal["magnitude", "random"]
Scope = Literal["local", "global", "matched"]


#: Fine-tunes as often as the others, and prunes nothing.
CONTROL = "fine-tuning-only"


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    criterion: Criterion
    scope: Scope  #: "matched": random, with the layer-wise proportions of magnitude-global
    structure: Structure
    in_paper: bool

    @property
    def name(self) -> str:
        unpruned = self.structure == "none"
        return CONTROL if unpruned else f"{self.criterion}-{self.scope}-{self.structure}"


_SELECTIONS: tuple[tuple[Criterion, Scope, bool], ...] = (
    ("magnitude", "local", True),
    ("magnitude", "global", True),
    ("random", "local", True),
    ("random", "matched", False),
)
_STRUCTURES: tuple[Structure, ...] = ("unstructured", "kernel", "filter")

METHODS: Mapping[str, MethodEntry] = {
    entry.name: entry
    for structure in _STRUCTURES
    for criterion, scope, in_paper in _SELECTIONS
    for entry in (
        MethodEntry(criterion=criterion, scope=scope, structure=structure, in_paper=in_paper),
    )
} | {CONTROL: MethodEntry(criterion="magnitude", scope="local", structure="none", in_paper=False)}
