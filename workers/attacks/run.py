"""One attack task: a shard of images in, judged rows out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from prunegrid.workers.attacks.base import Batch, Found, Job, Ticker
from prunegrid.workers.attacks.judge import judge
from prunegrid.workers.attacks.lanes import Lanes, padded_size
from prunegrid.workers.attacks.measure import xla_pays
from prunegrid.workers.attacks.network import Network
from prunegrid.workers.attacks.rows import Progress, Rows
from prunegrid.workers.catalog import AttackEntry, attack_entry, load
from prunegrid.workers.contract import AttackSettings, AttackTask
from prunegrid.workers.keys import Scalar

#: `strict` works on so many micro-batches of images at once: enough for finished ones to be
#: replaced, and a checkpoint after each slice.
SLICE_BATCHES = 4
#: Bytes of images in such a slice; an attack holds up to ten arrays of that size.
SLICE_BYTES = 64 * 2**20

Run = Callable[[Network, Batch, Job], tuple[Found, ...]]


def attack_shard(
    model: Any,
    *,
    task: AttackTask,
    images: np.ndarray,
    labels: np.ndarray,
    pool_images: np.ndarray | None,
    pool_labels: np.ndarray | None,
    model_accuracy: float,
    beat: Callable[[float, str], None],
    stop_requested: Callable[[], bool],
    diverged: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, list[Any]], dict[int, np.ndarray]]:
    """Attack images task.start..task.stop.

    model: gives logits; images: float32 [n, h, w, c] in [0, 1]; labels: [n].
    pool_images, pool_labels: where boundary attacks may start, the same for every shard.
    model_accuracy: on the test split; at or below the task's threshold nothing runs and every
    row counts as broken. diverged: the model's training ended in NaN; likewise.
    progress: finished images are kept there, and taken up again.

    Returns the columns of IMAGE_SCHEMA that vary by row (a row per image and eps, or per image
    where the attack minimises a norm), and up to four adversarial images by index in the split.
    Raises AttackLied, Interrupted, ValueError on unusable settings, and what the device raises
    where even 16 images do not fit.
    """
    settings = task.attack
    entry = attack_entry(settings.attack)
    if entry is None:
        raise ValueError(f"unknown attack {settings.attack!r}")
    batch = _batch(images, labels, task.start, task.stop)
    pool = None
    if pool_images is not None and pool_labels is not None:
        pool = _batch(pool_images, pool_labels, 0, len(pool_images))
    rows = Rows(batch, settings.eps)
    threshold = settings.skip_at_or_below_accuracy
    if diverged or (threshold is not None and model_accuracy <= threshold):
        rows.skip()
        return rows.columns(entry), {}
    run = runner(entry, settings)
    strict = settings.engine == "strict"
    lanes = Lanes(settings.batch_size)
    network = Network(model, settings.outputs, xla=uses_xla(model, settings))
    # XLA would compile each smaller shape anew.
    lanes.smaller_is_equal = strict and not network.xla and network.smaller_is_equal(lanes.nominal)
    clean, zero = _examine(network, batch, lanes)
    rows.clean(clean, zero, lanes.size)
    wrong = clean != batch.labels
    slices = _slices(settings, wrong, batch)
    total = max(1, sum(len(piece) for piece in slices))
    ticker = Ticker(beat, stop_requested)
    first = rows.load(progress) if progress is not None else 0
    for number, piece in enumerate(slices):
        if number < first:
            continue
        before = sum(len(other) for other in slices[:number])
        ticker.share(before / total, (before + len(piece)) / total)
        part = batch.take(piece)
        job = Job(
            eps=settings.eps,
            seed=task.seed,
            lanes=lanes,
            pool=pool,
            ticker=ticker,
            stream=int(part.indices[0]),
        )
        for k, raw in enumerate(run(network, part, job)):
            # Misclassified images stay in Foolbox's batches, but nothing is claimed of them.
            found = dataclasses.replace(raw, claimed=raw.claimed & ~wrong[piece])
            logits = _logits(network, found.images, lanes, strict)
            eps = settings.eps[k] if settings.eps else None
            verdict = judge(part, found, logits, norm=entry.norm, eps=eps)
            rows.judged(piece, k, found, verdict, lanes.size if strict else len(piece))
        if progress is not None:
            rows.save(progress, number + 1)
    return rows.columns(entry), rows.samples


def uses_xla(model: Any, settings: AttackSettings) -> bool:
    """`strict` takes XLA where it pays; the others repeat Foolbox, which does without."""
    size = padded_size(settings.batch_size)
    return settings.engine == "strict" and xla_pays(model, outputs=settings.outputs, size=size)


def runner(entry: AttackEntry, settings: AttackSettings) -> Run:
    """The attack's method for the engine. Raises ValueError on an engine or options it lacks."""
    if settings.engine not in entry.engines:
        raise ValueError(
            f"{entry.name}: expected an engine of {list(entry.engines)}, got {settings.engine!r}"
        )
    options: dict[str, Scalar] = {option.name: option.default for option in entry.options}
    if entry.options and (unknown := sorted(set(dict(settings.options)) - set(options))):
        raise ValueError(f"{entry.name}: expected options {sorted(options)}, got {unknown}")
    options |= dict(settings.options)
    if settings.engine == "foolbox-stock":
        from prunegrid.workers.attacks.stock import StockAttack

        return StockAttack(entry, options).run
    attack = load(entry.target)(options)
    chosen: Run = attack.strict if settings.engine == "strict" else attack.foolbox
    return chosen


def _batch(images: np.ndarray, labels: np.ndarray, start: int, stop: int) -> Batch:
    n = stop - start
    if len(images) != n or len(labels) != n:
        raise ValueError(f"expected {n} images and labels, got {len(images)} and {len(labels)}")
    return Batch(
        images=np.ascontiguousarray(images, np.float32),
        labels=np.asarray(labels, np.int64),
        indices=np.arange(start, stop, dtype=np.int64),
    )


def _slices(settings: AttackSettings, wrong: np.ndarray, batch: Batch) -> list[np.ndarray]:
    """Rows to attack together: Foolbox's batches, or what `strict` has in hand at once."""
    if settings.engine == "strict":
        rows = np.flatnonzero(~wrong)
        lane = padded_size(settings.batch_size)
        fit = int(SLICE_BYTES // batch.images[0].nbytes) // lane
        size = lane * max(1, min(SLICE_BATCHES, fit))
    else:
        rows, size = np.arange(len(batch)), settings.batch_size
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _logits(network: Network, images: np.ndarray, lanes: Lanes, strict: bool) -> np.ndarray:
    """In the shape that the attack worked in: an image on a boundary may tip in another."""
    return network.lane_logits(images, lanes) if strict else network.logits(images)


def _examine(network: Network, batch: Batch, lanes: Lanes) -> tuple[np.ndarray, np.ndarray]:
    """Clean predictions int64 [n] (-1 where logits are not finite) and all-zero gradients."""
    n = len(batch)
    prediction, zero = np.empty(n, np.int64), np.empty(n, bool)
    for rows, padded in lanes.pieces(np.arange(n)):
        with lanes.attempt():
            logits, flat = network.examine(batch.images[padded], batch.labels[padded])
            logits = logits[: len(rows)]
            finite = np.isfinite(logits).all(axis=1)
            prediction[rows] = np.where(finite, logits.argmax(axis=1), -1)
            zero[rows] = flat[: len(rows)]
    return prediction, zero
