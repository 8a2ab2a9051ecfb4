"""What an attack is, and what it may claim.

An attack is a class with one method per engine it supports:

    __init__(options: Mapping[str, Scalar])        its own settings, complete
    strict(network, batch, job) -> tuple[Found, ...]
    foolbox(network, batch, job) -> tuple[Found, ...]

It returns one `Found` per eps of `job.eps` (ascending), or one alone where it minimises a norm.
`strict` decides everything per image, so that an image's result does not depend on its batch
mates: it draws from `draws.py`, keyed by the image, and computes in micro-batches of one padded
shape (`lanes.py`). `foolbox` repeats Foolbox 3.3.4 bit by bit on the batch as it is.

No attack judges itself: `judge.py` looks at every returned image again. An attack says what it
believes to have found (`claimed`, `distance`); where the second look shows something else
it raises AttackLied, and the task fails instead of counting it.

To add an attack: a file here with such a class, and an entry in workers/catalog/ with its
options; the tests over the catalog pick it up by themselves. A stock attack of Foolbox needs the
catalog entry alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from prunegrid.workers.context import Interrupted
from prunegrid.workers.keys import Scalar

if TYPE_CHECKING:
    from prunegrid.workers.attacks.lanes import Lanes
    from prunegrid.workers.attacks.network import Network


class AttackLied(Exception):  # noqa: N818 - what happened, as the log shows it
    """An attack claimed an adversarial image that a second look does not confirm."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    images: np.ndarray  #: float32 [n, h, w, c] in [0, 1]
    labels: np.ndarray  #: int32 [n]
    indices: np.ndarray  #: int64 [n], in the split; random draws are keyed by them

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray | slice) -> Batch:
        return Batch(images=self.images[rows], labels=self.labels[rows], indices=self.indices[rows])


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an attack returns for a batch at one eps, or as its minimum."""

    images: np.ndarray  #: float32 [n, h, w, c]; anything where nothing was found
    claimed: np.ndarray  #: bool [n]: believed to be adversarial, and within eps where there is one
    distance: np.ndarray  #: float64 [n]: its norm as the attack has it; inf where not claimed
    queries: np.ndarray  #: int64 [n]: forward passes that the attack made of each image
    first_step: np.ndarray | None = None  #: bool [n]: PGD's first step was already adversarial


class Ticker:
    """Heartbeat and stop request, asked as often as one likes and passed on once a second.

    `share`: the part [start, stop) of the task's work that the next ticks speak of.
    """

    def __init__(
        self, beat: Callable[[float, str], None], stop_requested: Callable[[], bool]
    ) -> None:
        self._beat = beat
        self._stop_requested = stop_requested
        self._last = -np.inf
        self._share = self._whole = (0.0, 1.0)

    def share(self, start: float, stop: float) -> None:
        self._share = self._whole = (start, stop)

    def share_of(self, part: int, parts: int) -> None:
        """The next ticks speak of part `part` of `parts` equal ones of the whole share."""
        start, stop = self._whole
        width = (stop - start) / parts
        self._share = (start + part * width, start + (part + 1) * width)

    def tick(self, done: float, note: str) -> None:
        """`done`: of the present share, in [0, 1]. Raises Interrupted where asked to stop."""
        now = time.monotonic()
        if now - self._last < 1.0:
            return
        self._last = now
        start, stop = self._share
        self._beat(start + (stop - start) * min(max(done, 0.0), 1.0), note)
        if self._stop_requested():
            raise Interrupted(note)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an attack needs beside the network and the images."""

    eps: tuple[float, ...]  #: ascending; () for a minimum-norm attack
    seed: int  #: of the task
    lanes: Lanes  #: micro-batches of one padded shape; `strict` alone computes in them
    pool: Batch | None  #: dataset images to start from, the same for every shard
    ticker: Ticker
    #: Foolbox's generators are global and sequential: the stream of this slice of the shard.
    stream: int = 0


class Attack(Protocol):
    def __init__(self, options: Mapping[str, Scalar]) -> None: ...

    def strict(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]: ...

    def foolbox(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]: ...


def row_norms(delta: np.ndarray, norm: str) -> np.ndarray:
    """Norms of [n, ...] perturbations in float64 [n]; "l0" counts non-zero elements."""
    flat = delta.reshape(len(delta), -1)
    if norm == "l0":
        return np.count_nonzero(flat, axis=1).astype(np.float64)
    if norm == "l0_loose":
        return np.count_nonzero(np.abs(flat) > 1e-4, axis=1).astype(np.float64)
    if norm == "l1":
        return np.abs(flat.astype(np.float64)).sum(axis=1)
    if norm == "l2":
        return np.sqrt(np.square(flat.astype(np.float64)).sum(axis=1))
    if norm == "linf":
        return np.abs(flat).max(axis=1, initial=0.0).astype(np.float64)
    raise ValueError(f"norm: expected l0, l0_loose, l1, l2 or linf, got {norm!r}")
