"""Attacks that a grid can name, with their settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prunegrid.workers.keys import Scalar


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting of an attack, as a grid file may give it."""

    name: str
    type: Literal["int", "float", "bool"]
    default: Scalar
    minimum: float | None = None
    maximum: float | None = None
    #: What `prunegrid tune` searches, on a logarithmic scale; None: it leaves the option alone.
    search: tuple[float, float] | None = None


Norm = Literal["l0", "l2", "linf"]
AttackEngine = Literal["strict", "foolbox", "foolbox-stock"]


@dataclass(frozen=True, kw_only=True)
class AttackEntry:
    name: str
    target: str  #: our own implementation; see workers/attacks/base.py
    stock: str  #: the class of foolbox.attacks that it equals
    norm: Norm
    finds: Literal["fixed-eps", "minimum-norm"]
    gradients: bool  #: False: needs the model's decisions or scores alone
    engines: tuple[AttackEngine, ...]
    options: tuple[Option, ...]
    title: str
    #: Options whose product is the most steps that it takes for an image (and eps, where it has
    #: them); a budget of queries is spent on the last one. (): unknown.
    rounds: tuple[str, ...] = ()
    #: Passes beyond those steps: once per round of them, in all, and in all by `strict` (at most).
    round_extra: int = 0
    extra: int = 3
    strict_extra: int = 3


def _count(
    name: str, default: int, minimum: int = 1, search: tuple[float, float] | None = None
) -> Option:
    return Option(name=name, type="int", default=default, minimum=minimum, search=search)


def _real(
    name: str, default: float, minimum: float = 0.0, search: tuple[float, float] | None = None
) -> Option:
    return Option(name=name, type="float", default=default, minimum=minimum, search=search)


def _boundary(searches: int, steps: int, lr: float, decays: int) -> tuple[Option, ...]:
    """Options of Brendel & Bethge's attacks."""
    return (
        _count("binary_search_steps", searches),
        _count("steps", steps, search=(10, 10_000)),
        _real("lr", lr, search=(1e-4, 1e8)),
        _real("lr_decay", 0.5, search=(0.1, 0.95)),
        _count("lr_num_decay", decays, search=(2, 60)),
        _real("momentum", 0.8, search=(0.3, 0.95)),
        _real("overshoot", 1.1, search=(1.01, 1.5)),
    )


_RESTARTS, _STEPS = (1, 20), (5, 10_000)

#: Defaults are the paper's settings, and Foolbox's for attacks that the paper does not use.
ATTACKS: Mapping[str, AttackEntry] = {
    entry.name: entry
    for entry in (
        AttackEntry(
            name="pgd_linf",
            target="prunegrid.workers.attacks.pgd:PGDLinf",
            stock="LinfPGD",
            norm="linf",
            finds="fixed-eps",
            gradients=True,
            engines=("strict", "foolbox", "foolbox-stock"),
            options=(
                _count("steps", 40, search=_STEPS),
                _real("rel_stepsize", 0.01 / 0.3, search=(3e-3, 1.0)),
                Option(name="random_start", type="bool", default=True),
                _count("restarts", 1, search=_RESTARTS),
                Option(name="nested", type="bool", default=False),
            ),
            title="PGD Linf",
            rounds=("restarts", "steps"),
            round_extra=1,
        ),
        AttackEntry(
            name="cw_l2",
            target="prunegrid.workers.attacks.cw:CarliniWagnerL2",
            stock="L2CarliniWagnerAttack",
            norm="l2",
            finds="minimum-norm",
            gradients=True,
            engines=("strict", "foolbox", "foolbox-stock"),
            options=(
                _count("binary_search_steps", 9, search=(1, 12)),
                _count("steps", 5000, search=(10, 10_000)),
                _real("stepsize", 1.0, search=(3e-3, 3.0)),
                _real("initial_const", 100.0, search=(1e-2, 1e3)),
                _real("confidence", 0.0),
                Option(name="abort_early", type="bool", default=True),
            ),
            title="C&W L2",
            rounds=("binary_search_steps", "steps"),
            strict_extra=63,
        ),
        AttackEntry(
            name="bb_l0",
            target="prunegrid.workers.attacks.brendel_bethge:BrendelBethgeL0",
            stock="L0BrendelBethgeAttack",
            norm="l0",
            finds="minimum-norm",
            gradients=True,
            engines=("strict", "foolbox", "foolbox-stock"),
            options=_boundary(searches=30, steps=500, lr=1e7, decays=30),
            title="B&B L0",
            rounds=("steps",),
        ),
        AttackEntry(
            name="fgsm_linf",
            target="",
            stock="LinfFastGradientAttack",
            norm="linf",
            finds="fixed-eps",
            gradients=True,
            engines=("foolbox-stock",),
            options=(
                Option(name="random_start", type="bool", default=False),
                _count("restarts", 1),
            ),
            title="FGSM Linf",
            rounds=("restarts",),
        ),
        AttackEntry(
            name="pgd_l2",
            target="",
            stock="L2ProjectedGradientDescentAttack",
            norm="l2",
            finds="fixed-eps",
            gradients=True,
            engines=("foolbox-stock",),
            options=(
                _count("steps", 50, search=_STEPS),
                _real("rel_stepsize", 0.025, search=(3e-3, 1.0)),
                Option(name="random_start", type="bool", default=True),
                _count("restarts", 1, search=_RESTARTS),
                Option(name="nested", type="bool", default=False),
            ),
            title="PGD L2",
            rounds=("restarts", "steps"),
        ),
        AttackEntry(
            name="deepfool_l2",
            target="",
            stock="L2DeepFoolAttack",
            norm="l2",
            finds="minimum-norm",
            gradients=True,
            engines=("foolbox-stock",),
            options=(
                _count("steps", 50, search=_STEPS),
                _count("candidates", 10, minimum=2),
                _real("overshoot", 0.02, search=(1e-3, 0.5)),
            ),
            title="DeepFool L2",
            rounds=("steps",),
        ),
        AttackEntry(
            name="bb_linf",
            target="",
            stock="LinfinityBrendelBethgeAttack",
            norm="linf",
            finds="minimum-norm",
            gradients=True,
            engines=("foolbox-stock",),
            options=_boundary(searches=10, steps=1000, lr=1e-3, decays=20),  # Foolbox's own
            title="B&B Linf",
            rounds=("steps",),
        ),
        AttackEntry(
            name="bb_l2",
            target="",
            stock="L2BrendelBethgeAttack",
            norm="l2",
            finds="minimum-norm",
            gradients=True,
            engines=("foolbox-stock",),
            options=_boundary(searches=10, steps=1000, lr=1e-3, decays=20),
            title="B&B L2",
            rounds=("steps",),
        ),
        AttackEntry(
            name="boundary_l2",
            target="",
            stock="BoundaryAttack",
            norm="l2",
            finds="minimum-norm",
            gradients=False,
            engines=("foolbox-stock",),
            options=(
                _count("steps", 5000, search=(10, 100_000)),
                _real("spherical_step", 0.01, search=(1e-3, 0.1)),
                _real("source_step", 0.01, search=(1e-3, 0.1)),
                _real("step_adaptation", 1.5, search=(1.05, 3.0)),
            ),
            title="Boundary L2",
            rounds=("steps",),
        ),
    )
}


#: Foolbox's attacks that never ask for a gradient.
_GRADIENT_FREE = re.compile(
    r"\w*(Boundary|HopSkipJump|Gen|Pointwise|Noise|GaussianBlur|Inversion|ContrastReduction|"
    r"BinarizationRefinement|Spatial|Dataset)Attack"
)
#: Foolbox's Linf attacks whose names do not say so.
_LINF = ("FGSM", "PGD", "MIFGSM", "AdamPGD", "GenAttack")
_STOCK = re.compile(r"^foolbox:([A-Za-z][A-Za-z0-9]*)$")


def attack_entry(name: str) -> AttackEntry | None:
    """The entry of a catalog attack or of `foolbox:<Class>`, a stock attack by its class name
    (its norm is read from the name; the worker checks that the class exists). None: no such.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    match = _STOCK.match(name)
    if match is None:
        return None
    upper = match[1].upper()
    linf = "LINF" in upper or match[1] in _LINF
    norm: Norm = "linf" if linf else "l0" if upper.startswith("L0") else "l2"
    return AttackEntry(
        name=name,
        target="",
        stock=match[1],
        norm=norm,
        finds="fixed-eps",
        gradients=_GRADIENT_FREE.fullmatch(match[1]) is None,
        engines=("foolbox-stock",),
        options=(),
        title=match[1],
    )
