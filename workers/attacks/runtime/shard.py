"""One attack task: a shard of images in, verified rows out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunegrid.workers.adversarials import Adversarials
from prunegrid.workers.attacks.base import AttackContext, Batch, EngineMethod
from prunegrid.workers.attacks.declaration import AttackEntry
from prunegrid.workers.attacks.foolbox_adapter import FoolboxAttack
from prunegrid.workers.attacks.runtime.device_speed import xla_is_faster
from prunegrid.workers.attacks.runtime.heartbeats import Ticker
from prunegrid.workers.attacks.runtime.image_columns import ImageCheckpoint, ImageColumns
from prunegrid.workers.attacks.runtime.micro_batches import MicroBatches, padded_size
from prunegrid.workers.attacks.runtime.network import Network
from prunegrid.workers.attacks.runtime.shrunk_network import ShrunkNetwork, Way, fixed_shape
from prunegrid.workers.attacks.runtime.verification import verify_adversarials
from prunegrid.workers.catalog import attack_of
from prunegrid.workers.contract import AttackSettings, AttackTask

#: `strict` works on this many micro-batches of images at once: enough to replace finished ones,
#: and a checkpoint after each slice.
SLICE_BATCHES = 4
#: Bytes of images in such a slice; an attack holds up to ten arrays of that size.
SLICE_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class ShardRequest:
    """What to attack: images task.start..task.stop of a split, and what is known of the model."""

    task: AttackTask
    images: np.ndarray  #: float32 [n, h, w, c] in [0, 1]
    labels: np.ndarray  #: int [n]
    #: Where boundary attacks may start, the same for every shard; None: from noise.
    pool_images: np.ndarray | None
    pool_labels: np.ndarray | None
    #: On the test split. At or below the task's threshold nothing runs, and every row counts as
    #: broken.
    model_accuracy: float
    diverged: bool = False  #: the model's weights are NaN: nothing runs either

    def __post_init__(self) -> None:
        n, images, labels = self.task.stop - self.task.start, len(self.images), len(self.labels)
        if (images, labels) != (n, n):
            raise ValueError(f"expected {n} images and labels, got {images} and {labels}")

    @property
    def batch(self) -> Batch:
        return _batch(self.images, self.labels, self.task.start)

    @property
    def pool(self) -> Batch | None:
        if self.pool_images is None or self.pool_labels is None:
            return None
        return _batch(self.pool_images, self.pool_labels, 0)

    @property
    def skipped(self) -> bool:
        threshold = self.task.attack.skip_at_or_below_accuracy
        return self.diverged or (threshold is not None and self.model_accuracy <= threshold)


def attack_shard(
    model: Any,
    request: ShardRequest,
    *,
    beat: Callable[[float, str], None],
    stop_requested: Callable[[], bool],
    checkpoint: ImageCheckpoint | None = None,
    shrunk: Any = None,
    keep: Callable[[Adversarials], None] | None = None,
) -> tuple[dict[str, list[Any]], dict[int, np.ndarray]]:
    """Attack the images of a request.

    model: gives logits. checkpoint: keeps finished images, from which a next attempt continues.
    shrunk: a smaller model that gives the same ones, for `strict` to attack; see `ShrunkNetwork`.
    keep: takes all adversarials, at the end.

    Returns the columns of IMAGE_SCHEMA that vary by row (a row per image and eps, or per image
    where the attack minimises a norm), and up to four adversarial images by index in the split.
    Raises AttackLied, Interrupted, ValueError on unusable settings, and what the device raises
    where even 16 images do not fit.
    """
    task, settings = request.task, request.task.attack
    entry = attack_of(settings)
    if entry is None:
        raise ValueError(f"unknown attack {settings.attack!r}")
    batch, pool = request.batch, request.pool
    columns = ImageColumns(batch, settings.eps, keep=keep is not None)
    image_shape = batch.images.shape[1:]
    if request.skipped:
        columns.skip(diverged=request.diverged)
        if keep is not None:
            keep(Adversarials.of({}, task, image_shape))
        return columns.columns(entry), {}
    run = engine_method(entry, settings)
    strict = settings.engine == "strict"
    network = Network(model, settings.outputs, xla=uses_xla(model, settings))
    if strict:
        stored = fixed_shape(network, settings.batch_size)
    else:
        stored = Way(network=network, micro_batches=MicroBatches(settings.batch_size))
    logits, zero = stored.examine(batch, entry.loss, movable=strict)
    finite = np.isfinite(logits).all(axis=1)
    clean = np.where(finite, logits.argmax(axis=1), -1)
    columns.clean(clean, zero, stored.micro_batches.size)
    wrong = clean != batch.labels
    small = None
    if shrunk is not None and strict:
        small = ShrunkNetwork(shrunk, stored, settings, batch, logits)
        columns.seen_again()
    slices = _slices(settings, wrong, batch)
    total = max(1, sum(len(piece) for piece in slices))
    ticker = Ticker(beat, stop_requested)
    first = columns.load(checkpoint) if checkpoint is not None else 0
    for number, piece in enumerate(slices):
        if number < first:
            continue
        before = sum(len(other) for other in slices[:number])
        ticker.share(before / total, (before + len(piece)) / total)
        part = batch.take(piece)
        context = AttackContext(
            eps=settings.eps,
            seed=task.seed,
            micro_batches=stored.micro_batches,
            pool=pool,
            ticker=ticker,
            stream=int(part.indices[0]),
        )
        of_rows: Any = "stored"
        if small is None:
            found = run(network, part, context)
        else:
            found, of_rows = small.attack(run, piece, part, context)
        for k, raw in enumerate(found):
            # Misclassified images stay in Foolbox's batches, but nothing is claimed of them.
            result = dataclasses.replace(raw, claimed=raw.claimed & ~wrong[piece])
            # In the shape that the attack worked in: an image on a boundary may tip in another.
            logits = network.logits(result.images, stored.micro_batches if strict else None)
            eps = settings.eps[k] if settings.eps else None
            checked = verify_adversarials(part, result, logits, norm=entry.norm, eps=eps)
            shape: Any = stored.micro_batches.size if strict else len(piece)
            if small is not None:
                shape = np.where(of_rows == "shrunk", small.micro_batches.size, shape)
            columns.verified(piece, k, result, checked, shape, of_rows)
        if checkpoint is not None:
            columns.save(checkpoint, number + 1)
    if keep is not None:
        keep(Adversarials.of(columns.found, task, image_shape))
    return columns.columns(entry), columns.samples


def uses_xla(model: Any, settings: AttackSettings) -> bool:
    """`strict` uses XLA where it is faster; the others repeat Foolbox, which does not use it."""
    if settings.engine != "strict":
        return False
    size = padded_size(settings.batch_size)
    return xla_is_faster(model, outputs=settings.outputs, size=size)


def engine_method(entry: AttackEntry, settings: AttackSettings) -> EngineMethod:
    """The attack's method for the engine. Raises ValueError on an engine or options it lacks."""
    if settings.engine not in entry.engines:
        raise ValueError(
            f"{entry.name}: expected an engine of {list(entry.engines)}, got {settings.engine!r}"
        )
    options = dict(settings.options)
    if settings.engine == "foolbox-stock":
        return FoolboxAttack(entry, entry.complete(options)).run
    attack = entry.make(options)
    return attack.strict if settings.engine == "strict" else attack.foolbox


def _batch(images: np.ndarray, labels: np.ndarray, start: int) -> Batch:
    return Batch(
        images=np.ascontiguousarray(images, np.float32),
        labels=np.asarray(labels, np.int64),
        indices=np.arange(start, start + len(images), dtype=np.int64),
    )


def _slices(settings: AttackSettings, wrong: np.ndarray, batch: Batch) -> list[np.ndarray]:
    """Rows to attack together: Foolbox's batches, or what `strict` works on at once."""
    if settings.engine == "strict":
        rows = np.flatnonzero(~wrong)
        padded = padded_size(settings.batch_size)
        fit = int(SLICE_BYTES // batch.images[0].nbytes) // padded
        size = padded * max(1, min(SLICE_BATCHES, fit))
    else:
        rows, size = np.arange(len(batch)), settings.batch_size
    return [rows[start : start + size] for start in range(0, len(rows), size)]
