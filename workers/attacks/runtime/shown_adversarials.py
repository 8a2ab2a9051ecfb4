"""One transfer task: the adversarials of one model in, what another makes of them out.

Forward passes alone. An adversarial counts as in an attack: another class than the label by finite
logits, in the box, within eps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunegrid.workers.adversarials import Adversarials
from prunegrid.workers.attacks.base import row_norms
from prunegrid.workers.attacks.runtime.heartbeats import Ticker
from prunegrid.workers.attacks.runtime.micro_batches import MicroBatches
from prunegrid.workers.attacks.runtime.network import Network
from prunegrid.workers.attacks.runtime.verification import BOX_TOLERANCE, NORM_TOLERANCE
from prunegrid.workers.catalog import attack_of
from prunegrid.workers.context import TornInput
from prunegrid.workers.contract import TransferTask

#: Images between two heartbeats.
PIECE = 4096


@dataclass(frozen=True, kw_only=True)
class TransferRequest:
    """What to show, and what is known of the target."""

    task: TransferTask
    images: np.ndarray  #: float32 [n, h, w, c] in [0, 1], the split's first
    labels: np.ndarray  #: int [n]
    adversarials: Iterable[Adversarials]  #: of each attack task; taken one at a time
    model_accuracy: float  #: the target's, on the test split
    diverged: bool = False  #: the target's weights are NaN

    @property
    def skipped(self) -> bool:
        """As an attack on the target would be."""
        threshold = self.task.attack.skip_at_or_below_accuracy
        return self.diverged or (threshold is not None and self.model_accuracy <= threshold)


def transferred(
    model: Any,
    request: TransferRequest,
    *,
    beat: Callable[[float, str], None],
    stop_requested: Callable[[], bool],
) -> dict[str, list[Any]]:
    """The columns of TRANSFER_IMAGE_SCHEMA that vary by row, eps by eps. `model` gives logits.

    Raises TornInput where an adversarial is not of these images, Interrupted, and what the device
    raises where even 16 images do not fit.
    """
    task, n = request.task, len(request.labels)
    levels: tuple[float | None, ...] = task.attack.eps or (None,)
    distance = np.full((len(levels), n), np.inf)
    prediction = np.full((len(levels), n), -2)  # -2: none was shown
    clean = np.full(n, -1)
    ticker = Ticker(beat, stop_requested)
    network = Network(model)
    micro_batches = MicroBatches(task.attack.batch_size)

    def classes(images: np.ndarray) -> np.ndarray:
        """-1 where the logits are not finite."""
        found = [np.zeros(0, np.int64)]
        for start in range(0, len(images), PIECE):
            ticker.tick(start / len(images), "forward passes")
            logits = network.logits(images[start : start + PIECE], micro_batches)
            finite = np.isfinite(logits).all(axis=1)
            found.append(np.where(finite, logits.argmax(axis=1), -1))
        return np.concatenate(found)

    if not request.skipped:
        clean = classes(request.images)
    for part in request.adversarials:
        k = _levels(part, levels, task)
        _check(part, request, task)
        distance[k, part.image] = part.distance
        if not request.skipped:
            prediction[k, part.image] = classes(part.adversarial)
    changed = (prediction >= 0) & (prediction != request.labels)
    known = None if request.skipped and not request.diverged else clean.tolist()
    rows = n * len(levels)
    return {
        "image": np.tile(np.arange(n), len(levels)).tolist(),
        "eps": [eps for eps in levels for _ in range(n)],
        "label": np.tile(request.labels, len(levels)).tolist(),
        "clean_prediction": [None] * rows if known is None else known * len(levels),
        "distance": distance.ravel().tolist(),
        "prediction": [p if p > -2 else None for p in prediction.ravel().tolist()],
        "transferred": (changed & (clean == request.labels)).ravel().tolist(),
        "skipped": [request.skipped] * rows,
    }


def _levels(part: Adversarials, levels: tuple[float | None, ...], task: TransferTask) -> np.ndarray:
    """Number of the eps of each adversarial. Raises TornInput."""
    number = {eps: k for k, eps in enumerate(levels)}
    given = [None if np.isnan(eps) else eps for eps in part.eps.tolist()]
    if other := set(given) - set(number):
        raise TornInput(f"adversarials of {task.source_key}: expected eps of {levels}, got {other}")
    return np.array([number[eps] for eps in given], int)


def _check(part: Adversarials, request: TransferRequest, task: TransferTask) -> None:
    """Box, norm and eps, measured again. Raises TornInput."""
    where, n = f"adversarials of {task.source_key}", len(request.images)
    if part.adversarial.shape[1:] != request.images.shape[1:]:
        raise TornInput(
            f"{where}: expected images of {request.images.shape[1:]}, "
            f"got {part.adversarial.shape[1:]}"
        )
    if len(part) == 0:
        return
    if part.image.min() < 0 or part.image.max() >= n:
        raise TornInput(f"{where}: expected images 0..{n - 1}, got {part.image.max()}")
    if not (
        part.adversarial.min() >= -BOX_TOLERANCE and part.adversarial.max() <= 1 + BOX_TOLERANCE
    ):
        raise TornInput(f"{where}: pixels outside [0, 1]")
    entry = attack_of(task.attack)
    if entry is None:
        raise ValueError(f"unknown attack {task.attack.attack!r}")
    measured = row_norms(part.adversarial - request.images[part.image], entry.norm)
    far = np.abs(measured - part.distance) > NORM_TOLERANCE * np.maximum(1.0, measured)
    over = measured > part.eps * (1 + NORM_TOLERANCE) + BOX_TOLERANCE  # never of NaN
    if far.any() or over.any():
        i = int(np.flatnonzero(far | over)[0])
        raise TornInput(
            f"{where}: image {part.image[i]} is {entry.norm} {measured[i]:.6g} from the clean one, "
            f"said to be {part.distance[i]:.6g}"
        )
