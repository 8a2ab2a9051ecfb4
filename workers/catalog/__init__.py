"""Everything that a grid file can name: architectures, data sets, pruning methods, attacks.
Without TensorFlow, so that the driver can check a grid in a second. Workers import an entry's
`target` ("module:attribute").

An attack declares itself (`workers/attacks/algorithms/`). To add another kind of thing, write its
file and its entry here. The contract tests pick a new entry up by themselves.
"""

from __future__ import annotations

import importlib
from typing import Any

from prunegrid.workers.attacks.declaration import (
    NORMS,
    SCORES_ALONE,
    AttackEngine,
    AttackEntry,
)
from prunegrid.workers.catalog.architectures import ARCHITECTURES, ArchitectureEntry
from prunegrid.workers.catalog.attacks import (
    ATTACKS,
    FIRST_NAMES,
    attack_entry,
    attack_name,
    attack_of,
    own_entry,
)
from prunegrid.workers.catalog.datasets import DATASETS, dataset_of
from prunegrid.workers.catalog.methods import METHODS, SCORES, method_of
from prunegrid.workers.method_entry import CONTROL
from prunegrid.workers.user_options import Option

__all__ = [
    "ARCHITECTURES",
    "ATTACKS",
    "CONTROL",
    "DATASETS",
    "FIRST_NAMES",
    "METHODS",
    "NORMS",
    "SCORES",
    "SCORES_ALONE",
    "ArchitectureEntry",
    "AttackEngine",
    "AttackEntry",
    "Option",
    "attack_entry",
    "attack_name",
    "attack_of",
    "dataset_of",
    "load",
    "method_of",
    "own_entry",
]


def load(target: str) -> Any:
    """The object that an entry's `target` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
