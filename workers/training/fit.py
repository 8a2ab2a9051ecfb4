"""One stage of training, from wherever its checkpoint is to the end.

Data order, augmentation and adversarial starts are drawn per epoch from the seed, the stage's
name and the epoch, never from a running generator: a training that was interrupted, also in
the middle of an epoch, ends in the same weights as one that ran through.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from prunegrid.workers.checkpoints import Saved
from prunegrid.workers.context import Interrupted
from prunegrid.workers.contract import TrainingSettings
from prunegrid.workers.data.base import Dataset
from prunegrid.workers.keys import derive_seed
from prunegrid.workers.models.base import get_weights, set_weights
from prunegrid.workers.training.augmentations import draw_moves
from prunegrid.workers.training.batches import RESIDENT_BYTES, source
from prunegrid.workers.training.progress import TrainingState
from prunegrid.workers.training.steps import evaluator_for, stepper_for

#: Python is entered, progress told and a stop noticed about this often.
CHUNK_S = 1.0


class StateKeeper(Protocol):
    """What of `prunegrid.workers.checkpoints.Checkpoint` is needed here."""

    def save(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None: ...

    def load(self) -> Saved | None: ...


@dataclass(frozen=True, kw_only=True)
class FitResult:
    history: tuple[dict[str, float], ...]  #: per finished epoch: losses, accuracy, rate
    epochs: int  #: finished
    kept_epoch: int  #: whose weights the model has now, from 1; 0: of no finished epoch
    stopped_early: bool
    diverged: bool

    @property
    def train_loss(self) -> float:
        """Of the kept epoch; NaN where there is none."""
        return self.history[self.kept_epoch - 1]["train_loss"] if self.kept_epoch else math.nan


def fit(
    model: keras.Model,
    *,
    masks: Mapping[str, np.ndarray],
    dataset: Dataset,
    settings: TrainingSettings,
    seed: int,
    stage: str,
    checkpoint: StateKeeper,
    beat: Callable[[float, str], None],
    stop_requested: Callable[[], bool],
    save_every_s: float = 180.0,
    resident_bytes: int = RESIDENT_BYTES,
) -> FitResult:
    """Train `model` in place. `masks`: kernel variable -> bool array; pruned weights must be 0
    and stay exactly 0. `stage` separates the random draws of a chain's stages.

    Raises Interrupted after saving a checkpoint, StorageError, and ValueError where a split is
    empty or a pruned weight is not 0 to begin with.
    """
    for name in ("train", "validation"):
        if not len(dataset.split(name)):
            raise ValueError(f"{dataset.name}: the {name} split has no images")
    check_pruned(model, masks)
    training = _Training(model, masks, dataset, settings, seed, stage, checkpoint, resident_bytes)
    training.restore()
    state = training.state
    saved_s = time.monotonic()
    while not state.is_over(settings):

        def tell() -> None:
            beat(training.fraction(), f"{stage}: epoch {state.epoch + 1}/{settings.max_epochs}")

        training.chunk(tell)
        tell()
        if state.is_over(settings):
            break
        stop = stop_requested()
        if state.step == 0 or stop or time.monotonic() - saved_s >= save_every_s:
            training.save()
            saved_s = time.monotonic()
        if stop:
            raise Interrupted(f"{stage}: stopped in epoch {state.epoch + 1}, checkpoint saved")
    return training.finish()


def check_pruned(model: keras.Model, masks: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where a pruned weight is not exactly 0."""
    weights = get_weights(model)
    for name, mask in masks.items():
        if wrong := int(np.count_nonzero(weights[name][~mask])):
            raise ValueError(f"{name}: expected pruned weights to be 0, got {wrong} that are not")


class _Training:
    def __init__(
        self,
        model: keras.Model,
        masks: Mapping[str, np.ndarray],
        dataset: Dataset,
        settings: TrainingSettings,
        seed: int,
        stage: str,
        checkpoint: StateKeeper,
        resident_bytes: int,
    ) -> None:
        self._model = model
        self._masks = masks
        self._dataset = dataset
        self._settings = settings
        self._seed = seed
        self._stage = stage
        self._checkpoint = checkpoint
        self._source = source(dataset.train, resident_bytes=resident_bytes)
        self._stepper = stepper_for(model, settings)
        self._stepper.reset(masks)
        self._steps = math.ceil(len(dataset.train) / settings.batch_size)
        self._chunk_steps = 1
        self._best: dict[str, np.ndarray] = {}
        self.state = TrainingState(learning_rate=settings.learning_rate)
        self._drawn_for = -1

    # ------------------------------------------------------------------ checkpoint

    def save(self) -> None:
        arrays = {f"model:{name}": array for name, array in get_weights(self._model).items()}
        arrays |= {f"best:{name}": array for name, array in self._best.items()}
        for number, variable in enumerate(self._stepper.optimizer.variables):
            arrays[f"optimizer:{number}"] = np.asarray(variable)
        self._checkpoint.save(arrays, dataclasses.asdict(self.state))

    def restore(self) -> None:
        """From the checkpoint, where there is one of this program's form; else from the start."""
        saved = self._checkpoint.load()
        if saved is None:
            return
        own = get_weights(self._model)
        slots = {str(n): v for n, v in enumerate(self._stepper.optimizer.variables)}
        groups: dict[str, dict[str, np.ndarray]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, array in saved.arrays.items():
            group, _, rest = name.partition(":")
            groups.setdefault(group, {})[rest] = array
        fields = {field.name for field in dataclasses.fields(TrainingState)}
        if (
            set(saved.state) != fields
            or not _alike(groups["model"], own)
            or not _alike(groups["optimizer"], slots)
            or (groups["best"] and not _alike(groups["best"], own))
        ):
            return
        set_weights(self._model, groups["model"])
        for number, variable in slots.items():
            variable.assign(groups["optimizer"][number])
        self._best = groups["best"]
        self.state = TrainingState(**saved.state)

    # ------------------------------------------------------------------ steps

    def chunk(self, tick: Callable[[], None]) -> None:
        """Some steps of the epoch under way, at most to its end."""
        state, size, count = self.state, self._settings.batch_size, len(self._dataset.train)
        self._draw()
        end = min(state.step + self._chunk_steps, self._steps)
        started_s = time.monotonic()
        losses = self._stepper.run(
            self._source, self._cursor, self._epoch, state.step, end, state.learning_rate
        )
        spent_s = time.monotonic() - started_s
        if spent_s < CHUNK_S / 2:
            self._chunk_steps *= 2
        elif spent_s > CHUNK_S * 2:
            self._chunk_steps = max(1, self._chunk_steps // 2)
        for step, loss in enumerate(losses.tolist(), start=state.step):
            state.loss_sum += loss * min(size, count - step * size)
        state.step = end
        if not math.isfinite(state.loss_sum):
            state.diverged = True
        elif end == self._steps:
            self._end_epoch(tick)

    def _draw(self) -> None:
        """The epoch's order, moves and seed, where they are not drawn yet."""
        epoch, count = self.state.epoch, len(self._dataset.train)
        if self._drawn_for == epoch:
            return
        order_seed = derive_seed(self._seed, self._stage, "order", epoch)
        order = np.random.default_rng(order_seed).permutation(count).astype(np.int32)
        moves_seed = derive_seed(self._seed, self._stage, "augment", epoch)
        moves = draw_moves(count, self._settings.augmentation, moves_seed)
        start_seed = derive_seed(self._seed, self._stage, "start", epoch) % 2**31
        self._epoch = (
            tf.constant(order),
            tf.constant(self._dataset.train.labels[order]),
            tf.constant(moves[order]),
            tf.constant(start_seed, tf.int32),
        )
        size = self._settings.batch_size
        self._cursor = self._source.epoch(order[self.state.step * size :], size)
        self._drawn_for = epoch

    def _end_epoch(self, tick: Callable[[], None]) -> None:
        state = self.state
        loss, accuracy = evaluator_for(self._model)(self._dataset.validation, tick)
        state.history.append(
            {
                "train_loss": state.loss_sum / len(self._dataset.train),
                "validation_loss": loss,
                "validation_accuracy": accuracy,
                "learning_rate": state.learning_rate,
            }
        )
        state.end_epoch(loss, self._settings)
        if self._settings.restore_best and state.best_epoch == state.epoch:
            self._best = get_weights(self._model)

    def fraction(self) -> float:
        return (self.state.epoch + self.state.step / self._steps) / self._settings.max_epochs

    def finish(self) -> FitResult:
        state = self.state
        kept = 0 if state.diverged else state.epoch
        if self._best:
            set_weights(self._model, self._best)
            kept = state.best_epoch
        check_pruned(self._model, self._masks)
        return FitResult(
            history=tuple(state.history),
            epochs=state.epoch,
            kept_epoch=kept,
            stopped_early=state.stopped_early,
            diverged=state.diverged,
        )


def _alike(arrays: Mapping[str, np.ndarray], own: Mapping[str, Any]) -> bool:
    """Whether names and shapes are the same."""
    shapes = {name: tuple(array.shape) for name, array in own.items()}
    return {name: array.shape for name, array in arrays.items()} == shapes
