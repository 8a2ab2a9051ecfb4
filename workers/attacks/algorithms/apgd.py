"""Auto-PGD: projected gradient ascent that chooses its own step sizes.

Croce, Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks" (ICML), section 3 and algorithm 1; sections 4 and 5 for the ratio of
differences of logits and its form towards a class. https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from prunegrid.workers.attacks.base import (
    Attack,
    AttackContext,
    AttackResult,
    Batch,
    Results,
    at_each_eps,
)
from prunegrid.workers.attacks.declaration import (
    AttackEntry,
    Norm,
    attack,
    count,
    real,
    switch,
)
from prunegrid.workers.attacks.runtime.draws import generator
from prunegrid.workers.attacks.runtime.geometry import into_ball, steepest, unit, wide

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network
    from prunegrid.workers.attacks.runtime.oracle import Ascended, Slopes

#: Weight of a new step beside the one before; the first has none before it.
MOMENTUM = 0.75
#: Steps from one checkpoint to the next, as parts of all steps: the first, by how much each is
#: shorter than the one before it, and the shortest.
FIRST_PERIOD, SHORTER, LEAST_PERIOD = 0.22, 0.03, 0.06


@dataclass(frozen=True, kw_only=True)
class AutoPGD(Attack):
    """The defaults are the paper's, with the cross-entropy.

    With fewer than four classes the ratio is undefined: the cross-entropy takes its place.

    An image leaves once it is broken, and so takes at most restarts * max(1, targets) * (steps + 1)
    passes forward and as many back. At a point of equal loss, as where a probability of 1 leaves
    it at 0, the smaller margin counts as progress.
    """

    norm: ClassVar[Norm]

    steps: int = count(100, "steps of each start", search=(10, 10_000), spends="steps")
    restarts: int = count(1, "random starts", search=(1, 20), spends="rounds")
    ratio: bool = switch(False, "ascends the ratio of logit differences, not the cross-entropy")
    targets: int = count(
        0, "other classes, the highest first, each with starts of its own; 0: none", minimum=0
    )
    rho: float = real(0.75, "share of steps with a gain below which the step size is halved")
    nested: bool = switch(False, "what breaks at one eps counts as broken at larger ones")

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        def run(part: Batch, eps: float) -> AttackResult:
            return self._at(network, part, context, eps)

        return at_each_eps(batch, context, self.norm, run, nested=self.nested)

    def _at(
        self, network: Network, batch: Batch, context: AttackContext, eps: float
    ) -> AttackResult:
        from prunegrid.workers.attacks.runtime.oracle import Oracle

        oracle = Oracle(network, batch, context)
        loss = oracle.defined(self.ascended)
        ranked = oracle.highest_others(self.targets) if self.targets else None
        ranks = 1 if ranked is None else ranked.shape[1]
        rounds = [(rank, start) for rank in range(ranks) for start in range(self.restarts)]
        images, broken = batch.images.copy(), np.zeros(len(batch), bool)
        for number, (rank, restart) in enumerate(rounds):
            rows = np.flatnonzero(~broken)
            if not len(rows):
                break
            targets = None if ranked is None else ranked[:, rank]

            def slopes(
                rows: np.ndarray, x: np.ndarray, targets: np.ndarray | None = targets
            ) -> Slopes:
                return oracle.slopes(rows, x, loss, targets)

            parts = (f"{loss}-{rank}", restart)
            start = self._starts(batch, rows, context.seed, eps, parts)
            climb = _Climb(self, slopes, batch.images, eps)
            climb.start(rows, start)
            for step in range(self.steps):
                if not len(climb.active):
                    break
                climb.step(step)
                context.ticker.tick(
                    (number + step / self.steps) / len(rounds),
                    f"APGD eps {eps:.4g}, {len(climb.active)} images at work",
                )
            hit = np.flatnonzero(climb.broken)
            images[hit], broken[hit] = climb.x[hit], True
        return oracle.result(images, broken, self.norm)

    @property
    def ascended(self) -> Ascended:
        if self.ratio:
            return "target-ratio" if self.targets else "ratio"
        return "target-cross-entropy" if self.targets else "cross-entropy"

    def _starts(
        self, batch: Batch, rows: np.ndarray, seed: int, eps: float, key: tuple[str, int]
    ) -> np.ndarray:
        """float32 [len(rows), ...]: at random on the surface of the ball, and then in the box."""
        shape = batch.images.shape[1:]
        noise = np.zeros((len(rows), *shape), np.float32)
        for i, row in enumerate(rows):
            rng = generator(seed, int(batch.indices[row]), "apgd", eps, *key)
            linf = self.norm == "linf"
            draw = 2 * rng.random(shape) - 1 if linf else rng.standard_normal(shape)
            noise[i] = draw
        far = batch.images[rows] + np.float32(eps) * unit(noise, self.norm)
        return into_ball(far, batch.images[rows], eps, self.norm)


class _Climb:
    """One ascent of some images, each with its own step size; `x` is where each of them is."""

    def __init__(
        self,
        attack: AutoPGD,
        slopes: Callable[[np.ndarray, np.ndarray], Slopes],
        clean: np.ndarray,
        eps: float,
    ) -> None:
        n, steps = len(clean), attack.steps
        self._attack, self._slopes, self._clean, self._eps = attack, slopes, clean, eps
        self.x, self.active = clean.copy(), np.arange(0)
        self.broken = np.zeros(n, bool)
        self._before, self._gradient = clean, np.zeros_like(clean)
        self._best, self._best_gradient = clean, self._gradient
        #: Loss and, to tell equal ones apart, margin: of the last point, and of the best.
        self._last, self._top = np.zeros((2, n)), np.zeros((2, n))
        self._size = np.full(n, 2 * eps)
        self._gains = np.zeros(n, np.int64)  # since the last checkpoint
        self._improved, self._halved = np.zeros(n, bool), np.ones(n, bool)
        self._period = max(int(FIRST_PERIOD * steps), 1)
        self._shorter = max(int(SHORTER * steps), 1)
        self._least = max(int(LEAST_PERIOD * steps), 1)
        self._since = 0

    def start(self, rows: np.ndarray, points: np.ndarray) -> None:
        self.x[rows] = points
        found = self._slopes(rows, self.x)
        self._gradient[rows] = found.gradient
        self._last[:, rows] = found.loss, found.margin
        self._before, self._best = self.x.copy(), self.x.copy()
        self._best_gradient, self._top = self._gradient.copy(), self._last.copy()
        self._leave(rows, found.adversarial)

    def step(self, number: int) -> None:
        rows, norm, eps = self.active, self._attack.norm, self._eps
        here, clean = self.x[rows], self._clean[rows]
        ahead = here + wide(self._size[rows], here) * steepest(self._gradient[rows], norm)
        ahead = into_ball(ahead, clean, eps, norm)
        new = np.float32(MOMENTUM if number else 1.0)
        ahead = here + new * (ahead - here) + (1 - new) * (here - self._before[rows])
        self._before[rows], self.x[rows] = here, into_ball(ahead, clean, eps, norm)
        found = self._slopes(rows, self.x)
        self._gradient[rows] = found.gradient
        now = np.array([found.loss, found.margin], np.float64)
        self._gains[rows] += _higher(now, self._last[:, rows])
        better = _higher(now, self._top[:, rows])
        gained = rows[better]
        self._best[gained], self._top[:, gained] = self.x[gained], now[:, better]
        self._best_gradient[gained] = found.gradient[better]
        self._improved[gained] = True
        self._last[:, rows] = now
        self._leave(rows, found.adversarial)
        self._since += 1
        if self._since == self._period:
            self._check()

    def _leave(self, rows: np.ndarray, adversarial: np.ndarray) -> None:
        self.broken[rows[adversarial]] = True
        self.active = rows[~adversarial]

    def _check(self) -> None:
        """Half the step size, and back to the best point, for images that gained too seldom, or
        that found no better one since a checkpoint at which they were not halved."""
        rows = self.active
        seldom = self._gains[rows] <= self._attack.rho * self._period
        halved = seldom | (~self._halved[rows] & ~self._improved[rows])
        back = rows[halved]
        self._size[back] /= 2
        self.x[back], self._gradient[back] = self._best[back], self._best_gradient[back]
        self._halved[rows] = halved
        self._gains[rows], self._improved[rows] = 0, False
        self._period, self._since = max(self._period - self._shorter, self._least), 0


def _higher(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool [m] of (loss, margin) [2, m]: a higher loss, or a smaller margin at the same."""
    tie = (one[0] == other[0]) & (one[1] < other[1])
    higher: np.ndarray = (one[0] > other[0]) | tie
    return higher


@attack(
    AttackEntry(name="apgd_linf", title="APGD Linf", norm="linf", finds="fixed-eps", round_extra=1)
)
class AutoPGDLinf(AutoPGD):
    norm = "linf"


@attack(AttackEntry(name="apgd_l2", title="APGD L2", norm="l2", finds="fixed-eps", round_extra=1))
class AutoPGDL2(AutoPGD):
    norm = "l2"
