"""One attack task: a shard of images in, judged rows out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from workers.attacks.base import Batch, Found, Job, Ticker
from workers.attacks.judge import Verdict, judge
from workers.attacks.lanes import Lanes
from workers.attacks.network import Network
from workers.attacks.stock import StockAttack
from workers.catalog import AttackEntry, attack_entry, load
from workers.contract import AttackSettings, AttackTask
from workers.keys import Scalar

#: Adversarial images kept for the eye.
SAMPLES = 4


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
) -> tuple[dict[str, list[Any]], dict[int, np.ndarray]]:
    """Attack images task.start..task.stop.

    model: gives logits; images: float32 [n, h, w, c] in [0, 1]; labels: [n].
    pool_images, pool_labels: where boundary attacks may start, the same for every shard.
    model_accuracy: on the test split; at or below the task's threshold nothing runs and every
    row counts as broken. diverged: the model's training ended in NaN; likewise.

    Returns the columns of IMAGE_SCHEMA that vary by row (a row per image and eps, or per image
    where the attack minimises a norm), and up to four adversarial images by index in the split.
    Raises AttackLied, Interrupted, ValueError on unusable settings.
    """
    settings = task.attack
    n = task.stop - task.start
    if len(images) != n or len(labels) != n:
        raise ValueError(f"expected {n} images and labels, got {len(images)} and {len(labels)}")
    entry = attack_entry(settings.attack)
    if entry is None:
        raise ValueError(f"unknown attack {settings.attack!r}")
    network = Network(model, settings.outputs)
    batch = Batch(
        images=np.ascontiguousarray(images, np.float32),
        labels=np.asarray(labels, np.int64),
        indices=np.arange(task.start, task.stop, dtype=np.int64),
    )
    pool = None
    if pool_images is not None and pool_labels is not None:
        pool = Batch(
            images=np.ascontiguousarray(pool_images, np.float32),
            labels=np.asarray(pool_labels, np.int64),
            indices=np.arange(len(pool_images), dtype=np.int64),
        )
    rows = _Rows(batch, settings)
    threshold = settings.skip_at_or_below_accuracy
    if diverged or (threshold is not None and model_accuracy <= threshold):
        rows.skip()
        return rows.columns(entry), {}
    ticker = Ticker(beat, stop_requested)
    lanes = Lanes(settings.batch_size)
    clean, zero = _examine(network, batch, lanes)
    rows.clean(clean, zero)
    wrong = clean != batch.labels
    if settings.engine == "strict":
        targets = np.flatnonzero(~wrong)
        slices = [targets] if len(targets) else []
    else:
        size = settings.batch_size
        slices = [np.arange(s, min(s + size, n)) for s in range(0, n, size)]
    run = _runner(entry, settings)
    done = 0
    total = sum(len(piece) for piece in slices)
    for piece in slices:
        ticker.share(done / total, (done + len(piece)) / total)
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
            eps = settings.eps[k] if settings.eps else None
            found = _only_targets(raw, wrong[piece])
            if settings.engine == "strict":
                logits = network.lane_logits(found.images, lanes)
            else:
                logits = network.logits(found.images)
            verdict = judge(part, found, logits, norm=entry.norm, eps=eps)
            rows.judged(piece, k, found, verdict)
        done += len(piece)
    return rows.columns(entry), rows.samples


def _runner(
    entry: AttackEntry, settings: AttackSettings
) -> Callable[[Network, Batch, Job], tuple[Found, ...]]:
    options: dict[str, Scalar] = {option.name: option.default for option in entry.options}
    options |= dict(settings.options)
    if settings.engine not in entry.engines:
        raise ValueError(
            f"{entry.name}: expected an engine of {list(entry.engines)}, got {settings.engine!r}"
        )
    if settings.engine == "foolbox-stock":
        return StockAttack(entry, options).run
    attack = load(entry.target)(options)
    return attack.strict if settings.engine == "strict" else attack.foolbox  # type: ignore[no-any-return]


def _examine(network: Network, batch: Batch, lanes: Lanes) -> tuple[np.ndarray, np.ndarray]:
    """Clean predictions int64 [n] (-1 where the logits are not finite) and all-zero gradients."""
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


def _only_targets(found: Found, wrong: np.ndarray) -> Found:
    """Misclassified images stay in Foolbox's batches, but nothing is claimed of them."""
    return Found(
        images=found.images,
        claimed=found.claimed & ~wrong,
        distance=found.distance,
        queries=found.queries,
        first_step=found.first_step,
    )


class _Rows:
    """The columns while they fill; arrays of [eps or 1, n]."""

    def __init__(self, batch: Batch, settings: AttackSettings) -> None:
        self._batch = batch
        self._eps: tuple[float | None, ...] = settings.eps or (None,)
        shape = (len(self._eps), len(batch))
        self._clean = np.full(len(batch), -2, np.int64)
        self._zero = np.zeros(len(batch), bool)
        self._prediction = np.full(shape, -1, np.int64)
        self._distance = np.zeros(shape)
        self._loose: np.ndarray = np.full(shape, np.nan)
        self._broken = np.ones(shape, bool)
        self._verified = np.zeros(shape, bool)
        self._skipped = False
        self._queries = np.zeros(shape, np.int64)
        self._first: np.ndarray | None = None
        self.samples: dict[int, np.ndarray] = {}

    def skip(self) -> None:
        self._skipped = True

    def clean(self, prediction: np.ndarray, zero: np.ndarray) -> None:
        self._clean, self._zero = prediction, zero
        self._queries += 1
        wrong = prediction != self._batch.labels
        self._prediction[:, wrong] = prediction[wrong]
        self._verified[:, wrong] = True

    def judged(self, rows: np.ndarray, k: int, found: Found, verdict: Verdict) -> None:
        right = self._clean[rows] == self._batch.labels[rows]
        self._queries[k, rows] += found.queries + 1
        use = rows[right]
        self._broken[k, use] = verdict.broken[right]
        self._distance[k, use] = verdict.distance[right]
        self._verified[k, use] = verdict.broken[right]
        self._prediction[k, use] = np.where(verdict.broken, verdict.prediction, -1)[right]
        if verdict.distance_loose is not None:
            self._loose[k, use] = verdict.distance_loose[right]
        if found.first_step is not None:
            if self._first is None:
                self._first = np.zeros(self._broken.shape, bool)
            self._first[k, use] = found.first_step[right]
        for i in np.flatnonzero(verdict.broken & right):
            index = int(self._batch.indices[rows[i]])
            if len(self.samples) < SAMPLES and index not in self.samples:
                self.samples[index] = found.images[i]

    def columns(self, entry: AttackEntry) -> dict[str, list[Any]]:
        n, count = len(self._batch), len(self._eps)
        loose = np.where(self._distance == 0, 0.0, self._loose)
        ran = not self._skipped
        first = self._first
        return {
            "image": np.tile(self._batch.indices, count).tolist(),
            "eps": [eps for eps in self._eps for _ in range(n)],
            "label": np.tile(self._batch.labels, count).tolist(),
            "clean_prediction": np.tile(self._clean, count).tolist() if ran else [None] * n * count,
            "adversarial_prediction": [int(p) if p >= 0 else None for p in self._prediction.flat],
            "distance": self._distance.ravel().tolist(),
            "distance_loose": (
                loose.ravel().tolist() if entry.norm == "l0" else [None] * n * count
            ),
            "broken": self._broken.ravel().tolist(),
            "verified": self._verified.ravel().tolist(),
            "skipped": [self._skipped] * n * count,
            "queries": self._queries.ravel().tolist(),
            "zero_gradient": np.tile(self._zero, count).tolist() if ran else [None] * n * count,
            "broken_first_step": (
                first.ravel().tolist() if first is not None else [None] * n * count
            ),
        }
