"""Attacks that Foolbox alone implements. Defaults are Foolbox's.

A class here has the options of its Foolbox class under the same names. Attacks of Foolbox that
have no class here run as `foolbox:<Class>`, with options that Foolbox itself checks.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunegrid.workers.attacks.base import Attack
from prunegrid.workers.attacks.declaration import AttackEntry, attack, count, real, switch


@attack(
    AttackEntry(
        name="fgsm_linf",
        title="FGSM Linf",
        norm="linf",
        finds="fixed-eps",
        foolbox_class="LinfFastGradientAttack",
    )
)
@dataclass(frozen=True, kw_only=True)
class FGSMLinf(Attack):
    """Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples"."""

    random_start: bool = switch(False, "start at a random point of the eps-ball")
    restarts: int = count(1, "random starts", spends="steps")


@attack(
    AttackEntry(
        name="pgd_l2",
        title="PGD L2",
        norm="l2",
        finds="fixed-eps",
        foolbox_class="L2ProjectedGradientDescentAttack",
    )
)
@dataclass(frozen=True, kw_only=True)
class PGDL2(Attack):
    """Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks"."""

    steps: int = count(50, "steps of each start", search=(5, 10_000), spends="steps")
    rel_stepsize: float = real(0.025, "step size, in eps", search=(3e-3, 1.0))
    random_start: bool = switch(True, "start at a random point of the eps-ball")
    restarts: int = count(1, "random starts", search=(1, 20), spends="rounds")
    nested: bool = switch(False, "what breaks at one eps counts as broken at larger ones")


@attack(
    AttackEntry(
        name="deepfool_l2",
        title="DeepFool L2",
        norm="l2",
        finds="minimum-norm",
        foolbox_class="L2DeepFoolAttack",
    )
)
@dataclass(frozen=True, kw_only=True)
class DeepFoolL2(Attack):
    """Moosavi-Dezfooli et al. 2016, "DeepFool"."""

    steps: int = count(50, "steps at most", search=(5, 10_000), spends="steps")
    candidates: int = count(10, "classes with the highest scores to move to", minimum=2)
    overshoot: float = real(0.02, "way beyond the boundary, per step", search=(1e-3, 0.5))


@attack(
    AttackEntry(
        name="boundary_l2",
        title="Boundary L2",
        norm="l2",
        finds="minimum-norm",
        gradients=False,
        foolbox_class="BoundaryAttack",
    )
)
@dataclass(frozen=True, kw_only=True)
class BoundaryL2(Attack):
    """Brendel et al. 2018, "Decision-Based Adversarial Attacks"."""

    steps: int = count(5000, "steps", search=(10, 100_000), spends="steps")
    spherical_step: float = real(0.01, "first step along the sphere", search=(1e-3, 0.1))
    source_step: float = real(0.01, "first step to the clean image", search=(1e-3, 0.1))
    step_adaptation: float = real(1.5, "factor that changes step sizes", search=(1.05, 3.0))
