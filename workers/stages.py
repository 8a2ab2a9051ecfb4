"""The stages: train, prune (with fine-tuning), attack, transfer. Each writes its result file
last."""

from __future__ import annotations

import dataclasses
import functools
import math
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import keras
import numpy as np

from prunegrid.workers import layout, model_cache
from prunegrid.workers.adversarials import Adversarials, read_adversarials
from prunegrid.workers.artifacts import save_model, weights_sha256
from prunegrid.workers.catalog import dataset_of, method_of
from prunegrid.workers.checkpoints import Checkpoint, pack
from prunegrid.workers.context import TaskContext, TornInput
from prunegrid.workers.contract import (
    AttackTask,
    PruneTask,
    Task,
    TrainTask,
    TransferTask,
    user_code_of,
)
from prunegrid.workers.data.base import Dataset, load
from prunegrid.workers.device import arithmetic, configure
from prunegrid.workers.export.latency import dense_and_shrunk_ms
from prunegrid.workers.image_rows import images_to_parquet, judged_otherwise, read_images
from prunegrid.workers.keys import derive_seed
from prunegrid.workers.models.base import build, get_weights, set_weights
from prunegrid.workers.models.kernels import kernels, prunable
from prunegrid.workers.pruning.counts import layer_counts
from prunegrid.workers.pruning.step import prune_step
from prunegrid.workers.pruning.trained_network import TrainedNetwork
from prunegrid.workers.records import ModelRecord, ModelResult, Provenance, leave
from prunegrid.workers.revision import CODE, own_revision
from prunegrid.workers.training.fit import FitResult, TrainingHooks, TrainingStage, fit
from prunegrid.workers.training.steps import evaluator_for
from prunegrid.workers.transfer_image_rows import read_transfers, transfers_to_parquet
from prunegrid.workers.user_code import sources_of

#: Attacks may choose start images from the split's first ones, whatever their shard.
POOL_IMAGES = 256
_LIBRARIES = ("foolbox", "keras", "numpy", "prunegrid", "tensorflow")


def train(task: TrainTask, context: TaskContext) -> ModelRecord:
    """Train a dense network, and save it in the store."""
    clock = _Clock()
    dataset = load(task.data, context.settings.data_dir)
    model = model_cache.network(task, context)
    set_weights(model, initial_weights(task, context))
    context.work_begins()
    fitted = _fit(model, {}, dataset, task, context, stage="dense")
    layers = prunable(model, task.prune_except)
    masks = {layer.name: np.ones(layer.shape, dtype=bool) for layer in layers}
    return _finish(model, masks, fitted, dataset, task, context, clock)


def prune(task: PruneTask, context: TaskContext) -> ModelRecord:
    """Prune the parent to the task's rate, fine-tune, and save the model in the store.

    Raises PruneCountError where the number of surviving units is wrong.
    """
    clock = _Clock()
    dataset = load(task.data, context.settings.data_dir)
    parent = model_cache.stored(context, task.parent_key)
    model = model_cache.network(task, context)
    layers = prunable(model, task.prune_except)
    method = method_of(task.pruning)
    if method is None:
        raise ValueError(f"unknown pruning method {task.pruning.method!r}")
    lost = parent.record.result.unusable  # NaN can't be trained away, and scores no weight
    set_weights(model, {path: np.nan_to_num(w) for path, w in parent.weights.items()})
    context.work_begins()
    masks = prune_step(
        {layer.name: np.nan_to_num(parent.weights[layer.path]) for layer in layers},
        parent.masks,
        {layer.name: layer.kind for layer in layers},
        method=method,
        rate=task.pruning.rate,
        parent_rate=task.pruning.parent_rate,
        seed=task.seed,
        network=TrainedNetwork(
            model,
            {layer.name: layer.path for layer in layers},
            dataset.train,
            derive_seed(task.seed, task.salt, task.pruning.rate),
            lost=lost,
        ),
    )
    by_path = {layer.path: masks[layer.name] for layer in layers}
    retained = task.pruning.weights == "retain" or lost
    start = parent.weights if retained else initial_weights(task, context)
    set_weights(model, masked(start, by_path))
    if lost:
        fitted = FitResult(history=(), epochs=0, kept_epoch=0, stopped_early=False, diverged=True)
    else:
        stage = f"rate {task.pruning.rate:g}"
        fitted = _fit(model, by_path, dataset, task, context, stage=stage)
    return _finish(model, masks, fitted, dataset, task, context, clock)


def attack(task: AttackTask, context: TaskContext) -> tuple[tuple[str, float], ...]:
    """Attack one shard, and save its image rows in the store.

    Returns a few numbers for the display. Raises AttackLied where an attack's claim is false.
    """
    from prunegrid.workers.attacks.runtime.shard import ShardRequest, attack_shard, uses_xla

    clock = _Clock()
    split = load(task.data, context.settings.data_dir).split(task.split)
    stored = model_cache.stored(context, task.parent_key)
    model = model_cache.network(task, context)
    set_weights(model, stored.weights)
    small = model_cache.shrunk(model, task.attack)
    checkpoint = _checkpoint(task, context)
    context.work_begins()
    columns, samples = attack_shard(
        model,
        ShardRequest(
            task=task,
            images=split.floats(task.start, task.stop),
            labels=split.labels[task.start : task.stop],
            pool_images=split.floats(0, POOL_IMAGES),
            pool_labels=split.labels[:POOL_IMAGES],
            model_accuracy=stored.record.result.accuracy,
            diverged=stored.record.result.unusable,
        ),
        beat=context.beat,
        stop_requested=context.stop_requested,
        checkpoint=checkpoint,
        shrunk=small,
        keep=functools.partial(_keep_adversarials, task, context) if task.keep else None,
    )
    if samples:
        clean = {i: split.floats(i, i + 1)[0] for i in samples}  # to compare with
        arrays = {str(image): array for image, array in samples.items()}
        arrays |= {f"clean.{image}": array for image, array in clean.items()}
        context.files.write(layout.adversarials(task.key), pack(arrays, compressed=True))
    provenance = _provenance(task, context, clock)
    if uses_xla(model, task.attack):  # it rounds differently, so the rows name it
        provenance = dataclasses.replace(provenance, device=f"{provenance.device} (XLA)")
    content = images_to_parquet(columns, task=task, provenance=provenance)
    path = layout.image_rows(task.key)
    there = leave(context.files, path, content, check=read_images)
    if there is not None and task.keep and judged_otherwise(read_images(there), columns):
        context.files.write(path, content)  # made elsewhere, before adversarials were kept
    checkpoint.remove()
    broken = np.asarray(columns["broken"], dtype=float)
    return (("broken", float(broken.mean())),)


def _keep_adversarials(task: AttackTask, context: TaskContext, found: Adversarials) -> None:
    """Before the rows: where these are, so are the adversarials."""
    context.files.write(layout.all_adversarials(task.key), found.to_npz())


def transfer(task: TransferTask, context: TaskContext) -> tuple[tuple[str, float], ...]:
    """Show the target the adversarials that an attack made of the source, and save its rows.

    Returns a few numbers for the display. Raises TornInput where they are missing, torn or not of
    these images.
    """
    from prunegrid.workers.attacks.runtime.shown_adversarials import TransferRequest, transferred

    clock = _Clock()
    split = load(task.data, context.settings.data_dir).split(task.split)
    stored = model_cache.stored(context, task.parent_key)
    model = model_cache.network(task, context)
    set_weights(model, stored.weights)
    context.work_begins()
    columns = transferred(
        model,
        TransferRequest(
            task=task,
            images=split.floats(0, task.images),
            labels=split.labels[: task.images],
            adversarials=(stored_adversarials(context, key) for key in task.attack_keys),
            model_accuracy=stored.record.result.accuracy,
            diverged=stored.record.result.unusable,
        ),
        beat=context.beat,
        stop_requested=context.stop_requested,
    )
    content = transfers_to_parquet(columns, task=task, provenance=_provenance(task, context, clock))
    leave(context.files, layout.transfer_image_rows(task.key), content, check=read_transfers)
    return (("transferred", float(np.mean(columns["transferred"]))),)


def stored_adversarials(context: TaskContext, key: str) -> Adversarials:
    """All that an attack task kept. Raises TornInput, StorageError."""
    path = layout.all_adversarials(key)
    try:
        return read_adversarials(context.files.read(path), key)
    except (FileNotFoundError, ValueError) as error:
        raise TornInput(f"the adversarials of {key}: {error}") from error


# --------------------------------------------------------------------------- parts


def initial_weights(task: TrainTask | PruneTask, context: TaskContext) -> dict[str, np.ndarray]:
    """The weights before any training: the dense ancestor's initial ones, or fresh ones where the
    task re-initialises."""
    entry, own = dataset_of(task.data), task.network
    seed: int | None = derive_seed(task.seed, "init", task.salt)
    if isinstance(task, PruneTask) and task.pruning.weights == "reinitialize":
        seed = derive_seed(task.seed, "init", task.salt, task.pruning.rate)
    elif own is not None and own.trained:
        seed = None  # as they are in the file
    file = model_cache.network_file(own, context)
    model = build(task.architecture, entry.shape, entry.classes, seed=seed, own=own, file=file)
    return get_weights(model)


def masked(
    weights: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """`weights` with the pruned ones exactly 0."""
    pruned = {path: np.where(mask, weights[path], np.float32(0)) for path, mask in masks.items()}
    return {**weights, **pruned}


def _fit(
    model: keras.Model,
    masks: dict[str, np.ndarray],
    dataset: Dataset,
    task: TrainTask | PruneTask,
    context: TaskContext,
    *,
    stage: str,
) -> FitResult:
    return fit(
        model,
        TrainingStage(
            name=stage,
            masks=masks,
            dataset=dataset,
            settings=task.training,
            seed=derive_seed(task.seed, task.salt),
        ),
        TrainingHooks(
            checkpoint=_checkpoint(task, context),
            beat=context.beat,
            stop_requested=context.stop_requested,
        ),
    )


def _checkpoint(task: Task, context: TaskContext) -> Checkpoint:
    users = context.settings.user_code
    return Checkpoint(context.files, task.key, users=users.digest if users else "")


def _finish(
    model: keras.Model,
    masks: dict[str, np.ndarray],
    fitted: FitResult,
    dataset: Dataset,
    task: TrainTask | PruneTask,
    context: TaskContext,
    clock: _Clock,
) -> ModelRecord:
    """Score the model, and save it with its record."""

    def tick() -> None:
        context.beat(1.0, "scoring")

    evaluate = evaluator_for(model)
    loss, accuracy = evaluate(dataset.test, tick)
    validation_loss, validation_accuracy = evaluate(dataset.validation, tick)
    weights = get_weights(model)
    batch = context.settings.latency_batch
    dense_ms, shrunk_ms = (None, None) if batch is None else dense_and_shrunk_ms(model, batch)
    result = ModelResult(
        accuracy=accuracy,
        loss=loss,
        validation_accuracy=validation_accuracy,
        validation_loss=validation_loss,
        train_loss=fitted.train_loss,
        epochs=fitted.epochs,
        stopped_early=fitted.stopped_early,
        diverged=fitted.diverged or not math.isfinite(loss),
        nominal_rate=task.pruning.rate if isinstance(task, PruneTask) else 1.0,
        layers=layer_counts(kernels(model, task.prune_except), masks),
        weights_sha256=weights_sha256(weights),
        latency_ms=dense_ms,
        shrunk_latency_ms=shrunk_ms,
        latency_batch=batch,
    )
    record = ModelRecord(task=task, result=result, provenance=_provenance(task, context, clock))
    stored = save_model(context.files, record, weights, masks, fitted.history)
    _checkpoint(task, context).remove()
    model_cache.remember(context, stored)
    return stored.record


class _Clock:
    def __init__(self) -> None:
        self.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._started_s = time.monotonic()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._started_s


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    out = []
    for name in _LIBRARIES:
        try:
            out.append((name, version(name)))
        except PackageNotFoundError:
            out.append((name, ""))
    return tuple(out)


def _provenance(task: Task, context: TaskContext, clock: _Clock) -> Provenance:
    settings = context.settings
    return Provenance(
        task_key=task.key,
        seed=task.seed,
        git_revision=own_revision(),
        code_digest=CODE.digest,
        arithmetic=arithmetic(),
        user_sources=sources_of(user_code_of(task)) or None,
        versions=_versions(),
        device=configure(settings.threads, settings.gpu_memory_mib),
        threads=settings.threads,
        host=socket.gethostname(),
        started_at=clock.started_at,
        duration_s=round(clock.elapsed_s(), 3),
        attempt=context.attempt,
    )
