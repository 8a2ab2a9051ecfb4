"""Square attack: random squares that lower the margin. It sees scores, and no gradients.

Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via
random search" (ECCV), sections 3.2 to 3.4 and algorithms 1 to 3. https://arxiv.org/abs/1912.00049
"""

from __future__ import annotations

import bisect
import math
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
    row_norms,
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
from prunegrid.workers.attacks.runtime.geometry import into_ball, unit, wide

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.network import Network

#: Queries after which the share of changed pixels is halved.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
#: Queries whose draws are made at once.
CHUNK = 256
#: Tiles of the first image in each direction, in L2.
TILES = 5


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """The defaults are AutoAttack's. An image leaves once it is broken; it takes at most
    `steps` + 1 passes forward and none back."""

    norm: ClassVar[Norm]

    steps: int = count(5000, "queries", search=(10, 100_000), spends="steps")
    p_init: float = real(
        0.8, "share of the pixels that the first squares change", search=(0.01, 0.8)
    )
    nested: bool = switch(False, "what breaks at one eps counts as broken at larger ones")

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        def run(part: Batch, eps: float) -> AttackResult:
            return self._at(network, part, context, eps)

        return at_each_eps(batch, context, self.norm, run, nested=self.nested)

    def _at(
        self, network: Network, batch: Batch, context: AttackContext, eps: float
    ) -> AttackResult:
        from prunegrid.workers.attacks.runtime.oracle import Oracle

        oracle, n, clean = Oracle(network, batch, context), len(batch), batch.images
        draws = [generator(context.seed, int(i), "square", eps) for i in batch.indices]
        x = np.stack(
            [self._first(image, eps, rng) for image, rng in zip(clean, draws, strict=True)]
        )
        best = oracle.margins(np.arange(n), x)
        rows = np.flatnonzero(best >= 0)
        numbers = np.zeros((0, 0, 0))
        tried = clean.copy()
        for step in range(self.steps):
            if not len(rows):
                break
            if step % CHUNK == 0:
                numbers = np.zeros((n, CHUNK, self._numbers(clean.shape[-1])))
                for row in rows:
                    numbers[row] = draws[row].random(numbers.shape[1:])
            side = self._side(step, clean.shape)
            drawn = numbers[rows, step % CHUNK]
            tried[rows] = self._changed(x[rows], clean[rows], eps, side, drawn)
            margins = oracle.margins(rows, tried)
            better = (margins < best[rows]) | (margins < 0)
            hit = rows[better]
            x[hit], best[hit] = tried[hit], margins[better]
            rows = rows[best[rows] >= 0]
            note = f"Square eps {eps:.4g}, {len(rows)} images at work"
            context.ticker.tick(step / self.steps, note)
        return oracle.result(x, best < 0, self.norm)

    def _side(self, step: int, shape: tuple[int, ...]) -> int:
        """Of the square of query `step`, in pixels."""
        height, width = shape[1:3]
        share = self.p_init / 2 ** bisect.bisect_left(HALVED_AFTER, step)
        return min(max(round(math.sqrt(share * height * width)), 1), height, width)

    # What differs between the norms.

    def _numbers(self, channels: int) -> int:
        """Random numbers in [0, 1) of a query."""
        raise NotImplementedError

    def _first(self, clean: np.ndarray, eps: float, rng: np.random.Generator) -> np.ndarray:
        """Of one image [h, w, c]: where it starts."""
        raise NotImplementedError

    def _changed(
        self, x: np.ndarray, clean: np.ndarray, eps: float, side: int, drawn: np.ndarray
    ) -> np.ndarray:
        """[m, h, w, c]: x with a random square changed, by the random numbers [m, k]."""
        raise NotImplementedError


@attack(
    AttackEntry(
        name="square_linf", title="Square Linf", norm="linf", finds="fixed-eps", gradients=False
    )
)
class SquareLinf(Square):
    norm = "linf"

    def _numbers(self, channels: int) -> int:
        return 2 + channels

    def _first(self, clean: np.ndarray, eps: float, rng: np.random.Generator) -> np.ndarray:
        """Vertical stripes, a pixel wide."""
        stripes = np.where(rng.random(clean.shape[1:]) < 0.5, -1, 1)
        out: np.ndarray = np.clip(clean + np.float32(eps) * stripes.astype(np.float32), 0.0, 1.0)
        return out

    def _changed(
        self, x: np.ndarray, clean: np.ndarray, eps: float, side: int, drawn: np.ndarray
    ) -> np.ndarray:
        window = _window(x.shape, side, drawn[:, :2])
        signs = np.where(drawn[:, 2:] < 0.5, -1, 1).astype(np.float32)[:, None, None]
        out = x.copy()
        # Twice eps: whatever was there, every element ends at the ball's or the box's surface.
        moved = x[window] + np.float32(2 * eps) * signs
        out[window] = into_ball(moved, clean[window], eps, "linf")
        return out


@attack(
    AttackEntry(name="square_l2", title="Square L2", norm="l2", finds="fixed-eps", gradients=False)
)
class SquareL2(Square):
    norm = "l2"

    def _side(self, step: int, shape: tuple[int, ...]) -> int:
        """Odd and at least 3, so that a square has a middle."""
        return min(max(super()._side(step, shape), 3) // 2 * 2 + 1, *shape[1:3])

    def _numbers(self, channels: int) -> int:
        return 5 + channels

    def _first(self, clean: np.ndarray, eps: float, rng: np.random.Generator) -> np.ndarray:
        """Tiles of the same shape as the later squares."""
        height, width, channels = clean.shape
        tile = max(min(height, width) // TILES, 1)
        start = (height - tile * TILES) // 2 if height >= TILES else 0
        delta = np.zeros_like(clean)
        for top in range(start, height - tile + 1, tile):
            for left in range(start, width - tile + 1, tile):
                signs = np.where(rng.random(channels) < 0.5, -1, 1)
                shape = _bumps(tile, turned=rng.random() < 0.5)
                delta[top : top + tile, left : left + tile] = shape[..., None] * signs
        out: np.ndarray = np.clip(clean + np.float32(eps) * unit(delta[None])[0], 0.0, 1.0)
        return out

    def _changed(
        self, x: np.ndarray, clean: np.ndarray, eps: float, side: int, drawn: np.ndarray
    ) -> np.ndarray:
        """The budget of one square moves to another, which keeps a part of its direction."""
        delta = x - clean
        grows, gives = (_window(x.shape, side, drawn[:, at : at + 2]) for at in (0, 2))
        both = np.zeros(x.shape, bool)
        both[grows] = both[gives] = True
        left = np.maximum(eps**2 - np.square(row_norms(delta, "l2")), 0.0) / x.shape[-1]
        budget = np.sqrt(left + np.square(row_norms(np.where(both, delta, np.float32(0)), "l2")))
        signs = np.where(drawn[:, 5:] < 0.5, -1, 1).astype(np.float32)[:, None, None]
        bumps = np.stack([_bumps(side, turned=turned) for turned in drawn[:, 4] < 0.5])
        fresh = bumps[..., None] * signs
        old = delta[grows]
        fresh = fresh + old / np.maximum(_of_channels(old), 1e-12)
        fresh = fresh / np.maximum(_of_channels(fresh), 1e-12) * wide(budget, fresh)
        delta[gives] = 0.0
        delta[grows] = fresh
        out: np.ndarray = np.clip(clean + np.float32(eps) * unit(delta), 0.0, 1.0)
        return out


def _window(
    shape: tuple[int, ...], side: int, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An index of a square in each of `shape` images [m, h, w, c]; drawn: [m, 2] in [0, 1)."""
    places = (np.array(shape[1:3]) - side + 1) * drawn
    top, left = places.astype(np.int64).T
    along = np.arange(side)
    return (
        np.arange(len(drawn))[:, None, None],
        (top[:, None] + along)[:, :, None],
        (left[:, None] + along)[:, None, :],
    )


def _of_channels(windows: np.ndarray) -> np.ndarray:
    """L2 norms of [m, side, side, c] for each channel, [m, 1, 1, c]."""
    flat = np.square(windows.astype(np.float64)).reshape(len(windows), -1, windows.shape[-1])
    norms = np.sqrt(np.ascontiguousarray(flat.transpose(0, 2, 1)).sum(axis=2))
    out: np.ndarray = norms.astype(np.float32)[:, None, None]
    return out


def _bumps(side: int, *, turned: bool) -> np.ndarray:
    """float32 [side, side] of norm 1: one bump up and one down, beside or above each other."""
    both = np.concatenate([_bump(side // 2, side), -_bump(side - side // 2, side)])
    out: np.ndarray = (both / np.linalg.norm(both)).astype(np.float32)
    return out.T if turned else out


def _bump(height: int, width: int) -> np.ndarray:
    """[height, width] of norm 1 (the paper's section 3.4): at a distance of k pixels from the
    middle, the sum of 1 / i^2 over i from k + 1 on."""
    rows = np.abs(np.arange(height) - height // 2)
    columns = np.abs(np.arange(width) - width // 2)
    far = np.maximum(rows[:, None], columns[None])
    most = max(height, width) // 2 + 1
    tail = np.cumsum(1.0 / np.square(np.arange(most, 0, -1)))[::-1]
    bump: np.ndarray = np.append(tail, 0.0)[np.minimum(far, most)]
    return bump / max(float(np.linalg.norm(bump)), 1e-12)
