"""The state of a training: counters, early stopping, learning rate on a plateau. Pure.

The semantics are those of Keras' EarlyStopping (min_delta 0) and ReduceLROnPlateau (min_delta
1e-4, no cooldown), both on the validation loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from prunegrid.workers.contract import TrainingSettings

_PLATEAU_DELTA = 1e-4


@dataclass(kw_only=True)
class TrainingState:
    """All of a training's state except arrays; JSON-ready."""

    epoch: int = 0  #: finished epochs
    step: int = 0  #: finished steps of the current epoch
    loss_sum: float = 0.0  #: of the current epoch, over its images
    learning_rate: float = 0.0
    best: float = math.inf
    best_epoch: int = 0
    wait: int = 0
    plateau_best: float = math.inf
    plateau_wait: int = 0
    stopped_early: bool = False
    diverged: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    def is_over(self, settings: TrainingSettings) -> bool:
        return self.stopped_early or self.diverged or self.epoch >= settings.max_epochs

    def end_epoch(self, validation_loss: float, settings: TrainingSettings) -> None:
        """Update counters, stop and learning rate after an epoch."""
        self.epoch += 1
        self.step = 0
        self.loss_sum = 0.0
        if not math.isfinite(validation_loss):
            self.diverged = True
            return
        if validation_loss < self.best:
            self.best, self.best_epoch, self.wait = validation_loss, self.epoch, 0
        else:
            self.wait += 1
            patience = settings.early_stopping_patience
            self.stopped_early = patience is not None and self.wait >= patience
        self._plateau(validation_loss, settings)

    def _plateau(self, loss: float, settings: TrainingSettings) -> None:
        if settings.lr_factor is None or settings.lr_patience is None:
            return
        if loss < self.plateau_best - _PLATEAU_DELTA:
            self.plateau_best, self.plateau_wait = loss, 0
            return
        self.plateau_wait += 1
        if self.plateau_wait >= settings.lr_patience:
            lowered = max(self.learning_rate * settings.lr_factor, settings.lr_min or 0.0)
            self.learning_rate = min(self.learning_rate, lowered)
            self.plateau_wait = 0
