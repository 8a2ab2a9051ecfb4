"""One stage of training, from wherever its checkpoint is to the end.

Data order, augmentation and adversarial starts are drawn per epoch from the seed, the stage's
name and the epoch, never from a running generator: a training that was interrupted, also in
the middle of an epoch, ends in the same weights as one that ran through.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from workers.checkpoints import Checkpoint
from workers.context import Interrupted
from workers.contract import TrainingSettings
from workers.data.base import Dataset
from workers.keys import derive_seed
from workers.models.base import get_weights, set_weights
from workers.training.progress import TrainingState
from workers.training.steps import Evaluator, Stepper, draw_moves

#: Python is entered, progress told and a stop noticed about this often.
CHUNK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class FitResult:
    history: tuple[dict[str, float], ...]  #: per epoch: losses, validation accuracy, rate
    epochs: int
    stopped_early: bool
    diverged: bool


def fit(
    model: keras.Model,
    *,
    masks: dict[str, np.ndarray],
    dataset: Dataset,
    settings: TrainingSettings,
    seed: int,
    stage: str,
    checkpoint: Checkpoint,
    beat: Callable[[float, str], None],
    stop_requested: Callable[[], bool],
    save_every_s: float = 180.0,
) -> FitResult:
    """Train `model` in place. `masks`: kernel variable -> bool array; pruned weights must be 0
    and stay exactly 0. `stage` separates the random draws of a chain's stages.

    Raises Interrupted after saving a checkpoint, StorageError.
    """
    training = _Training(model, masks, dataset, settings, seed, stage, checkpoint)
    training.restore()
    saved_s = time.monotonic()
    while not training.state.is_over(settings):
        training.chunk()
        state = training.state
        beat(training.fraction(), f"{stage}: epoch {state.epoch + 1}/{settings.max_epochs}")
        stop = stop_requested()
        if state.step == 0 or stop or time.monotonic() - saved_s >= save_every_s:
            training.save()
            saved_s = time.monotonic()
        if stop and not training.state.is_over(settings):
            raise Interrupted(f"{stage}: stopped in epoch {state.epoch + 1}, checkpoint saved")
    return training.finish()


class _Training:
    def __init__(
        self,
        model: keras.Model,
        masks: dict[str, np.ndarray],
        dataset: Dataset,
        settings: TrainingSettings,
        seed: int,
        stage: str,
        checkpoint: Checkpoint,
    ) -> None:
        self._model = model
        self._masks = masks
        self._dataset = dataset
        self._settings = settings
        self._seed = seed
        self._stage = stage
        self._checkpoint = checkpoint
        self._stepper = Stepper(model, masks, dataset.train, settings)
        self._evaluate = Evaluator(model)
        self._steps = math.ceil(len(dataset.train) / settings.batch_size)
        self._chunk_steps = 1
        self._best: dict[str, np.ndarray] = {}
        self.state = TrainingState(learning_rate=settings.learning_rate)
        self._drawn_for = -1

    # ------------------------------------------------------------------ checkpoint

    def restore(self) -> None:
        saved = self._checkpoint.load()
        if saved is None:
            return
        groups: dict[str, dict[str, np.ndarray]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, array in saved.arrays.items():
            group, _, rest = name.partition(":")
            groups[group][rest] = array
        set_weights(self._model, groups["model"])
        for number, variable in enumerate(self._stepper.optimizer.variables):
            variable.assign(groups["optimizer"][str(number)])
        self._best = groups["best"]
        self.state = TrainingState(**saved.state)

    def save(self) -> None:
        arrays = {f"model:{name}": array for name, array in get_weights(self._model).items()}
        arrays |= {f"best:{name}": array for name, array in self._best.items()}
        for number, variable in enumerate(self._stepper.optimizer.variables):
            arrays[f"optimizer:{number}"] = np.asarray(variable)
        self._checkpoint.save(arrays, dataclasses.asdict(self.state))

    # ------------------------------------------------------------------ steps

    def chunk(self) -> None:
        """Some steps of the epoch under way, at most to its end."""
        state, size = self.state, self._settings.batch_size
        self._draw()
        end = min(state.step + self._chunk_steps, self._steps)
        self._stepper.optimizer.learning_rate.assign(state.learning_rate)
        started_s = time.monotonic()
        loss = self._stepper.run(
            self._order[state.step * size : end * size], self._moves, draw=(self._start, state.step)
        )
        if time.monotonic() - started_s < CHUNK_S / 2:
            self._chunk_steps *= 2
        state.step = end
        state.loss_sum += loss
        if not math.isfinite(loss):
            state.diverged = True
        elif end == self._steps:
            self._end_epoch()

    def _draw(self) -> None:
        if self._drawn_for == self.state.epoch:
            return
        epoch, count = self.state.epoch, len(self._dataset.train)
        seed = derive_seed(self._seed, self._stage, "order", epoch)
        self._order = np.random.default_rng(seed).permutation(count)
        seed = derive_seed(self._seed, self._stage, "augment", epoch)
        self._moves = draw_moves(count, self._settings.augmentation, seed)
        self._start = derive_seed(self._seed, self._stage, "start", epoch) % 2**31
        self._drawn_for = epoch

    def _end_epoch(self) -> None:
        state = self.state
        train_loss = state.loss_sum / len(self._dataset.train)
        rate = state.learning_rate
        loss, accuracy = self._evaluate(self._dataset.validation)
        if self._settings.restore_best and loss < state.best:
            self._best = get_weights(self._model)
        state.history.append(
            {
                "train_loss": train_loss,
                "validation_loss": loss,
                "validation_accuracy": accuracy,
                "learning_rate": rate,
            }
        )
        state.end_epoch(loss, self._settings)

    def fraction(self) -> float:
        return (self.state.epoch + self.state.step / self._steps) / self._settings.max_epochs

    def _masked(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {n: np.where(mask, weights[n], np.float32(0)) for n, mask in self._masks.items()}

    def finish(self) -> FitResult:
        if self._settings.restore_best and self._best:
            set_weights(self._model, self._best)
        weights = get_weights(self._model)
        if self.state.diverged:  # NaN reaches pruned weights too
            set_weights(self._model, weights | self._masked(weights))
        for name, mask in ({} if self.state.diverged else self._masks).items():
            if np.any(weights[name][~mask]):
                raise AssertionError(f"{name}: a pruned weight is not 0 after training")
        state = self.state
        return FitResult(
            history=tuple(state.history),
            epochs=state.epoch,
            stopped_early=state.stopped_early,
            diverged=state.diverged,
        )
