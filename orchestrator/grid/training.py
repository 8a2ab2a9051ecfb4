"""The `training` part of a grid file: partial settings that override one another."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from prunegrid.orchestrator.errors import expected
from prunegrid.orchestrator.grid.yaml_nodes import Node, require
from prunegrid.workers.catalog import AUGMENTATIONS
from prunegrid.workers.contract import AdversarialTraining, TrainingSettings

TRAINING_KEYS = (
    "batch_size",
    "learning_rate",
    "max_epochs",
    "early_stopping_patience",
    "lr_schedule",
    "augmentation",
    "restore_best",
    "adversarial",
)


@dataclass(frozen=True, kw_only=True)
class LrSchedule:
    """ReduceLROnPlateau on the validation loss."""

    factor: float
    patience: int
    min: float


@dataclass(frozen=True, kw_only=True)
class TrainingDraft:
    """Defaults are the paper's, for its three larger networks."""

    batch_size: int = 128
    learning_rate: float = 0.001
    max_epochs: int = 150
    early_stopping_patience: int | None = 15
    lr_schedule: LrSchedule | None = LrSchedule(factor=0.3, patience=12, min=1e-5)
    augmentation: str = "none"
    restore_best: bool = False
    adversarial: AdversarialTraining | None = None

    def settle(self) -> TrainingSettings:
        schedule = self.lr_schedule
        return TrainingSettings(
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            max_epochs=self.max_epochs,
            early_stopping_patience=self.early_stopping_patience,
            lr_factor=schedule.factor if schedule else None,
            lr_patience=schedule.patience if schedule else None,
            lr_min=schedule.min if schedule else None,
            augmentation=self.augmentation,
            restore_best=self.restore_best,
            adversarial=self.adversarial,
        )


def read_training(node: Node, base: TrainingDraft) -> TrainingDraft:
    """`base` with what the node gives. Raises GridError."""
    own = node.mapping(TRAINING_KEYS)
    changes: dict[str, object] = {}
    if "batch_size" in own:
        changes["batch_size"] = own["batch_size"].integer(minimum=1)
    if "learning_rate" in own:
        changes["learning_rate"] = own["learning_rate"].number(above=0)
    if "max_epochs" in own:
        changes["max_epochs"] = own["max_epochs"].integer(minimum=1)
    if "early_stopping_patience" in own:
        changes["early_stopping_patience"] = own["early_stopping_patience"].optional(
            lambda n: n.integer(minimum=1)
        )
    if "lr_schedule" in own:
        changes["lr_schedule"] = own["lr_schedule"].optional(_read_schedule)
    if "augmentation" in own:
        name = own["augmentation"].text()
        if name not in AUGMENTATIONS:
            raise own["augmentation"].fail(expected(AUGMENTATIONS, name))
        changes["augmentation"] = name
    if "restore_best" in own:
        changes["restore_best"] = own["restore_best"].boolean()
    if "adversarial" in own:
        changes["adversarial"] = own["adversarial"].optional(_read_adversarial)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def _read_schedule(node: Node) -> LrSchedule:
    own = node.mapping(("factor", "patience", "min"))
    factor = require(own, "factor", node).number(above=0)
    if factor >= 1:
        raise own["factor"].fail(f"expected a number between 0 and 1, got {factor:g}")
    return LrSchedule(
        factor=factor,
        patience=require(own, "patience", node).integer(minimum=1),
        min=own["min"].number(minimum=0) if "min" in own else 0.0,
    )


def _read_adversarial(node: Node) -> AdversarialTraining:
    own = node.mapping(("mix", "eps", "steps", "rel_stepsize"))
    mix = require(own, "mix", node).number(above=0)
    if mix > 1:
        raise own["mix"].fail(f"expected a number above 0 and at most 1, got {mix:g}")
    return AdversarialTraining(
        mix=mix,
        eps=require(own, "eps", node).number(above=0),
        steps=require(own, "steps", node).integer(minimum=1),
        rel_stepsize=own["rel_stepsize"].number(above=0) if "rel_stepsize" in own else 0.25,
    )
