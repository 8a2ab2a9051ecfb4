"""A search in full: its models, trials, rungs and tasks. Pure.

A rung is a stage of a trial at whose end it may be stopped as hopeless: more images attacked, or
one more link of the chain trained. Images rather than steps: an attack's first steps do not tell
how good its last ones are (large steps look good early), while a part of the images, the same for
every trial, is a fair sample of all; and nothing is computed twice.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from prunegrid.orchestrator.tuning.space import TrialOptions
from prunegrid.workers.contract import (
    AttackSettings,
    AttackTask,
    DataSettings,
    OwnNetwork,
    PruneTask,
    Task,
    TrainingSettings,
    TrainTask,
)
from prunegrid.workers.keys import Scalar, digest

Objective = Literal["median", "robust", "loss"]

#: Images of the first rung; each further one has twice as many.
FIRST_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class StudiedModel:
    """A dense model that is attacked."""

    architecture: str
    network: OwnNetwork | None = None
    data: DataSettings
    seed: int
    task_key: str
    split: Literal["test", "validation"]


@dataclass(frozen=True, kw_only=True)
class AttackStudy:
    """Attack settings, on dense models, under one protocol."""

    label: str  #: the grid's name for the attack
    protocol: str
    base: AttackSettings  #: the grid's, with the one eps of the objective or none
    objective: Objective
    eps: float | None
    budget: int  #: forward passes an image, in the mean of what is measured
    models: tuple[StudiedModel, ...]
    edges: tuple[int, ...]  #: images of each rung, from 0; ascending
    stop: int  #: images edges[-1] to stop are held out
    proposals: tuple[tuple[tuple[str, Scalar], ...], ...]
    seed: int

    @property
    def name(self) -> str:
        """Equal searches have one name, and are one."""
        return f"{self.label}-{self.protocol}-{digest(self, length=8)}".replace(":", "-")

    def options(self, trial: int) -> dict[str, Scalar]:
        return dict(self.proposals[trial])

    def tasks(self, options: TrialOptions, rung: int) -> tuple[AttackTask, ...]:
        """What rung `rung` (from 0) adds: a task per model."""
        start = self.edges[rung - 1] if rung else 0
        return self._tasks(options, start, self.edges[rung])

    def held_out(self, options: TrialOptions) -> tuple[AttackTask, ...]:
        """A task per model on the images that no trial has seen."""
        return self._tasks(options, self.edges[-1], self.stop)

    def _tasks(self, options: TrialOptions, start: int, stop: int) -> tuple[AttackTask, ...]:
        settings = dataclasses.replace(self.base, options=tuple(sorted(options.items())))
        return tuple(
            AttackTask(
                architecture=model.architecture,
                network=model.network,
                data=model.data,
                attack=settings,
                split=model.split,
                start=start,
                stop=stop,
                seed=model.seed,
                parent_key=model.task_key,
            )
            for model in self.models
        )


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One chain's tasks by the grid's own settings: train, then prune to each rate in turn."""

    tasks: tuple[TrainTask | PruneTask, ...]

    def links(self, training: TrainingSettings) -> tuple[TrainTask | PruneTask, ...]:
        """The same chain, trained and fine-tuned otherwise."""
        out: list[TrainTask | PruneTask] = []
        for task in self.tasks:
            new = dataclasses.replace(task, training=training)
            if isinstance(new, PruneTask):
                one_shot = new.pruning.parent_rate == 1
                new = dataclasses.replace(new, parent_key=(out[0] if one_shot else out[-1]).key)
            out.append(new)
        return tuple(out)


@dataclass(frozen=True, kw_only=True)
class TrainingStudy:
    """Training settings of chains; the rungs are their links."""

    label: str  #: architecture and variant
    base: TrainingSettings
    chains: tuple[Chain, ...]
    proposals: tuple[tuple[tuple[str, Scalar], ...], ...]
    seed: int

    protocol: str = ""
    objective: Objective = "loss"
    eps: float | None = None
    budget: int = 0

    @property
    def name(self) -> str:
        return f"training-{self.label}-{digest(self, length=8)}"

    @property
    def edges(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.chains[0].tasks) + 1))

    def options(self, trial: int) -> dict[str, Scalar]:
        return dict(self.proposals[trial])

    def training(self, options: TrialOptions) -> TrainingSettings:
        return dataclasses.replace(self.base, **options)  # type: ignore[arg-type]

    def tasks(self, options: TrialOptions, rung: int) -> tuple[Task, ...]:
        """The link `rung` (from 0) of every chain."""
        training = self.training(options)
        return tuple(chain.links(training)[rung] for chain in self.chains)


Study = AttackStudy | TrainingStudy


def image_rungs(images: int) -> tuple[int, ...]:
    """16, 32, 64, ... up to `images`; the last step is at least as large as the one before."""
    out = [FIRST_IMAGES if images >= 2 * FIRST_IMAGES else images]
    while 4 * out[-1] <= images:
        out.append(2 * out[-1])
    if out[-1] != images:
        out.append(images)
    return tuple(out)
