"""Pruning methods that a grid can name."""

from __future__ import annotations

from collections.abc import Mapping

from prunegrid.workers.contract import PruningSettings
from prunegrid.workers.method_entry import STRUCTURES, MethodEntry, Scope, Structure
from prunegrid.workers.user_code import UserCode

#: The scores that a grid can name, and the functions that compute them.
SCORES: Mapping[str, str] = {
    "magnitude": "prunegrid.workers.pruning.scores:magnitude",
    "random": "prunegrid.workers.pruning.scores:random",
    "l2": "prunegrid.workers.pruning.scores:l2",
    "taylor": "prunegrid.workers.pruning.scores:taylor",
    "obd": "prunegrid.workers.pruning.scores:obd",
}
_SELECTIONS: tuple[tuple[str, Scope, bool], ...] = (
    ("magnitude", "local", True),
    ("magnitude", "global", True),
    ("random", "local", True),
    ("random", "matched", False),
    ("l2", "local", False),
    ("l2", "global", False),
    ("taylor", "local", False),
    ("taylor", "global", False),
    ("obd", "local", False),
    ("obd", "global", False),
)


def _entry(criterion: str, scope: Scope, structure: Structure, in_paper: bool) -> MethodEntry:
    return MethodEntry(
        criterion=criterion,
        score=UserCode(target=SCORES[criterion]),
        scope=scope,
        structure=structure,
        in_paper=in_paper,
    )


METHODS: Mapping[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        *(
            _entry(criterion, scope, structure, in_paper)
            for structure in STRUCTURES
            for criterion, scope, in_paper in _SELECTIONS
            if (criterion, structure) != ("l2", "unstructured")  # the order of magnitude
        ),
        _entry("magnitude", "local", "2:4", False),
        _entry("magnitude", "local", "none", False),
    )
}


def method_of(pruning: PruningSettings) -> MethodEntry | None:
    """The method of a task: as its grid describes it, or the catalog's; None: it knows no such."""
    return pruning.own or METHODS.get(pruning.method)
