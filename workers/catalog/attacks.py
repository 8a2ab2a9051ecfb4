"""Attacks that a grid can name: all that `workers/attacks/algorithms/` declares, and Foolbox's."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Mapping

from prunegrid.workers.attacks import algorithms
from prunegrid.workers.attacks.declaration import DECLARED, AttackEntry
from prunegrid.workers.contract import AttackSettings, Norm, OwnAttack
from prunegrid.workers.user_code import UserCode


def _declared() -> dict[str, AttackEntry]:
    """Imports every module of the folder; each registers its attacks as it is imported."""
    for module in pkgutil.iter_modules(algorithms.__path__):
        importlib.import_module(f"{algorithms.__name__}.{module.name}")
    return dict(sorted(DECLARED.items()))


ATTACKS: Mapping[str, AttackEntry] = _declared()

#: The attacks that `strict` ran by a name which means another one now, by that name.
FIRST_NAMES: Mapping[str, AttackEntry] = {
    entry.first_name: entry for entry in ATTACKS.values() if entry.first_name is not None
}

#: Foolbox's attacks that never ask for a gradient.
_GRADIENT_FREE = re.compile(
    r"\w*(Boundary|HopSkipJump|Gen|Pointwise|Noise|GaussianBlur|Inversion|ContrastReduction|"
    r"BinarizationRefinement|Spatial|Dataset)Attack"
)
#: Foolbox's attacks that follow the margin.
_MARGIN = re.compile(r"\w*(CarliniWagner|BrendelBethge|FMN)Attack")
#: Foolbox's Linf attacks whose names do not say so.
_LINF = ("FGSM", "PGD", "MIFGSM", "AdamPGD", "GenAttack")
_L1 = ("EADAttack",)  #: the same
_FOOLBOX = re.compile(r"^foolbox:([A-Za-z][A-Za-z0-9]*)$")


def attack_entry(name: str) -> AttackEntry | None:
    """The entry of a catalog attack or of `foolbox:<Class>`, any attack of Foolbox by its class
    name (its norm is read from the name; `foolbox_classes.py` checks the class). None: no such.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    match = _FOOLBOX.match(name)
    if match is None:
        return None
    upper = match[1].upper()
    linf = "LINF" in upper or match[1] in _LINF
    l1 = upper.startswith("L1") or match[1] in _L1
    norm: Norm = "linf" if linf else "l1" if l1 else "l0" if upper.startswith("L0") else "l2"
    return AttackEntry(
        name=name,
        title=match[1],
        norm=norm,
        finds="fixed-eps",
        gradients=_GRADIENT_FREE.fullmatch(match[1]) is None,
        loss="margin" if _MARGIN.fullmatch(match[1]) else "cross-entropy",
        foolbox_class=match[1],
    )


def attack_of(settings: AttackSettings) -> AttackEntry | None:
    """The entry of a task's attack, of the grid's own too. None: no such."""
    if settings.own is not None:
        return own_entry(settings.attack, settings.own)
    if settings.engine == "strict" and settings.edition == 1 and settings.attack in FIRST_NAMES:
        return FIRST_NAMES[settings.attack]
    return attack_entry(settings.attack)


def attack_name(settings: AttackSettings) -> str:
    """As rows and people call it; what the settings say where the catalog has no such attack."""
    entry = attack_of(settings)
    return settings.attack if entry is None else entry.name


@functools.lru_cache(maxsize=256)
def own_entry(target: str, own: OwnAttack) -> AttackEntry:
    """Of a function of the grid's own."""
    return AttackEntry(
        name=target,
        title=target.rpartition(":")[2],
        norm=own.norm,
        finds=own.finds,
        gradients=own.gradients,
        function=UserCode(target=target, version=own.version),
    )
