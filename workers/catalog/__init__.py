"""Everything a grid file can name, each with one entry: architectures, data sets, pruning
methods, attacks. Standard library only, so that the driver can check a grid in a second;
an entry's `target` ("module:attribute") is imported by the workers.

To add one, write its file and its entry here; the contract tests pick it up by themselves.
"""

from __future__ import annotations

import importlib
from typing import Any

from prunegrid.workers.catalog.architectures import ARCHITECTURES, ArchitectureEntry
from prunegrid.workers.catalog.attacks import (
    ATTACKS,
    AttackEngine,
    AttackEntry,
    Norm,
    Option,
    attack_entry,
)
from prunegrid.workers.catalog.datasets import AUGMENTATIONS, DATASETS, DatasetEntry
from prunegrid.workers.catalog.methods import METHODS, Criterion, MethodEntry, Scope, Structure

__all__ = [
    "ARCHITECTURES",
    "ATTACKS",
    "AUGMENTATIONS",
    "DATASETS",
    "METHODS",
    "ArchitectureEntry",
    "AttackEngine",
    "AttackEntry",
    "Criterion",
    "DatasetEntry",
    "MethodEntry",
    "Norm",
    "Option",
    "Scope",
    "Structure",
    "attack_entry",
    "load",
]


def load(target: str) -> Any:
    """The object that an entry's `target` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
