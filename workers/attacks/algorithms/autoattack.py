"""AutoAttack, standard: four attacks in a row, each on the images that stand.

Croce, Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks" (ICML), section 6. https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from prunegrid.workers.attacks.algorithms.apgd import AutoPGD, AutoPGDL2, AutoPGDLinf
from prunegrid.workers.attacks.algorithms.fab import FAB, FABL2, FABLinf
from prunegrid.workers.attacks.algorithms.square import Square, SquareL2, SquareLinf
from prunegrid.workers.attacks.base import (
    Attack,
    AttackContext,
    AttackResult,
    Batch,
    Gathered,
    Results,
    at_each_eps,
)
from prunegrid.workers.attacks.declaration import (
    SCORES_ALONE,
    AttackEntry,
    Norm,
    attack,
    count,
    switch,
)

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

#: Queries of a step towards a class: one of APGD, two of FAB.
STEP_PASSES = 3
#: Queries beyond these: of the first part, of Square, and at starts.
EXTRA = 5_200


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """APGD on the cross-entropy, APGD on the ratio towards each of nine classes, FAB towards each
    of them, Square. The defaults are the standard version's; each part's other settings are its
    own defaults. `broken_by` in a row names the part that broke the image.

    With fewer than four classes the ratio is undefined. The second part is then named
    "apgd-ce-t": it ascends the cross-entropy towards each class.
    """

    norm: ClassVar[Norm]
    parts: ClassVar[tuple[type[AutoPGD], type[FAB], type[Square]]]

    steps: int = count(100, "steps of each run of APGD and FAB", spends="steps")
    targets: int = count(9, "other classes of APGD and FAB, the highest first", spends="rounds")
    square_steps: int = count(5000, "queries of Square")
    nested: bool = switch(False, "what breaks at one eps counts as broken at larger ones")

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        def run(part: Batch, eps: float) -> AttackResult:
            return self._at(network, part, dataclasses.replace(context, eps=(eps,)))

        return at_each_eps(batch, context, self.norm, run, nested=self.nested)

    def _at(self, network: Network, batch: Batch, context: AttackContext) -> AttackResult:
        gathered = Gathered(batch, self.norm)
        for name, part in self._parts(network).items():
            rows = np.flatnonzero(~gathered.claimed)
            if not len(rows):
                break
            (found,) = part.strict(network, batch.take(rows), context)
            gathered.add(rows, found, by=name)
        return gathered.result()

    def _parts(self, network: Network) -> Mapping[str, Attack]:
        from prunegrid.workers.attacks.runtime.oracle import RATIO_CLASSES

        apgd, fab, square = self.parts
        second = "apgd-dlr-t" if network.classes >= RATIO_CLASSES else "apgd-ce-t"
        return {
            "apgd-ce": apgd(steps=self.steps),
            second: apgd(steps=self.steps, ratio=True, targets=self.targets),
            "fab-t": fab(steps=self.steps, targets=self.targets),
            SCORES_ALONE: square(steps=self.square_steps),
        }


@attack(
    AttackEntry(
        name="autoattack_linf",
        title="AutoAttack Linf",
        norm="linf",
        finds="fixed-eps",
        step_passes=STEP_PASSES,
        strict_extra=EXTRA,
    )
)
class AutoAttackLinf(AutoAttack):
    norm = "linf"
    parts = (AutoPGDLinf, FABLinf, SquareLinf)


@attack(
    AttackEntry(
        name="autoattack_l2",
        title="AutoAttack L2",
        norm="l2",
        finds="fixed-eps",
        step_passes=STEP_PASSES,
        strict_extra=EXTRA,
    )
)
class AutoAttackL2(AutoAttack):
    norm = "l2"
    parts = (AutoPGDL2, FABL2, SquareL2)
