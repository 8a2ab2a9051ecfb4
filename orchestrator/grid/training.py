"""The `training` and `fine_tuning` parts of a grid file: they override one another, key by key."""

from __future__ import annotations

from collections.abc import Mapping

from prunegrid.orchestrator.grid.fields import (
    BOOLEAN,
    Field,
    Kind,
    Table,
    names_of,
    number,
    optional,
    section,
    whole,
)
from prunegrid.workers.catalog import AUGMENTATIONS
from prunegrid.workers.contract import AdversarialTraining, TrainingSettings
from prunegrid.workers.decode import from_dict


class ScheduleTable(Table):
    """The learning rate falls where the validation loss does not (ReduceLROnPlateau)."""

    path = "training.lr_schedule"
    factor = Field(number(above=0, below=1), "the rate is multiplied by it")
    patience = Field(whole(minimum=1), "epochs without a better validation loss before it")
    min = Field(number(minimum=0), "the rate falls no lower", default=0.0)


class AdversarialTable(Table):
    """PGD inside training: the loss is (1 - mix) * clean + mix * adversarial."""

    path = "training.adversarial"
    mix = Field(number(above=0, maximum=1), "weight of the adversarial loss")
    eps = Field(number(above=0), "L-infinity radius; pixels are in [0, 1]")
    steps = Field(whole(minimum=1), "of PGD")
    rel_stepsize = Field(number(above=0), "step over eps", default=0.25)


_ADVERSARIAL: Kind[AdversarialTraining] = Kind(
    "mapping", lambda node: from_dict(AdversarialTraining, AdversarialTable.whole(node))
)


class TrainingTable(Table):
    """Training of the dense networks, by Adam on cross-entropy; `fine_tuning`, after each prune
    step, has the same keys. The defaults are the paper's for its three larger networks."""

    path = "training"
    batch_size = Field(whole(minimum=1), "images of a step", default=128)
    learning_rate = Field(number(above=0), "Adam's", default=0.001)
    max_epochs = Field(whole(minimum=1), "of each stage", default=150)
    early_stopping_patience = Field(
        optional(whole(minimum=1)), "epochs without a better validation loss", default=15
    )
    lr_schedule = Field(
        optional(section(ScheduleTable, "mapping")),
        "when the learning rate falls",
        default={"factor": 0.3, "patience": 12, "min": 1e-5},
        shown="{factor: 0.3, patience: 12, min: 1.0e-5}",
    )
    augmentation = Field(
        names_of(AUGMENTATIONS, "name"),
        f"one of {', '.join(AUGMENTATIONS)}: flip, pad so many pixels, crop back",
        default="none",
    )
    restore_best = Field(BOOLEAN, "keep the best epoch's weights, not the last's", default=False)
    adversarial = Field(optional(_ADVERSARIAL), "PGD in training", default=None)


def training_settings(values: Mapping[str, object]) -> TrainingSettings:
    """`values`: what a TrainingTable gave, the keys of `lr_schedule` aside."""
    flat = {name: value for name, value in values.items() if name != "lr_schedule"}
    schedule = values["lr_schedule"]
    for name in ScheduleTable.names():
        flat[f"lr_{name}"] = schedule[name] if isinstance(schedule, Mapping) else None
    return from_dict(TrainingSettings, flat)
