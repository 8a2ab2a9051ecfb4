"""What an attack gets, and what it returns.

An attack is a frozen dataclass whose fields are its options (`declaration.py`), with one method
for each engine that it supports. A method returns one AttackResult for each eps of
`context.eps` (ascending), or one alone where it minimises a norm.

`strict` decides everything per image, so that an image's result does not depend on the other
images of its batch: it draws from `runtime/draws.py`, keyed by the image, and computes in
micro-batches of one padded shape (`runtime/micro_batches.py`). `foolbox` repeats Foolbox 3.3.4
bit by bit on the batch as it is.

An attack's claims are verified: `runtime/verification.py` classifies every returned image again
and measures it. A claim that does not hold raises AttackLied, and the task fails.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from prunegrid.workers.attacks.runtime.heartbeats import Ticker
    from prunegrid.workers.attacks.runtime.micro_batches import MicroBatches
    from prunegrid.workers.attacks.runtime.network import Network


class AttackLied(Exception):  # noqa: N818 - what happened, as the log shows it
    """An attack claimed an adversarial image that the verification does not confirm."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    images: np.ndarray  #: float32 [n, h, w, c] in [0, 1]
    labels: np.ndarray  #: int64 [n]
    indices: np.ndarray  #: int64 [n], in the split; random draws are keyed by them

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray | slice) -> Batch:
        return Batch(images=self.images[rows], labels=self.labels[rows], indices=self.indices[rows])


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What an attack returns for a batch at one eps, or as its minimum."""

    images: np.ndarray  #: float32 [n, h, w, c]; anything where nothing was found
    claimed: np.ndarray  #: bool [n]: believed to be adversarial, and within eps where there is one
    distance: np.ndarray  #: float64 [n]: its norm as the attack has it; inf where not claimed
    queries: np.ndarray  #: int64 [n]: forward passes that the attack made of each image
    first_step: np.ndarray | None = None  #: bool [n]: PGD's first step was already adversarial
    backward: np.ndarray | None = None  #: int64 [n]: backward passes; None: not known
    #: int64 [n]: forward passes at which the attack's own loss had no slope; None: not known.
    flat: np.ndarray | None = None
    #: str [n]: the part of the attack that broke the image, "" where none did; None: it has none.
    broken_by: np.ndarray | None = None


# Parameters: the columns of a result.
def measured(
    batch: Batch,
    norm: str,
    images: np.ndarray,
    claimed: np.ndarray,
    queries: np.ndarray,
    first_step: np.ndarray | None = None,
    backward: np.ndarray | None = None,
    flat: np.ndarray | None = None,
) -> AttackResult:
    """A result whose distances are those of `images` to the batch's."""
    return AttackResult(
        images=images,
        claimed=claimed,
        distance=np.where(claimed, row_norms(images - batch.images, norm), np.inf),
        queries=queries,
        first_step=first_step,
        backward=backward,
        flat=flat,
    )


#: One for each eps, ascending, or one alone where an attack minimises a norm.
Results = tuple[AttackResult, ...]
#: An attack's method for an engine.
EngineMethod = Callable[["Network", Batch, "AttackContext"], Results]


@dataclass(frozen=True, kw_only=True)
class AttackContext:
    """What an attack needs beside the network and the images."""

    eps: tuple[float, ...]  #: ascending; () for a minimum-norm attack
    seed: int  #: of the task
    micro_batches: MicroBatches  #: pieces of one padded shape; `strict` alone computes in them
    pool: Batch | None  #: dataset images to start from, the same for every shard
    ticker: Ticker
    #: Foolbox's generators are global and sequential: the stream of this slice of the shard.
    stream: int = 0


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Base of all attacks. A subclass overrides the engines that it supports."""

    def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        raise NotImplementedError

    def foolbox(self, network: Network, batch: Batch, context: AttackContext) -> Results:
        raise NotImplementedError

    @classmethod
    def engines(cls) -> tuple[Literal["strict", "foolbox"], ...]:
        """Those that the class implements."""
        found: list[Literal["strict", "foolbox"]] = []
        if cls.strict is not Attack.strict:
            found.append("strict")
        if cls.foolbox is not Attack.foolbox:
            found.append("foolbox")
        return tuple(found)


def nest(results: list[AttackResult]) -> Results:
    """Results at ascending eps, such that an image broken at one eps stays broken at the larger
    ones."""
    out = results[:1]
    for item in results[1:]:
        before = out[-1]
        keep = before.claimed
        out.append(
            dataclasses.replace(
                item,
                images=np.where(keep[:, None, None, None], before.images, item.images),
                claimed=keep | item.claimed,
                distance=np.where(keep, before.distance, item.distance),
            )
        )
    return tuple(out)


class Gathered:
    """The results of several attacks on parts of one batch, put together; of an image the first
    success counts. `before`: results whose successes stand already."""

    def __init__(self, batch: Batch, norm: str, before: AttackResult | None = None) -> None:
        n = len(batch)
        self._batch, self._norm = batch, norm
        self._images = (batch if before is None else before).images.copy()
        self.claimed = np.zeros(n, bool) if before is None else before.claimed.copy()
        self._passes = np.zeros((3, n), np.int64)  # forward, backward, flat
        by = None if before is None else before.broken_by
        self._by = np.full(n, "", "U16") if by is None else by.copy()

    def add(self, rows: np.ndarray, result: AttackResult, by: str | None = None) -> None:
        """`result` of the images `rows`; `by`: the part of an attack that it is of."""
        for total, more in zip(
            self._passes, (result.queries, result.backward, result.flat), strict=True
        ):
            total[rows] += 0 if more is None else more
        fresh = result.claimed & ~self.claimed[rows]
        hit = rows[fresh]
        self._images[hit], self.claimed[hit] = result.images[fresh], True
        names = result.broken_by if by is None else np.full(len(rows), by)
        if names is not None:
            self._by[hit] = names[fresh]

    def result(self) -> AttackResult:
        forward, backward, flat = self._passes
        found = measured(
            self._batch, self._norm, self._images, self.claimed, forward,
            backward=backward, flat=flat,
        )  # fmt: skip
        named = bool((self._by != "").any())
        return dataclasses.replace(found, broken_by=self._by if named else None)


def at_each_eps(
    batch: Batch,
    context: AttackContext,
    norm: str,
    run: Callable[[Batch, float], AttackResult],
    *,
    nested: bool,
) -> Results:
    """`run` at each eps. `nested`: what broke at one eps counts as broken at the larger ones, and
    is not attacked again."""
    found: list[AttackResult] = []
    for eps in context.eps:
        gathered = Gathered(batch, norm, before=found[-1] if nested and found else None)
        if len(rows := np.flatnonzero(~gathered.claimed)):
            gathered.add(rows, run(batch.take(rows), eps))
        found.append(gathered.result())
    return tuple(found)


def row_norms(delta: np.ndarray, norm: str) -> np.ndarray:
    """Norms of [n, ...] perturbations in float64 [n]; "l0" counts non-zero elements,
    "l0_pixels" pixels in which any channel is non-zero (channels are the last axis)."""
    flat = delta.reshape(len(delta), math.prod(delta.shape[1:]))  # -1 fails for no images
    norms: np.ndarray
    if norm == "l0":
        norms = np.count_nonzero(flat, axis=1)
    elif norm == "l0_pixels":
        pixels = flat.reshape(len(delta), -1, delta.shape[-1]) if flat.size else flat[..., None]
        norms = np.count_nonzero(pixels.any(axis=2), axis=1)
    elif norm == "l0_loose":
        norms = np.count_nonzero(np.abs(flat) > 1e-4, axis=1)
    elif norm == "l1":
        norms = np.abs(flat.astype(np.float64)).sum(axis=1)
    elif norm == "l2":
        norms = np.sqrt(np.square(flat.astype(np.float64)).sum(axis=1))
    elif norm == "linf":
        norms = np.abs(flat).max(axis=1, initial=0.0)
    else:
        choices = "l0, l0_pixels, l0_loose, l1, l2 or linf"
        raise ValueError(f"norm: expected {choices}, got {norm!r}")
    return norms.astype(np.float64)
