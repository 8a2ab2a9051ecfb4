"""Batch and shard sizes for a grid file, from measured speeds. Pure.

A task should be long beside what it costs to begin one (a call, weights, compiled functions), and
short beside what a lost worker or the end of a grid costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from prunegrid.orchestrator.grid.grid import PlannedAttack
from prunegrid.orchestrator.plan.cost_model import image_seconds
from prunegrid.orchestrator.plan.dag import Plan, PlannedCell
from prunegrid.workers.catalog import DATASETS
from prunegrid.workers.speeds import Probe, Speed

#: What the longest tasks should take; and what none is cut below so that every slot has one.
TARGET_S, LEAST_S = 90.0, 10.0


@dataclass(frozen=True, kw_only=True)
class AttackSizes:
    """Of one attack on one architecture under one protocol."""

    architecture: str
    protocol: str
    attack: str  #: the grid's label
    batch_size: int
    images_per_shard: int
    image_s: float  #: seconds that an image is expected to take
    task_s: float  #: and a task


@dataclass(frozen=True, kw_only=True)
class TaskSizes:
    """Sizes for a grid, and what they rest on."""

    speeds: tuple[Speed, ...]  #: of each architecture that is attacked
    batch_sizes: Mapping[str, int]  #: by protocol, for its strict attacks
    shard_sizes: Mapping[str, int]  #: images per shard, by architecture
    attacks: tuple[AttackSizes, ...]


def probes_of(plan: Plan) -> tuple[Probe, ...]:
    """What must be measured to choose a plan's sizes."""
    known = {each.name: each for each in plan.grid.architectures}

    def shape(probe: Probe) -> tuple[int, ...]:
        entry = known[probe.architecture].data.own or DATASETS.get(probe.dataset)
        return entry.shape if entry is not None else ()

    return tuple(
        replace(
            probe,
            shape=shape(probe),
            built=known[probe.architecture].architecture,
            network=known[probe.architecture].network,
            own_data=known[probe.architecture].data.own,
            configuration=known[probe.architecture].configuration,
            batch_size=known[probe.architecture].variants[0].training.batch_size,
            augmentation=known[probe.architecture].variants[0].training.augmentation,
        )
        for probe in dict.fromkeys(_probe(cell) for cell in plan.cells)
    )


def choose_sizes(plan: Plan, speeds: Iterable[Speed], *, slots: int) -> TaskSizes:
    """`speeds`: of all that `probes_of` names; `slots`: tasks at once.

    A grid file has one batch size for a protocol: the smallest of those that are best for its
    architectures. Only `strict` attacks follow it: in the other engines an image's result depends
    on its batch. It has one shard size for an architecture: that of its slowest attack.
    """
    by_probe = {speed.probe: speed for speed in speeds}
    images = {a.name: a.attack_images for a in plan.grid.architectures}
    models = _models_attacked(plan)
    batch_sizes: dict[str, int] = {}
    for probe, attack in models:
        if attack.settings.engine == "strict":
            best = by_probe[probe].best(images[probe.architecture])
            batch_sizes[attack.protocol] = min(best, batch_sizes.get(attack.protocol, best))

    def batch_of(attack: PlannedAttack) -> int:
        strict = attack.settings.engine == "strict"
        return batch_sizes[attack.protocol] if strict else attack.settings.batch_size

    seconds = {
        (probe, attack): image_seconds(
            replace(attack.settings, batch_size=batch_of(attack)), by_probe[probe]
        )
        for probe, attack in models
    }
    shard_sizes = {}
    for probe in by_probe:
        mine = {case: image_s for case, image_s in seconds.items() if case[0] == probe}
        slowest = max(mine, key=lambda case: mine[case])
        shard_sizes[probe.architecture] = images_per_shard(
            image_s=mine[slowest],
            batch=batch_of(slowest[1]),
            images=images[probe.architecture],
            models=models[slowest],
            slots=slots,
        )
    attacks = (
        AttackSizes(
            architecture=probe.architecture,
            protocol=attack.protocol,
            attack=attack.label,
            batch_size=batch_of(attack),
            images_per_shard=shard_sizes[probe.architecture],
            image_s=image_s,
            task_s=image_s * min(shard_sizes[probe.architecture], images[probe.architecture]),
        )
        for (probe, attack), image_s in seconds.items()
    )
    return TaskSizes(
        speeds=tuple(by_probe.values()),
        batch_sizes=batch_sizes,
        shard_sizes=shard_sizes,
        attacks=tuple(attacks),
    )


def images_per_shard(*, image_s: float, batch: int, images: int, models: int, slots: int) -> int:
    """A whole multiple of the batch, so that no shard cuts one, that takes about TARGET_S.

    `image_s`: seconds an image takes; `images`: to attack, of each of `models`. Smaller where
    some of `slots` would have nothing to do, but not below LEAST_S; shards of a model are as
    equal as whole batches can be. Where even a batch takes longer, a batch.
    """
    batch_s = batch * image_s
    batches = math.ceil(images / batch)
    size = min(batches, max(1, math.floor(TARGET_S / batch_s)))
    least = min(size, math.ceil(LEAST_S / batch_s))
    wanted = math.ceil(slots / models)  # shards of each model
    if wanted > 1:
        size = max(least, min(size, math.ceil(batches / (wanted - 1)) - 1))
    return batch * math.ceil(batches / math.ceil(batches / size))


def _probe(cell: PlannedCell) -> Probe:
    place = cell.place.model
    return Probe(architecture=place.architecture, dataset=place.dataset)


def _models_attacked(plan: Plan) -> dict[tuple[Probe, PlannedAttack], int]:
    """How many models each attack is run on; one that several methods share counts once."""
    first_tasks: dict[tuple[Probe, PlannedAttack], set[str]] = {}
    for cell in plan.cells:
        first_tasks.setdefault((_probe(cell), cell.attack), set()).add(cell.task_keys[0])
    return {case: len(keys) for case, keys in first_tasks.items()}
