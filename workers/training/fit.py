"""One stage of training, from wherever its checkpoint is to the end.

Data order, augmentation and adversarial starts are drawn per epoch from the seed, the stage's
name and the epoch, never from a running generator. So an interrupted training ends in the same
weights as one that ran through, even if it stopped in the middle of an epoch.
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
from prunegrid.workers.training.state import TrainingState
from prunegrid.workers.training.steps import Epoch, evaluator_for, stepper_for

#: How often Python is entered: to report progress, and to see whether to stop.
CHUNK_S = 1.0


class StateKeeper(Protocol):
    """The part of `prunegrid.workers.checkpoints.Checkpoint` that training needs."""

    def save(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None: ...

    def load(self) -> Saved | None: ...


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """What to train; with the model's weights at the start it determines the result."""

    name: str  #: separates the random draws of a chain's stages
    masks: Mapping[str, np.ndarray]  #: kernel variable -> bool array; False: pruned, stays 0
    dataset: Dataset
    settings: TrainingSettings
    seed: int


@dataclass(frozen=True, kw_only=True)
class TrainingHooks:
    """How a training talks to its surroundings; none of it changes the result."""

    checkpoint: StateKeeper
    beat: Callable[[float, str], None]  #: called with the fraction done and a short note
    stop_requested: Callable[[], bool]
    save_every_s: float = 180.0  #: within an epoch; a checkpoint is saved after each epoch too


@dataclass(frozen=True, kw_only=True)
class FitResult:
    history: tuple[dict[str, float], ...]  #: per finished epoch: losses, accuracy, learning rate
    epochs: int  #: finished
    kept_epoch: int  #: the epoch whose weights the model has now, from 1; 0: of no finished epoch
    stopped_early: bool
    diverged: bool

    @property
    def train_loss(self) -> float:
        """Of the kept epoch; NaN where there is none."""
        return self.history[self.kept_epoch - 1]["train_loss"] if self.kept_epoch else math.nan


def fit(
    model: keras.Model,
    stage: TrainingStage,
    hooks: TrainingHooks,
    *,
    resident_bytes: int = RESIDENT_BYTES,
) -> FitResult:
    """Train `model` in place. Its pruned weights must be 0, and stay exactly 0.

    Raises Interrupted after saving a checkpoint, StorageError, and ValueError where a split is
    empty or a pruned weight is not 0 to begin with.
    """
    dataset, settings = stage.dataset, stage.settings
    for name in ("train", "validation"):
        if not len(dataset.split(name)):
            raise ValueError(f"{dataset.name}: the {name} split has no images")
    check_pruned(model, stage.masks)
    training = _Training(model, stage, hooks.checkpoint, resident_bytes)
    training.restore()
    state = training.state
    saved_s = time.monotonic()
    while not state.is_over(settings):

        def tell() -> None:
            note = f"{stage.name}: epoch {state.epoch + 1}/{settings.max_epochs}"
            hooks.beat(training.fraction(), note)

        training.chunk(tell)
        tell()
        if state.is_over(settings):
            break
        stop = hooks.stop_requested()
        if state.step == 0 or stop or time.monotonic() - saved_s >= hooks.save_every_s:
            training.save()
            saved_s = time.monotonic()
        if stop:
            raise Interrupted(f"{stage.name}: stopped in epoch {state.epoch + 1}, checkpoint saved")
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
        stage: TrainingStage,
        checkpoint: StateKeeper,
        resident_bytes: int,
    ) -> None:
        self._model = model
        self._stage = stage
        self._dataset = stage.dataset
        self._settings = settings = stage.settings
        self._checkpoint = checkpoint
        self._source = source(stage.dataset.train, resident_bytes=resident_bytes)
        self._stepper = stepper_for(model, settings)
        self._stepper.reset(stage.masks)
        self._steps = math.ceil(len(stage.dataset.train) / settings.batch_size)
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
        """Go on from the checkpoint, if there is one that fits this model; else start over."""
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
        """Run some steps of the current epoch, at most to its end."""
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
        """Draw the epoch's order, moves and seed, unless they are drawn already."""
        epoch, count = self.state.epoch, len(self._dataset.train)
        if self._drawn_for == epoch:
            return

        def seed(purpose: str) -> int:
            return derive_seed(self._stage.seed, self._stage.name, purpose, epoch)

        order = np.random.default_rng(seed("order")).permutation(count).astype(np.int32)
        moves = draw_moves(count, self._settings.augmentation, seed("augment"))
        self._epoch = Epoch(
            order=tf.constant(order),
            labels=tf.constant(self._dataset.train.labels[order]),
            moves=tf.constant(moves[order]),
            seed=tf.constant(seed("start") % 2**31, tf.int32),
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
        check_pruned(self._model, self._stage.masks)
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
